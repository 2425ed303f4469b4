"""What a dataset becomes: conversations, and a problem for each row that cannot become one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
# The role of a text that nobody says: it is learnt as it stands, without a chat template.
TEXT = "text"
# The column that says, if it is true, that a text is a piece which goes on in the next row: no end is learnt there.
GOES_ON = "goes_on"


@dataclass(frozen=True)
class Message:
    """One turn: `role` is one of `ROLES` or `TEXT`; `content` is empty only if tools are called instead.

    `more` holds what chat templates know besides (`tool_calls`, `name`, ...) as a JSON object, empty if there is nothing.
    """

    role: str
    content: str
    more: str = ""

    @property
    def turn(self) -> dict[str, Any]:
        """As chat templates want it."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        return {**turn, **json.loads(self.more)} if self.more else turn


@dataclass(frozen=True)
class Conversation:
    """One good row. `row` counts data rows from 0, `line` is the line of the file (from 1) on which it begins.

    `tools` is a JSON array of the functions that the assistant may call, empty if there are none. Rows with the same `group` are
    never parted into training and held-out rows; an empty one belongs to no row but this.
    """

    messages: tuple[Message, ...]
    row: int
    line: int
    tools: str = ""
    group: str = ""

    @property
    def num_characters(self) -> int:
        """Characters of all messages together."""
        return sum(len(message.content) for message in self.messages)

    @property
    def is_text(self) -> bool:
        """Whether this is prose rather than a chat."""
        return self.messages[0].role == TEXT

    @property
    def goes_on(self) -> bool:
        """Whether this is a piece of a text that goes on after it."""
        return self.is_text and bool(self.messages[0].more)


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file: `value` is any JSON value, or a table's cells by column. `file` names the one of a
    folder's files."""

    row: int
    line: int
    value: Any
    file: str = ""


@dataclass(frozen=True)
class RowProblem:
    """Why one row is left out, or should be looked at: `kind` for programs, `message` and `fix` for people.

    `column` says where in the row (`messages[2].content`, `character 17`), `file` in which of a folder's files.
    """

    row: int
    line: int
    kind: str
    message: str
    fix: str
    column: str = ""
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.file else f"Line {self.line}"
        return f"{where}: {self.message} {self.fix}"


@dataclass(frozen=True)
class Dataset:
    """A file that was read: each of its `num_rows` rows is either a conversation or a problem. `formats` counts good rows."""

    format: str
    conversations: tuple[Conversation, ...]
    problems: tuple[RowProblem, ...]
    num_rows: int
    formats: dict[str, int] = field(default_factory=dict)


class RowError(Exception):
    """Raised inside this package while one row is looked at; becomes a `RowProblem`, never reaches a caller."""

    def __init__(self, kind: str, message: str, fix: str, column: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.fix = fix
        self.column = column

    def at(self, raw: RawRow) -> RowProblem:
        """The problem of that row."""
        return RowProblem(raw.row, raw.line, self.kind, self.message, self.fix, self.column, raw.file)
