"""Rows from a table with a header: comma, semicolon or tab between the cells. Streamed line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from studio.data import lines as text_lines
from studio.data.conversation import RawRow, RowProblem
from studio.data.lines import Line, line_problem
from studio.errors import DataError

DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


def table_rows(name: str, suffix: str, lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    """The rows of the table `name`, whose `suffix` says what may stand between the cells.

    Raises `DataError` if the header names no columns, or one of them twice.
    """
    faults: list[Line] = []
    text = _table_text(lines, faults)
    first = next(text, "")
    delimiter = max(DELIMITERS[suffix], key=first.count)
    csv.field_size_limit(text_lines.MAX_LINE_BYTES)
    header = _header(name, first, delimiter)
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


def _header(name: str, first: str, delimiter: str) -> list[str]:
    try:
        header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error as error:
        raise DataError(f"The first line of {name} names no columns.", "Put the columns' names there.") from error
    if len(set(header)) != len(header):
        raise DataError(f"{name} has two columns of the same name.", "Give each column its own name.")
    return header


def _table_row(row: int, line: int, header: list[str], cells: list[str], faults: list[Line]) -> RawRow | RowProblem:
    if faults:
        problem = line_problem(row, faults[0])
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
