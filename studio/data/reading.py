"""A file's bytes become raw rows: JSON lines, a JSON array, or a table with a header. Nothing is judged here but form.

JSON lines and tables are streamed: memory is bounded by the longest line. A JSON array has to be read whole.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from studio.data.conversation import RowProblem
from studio.errors import DataError

MAX_LINE_BYTES = 10_000_000
MAX_ARRAY_BYTES = 1_000_000_000
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
_FOREIGN = {
    b"PK\x03\x04": "a zip file or a spreadsheet",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF file",
    b"SQLite format 3": "a database",
}
_SPACE = re.compile(r"[ \t\r\n]*")
_BAD_JSON_FIX = "Each line must be one complete JSON object, with straight quotes and no comma at its end."


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file: `value` is any JSON value, or a table's cells by column."""

    row: int
    line: int
    value: Any


@dataclass(frozen=True)
class Line:
    """One line of text without its line break; `text` is None if the line is too long or not valid text (`fault`)."""

    number: int
    text: str | None
    fault: str = ""


def raw_rows(path: Path) -> Iterator[RawRow | RowProblem]:
    """The rows of `path` in order. Raises `DataError` if the file as a whole cannot be read."""
    if "\0" in str(path):
        raise DataError("The path of the dataset holds a null character.", "Check the path of the dataset.")
    try:
        with open(path, "rb") as file:
            encoding = _encoding(path, file.read(16))
            file.seek(0)
            yield from _rows(path, file, encoding)
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not valid text.", "Save the file as UTF-8 and try again.") from error


def num_lines(path: Path) -> int:
    """Lines of the file, to tell how far reading has come. Raises `DataError` as `raw_rows` does."""
    try:
        with open(path, "rb") as file:
            return 1 + sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"There is no file {path}.", "Check the path of the dataset.")
    return DataError(f"{path} cannot be read: {error.strerror}.", "Choose a file that you may read.")


def _encoding(path: Path, start: bytes) -> str:
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise DataError(
                f"{path.name} is {what}, which cannot be read as a dataset.", "Save it as JSON lines or as CSV."
            )
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path.name} is encoded as UTF-32.", "Save the file as UTF-8 and try again.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8"


def _rows(path: Path, file: IO[bytes], encoding: str) -> Iterator[RawRow | RowProblem]:
    if path.suffix.lower() in _DELIMITERS:
        return _table_rows(path, _lines(file, encoding))
    first = _first_character(file, encoding)
    # A file of one object per line may be called .json, and an array may be called .jsonl: the content decides.
    if first == "[" or (path.suffix.lower() == ".json" and first == "{" and not _first_line_is_json(file, encoding)):
        return _value_rows(_whole(path, file, encoding))
    return _json_lines(_lines(file, encoding))


def _first_character(file: IO[bytes], encoding: str) -> str:
    """The first character that is not white space; empty if there is none near the beginning."""
    start = file.read(1 << 16)
    file.seek(0)
    return start.decode(encoding, errors="ignore").lstrip("\ufeff \t\r\n")[:1]


def _first_line_is_json(file: IO[bytes], encoding: str) -> bool:
    first = next((line.text for line in _lines(file, encoding) if line.text is None or line.text.strip()), None)
    file.seek(0)
    try:
        json.loads(first or "")
    except (ValueError, RecursionError):
        return False
    return True


def _lines(file: IO[bytes], encoding: str) -> Iterator[Line]:
    """Lines of at most `MAX_LINE_BYTES`; of a longer one only the fault is kept."""
    if encoding == "utf-16":
        yield from _utf16_lines(file)
        return
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            while data and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_BYTES)
            yield Line(number, None, "length")
            continue
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        try:
            yield Line(number, data.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            yield Line(number, None, "encoding")


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


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json_lines(lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    row = 0
    for line in lines:
        if line.text is None:
            yield _line_problem(row, line)
        elif not line.text.strip():
            continue
        else:
            yield _json_row(row, line.number, line.text)
        row += 1


def _json_row(row: int, number: int, text: str) -> RawRow | RowProblem:
    try:
        return RawRow(row, number, json.loads(text))
    except RecursionError:
        return _nesting(row, number)
    except ValueError as error:
        return _bad_json(row, number, error, _BAD_JSON_FIX)


def _line_problem(row: int, line: Line) -> RowProblem:
    if line.fault == "length":
        message = f"This line is longer than {MAX_LINE_BYTES // 1_000_000} MB."
        return RowProblem(row, line.number, "length", message, "Put one row on each line, or split the text.")
    return RowProblem(row, line.number, "encoding", "This line is not valid UTF-8.", "Save the file as UTF-8.")


def _nesting(row: int, number: int) -> RowProblem:
    return RowProblem(row, number, "nesting", "This row is nested too deeply.", "Flatten it, or remove the row.")


def _bad_json(row: int, number: int, error: ValueError, fix: str) -> RowProblem:
    why = (
        f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else "a number too long"
    )
    return RowProblem(row, number, "json", f"This row is not valid JSON ({why}).", fix)


def _whole(path: Path, file: IO[bytes], encoding: str) -> str:
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise DataError(f"{path.name} is too large for one JSON value.", "Save it as JSON lines, one row on each line.")
    return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)


def _value_rows(text: str) -> Iterator[RawRow | RowProblem]:
    """The elements of a JSON array, or JSON values one after another, with the line on which each begins.

    After an element that is not JSON nothing tells where the next one begins: that problem is the last thing yielded.
    """
    decoder, row, line, counted = json.JSONDecoder(), 0, 1, 0
    position = _skip(text, 0)
    is_array = text.startswith("[", position)
    position = _skip(text, position + 1) if is_array else position
    while position < len(text) and not (is_array and text[position] == "]"):
        line += text.count("\n", counted, position)
        counted = position
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError:
            yield _nesting(row, line)
            return
        except ValueError as error:
            yield _cut_short(row, line, error)
            return
        yield RawRow(row, line, value)
        row += 1
        position = _skip(text, end)
        if is_array and text.startswith(",", position):
            position = _skip(text, position + 1)
        elif is_array and not text.startswith("]", position):
            line += text.count("\n", counted, position)
            yield _cut_short(row, line, None)
            return
    if is_array and (position >= len(text) or text[position + 1 :].strip()):
        line += text.count("\n", counted, position)
        yield _cut_short(row, line, None)


def _skip(text: str, position: int) -> int:
    """The next position that is not white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _cut_short(row: int, line: int, error: ValueError | None) -> RowProblem:
    fix = "Mend the file here: nothing after this place could be read."
    if error is not None:
        return _bad_json(row, line, error, fix)
    return RowProblem(row, line, "json", "The list of rows does not go on as a JSON array must.", fix)


# --- tables --------------------------------------------------------------------------------------------------------


def _table_rows(path: Path, lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    faults: list[Line] = []
    text = _table_text(lines, faults)
    first = next(text, "")
    delimiters = _DELIMITERS[path.suffix.lower()]
    delimiter = max(delimiters, key=first.count)
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise DataError(f"The first line of {path.name} names no columns.", "Put the columns' names there.") from error
    if len(set(header)) != len(header):
        raise DataError(f"{path.name} has two columns of the same name.", "Give each column its own name.")
    reader, row, line = csv.reader(text, delimiter=delimiter), 0, 1
    while True:
        begins = line + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error:
            line = reader.line_num + 1
            faults.clear()
            yield RowProblem(row, begins, "table", "This row cannot be read as a table.", "Check its quotation marks.")
            row += 1
            continue
        line = reader.line_num + 1
        if cells:
            yield _table_row(row, begins, header, cells, faults)
            row += 1


def _table_row(row: int, line: int, header: list[str], cells: list[str], faults: list[Line]) -> RawRow | RowProblem:
    if faults:
        problem = _line_problem(row, faults[0])
        faults.clear()
        return problem
    if len(cells) != len(header):
        message = f"This row has {len(cells)} cells, the header has {len(header)}."
        return RowProblem(row, line, "table", message, "Put texts that hold the separator in quotation marks.")
    return RawRow(row, line, dict(zip(header, cells, strict=True)))


def _table_text(lines: Iterator[Line], faults: list[Line]) -> Iterator[str]:
    """Lines for the table reader. A faulty line is noted and stands in as one character, so that its row is told."""
    for line in lines:
        if line.text is None:
            faults.append(line)
        yield "?\n" if line.text is None else line.text + "\n"
