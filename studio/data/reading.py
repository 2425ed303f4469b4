"""A file's bytes become raw rows: JSON lines, a JSON array, a table, Parquet, Arrow or prose. Nothing is judged here but form.

All but a JSON array is streamed: memory is bounded by the longest line or a few hundred rows, and the first row comes at once,
however large the file. A JSON array has to be read whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from studio.data.columnar import arrow_rows, parquet_rows
from studio.data.conversation import RawRow, RowProblem
from studio.data.json_rows import json_lines, value_rows
from studio.data.lines import lines
from studio.data.opening import (
    START_BYTES,
    Kind,
    form_of,
    kind_of,
    members,
    num_bytes,
    readable,
    unpacked,
    unpacked_suffix,
)
from studio.data.table_rows import table_rows
from studio.data.text_rows import text_rows
from studio.errors import DataError

MAX_ARRAY_BYTES = 1_000_000_000
_ROWS_PER_NEWS = 256

# Gets bytes read and bytes in all. What it raises ends the reading: that is how one cancels.
Progress = Callable[[int, int], None]


def raw_rows(path: Path, progress: Progress | None = None, fallback: str = "") -> Iterator[RawRow | RowProblem]:
    """The rows of `path` in order, of a folder file after file. Raises `DataError` if a file as a whole cannot be read.

    Lines that are not valid UTF-8 are read in the encoding `fallback`, if one is given, and are problems else.
    """
    with readable(path):
        all_files = members(path)
        total, before, row = (num_bytes(path) if progress else 0), 0, 0
        for file in all_files:
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            size = file.stat().st_size
            for found in _file_rows(file, fallback, _news(progress, before, total)):
                yield replace(found, row=row, file=name) if row != found.row or name else found
                row += 1
            before += size
        if progress:
            progress(total, total)


def rows_in(name: str, data: bytes) -> Iterator[RawRow | RowProblem]:
    """The rows of a file called `name` that holds this text; no Parquet, no Arrow, not packed. Raises as `raw_rows` does."""
    path = Path(name)
    with readable(path):
        form, encoding = form_of(path, data[:START_BYTES])
        yield from _rows(path, io.BytesIO(data), Kind(form, encoding, "", unpacked_suffix(path)), "")


def _news(progress: Progress | None, before: int, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(before + done, total)


def _file_rows(path: Path, fallback: str, news: Callable[[int], None] | None) -> Iterator[RawRow | RowProblem]:
    with readable(path):
        kind = kind_of(path)
        if kind.form in ("parquet", "arrow"):
            yield from parquet_rows(path) if kind.form == "parquet" else arrow_rows(path)
            return
        with unpacked(path, kind.packing) as (file, packed):
            for number, found in enumerate(_rows(path, file, kind, fallback)):
                if news and number % _ROWS_PER_NEWS == 0:
                    news(packed.tell())
                yield found


def _rows(path: Path, file: IO[bytes], kind: Kind, fallback: str) -> Iterator[RawRow | RowProblem]:
    if kind.form == "values":
        return value_rows(_whole(path, file, kind.encoding))
    text = lines(file, kind.encoding, fallback)
    match kind.form:
        case "table":
            return table_rows(path.name, kind.suffix, text)
        case "text":
            return text_rows(text)
    return json_lines(text)


def _whole(path: Path, file: IO[bytes], encoding: str) -> str:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise DataError(f"{path.name} is too large for one JSON value.", "Save it as JSON lines, one row on each line.")
    return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)


def num_lines(path: Path) -> int:
    """Lines of the file, unpacked, to tell how far reading has come. Raises `DataError` as `raw_rows` does."""
    with readable(path):
        return sum(_num_lines(file) for file in members(path))


def _num_lines(path: Path) -> int:
    kind = kind_of(path)
    if kind.form in ("parquet", "arrow"):
        return sum(1 for _ in _file_rows(path, "", None))
    with unpacked(path, kind.packing) as (file, _):
        return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
