"""Lists of messages, as OpenAI and ShareGPT write them, become sound messages or a `RowError` with the place of the fault."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from studio.data.conversation import ROLES, Message, RowError

# Names that other programs give to the roles.
ROLE_NAMES = {
    **{role: role for role in ROLES},
    "developer": "system",
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
}
# What a chat template may know of a message besides role and content.
_KNOWN_KEYS = ("tool_calls", "tool_call_id", "name", "reasoning_content")
MAX_DEPTH = 32


def read_turns(
    turns: Any, column: str, role_key: str, content_key: str, roles: Mapping[str, str] = ROLE_NAMES
) -> list[Message]:
    """The messages in `turns`, which stand in `column` of the row."""
    if not isinstance(turns, list) or not turns:
        raise RowError(
            "shape", "The conversation is not a list of messages, or is empty.", "Give at least one exchange.", column
        )
    return [
        _turn(number, turn, f"{column}[{number - 1}]", role_key, content_key, roles)
        for number, turn in enumerate(turns, start=1)
    ]


def _turn(number: int, turn: Any, column: str, role_key: str, content_key: str, roles: Mapping[str, str]) -> Message:
    if not isinstance(turn, dict) or role_key not in turn or not (content_key in turn or "tool_calls" in turn):
        raise RowError(
            "shape",
            f"Message {number} lacks {role_key!r} or {content_key!r}.",
            f'Write each message as {{"{role_key}": ..., "{content_key}": ...}}.',
            column,
        )
    stated = turn[role_key]
    name = stated.strip().lower() if isinstance(stated, str) else ""
    role = roles.get(name)
    if role is None:
        raise RowError(
            "role",
            f"Message {number} has the unknown role {str(stated)[:30]!r}.",
            "Use system, user, assistant or tool.",
            f"{column}.{role_key}",
        )
    content, where = turn.get(content_key), f"{column}.{content_key}"
    if name == "function_call":
        return Message(role, "", to_json({"tool_calls": [_called(content, where)]}, where))
    more = {key: turn[key] for key in _KNOWN_KEYS if turn.get(key)}
    calls = more.get("tool_calls")
    if calls is not None:
        _check_calls(calls, f"{column}.tool_calls")
    if calls and (content is None or content == ""):
        return Message(role, "", to_json(more, column))
    return Message(role, read_text(_joined(content), f"message {number}", where), to_json(more, column) if more else "")


def _joined(content: Any) -> Any:
    """OpenAI's content parts as one text, if all of them are text."""
    parts = content if isinstance(content, list) else None
    if parts and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
        return "".join(part["text"] for part in parts)
    return content


def _called(content: Any, column: str) -> dict[str, Any]:
    """ShareGPT writes a call as JSON text in the place of the content."""
    try:
        call = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        call = None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise RowError(
            "tool", "A function call is not JSON with a name.", 'Write {"name": ..., "arguments": {...}}.', column
        )
    return {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}


def _check_calls(calls: Any, column: str) -> None:
    sound = isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(call.get("function", call), dict)
        and call.get("function", call).get("name")
        for call in calls
    )
    if not sound:
        raise RowError(
            "tool",
            "The tool calls are not a list of functions with names.",
            'Write [{"type": "function", "function": {"name": ..., "arguments": {...}}}].',
            column,
        )


def read_tools(value: Any) -> str:
    """The tools of a row, given as a list or as JSON text of one, as JSON text; empty if there are none."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = 0
    if value is None or value in ("", []):
        return ""
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("tool", "The tools are not a list of JSON schemas.", "Write them as OpenAI does.", "tools")
    return to_json(value, "tools")


def to_json(value: Any, column: str) -> str:
    """As text, the same for the same value. Raises `RowError` for what nests too deeply."""
    if depth_of(value) > MAX_DEPTH:
        raise RowError(
            "nesting", f"This is nested more than {MAX_DEPTH} deep.", "Flatten it, or remove the row.", column
        )
    return json.dumps(value, ensure_ascii=True)


def depth_of(value: Any) -> int:
    """How deep lists and objects are nested, counted without recursion and no further than one beyond `MAX_DEPTH`."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
        depth += bool(inner)
    return depth


def read_text(value: Any, where: str, column: str) -> str:
    """`value` if it is text that can be learnt; `where` names it in a sentence."""
    if not isinstance(value, str):
        what = "is missing" if value is None else f"is not text but {_type_name(value)}"
        raise RowError("content", f"The content of {where} {what}.", "Only text can be trained on.", column)
    if not value.strip():
        raise RowError("content", f"The content of {where} is empty.", "Fill it in, or remove the row.", column)
    if "\0" in value:
        raise RowError("characters", f"The content of {where} holds a null character.", "Remove the character.", column)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            "characters",
            f"The content of {where} holds characters that are not valid text.",
            "Save it as UTF-8.",
            column,
        ) from error
    return value


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return {int: "a number", float: "a number", list: "a list", dict: "an object"}.get(type(value), "something else")


def check_order(messages: Sequence[Message], column: str) -> None:
    """A system message first if at all, then user and assistant in turn, with at least one answer; tools speak between two
    of the assistant's turns."""
    roles = [message.role for message in messages]
    first = 1 if roles[0] == "system" else 0
    if "assistant" not in roles[first:]:
        raise RowError("answer", "No assistant message: there is nothing to learn.", "Add the answer.", column)
    before = "assistant"
    for number, role in enumerate(roles[first:], start=first + 1):
        if role not in _allowed_after(before, is_first=number == first + 1):
            expected = _allowed_after(before, is_first=number == first + 1)[0]
            raise RowError(
                "order",
                f"Message {number} is from {role}, where {expected} was expected.",
                "Begin with the user and let user and assistant take turns; a system message may only come first.",
                f"{column}[{number - 1}]",
            )
        before = role


def _allowed_after(role: str, *, is_first: bool) -> tuple[str, ...]:
    if role == "user":
        return ("assistant",)
    if role == "tool":
        return ("assistant", "tool")
    return ("user",) if is_first else ("user", "tool")
