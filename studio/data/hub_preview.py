"""The first rows of a dataset on the hub, before it is fetched: a megabyte of text, or what they take of a columnar file."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from studio.data.columnar import arrow_rows, parquet_rows, unpacked_zstd
from studio.data.conversation import RawRow, RowProblem
from studio.data.hub_sets import Choice, HubFile
from studio.data.opening import unpacked_suffix
from studio.data.reading import rows_in
from studio.errors import DataError
from studio.hub import DATASETS, Hub

NUM_ROWS = 20
_HEAD_BYTES = 1_000_000
_MOST_UNPACKED_BYTES = 8_000_000
_COLUMNAR_BYTES = 64_000_000
_READ_BYTES = 1 << 18
_COLUMNAR = {".parquet": parquet_rows, ".arrow": arrow_rows, ".feather": arrow_rows}


def first_rows(choice: Choice) -> list[RawRow | RowProblem]:
    """At most `NUM_ROWS` rows of its first file. Raises `HubError` if the hub does not give them, `DataError` if they cannot be
    read or the first row alone is too long for a look."""
    hub, file = Hub.of_environment(), choice.files[0]
    read = _COLUMNAR.get(unpacked_suffix(Path(file.path)))
    if read is not None:
        distant = io.BufferedReader(_Distant(hub, choice, file), _READ_BYTES)
        return list(islice(read(Path(file.path), distant), NUM_ROWS))
    return _rows_of_text(hub, choice, file)


def _rows_of_text(hub: Hub, choice: Choice, file: HubFile) -> list[RawRow | RowProblem]:
    head = hub.read(
        DATASETS + choice.offer.id, choice.offer.files_revision, file.path, _HEAD_BYTES, only_begin=True
    ).content
    text, is_cut = _unpacked(file.path, head)
    is_cut = is_cut or len(head) < file.num_bytes
    name = Path(file.path).name.removesuffix(".gz").removesuffix(".zst")
    rows = list(islice(rows_in(name, _whole_letters(text) if is_cut else text), NUM_ROWS + 1))
    if is_cut and len(rows) <= NUM_ROWS:
        rows = rows[:-1]  # the last one may go on
        if not rows:
            raise DataError(f"The first row of {file.path} is too long for a look.", "Download it to see its rows.")
    return rows[:NUM_ROWS]


def _unpacked(path: str, head: bytes) -> tuple[bytes, bool]:
    """What the beginning of a packed file unpacks to, and whether it goes on."""
    if head.startswith(b"\x1f\x8b"):
        try:
            packing = zlib.decompressobj(16 + zlib.MAX_WBITS)
            return packing.decompress(head, _MOST_UNPACKED_BYTES), not packing.eof
        except zlib.error as error:
            raise DataError(f"{path} is packed and damaged.", "Tell those who uploaded it.") from error
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        pieces = list(_until_torn(unpacked_zstd(Path(path), io.BytesIO(head))))
        return b"".join(pieces), True
    return head, False


def _until_torn(stream: Any) -> Iterator[bytes]:
    num_bytes = 0
    try:
        while num_bytes < _MOST_UNPACKED_BYTES and (piece := stream.read1(_READ_BYTES)):
            num_bytes += len(piece)
            yield piece
    except (OSError, EOFError):
        return


def _whole_letters(text: bytes) -> bytes:
    """Without the bytes of a letter that was cut."""
    end = len(text)
    while end > max(0, len(text) - 3) and text[end - 1] & 0xC0 == 0x80:
        end -= 1
    return text[: end - 1] if end and text[end - 1] >= 0xC0 else text


class _Distant(io.RawIOBase):
    """A file on the hub, of which no more is fetched than is read."""

    def __init__(self, hub: Hub, choice: Choice, file: HubFile) -> None:
        self._hub, self._choice, self._file = hub, choice, file
        self._position = self._num_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.num_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._file.num_bytes - self._position)
        if length <= 0:
            return 0
        self._num_read += length
        if self._num_read > _COLUMNAR_BYTES:
            raise DataError(f"The first rows of {self._file.path} are too long for a look.", "Download it to see them.")
        offer = self._choice.offer
        answer = self._hub.read(
            DATASETS + offer.id, offer.files_revision, self._file.path, length, start=self._position, only_begin=True
        )
        buffer[: len(answer.content)] = answer.content
        self._position += len(answer.content)
        return len(answer.content)
