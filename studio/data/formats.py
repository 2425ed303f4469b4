"""The row formats in common use, and how each becomes messages."""

from __future__ import annotations

from typing import Any

from studio.data.conversation import ROLES, Message, RowError

_ROLE_NAMES = {
    **{role: role for role in ROLES},
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
# Format name -> columns of the question and of the answer. The first whose columns are both present wins.
_PAIRS = {
    "alpaca": ("instruction", "output"),
    "prompt-completion": ("prompt", "completion"),
    "prompt-response": ("prompt", "response"),
    "question-answer": ("question", "answer"),
    "query-response": ("query", "response"),
    "instruction-response": ("instruction", "response"),
}
_KNOWN = "messages; conversations; instruction and output; prompt and completion; question and answer"


def format_of(row: dict[str, Any]) -> str:
    """The name of the row's format, or an empty string."""
    if "messages" in row:
        return "messages"
    if "conversations" in row:
        turns = row["conversations"]
        first = turns[0] if isinstance(turns, list) and turns else None
        return "messages" if isinstance(first, dict) and "role" in first else "sharegpt"
    return next((name for name, keys in _PAIRS.items() if all(key in row for key in keys)), "")


def to_messages(value: Any) -> tuple[str, tuple[Message, ...]]:
    """Format and messages of one row. Raises `RowError` if the row is not a sound conversation."""
    if not isinstance(value, dict):
        raise RowError("shape", "This row is not a table of named values.", 'Write it as {"messages": [...]}.')
    name = format_of(value)
    if not name:
        columns = ", ".join(repr(str(key)[:30]) for key in list(value)[:8]) or "none"
        raise RowError(
            "format", f"None of the known columns is there (found: {columns}).", f"Use one of these: {_KNOWN}."
        )
    if name == "messages":
        messages = _turns(value.get("messages", value.get("conversations")), "role", "content")
    elif name == "sharegpt":
        messages = _turns(value["conversations"], "from", "value")
    else:
        messages = _pair(value, name)
    system = value.get("system")
    if system and messages[0].role != "system":
        messages = [Message("system", _text(system, "system")), *messages]
    _check_order(messages)
    return name, tuple(messages)


def _turns(turns: Any, role_key: str, content_key: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise RowError(
            "shape", "The conversation is not a list of messages, or is empty.", "Give at least one exchange."
        )
    return [_turn(number, turn, role_key, content_key) for number, turn in enumerate(turns, start=1)]


def _turn(number: int, turn: Any, role_key: str, content_key: str) -> Message:
    if not isinstance(turn, dict) or role_key not in turn or content_key not in turn:
        raise RowError(
            "shape",
            f"Message {number} lacks {role_key!r} or {content_key!r}.",
            f'Write each message as {{"{role_key}": ..., "{content_key}": ...}}.',
        )
    stated = turn[role_key]
    role = _ROLE_NAMES.get(stated.strip().lower()) if isinstance(stated, str) else None
    if role is None:
        raise RowError(
            "role", f"Message {number} has the unknown role {str(stated)[:30]!r}.", "Use system, user or assistant."
        )
    return Message(role, _text(turn[content_key], f"message {number}"))


def _pair(row: dict[str, Any], name: str) -> list[Message]:
    question_key, answer_key = _PAIRS[name]
    if isinstance(row[question_key], list) or isinstance(row[answer_key], list):
        # Some tools write both halves as lists of messages; together they are the conversation.
        halves = (row[question_key], row[answer_key])
        return [message for half in halves for message in _turns(half, "role", "content")]
    question = _text(row[question_key], question_key)
    extra = row.get("input") if question_key == "instruction" else None
    if extra:
        question = f"{question}\n\n{_text(extra, 'input')}" if str(extra).strip() else question
    return [Message("user", question), Message("assistant", _text(row[answer_key], answer_key))]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RowError("content", f"The content of {where} is not text.", "Only text can be trained on.")
    if not value.strip():
        raise RowError("content", f"The content of {where} is empty.", "Fill it in, or remove the row.")
    if "\0" in value:
        raise RowError("characters", f"The content of {where} holds a null character.", "Remove the character.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            "characters", f"The content of {where} holds characters that are not valid text.", "Save it as UTF-8."
        ) from error
    return value


def _check_order(messages: list[Message]) -> None:
    """A system message first if at all, then user and assistant in turn, with at least one answer."""
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[0] == "system" else roles
    if "assistant" not in spoken:
        raise RowError("answer", "No assistant message: there is nothing to learn.", "Add the answer.")
    for number, role in enumerate(spoken):
        expected = ("user", "assistant")[number % 2]
        if role != expected:
            raise RowError(
                "order",
                f"Message {number + 1 + len(roles) - len(spoken)} is from {role}, where {expected} was expected.",
                "Begin with the user and let user and assistant take turns; a system message may only come first.",
            )
