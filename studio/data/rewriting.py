"""A row as turns that can be edited, and the edited turns back into the row: in its own format wherever that can hold them.

Nothing is judged here: turns with an unknown role or an empty text are what one wants to edit. `None` instead of turns means that
the row is no such thing, and is edited as the JSON that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio.data.conversation import TEXT
from studio.data.formats import PAIRS, Mapping, format_of
from studio.data.turns import ROLE_NAMES
from studio.errors import DataError

_SYSTEM = "system"


@dataclass(frozen=True)
class EditedTurn:
    """One turn: who says what. `origin` is its place among the turns of the row as it was, -1 for a new one: what else the row
    says of that turn (calls of tools, a name, a weight) stays with it."""

    role: str
    content: str
    origin: int = -1


@dataclass(frozen=True)
class _Shape:
    """Where the turns of a row stand: a list of them in `column`, or a question and an answer in columns of their own."""

    column: str = ""
    role_key: str = "role"
    content_key: str = "content"
    roles: dict[str, str] | None = None
    question: str = ""
    answer: str = ""
    system: str = _SYSTEM
    is_alpaca: bool = False


def turns_of(value: Any, mapping: Mapping | None = None) -> list[EditedTurn] | None:
    """The turns of a row, as they stand there; None if it is to be edited as JSON."""
    shape = _shape_of(value, mapping)
    if shape is None:
        return None
    said = _listed(value[shape.column], shape) if shape.column else _paired(value, shape)
    system = value.get(shape.system) if shape.system else None
    if said is None or not (system is None or isinstance(system, str)):
        return None
    if system and not (said and said[0][0] == _SYSTEM):
        said = [(_SYSTEM, system), *said]
    return [EditedTurn(role, content, place) for place, (role, content) in enumerate(said)]


def with_turns(value: dict[str, Any], turns: Sequence[EditedTurn], mapping: Mapping | None = None) -> dict[str, Any]:
    """The row with these turns instead, all its other columns kept; `turns_of` must have made something of it.

    A question and an answer become `messages` where the turns are more than that. Raises `DataError` if the user has mapped the
    columns and they cannot hold the turns.
    """
    shape = _shape_of(value, mapping)
    assert shape is not None
    if list(turns) == turns_of(value, mapping):
        return value
    has_system = bool(turns) and turns[0].role == _SYSTEM
    has_column = not shape.column or _system_shown(value, shape)
    in_column = has_system and has_column
    rest = list(turns[1:] if in_column else turns)
    written = _list_written(value, rest, shape) if shape.column else _pair_written(value, rest, shape)
    if written is None or (in_column and not shape.system):
        if mapping is not None:
            raise DataError(
                "The columns that were mapped cannot hold these turns.",
                "Keep one question and one answer, or write every row as messages first (Problems, Mends).",
            )
        return _as_messages(value, turns, shape)
    if in_column:
        return {**written, shape.system: turns[0].content}
    return {**written, shape.system: ""} if has_column and written.get(shape.system) else written


def becomes_messages(before: Any, after: Any) -> bool:
    """Whether a row has another format than it had."""
    return isinstance(before, dict) and isinstance(after, dict) and format_of(before) != format_of(after)


# --- where the turns stand -------------------------------------------------------------------------------------------


def _shape_of(value: Any, mapping: Mapping | None) -> _Shape | None:
    if not isinstance(value, dict):
        return None
    if mapping is not None:
        shape = _mapped(mapping)
        needed = filter(None, (shape.column, shape.question, shape.answer))
        return shape if all(column in value for column in needed) else None
    match format_of(value):
        case "messages":
            return _Shape(column="messages" if "messages" in value else "conversations")
        case "sharegpt":
            return _Shape(column="conversations", role_key="from", content_key="value")
        case "text":
            return _Shape(answer="text", system="")
        case "alpaca":
            return _Shape(question="instruction", answer="output", is_alpaca=True)
        case name if name in PAIRS:
            question, answer = PAIRS[name]
            return _Shape(question=question, answer=answer)
    return None  # two answers, or one with a label: what is not a turn would be out of sight


def _mapped(mapping: Mapping) -> _Shape:
    if mapping.conversation:
        return _Shape(mapping.conversation, mapping.role_key, mapping.content_key, mapping.roles, system=mapping.system)
    # A text that nobody says has no system prompt.
    system = mapping.system if mapping.question else ""
    return _Shape(question=mapping.question, answer=mapping.answer, system=system)


# --- a list of turns -------------------------------------------------------------------------------------------------


def _role_names(shape: _Shape) -> dict[str, str]:
    return {**ROLE_NAMES, **(shape.roles or {})}


def _listed(turns: Any, shape: _Shape) -> list[tuple[str, str]] | None:
    if not isinstance(turns, list):
        return None
    said = [_said(turn, shape) for turn in turns]
    return [one for one in said if one is not None] if None not in said else None


def _said(turn: Any, shape: _Shape) -> tuple[str, str] | None:
    """Who says what in one entry of the list; None for what is no such entry."""
    stated = turn.get(shape.role_key) if isinstance(turn, dict) else None
    if not isinstance(stated, str) or stated.strip().lower() == "function_call":
        return None
    content = turn.get(shape.content_key)
    if content is None or isinstance(content, str):
        return _role_names(shape).get(stated.strip().lower(), stated), content or ""
    return None


def _list_written(value: dict[str, Any], turns: Sequence[EditedTurn], shape: _Shape) -> dict[str, Any]:
    old = value[shape.column]
    # A system prompt in a column of its own was shown as the first turn.
    shift = 1 if _system_shown(value, shape) else 0
    return {**value, shape.column: [_turn_written(turn, old, turn.origin - shift, shape) for turn in turns]}


def _system_shown(value: dict[str, Any], shape: _Shape) -> bool:
    said = _listed(value[shape.column], shape) or [("", "")]
    return bool(shape.system and value.get(shape.system)) and said[0][0] != _SYSTEM


def _turn_written(turn: EditedTurn, old: list[dict[str, Any]], place: int, shape: _Shape) -> dict[str, Any]:
    before = old[place] if 0 <= place < len(old) else {}
    role, content = _said(before, shape) or ("", "")
    written = dict(before)
    if role != turn.role or shape.role_key not in before:
        written[shape.role_key] = _stated(turn.role, old, shape)
    if content != turn.content or shape.content_key not in before:
        written[shape.content_key] = turn.content
    return written


def _stated(role: str, old: list[dict[str, Any]], shape: _Shape) -> str:
    """A role as this row calls it: `human` rather than `user` in ShareGPT's."""
    for turn in old:
        said = _said(turn, shape)
        if said is not None and said[0] == role:
            return str(turn[shape.role_key])
    usual = {"user": "human", "assistant": "gpt"} if shape.role_key == "from" else {}
    return usual.get(role, role)


# --- a question and an answer ----------------------------------------------------------------------------------------


def _paired(value: dict[str, Any], shape: _Shape) -> list[tuple[str, str]] | None:
    if not shape.question:
        text = _text(value[shape.answer])
        return None if text is None else [(TEXT, text)]
    question, answer, more = _text(value[shape.question]), _text(value[shape.answer]), ""
    earlier: list[tuple[str, str]] | None = []
    if shape.is_alpaca:
        earlier, extra = _history(value), _text(value.get("input"))
        if extra is None:
            return None
        more = f"\n\n{extra}" if extra.strip() else ""
    if question is None or answer is None or earlier is None:
        return None
    return [*earlier, ("user", question + more), ("assistant", answer)]


def _text(cell: Any) -> str | None:
    """A cell's text; what is missing is empty, and a number or a list is none."""
    return "" if cell is None else cell if isinstance(cell, str) else None


def _history(value: dict[str, Any]) -> list[tuple[str, str]] | None:
    pairs = value.get("history") or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        return None
    return [said for question, answer in pairs for said in (("user", question), ("assistant", answer))]


def _pair_written(value: dict[str, Any], turns: Sequence[EditedTurn], shape: _Shape) -> dict[str, Any] | None:
    """The row with its columns filled anew, or None if they cannot hold these turns."""
    roles = [turn.role for turn in turns]
    if not shape.question:
        return {**value, shape.answer: turns[0].content} if roles == [TEXT] else None
    *earlier, question, answer = (turn.content for turn in turns) if len(turns) >= 2 else ("", "")
    num_pairs, odd = divmod(len(turns), 2)
    if odd or not num_pairs or roles != ["user", "assistant"] * num_pairs or (earlier and not shape.is_alpaca):
        return None
    if not shape.is_alpaca:
        return {**value, shape.question: question, shape.answer: answer}
    pairs = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    history = {"history": pairs} if pairs or value.get("history") else {}
    return {**value, **_instruction(value, question), shape.answer: answer, **history}


def _instruction(value: dict[str, Any], question: str) -> dict[str, str]:
    """The question as instruction and input, parted where it was."""
    first, extra = _text(value["instruction"]) or "", _text(value.get("input")) or ""
    if extra.strip() and question.startswith(first + "\n\n") and question[len(first) + 2 :].strip():
        return {"instruction": first, "input": question[len(first) + 2 :]}
    return {"instruction": question, **({"input": ""} if extra.strip() else {})}


def _as_messages(value: dict[str, Any], turns: Sequence[EditedTurn], shape: _Shape) -> dict[str, Any]:
    used = {shape.question, shape.answer, _SYSTEM, *(("input", "history") if shape.is_alpaca else ())}
    kept = {key: cell for key, cell in value.items() if key not in used}
    messages = [{"role": "user" if turn.role == TEXT else turn.role, "content": turn.content} for turn in turns]
    return {**kept, "messages": messages}
