"""Edits by hand: rows taken out, replaced and put in, by their numbers. They make the lines of a new version, and no more.

All edits that are made together speak of the rows as they were before: row 7 is row 7, whatever became of row 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from studio.data.canonical import to_line
from studio.data.conversation import RowProblem
from studio.data.lines import MAX_LINE_BYTES, line_of
from studio.data.opening import kind_of, readable
from studio.data.reading import Progress, raw_rows
from studio.data.turns import MAX_DEPTH, depth_of
from studio.errors import DataError

EDITED = "edited"
BY_HAND = "by hand"
REMOVE, REPLACE, INSERT = "remove", "replace", "insert"
_ROWS_PER_NEWS = 256


@dataclass(frozen=True)
class Edit:
    """One edit, `kind` being one of `REMOVE`, `REPLACE` and `INSERT` (before `row`; behind the last one to append). Rows count
    from 0."""

    kind: str
    row: int
    value: Any = None


@dataclass
class Edits:
    """Edits that are made together, by row; only these are held in memory. Those put in at one place keep their order."""

    removed: set[int] = field(default_factory=set)
    replaced: dict[int, bytes] = field(default_factory=dict)
    inserted: dict[int, list[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, edits: Iterable[Edit]) -> Edits:
        """Raises `DataError` for what is no edit, for two edits of one row, and for a value that is no row."""
        found = cls()
        for edit in edits:
            if edit.row < 0 or edit.kind not in (REMOVE, REPLACE, INSERT):
                raise DataError(f"There is no edit {edit.kind!r} of row {edit.row}.", "Count rows from 0.")
            if edit.kind == INSERT:
                found.inserted.setdefault(edit.row, []).append(_line(edit))
                continue
            if edit.row in found.replaced or (edit.row in found.removed and edit.kind == REPLACE):
                raise DataError(f"Row {edit.row} is edited twice at once.", "Make one edit after the other.")
            if edit.kind == REMOVE:
                found.removed.add(edit.row)
            else:
                found.replaced[edit.row] = _line(edit)
        return found

    def told(self) -> dict[str, list[list[int]]]:
        """Which rows of the parent, as ranges [first, last] of rows that follow one another."""
        return {
            name: _ranges(sorted(rows))
            for name, rows in (("removed", self.removed), ("replaced", self.replaced), ("inserted", self.inserted))
        }

    @property
    def last(self) -> int:
        """The last row that must be there; -1 if none must."""
        return max([*self.removed, *self.replaced, *(row - 1 for row in self.inserted)], default=-1)


@dataclass
class EditTally:
    """What edits did, in the words of `studio.data.mends.Tally`."""

    num_rows: int = 0
    num_kept: int = 0
    num_replaced: int = 0
    num_removed: int = 0
    num_inserted: int = 0
    num_unreadable: int = 0

    def told(self) -> dict[str, Any]:
        """As plain values."""
        removed = {BY_HAND: self.num_removed, "unreadable": self.num_unreadable}
        return {
            "num_rows": self.num_rows,
            "num_kept": self.num_kept,
            "changed": {BY_HAND: self.num_replaced} if self.num_replaced else {},
            "removed": {reason: count for reason, count in removed.items() if count},
            "inserted": self.num_inserted,
        }


def edited_lines(path: Path, edits: Edits, tally: EditTally, progress: Progress | None = None) -> Iterator[bytes]:
    """The lines of the dataset at `path` with its edits made. Lines of JSON go over byte by byte, broken ones too.

    Rows that cannot stand in such a file (broken rows of a table, endless lines) are left out and counted. Raises `DataError`
    if an edited row is not there.
    """
    is_first = True
    for line in _edited(_lines_of(path, progress), edits, tally):
        # A file's first bytes tell its kind: a broken line there could make it another one.
        if is_first and not line.lstrip().startswith(b"{"):
            tally.num_unreadable += 1
            tally.num_kept -= 1
            continue
        is_first = False
        yield line
    if edits.last >= tally.num_rows:
        raise DataError(
            f"There is no row {edits.last}: the rows end with {tally.num_rows - 1}.",
            "Look at the dataset again; nothing was changed.",
        )


def _edited(lines: Iterable[bytes | None], edits: Edits, tally: EditTally) -> Iterator[bytes]:
    for row, line in enumerate(lines):
        tally.num_rows += 1
        yield from _put_in(row, edits, tally)
        if row in edits.removed:
            tally.num_removed += 1
        elif row in edits.replaced:
            tally.num_replaced += 1
            yield edits.replaced[row]
        elif line is None:
            tally.num_unreadable += 1
        else:
            tally.num_kept += 1
            yield line
    yield from _put_in(tally.num_rows, edits, tally)


def _put_in(row: int, edits: Edits, tally: EditTally) -> Sequence[bytes]:
    lines = edits.inserted.get(row, ())
    tally.num_inserted += len(lines)
    return lines


def _lines_of(path: Path, progress: Progress | None) -> Iterator[bytes | None]:
    """Each row as a line, None for one that no line can be made of. They are the rows that `raw_rows` counts."""
    with readable(path):
        kind = None if path.is_dir() else kind_of(path)
        if kind and (kind.form, kind.encoding, kind.packing) == ("lines", "utf-8", ""):
            yield from _own_lines(path, progress)
            return
    for raw in raw_rows(path, progress):
        yield None if isinstance(raw, RowProblem) else to_line(raw.value)


def _own_lines(path: Path, progress: Progress | None) -> Iterator[bytes | None]:
    total, done, number = path.stat().st_size, 0, 0
    with open(path, "rb") as file:
        while data := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            done += len(data)
            if progress and number % _ROWS_PER_NEWS == 0:
                progress(done, total)
            if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
                while data and not data.endswith(b"\n"):
                    data = file.readline(MAX_LINE_BYTES)
                    done += len(data)
                yield None
                continue
            if number > 1 and data.startswith(b"{") and data.endswith(b"\n"):
                yield data  # as nearly all are: no need to look at its letters
                continue
            text = line_of(data, number, 0).text
            if text is None:
                yield data if data.endswith(b"\n") else data + b"\n"
            elif text.strip():
                yield text.encode("utf-8") + b"\n"


def _line(edit: Edit) -> bytes:
    if not isinstance(edit.value, dict):
        raise DataError("A row must be a JSON object.", 'Write it as {"messages": [...]}.')
    if depth_of(edit.value) > MAX_DEPTH:
        raise DataError(f"The row is nested more than {MAX_DEPTH} deep.", "Flatten it.")
    return to_line(edit.value)


def _ranges(rows: list[int]) -> list[list[int]]:
    """[3, 4, 5, 9] as [[3, 5], [9, 9]]."""
    if not rows:
        return []
    breaks = [(before, after) for before, after in pairwise(rows) if after != before + 1]
    firsts = [rows[0], *(after for _, after in breaks)]
    lasts = [*(before for before, _ in breaks), rows[-1]]
    return [[first, last] for first, last in zip(firsts, lasts, strict=True)]
