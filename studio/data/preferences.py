"""Which of two answers was the better one: rows of prompt, chosen and rejected, as trainers of preferences read them.

They land in one JSON-lines file that is added to, a line at a time. A line that was torn by a crash is passed over, and the next
one begins behind it. The file is a dataset like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from studio import files
from studio.data.canonical import to_line, write_lines
from studio.data.conversation import Message, RawRow, RowError
from studio.data.formats import to_messages
from studio.data.reading import raw_rows
from studio.errors import DataError
from studio.places import Workspace


@dataclass(frozen=True)
class Vote:
    """`prompt` is all that was said before, system prompt first, as chat templates want it. `chosen_by` and `rejected_by` name
    the adapter that answered, empty for the base alone. `time` is UTC, ISO 8601."""

    prompt: tuple[dict[str, str], ...]
    chosen: str
    rejected: str
    base: str
    chosen_by: str = ""
    rejected_by: str = ""
    time: str = field(default_factory=files.now)
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def row(self) -> dict[str, Any]:
        """As it is written: both answers as messages, like the prompt."""
        return {
            "prompt": list(self.prompt),
            "chosen": [Message("assistant", self.chosen).turn],
            "rejected": [Message("assistant", self.rejected).turn],
            "base": self.base,
            "chosen_by": self.chosen_by,
            "rejected_by": self.rejected_by,
            "time": self.time,
            "id": self.id,
        }


def votes_path(workspace: Workspace) -> Path:
    """Where they land."""
    return workspace.preferences / "votes.jsonl"


def add(workspace: Workspace, votes: Sequence[Vote]) -> int:
    """Add votes, and tell how many there are now.

    Raises `DataError` if an answer is empty or both are the same, `DiskFullError`.
    """
    for vote in votes:
        _check(vote)
    with _alone(workspace):
        for vote in votes:
            files.append_line(votes_path(workspace), json.dumps(vote.row))
        return sum(1 for _ in rows(workspace))


def withdraw(workspace: Workspace, ids: Sequence[str]) -> int:
    """Take votes back, and tell how many are left: the file is written anew with all others that can be read."""
    path = votes_path(workspace)
    if not path.exists():
        return 0
    with _alone(workspace):
        kept = [row for row in rows(workspace) if row.get("id") not in set(ids)]
        write_lines(path, map(to_line, kept))
    return len(kept)


def rows(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """All votes that can be read, in the order in which they were given."""
    with suppress(FileNotFoundError):
        if votes_path(workspace).stat().st_size:
            for raw in raw_rows(votes_path(workspace)):
                if isinstance(raw, RawRow) and isinstance(raw.value, dict):
                    yield raw.value


def export(workspace: Workspace, out: Path) -> int:
    """Write all votes to a new file. Raises `DataError` if it exists or there are none."""
    if out.exists():
        raise DataError(f"{out} exists already.", "Choose a name that does not exist yet.")
    found = list(rows(workspace))
    if not found:
        raise DataError("There are no votes yet.", "Compare two answers on the Chat page, and say which is better.")
    return write_lines(out, map(to_line, found))


def _alone(workspace: Workspace) -> FileLock:
    """A vote that comes while others are taken back must not be lost."""
    workspace.preferences.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.preferences / "lock")


def _check(vote: Vote) -> None:
    if vote.chosen == vote.rejected:
        raise DataError("Both answers are the same: there is nothing to prefer.", "Ask again with another seed.")
    for answer in (vote.chosen, vote.rejected):
        try:
            to_messages({**vote.row, "chosen": [Message("assistant", answer).turn]})
        except RowError as error:
            raise DataError(error.message, error.fix) from error
