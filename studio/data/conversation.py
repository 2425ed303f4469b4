"""What a dataset becomes: conversations, and a problem for each row that cannot become one."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn: `role` is one of `ROLES`, `content` never empty."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """One good row. `row` counts data rows from 0, `line` is the line of the file (from 1) on which it begins."""

    messages: tuple[Message, ...]
    row: int
    line: int

    @property
    def num_characters(self) -> int:
        """Characters of all messages together."""
        return sum(len(message.content) for message in self.messages)


@dataclass(frozen=True)
class RowProblem:
    """Why one row is left out: `kind` for programs, `message` and `fix` for people."""

    row: int
    line: int
    kind: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.message} {self.fix}"


@dataclass(frozen=True)
class Dataset:
    """A file that was read: each of its `num_rows` rows is either a conversation or a problem."""

    format: str
    conversations: tuple[Conversation, ...]
    problems: tuple[RowProblem, ...]
    num_rows: int


class RowError(Exception):
    """Raised inside this package while one row is looked at; becomes a `RowProblem`, never reaches a caller."""

    def __init__(self, kind: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.fix = fix
