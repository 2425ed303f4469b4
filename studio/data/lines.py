"""Bytes become lines of text, each with its number and the byte at which it begins. Memory is bounded by the longest line."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from studio.data.conversation import RowProblem
from studio.errors import DataError

MAX_LINE_BYTES = 10_000_000
_SEEN_AROUND = 12
# What Windows programs of the western world write where they do not write UTF-8.
WINDOWS = "cp1252"


@dataclass(frozen=True)
class Line:
    """One line of text without its line break. `text` is None if it cannot be had: `fault` says why (`length`, `encoding`),
    `column` at which byte, and `guess` how the place would read in Windows-1252. `offset` counts bytes from the start of
    the (unpacked) file; it is -1 in UTF-16."""

    number: int
    text: str | None
    fault: str = ""
    offset: int = -1
    column: int = 0
    guess: str = ""


def lines(file: IO[bytes], encoding: str, fallback: str = "") -> Iterator[Line]:
    """Lines of at most `MAX_LINE_BYTES`; of a longer one only the fault is kept.

    `encoding` is `utf-8` or `utf-16`; a line that is not valid UTF-8 is read in the encoding `fallback`, if one is given.
    Raises `DataError` or `UnicodeDecodeError` for UTF-16 that is torn or has no line breaks.
    """
    if encoding == "utf-16":
        yield from _utf16_lines(file)
        return
    number = offset = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number, begins = number + 1, offset
        offset += len(data)
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES)
                offset += len(data)
            yield Line(number, None, "length", begins)
            continue
        yield line_of(data, number, begins, fallback)


def line_of(data: bytes, number: int, offset: int, fallback: str = "") -> Line:
    """One line from its bytes, as `lines` does it."""
    if number == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return Line(number, data.decode("utf-8").rstrip("\r\n"), offset=offset)
    except UnicodeDecodeError as error:
        if fallback:
            return Line(number, data.decode(fallback, errors="replace").rstrip("\r\n"), offset=offset)
        around = data[max(0, error.start - _SEEN_AROUND) : error.start + _SEEN_AROUND]
        guess = around.decode(WINDOWS, errors="replace").strip()
        return Line(number, None, "encoding", offset, error.start + 1, guess)


def _utf16_lines(file: IO[bytes]) -> Iterator[Line]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    number, text = 0, ""
    while data := file.read(1 << 16):
        text += decoder.decode(data)
        *complete, text = text.split("\n")
        for line in complete:
            number += 1
            yield Line(number, line.rstrip("\r"))
        if len(text) > MAX_LINE_BYTES:
            raise DataError("The file has a line of more than ten million characters.", "Put one row on each line.")
    text += decoder.decode(b"", final=True)
    if text:
        yield Line(number + 1, text)


def line_problem(row: int, line: Line) -> RowProblem:
    """What is told about a line without text."""
    if line.fault == "length":
        message = f"This line is longer than {MAX_LINE_BYTES // 1_000_000} MB."
        return RowProblem(row, line.number, "length", message, "Put one row on each line, or split the text.")
    return RowProblem(
        row,
        line.number,
        "encoding",
        f"This line is not valid UTF-8; read as Windows-1252, the place says {line.guess!r}.",
        "Save the file as UTF-8, or let it be read as Windows-1252.",
        column=f"byte {line.column}",
    )
