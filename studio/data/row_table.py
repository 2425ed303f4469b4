"""Any row of a dataset by its number, without reading the others: for tables that show a few of a million rows.

Rows of plain JSON lines are found in the file itself, by the byte at which each begins. A dataset of any other kind is unpacked
once, into JSON lines in the workspace's cache.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.data.conversation import RawRow, RowProblem
from studio.data.json_rows import json_line
from studio.data.lines import MAX_LINE_BYTES, Line, line_of, line_problem
from studio.data.opening import kind_of, num_bytes, readable, sha256
from studio.data.reading import Progress, raw_rows
from studio.places import Workspace

MOST_BYTES = 10_000_000_000
MOST_SHOWN = 1_000_000
_BLOCK_BYTES = 4 << 20
# Bytes with which white space may begin: a line that begins otherwise is not blank.
_MAYBE_SPACE = np.array([byte < 0x21 or byte > 0x7F for byte in range(256)])


class RowTable(Sequence[RawRow | RowProblem]):
    """Rows by number. Memory: 16 bytes a row. Close it, or use it as a context."""

    def __init__(
        self, path: Path, offsets: NDArray[np.int64], numbers: NDArray[np.int64], *, is_unpacked: bool
    ) -> None:
        """`offsets` has the byte at which each row begins, and at last the end; `numbers` the line of each."""
        self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - it is this object that is the context
        self._offsets, self._numbers, self._is_unpacked = offsets, numbers, is_unpacked

    def __enter__(self) -> RowTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> RawRow | RowProblem: ...
    @overload
    def __getitem__(self, index: slice) -> list[RawRow | RowProblem]: ...
    def __getitem__(self, index: int | slice) -> RawRow | RowProblem | list[RawRow | RowProblem]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        begins, ends = int(self._offsets[row]), int(self._offsets[row + 1])
        self._file.seek(begins)
        number = int(self._numbers[row])
        if self._is_unpacked:
            return _from_kept(json.loads(self._file.readline()), row)
        if ends - begins > MAX_LINE_BYTES:
            return line_problem(row, Line(number, None, "length", begins))
        return json_line(row, line_of(self._file.readline(), number, begins))

    def line(self, row: int) -> str:
        """The line that a row stands on, at most its first `MOST_SHOWN` bytes, so that a broken one can be seen; nothing if the
        rows are not lines of the file."""
        if self._is_unpacked:
            return ""
        begins, ends = int(self._offsets[row]), int(self._offsets[row + 1])
        self._file.seek(begins)
        data = self._file.read(min(ends - begins, MOST_SHOWN)).split(b"\n")[0]
        return data.decode("utf-8-sig", "replace").rstrip("\r")


def open_table(workspace: Workspace, path: Path, progress: Progress | None = None) -> RowTable:
    """The rows of a dataset, file or folder. Raises `DataError` if it cannot be read, `DiskFullError` if there is no room."""
    with readable(path):
        if not path.is_dir():
            kind = kind_of(path)
            if (kind.form, kind.encoding, kind.packing) == ("lines", "utf-8", ""):
                return RowTable(path, *_index(path, progress), is_unpacked=False)
        kept = workspace.unpacked / f"{sha256(path)}.jsonl"
        if not kept.is_file():
            _unpack(path, kept, progress)
        return RowTable(kept, *_index(kept, None), is_unpacked=True)


def _index(path: Path, progress: Progress | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the lines that are not blank begin, with the end of the last, and their numbers."""
    total, done, line = path.stat().st_size, 0, 1
    starts, numbers = [], []
    with open(path, "rb") as file:
        rest = b""
        while data := file.read(_BLOCK_BYTES):
            block = rest + data
            begins = done - len(rest)
            done += len(data)
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            if cut:
                found = _lines_in(block[:cut], is_first=begins == 0)
                starts.append(found[0] + begins)
                numbers.append(found[1] + line)
                line += block.count(b"\n", 0, cut)
            if progress:
                progress(done, total)
    if rest and len(_lines_in(rest + b"\n", is_first=len(rest) == total)[0]):
        starts.append(np.array([total - len(rest)]))
        numbers.append(np.array([line]))
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *starts, [total]]).astype(np.int64), np.concatenate([empty, *numbers])


def _lines_in(block: bytes, *, is_first: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and numbers, both from 0, of the lines of a block of whole lines that are not blank."""
    characters = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(characters == ord("\n")) + 1
    starts = np.concatenate([[0], ends[:-1]])
    is_row = ~_MAYBE_SPACE[characters[starts]]
    for place in np.flatnonzero(~is_row):
        line = block[starts[place] : ends[place]]
        if is_first and place == 0:
            line = line.removeprefix(codecs.BOM_UTF8)
        is_row[place] = bool(line.decode("utf-8", "replace").strip())
    return starts[is_row], np.flatnonzero(is_row)


def _unpack(path: Path, kept: Path, progress: Progress | None) -> None:
    _make_room(kept.parent)
    with files.new_file(kept, needs_bytes=num_bytes(path)) as file:
        for raw in raw_rows(path, progress):
            told = [raw.value] if isinstance(raw, RawRow) else [raw.kind, raw.message, raw.fix, raw.column]
            file.write(json.dumps([raw.line, raw.file, *told]).encode("ascii") + b"\n")


def _from_kept(kept: list[Any], row: int) -> RawRow | RowProblem:
    line, name, *told = kept
    if len(told) == 1:
        return RawRow(row, line, told[0], name)
    kind, message, fix, column = told
    return RowProblem(row, line, kind, message, fix, column, name)


def _make_room(folder: Path) -> None:
    """Those that were made longest ago go when there are too many."""
    kept = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    while sum(path.stat().st_size for path in kept) > MOST_BYTES:
        files.remove(kept.pop(0))
