"""Parquet and Arrow files, and zstd streams: the only module outside the engine that knows pyarrow.

pyarrow comes with the engine's libraries and is imported when the first such file is opened: a window without it reads
everything else. No row is held longer than its batch.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from studio.data.conversation import RawRow
from studio.errors import DataError

_BATCH_ROWS = 256
_PAGE_BYTES = 1 << 18


def parquet_rows(path: Path, distant: IO[bytes] | None = None) -> Iterator[RawRow]:
    """Rows of a Parquet file; lines are counted as if each row stood on one. Raises `DataError` if it is damaged.

    The bytes come from `distant`, if it is given, and no more of them than the rows take that are asked for.
    """
    arrow = _pyarrow(path)
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(distant or path, buffer_size=_PAGE_BYTES if distant else 0) as file:
            # Asked for together, all row groups are read ahead: too much of a file that lies far away.
            groups: list[Any] = [[group] for group in range(file.num_row_groups)] if distant else [None]
            yield from _rows(
                batch for group in groups for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=group)
            )
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, "Parquet") from error


def num_parquet_rows(path: Path) -> int:
    """As the file's own footer says. Raises `DataError` if it is damaged."""
    arrow = _pyarrow(path)
    import pyarrow.parquet

    try:
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, "Parquet") from error


def arrow_rows(path: Path, distant: IO[bytes] | None = None) -> Iterator[RawRow]:
    """Rows of an Arrow file or, as `datasets` writes them, of an Arrow stream; as `parquet_rows`, with the same error."""
    arrow = _pyarrow(path)
    try:
        with arrow.PythonFile(distant, "r") if distant else arrow.memory_map(str(path)) as mapped:
            is_file = mapped.read(6) == b"ARROW1"
            mapped.seek(0)
            if is_file:
                reader = arrow.ipc.open_file(mapped)
                yield from _rows(reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                yield from _rows(arrow.ipc.open_stream(mapped))
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, "Arrow") from error


def unpacked_zstd(path: Path, file: IO[bytes]) -> IO[bytes]:
    """The bytes behind a zstd stream, as a file to be read forwards. Raises `DataError` without pyarrow."""
    arrow = _pyarrow(path)
    return io.BufferedReader(_Forwards(arrow.CompressedInputStream(file, "zstd")), 1 << 18)


class _Forwards(io.RawIOBase):
    """What `io` needs to know of pyarrow's stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _rows(batches: Any) -> Iterator[RawRow]:
    row = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for value in batch.slice(start, _BATCH_ROWS).to_pylist():
                yield RawRow(row, row + 1, _plain(value))
                row += 1


def _plain(value: Any) -> Any:
    """Structs leave nulls where a row lacks a key; times, bytes and the like become text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"{path.name} needs pyarrow to be read, which is not installed.",
            'Install the engine (pip install "overlay-studio[engine]"), or save the file as JSON lines.',
        ) from error
    return pyarrow


def _damaged(path: Path, kind: str) -> DataError:
    return DataError(f"{path.name} is no {kind} file, or a damaged one.", "Export it again, or save it as JSON lines.")
