"""`overlay data` with rows edited by hand: by number in the version in force, new rows as JSON on stdin."""

from __future__ import annotations

import argparse
import sys

from studio.cli.data_text import mended_text
from studio.cli.output import Output
from studio.cli.parser import ArgumentParser, UsageError, whole_number
from studio.data.conversation import RawRow, RowProblem
from studio.data.edits import INSERT, REMOVE, REPLACE, Edit
from studio.data.json_rows import value_rows
from studio.data.versions import VersionedSet
from studio.errors import DataError

_MOST_ROWS = 1 << 40


def add_edits(data: ArgumentParser) -> None:
    """Add the options."""
    group = data.add_argument_group(
        "editing by hand",
        "Rows are counted from 0 in the version in force (look at them with --mended). Each command makes one new version, "
        "which --undo takes back; the file itself is never touched.",
    )
    group.add_argument("--remove", action="append", type=_rows, metavar="ROW[,ROW...]", help="leave these rows out")
    group.add_argument(
        "--replace",
        type=_rows,
        metavar="ROW[,ROW...]",
        help="put JSON objects from stdin in their places, one for each",
    )
    group.add_argument(
        "--insert", type=whole_number(0, _MOST_ROWS), metavar="ROW", help="put JSON objects from stdin before that row"
    )
    group.add_argument("--redo", action="store_true", help="go forward again to what --undo took back")


def is_edit(options: argparse.Namespace) -> bool:
    """Whether any of them was given."""
    return bool(options.remove or options.replace or options.insert is not None or options.redo)


def edit(options: argparse.Namespace, output: Output, rows: VersionedSet) -> None:
    """Make one version of all edits, or go forward to one. Raises `DataError` if a row is not there."""
    version = rows.redo() if options.redo else rows.edit(_edits(options))
    document = {"version": version.number, "path": str(version.path), "mends": list(version.mends), **version.tally}
    output.result({**document, "edits": version.edits}, mended_text(options.file.name, version))


def _edits(options: argparse.Namespace) -> list[Edit]:
    edits = [Edit(REMOVE, row) for rows in options.remove or [] for row in rows]
    if options.replace and options.insert is not None:
        raise UsageError("--replace and --insert both take rows from stdin.", "Give one of them at a time.")
    if options.replace:
        values = _values()
        if len(values) != len(options.replace):
            counts = f"{len(options.replace)} rows are to be replaced, and {len(values)} stand on stdin."
            raise DataError(counts, "Write one JSON object for each.")
        edits += [Edit(REPLACE, row, value) for row, value in zip(options.replace, values, strict=True)]
    elif options.insert is not None:
        edits += [Edit(INSERT, options.insert, value) for value in _values()]
    return edits


def _values() -> list[object]:
    """The JSON values on stdin: one after another, or in an array."""
    try:
        found = list(value_rows(sys.stdin.buffer.read().decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise DataError("What stands on stdin is not UTF-8.", "Save it as UTF-8.") from error
    for each in found:
        if isinstance(each, RowProblem):
            raise DataError(f"On stdin, line {each.line}: {each.message}", "Write JSON objects, one for each row.")
    if not found:
        raise DataError("No row stands on stdin.", "Pipe a JSON object into the command.")
    return [each.value for each in found if isinstance(each, RawRow)]


def _rows(text: str) -> list[int]:
    convert = whole_number(0, _MOST_ROWS)
    return [convert(part) for part in text.split(",")]
