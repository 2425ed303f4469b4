"""Rows that were pasted: what they are, by the text alone, and a file of their own that everything else reads."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from studio import files
from studio.data.conversation import RawRow, RowProblem
from studio.data.detection import Detection, detect_rows
from studio.data.json_rows import is_json
from studio.data.reading import rows_in
from studio.errors import DataError
from studio.places import Workspace

_LOOKED_AT_LINES = 20


@dataclass(frozen=True)
class Pasted:
    """What a text is taken for: its rows, of which `num_problems` cannot be read, and `suffix` for the file that it becomes."""

    suffix: str
    rows: tuple[RawRow | RowProblem, ...]
    detection: Detection

    @property
    def num_problems(self) -> int:
        """Rows that cannot be read as what the others are."""
        return sum(isinstance(row, RowProblem) for row in self.rows)


def look(text: str, most_rows: int | None = None) -> Pasted:
    """What this text is. Raises `DataError` if there is nothing in it that could be a row."""
    suffix = _suffix(text)
    rows = tuple(islice(rows_in(f"pasted{suffix}", text.encode("utf-8", "replace")), most_rows))
    if not rows:
        raise DataError("There are no rows in what was pasted.", "Paste JSON, JSON lines, CSV or TSV with its header.")
    return Pasted(suffix, rows, detect_rows(rows))


def keep(workspace: Workspace, text: str) -> Path:
    """A file of these rows, named after its contents: the same text twice is one file. Raises as `look` does, and
    `DiskFullError`."""
    data = text.encode("utf-8", "replace")
    name = f"pasted-{hashlib.sha256(data).hexdigest()[:8]}{look(text, 1).suffix}"
    if not (workspace.pasted / name).is_file():
        files.write_bytes(workspace.pasted / name, data)
    return workspace.pasted / name


def _suffix(text: str) -> str:
    """JSON begins with a bracket; a table has the same number of cells on each line; all else is prose."""
    plain = text.lstrip("\ufeff \t\r\n")
    if plain.startswith(("{", "[")):
        return ".json" if is_json(plain) else ".jsonl"
    lines = [line for line in plain.splitlines()[:_LOOKED_AT_LINES] if line.strip()]
    for suffix, delimiters in ((".tsv", "\t"), (".csv", ",;")):
        if any(_is_table(lines, delimiter) for delimiter in delimiters):
            return suffix
    return ".txt"


def _is_table(lines: Sequence[str], delimiter: str) -> bool:
    try:
        cells = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return False
    header = [cell.strip() for cell in cells[0]] if cells else []
    is_header = len(header) > 1 and all(header) and len(set(header)) == len(header)
    return is_header and len(cells) > 1 and len(cells[1]) == len(header)
