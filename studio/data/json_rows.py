"""Rows from JSON: one object on each line, or values that stand in an array or one after another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from studio.data.conversation import RawRow, RowProblem
from studio.data.lines import Line, line_problem

_SPACE = re.compile(r"[ \t\r\n]*")
_BAD_JSON_FIX = "Each line must be one complete JSON object, with straight quotes and no comma at its end."


def json_lines(lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    """One row for each line that is not blank."""
    row = 0
    for line in lines:
        if line.text is None or line.text.strip():
            yield json_line(row, line)
            row += 1


def json_line(row: int, line: Line) -> RawRow | RowProblem:
    """The row that stands on one line."""
    if line.text is None:
        return line_problem(row, line)
    try:
        return RawRow(row, line.number, json.loads(line.text))
    except RecursionError:
        return _nesting(row, line.number)
    except ValueError as error:
        return _bad_json(row, line.number, error, _BAD_JSON_FIX)


def value_rows(text: str) -> Iterator[RawRow | RowProblem]:
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


def is_json(text: Any) -> bool:
    """Whether this text is one complete JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _skip(text: str, position: int) -> int:
    """The next position that is not white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _nesting(row: int, number: int) -> RowProblem:
    return RowProblem(row, number, "nesting", "This row is nested too deeply.", "Flatten it, or remove the row.")


def _bad_json(row: int, number: int, error: ValueError, fix: str) -> RowProblem:
    why, column = "a number too long", ""
    if isinstance(error, json.JSONDecodeError):
        why, column = f"{error.msg} at character {error.colno}", f"character {error.colno}"
    return RowProblem(row, number, "json", f"This row is not valid JSON ({why}).", fix, column=column)


def _cut_short(row: int, line: int, error: ValueError | None) -> RowProblem:
    fix = "Mend the file here: nothing after this place could be read."
    if error is not None:
        return _bad_json(row, line, error, fix)
    return RowProblem(row, line, "json", "The list of rows does not go on as a JSON array must.", fix)
