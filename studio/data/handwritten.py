"""Small sets written by hand: one JSON-lines file each in the workspace, whole after every time it is kept.

Rows that are half written are kept like all others: read as a dataset, they are problems with a line, and none is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio import files
from studio.data.canonical import write_rows
from studio.data.conversation import RawRow, RowProblem
from studio.data.reading import raw_rows
from studio.data.rewriting import EditedTurn, turns_of
from studio.errors import DataError
from studio.places import Workspace

MOST_ROWS = 1000
_SYSTEM = "system"


@dataclass(frozen=True)
class WrittenSet:
    """A name, the system prompt of all rows that have none of their own (it may be empty), and the turns of each row."""

    name: str
    system: str
    rows: tuple[tuple[EditedTurn, ...], ...]

    def values(self) -> list[dict[str, Any]]:
        """The rows in which anything is written, as messages."""
        return [self._value(turns) for turns in self.rows if any(turn.content.strip() for turn in turns)]

    def _value(self, turns: Sequence[EditedTurn]) -> dict[str, Any]:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if self.system.strip() and turns[0].role != _SYSTEM:
            messages.insert(0, {"role": _SYSTEM, "content": self.system})
        return {"messages": messages}


def keep(workspace: Workspace, written: WrittenSet, path: Path | None) -> Path | None:
    """Keep the set where it was kept before (`path`), or under another name if it has another now; None while nothing is written.

    Raises `DiskFullError`; what was kept before then still stands.
    """
    values = written.values()
    if not values and path is None:
        return None
    target = _path(workspace, written.name, path)
    write_rows(target, values)
    if path is not None and path != target:
        files.remove(path)
    return target


def open_written(path: Path) -> WrittenSet:
    """A set that was kept, to go on with. Raises `DataError` if it is not one of these, or too large to be written by hand."""
    rows: list[tuple[EditedTurn, ...]] = []
    for raw in raw_rows(path):
        rows.append(_turns(path, raw))
        if len(rows) > MOST_ROWS:
            raise DataError(
                f"{path.name} has more than {MOST_ROWS:,} rows.", "Open it as a dataset, and edit its rows."
            )
    systems = {row[0].content if row and row[0].role == _SYSTEM else "" for row in rows}
    system = systems.pop() if len(systems) == 1 else ""
    return WrittenSet(path.stem, system, tuple(row[1:] if system else row for row in rows))


def written_sets(workspace: Workspace) -> list[Path]:
    """Files of the sets that there are, the one kept last first."""
    found = [path for path in workspace.written.glob("*.jsonl") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _turns(path: Path, raw: RawRow | RowProblem) -> tuple[EditedTurn, ...]:
    value = raw.value if isinstance(raw, RawRow) else None
    turns = turns_of(value) if isinstance(value, dict) and set(value) == {"messages"} else None
    if turns is None:
        raise DataError(
            f"{path.name}, line {raw.line}, is not a row as it is written here.",
            "Open it as a dataset, and edit it there.",
        )
    return tuple(replace(turn, origin=-1) for turn in turns)


def _path(workspace: Workspace, name: str, before: Path | None) -> Path:
    """Where a set of that name goes: where it was, or where no other is."""
    stem, number = files.safe_name(name, "my-set"), 1
    target = workspace.written / f"{stem}.jsonl"
    while target != before and target.exists():
        number += 1
        target = workspace.written / f"{stem}-{number}.jsonl"
    return target
