"""The row formats in common use, how one is told from another, and how each becomes messages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from studio.data.conversation import GOES_ON, TEXT, Message, RowError
from studio.data.turns import MAX_DEPTH, ROLE_NAMES, check_order, depth_of, read_text, read_tools, read_turns

# Format name -> columns of the question and of the answer. The first whose columns are both present wins.
PAIRS = {
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "prompt-response": ("prompt", "response"),
    "question-answer": ("question", "answer"),
    "query-response": ("query", "response"),
    "instruction-response": ("instruction", "response"),
    "input-output": ("input", "output"),
    "user-assistant": ("user", "assistant"),
}
_KNOWN = "messages; conversations; instruction and output; prompt and completion; question and answer; text"


@dataclass(frozen=True)
class Mapping:
    """Which column is what, if the names do not tell. `question` may be empty: then `answer` holds text to be continued.

    A `conversation` column holds a list of messages, each with `role_key` and `content_key`; `roles` gives names of
    roles that are not known.
    """

    question: str = ""
    answer: str = ""
    system: str = ""
    conversation: str = ""
    role_key: str = "role"
    content_key: str = "content"
    roles: dict[str, str] = field(default_factory=dict)


def format_of(row: dict[str, Any]) -> str:
    """The name of the row's format, or an empty string."""
    if "messages" in row:
        return "messages"
    if "conversations" in row:
        turns = row["conversations"]
        first = turns[0] if isinstance(turns, list) and turns else None
        return "messages" if isinstance(first, dict) and "role" in first else "sharegpt"
    if "chosen" in row and "rejected" in row:
        return "preference"
    if "prompt" in row and "completion" in row and isinstance(row.get("label"), bool):
        return "labelled"
    name = next((name for name, keys in PAIRS.items() if all(key in row for key in keys)), "")
    return name or ("text" if "text" in row else "")


def to_messages(value: Any, mapping: Mapping | None = None) -> tuple[str, tuple[Message, ...], str]:
    """Format, messages and tools (JSON text) of one row. Raises `RowError` if the row is not a sound conversation.

    Of a row with preferences it is the chosen answer that becomes a conversation; one that is labelled as a bad example is
    refused.
    """
    if not isinstance(value, dict):
        raise RowError("shape", "This row is not a table of named values.", 'Write it as {"messages": [...]}.')
    if depth_of(value) > MAX_DEPTH:
        raise RowError("nesting", f"This row is nested more than {MAX_DEPTH} deep.", "Flatten it, or remove the row.")
    name = "mapped" if mapping else format_of(value)
    if not name:
        columns = ", ".join(repr(str(key)[:30]) for key in list(value)[:8]) or "none"
        raise RowError(
            "format", f"None of the known columns is there (found: {columns}).", f"Use one of these: {_KNOWN}."
        )
    messages, column = _mapped(value, mapping) if mapping else _by_name(value, name)
    if messages[0].role == TEXT:
        return name, tuple(messages), ""
    system = None if mapping else value.get("system")
    if system and messages[0].role != "system":
        messages = [Message("system", read_text(system, "system", "system")), *messages]
    check_order(messages, column)
    return name, tuple(messages), read_tools(value.get("tools"))


def _by_name(row: dict[str, Any], name: str) -> tuple[list[Message], str]:
    """The messages, and the column that a fault in their order is in."""
    match name:
        case "messages":
            column = "messages" if "messages" in row else "conversations"
            return read_turns(row[column], column, "role", "content"), column
        case "sharegpt":
            return read_turns(row["conversations"], "conversations", "from", "value"), "conversations"
        case "preference":
            return _preferred(row), "chosen"
        case "labelled":
            if not row["label"]:
                raise RowError(
                    "unwanted",
                    "This answer is labelled as one that is not wanted; training would teach it.",
                    "Leave the row out, or train with preferences.",
                    "label",
                )
            return _pair(row, "prompt", "completion"), "completion"
        case "text":
            more = json.dumps({GOES_ON: True}) if row.get(GOES_ON) is True else ""
            return [Message(TEXT, read_text(row["text"], "text", "text"), more)], "text"
        case "alpaca":
            return _alpaca(row), "output"
    question, answer = PAIRS[name]
    return _pair(row, question, answer), answer


def _pair(row: dict[str, Any], question: str, answer: str) -> list[Message]:
    if isinstance(row[question], list) or isinstance(row[answer], list):
        # Some tools write both halves as lists of messages; together they are the conversation.
        return _half(row, question, "user") + _half(row, answer, "assistant")
    return [_said("user", row, question), _said("assistant", row, answer)]


def _half(row: dict[str, Any], column: str, role: str) -> list[Message]:
    """A list of messages, or the text of one."""
    if isinstance(row[column], str):
        return [_said(role, row, column)]
    return read_turns(row[column], column, "role", "content")


def _said(role: str, row: dict[str, Any], column: str) -> Message:
    return Message(role, read_text(row[column], column, column))


def _alpaca(row: dict[str, Any]) -> list[Message]:
    """Earlier exchanges stand in `history` as pairs; `input` follows the instruction."""
    messages = []
    for number, pair in enumerate(row.get("history") or []):
        where = f"history[{number}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError(
                "shape", "The history is not a list of pairs.", 'Write [["question", "answer"], ...].', where
            )
        messages += [
            Message(role, read_text(text, where, where)) for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    *_, question, answer = _pair(row, "instruction", "output")
    extra = row.get("input")
    if extra and str(extra).strip():
        question = Message("user", f"{question.content}\n\n{read_text(extra, 'input', 'input')}")
    return [*messages, question, answer]


def _preferred(row: dict[str, Any]) -> list[Message]:
    """Prompt and chosen answer; without a prompt, `chosen` holds the whole conversation."""
    if row.get("prompt"):
        return _half(row, "prompt", "user") + _half(row, "chosen", "assistant")
    if isinstance(row["chosen"], str):
        raise RowError("shape", "There is no prompt to the chosen answer.", "Add a column prompt.", "prompt")
    return _half(row, "chosen", "assistant")


def _mapped(row: dict[str, Any], mapping: Mapping) -> tuple[list[Message], str]:
    for column in filter(None, (mapping.conversation, mapping.question, mapping.answer)):
        if column not in row:
            raise RowError("format", f"The column {column[:30]!r} is not there.", "Choose the columns anew.", column)
    if mapping.conversation:
        roles = {**ROLE_NAMES, **mapping.roles}
        messages = read_turns(
            row[mapping.conversation], mapping.conversation, mapping.role_key, mapping.content_key, roles
        )
    elif mapping.question:
        messages = _pair(row, mapping.question, mapping.answer)
    else:
        return [_said(TEXT, row, mapping.answer)], mapping.answer
    if mapping.system and row.get(mapping.system) and messages[0].role != "system":
        messages.insert(0, _said("system", row, mapping.system))
    return messages, mapping.conversation or mapping.answer
