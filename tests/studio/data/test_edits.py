"""Rows edited by hand: by number as in a list of Python's, taken back to the last byte, and the user's file as it was."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio import files
from studio.data.conversation import RawRow, RowProblem
from studio.data.edits import INSERT, REMOVE, REPLACE, Edit
from studio.data.reading import raw_rows
from studio.data.versions import VersionedSet
from studio.errors import ChangedError, DataError
from studio.places import Workspace

VALUES = st.dictionaries(st.text(max_size=3), st.one_of(st.text(max_size=5), st.integers(), st.none()), max_size=2)


def values_of(path: Path) -> list[Any]:
    return [raw.value if isinstance(raw, RawRow) else raw.kind for raw in raw_rows(path)]


def in_a_list(rows: list[Any], edits: list[Edit]) -> list[Any]:
    """What a plain list becomes, edited from its end so that the numbers stay true."""
    rows = list(rows)
    for edit in sorted(edits, key=lambda edit: (-edit.row, edit.kind == INSERT)):
        if edit.kind == REMOVE:
            del rows[edit.row]
        elif edit.kind == REPLACE:
            rows[edit.row] = edit.value
    for row in sorted({edit.row for edit in edits if edit.kind == INSERT}, reverse=True):
        gone = sum(edit.kind == REMOVE and edit.row < row for edit in edits)
        rows[row - gone : row - gone] = [edit.value for edit in edits if edit.kind == INSERT and edit.row == row]
    return rows


@st.composite
def some_edits(draw: st.DrawFn, num_rows: int) -> list[Edit]:
    rows = draw(st.lists(st.integers(0, num_rows - 1), unique=True, max_size=num_rows - 1)) if num_rows > 1 else []
    edits = [Edit(REMOVE, row) if draw(st.booleans()) else Edit(REPLACE, row, draw(VALUES)) for row in rows]
    return edits + [Edit(INSERT, row, draw(VALUES)) for row in draw(st.lists(st.integers(0, num_rows), max_size=3))]


@settings(max_examples=12, deadline=None)
@given(data=st.data(), rows=st.lists(VALUES, min_size=1, max_size=6))
def test_edits_are_those_of_a_list_and_undo_returns_to_the_first_byte(data: st.DataObject, rows: list[Any]) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        source.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
        before = source.read_bytes()
        versions = VersionedSet(Workspace(Path(folder) / "home"), source)
        history, bytes_then = [rows], [before]
        for _ in range(data.draw(st.integers(1, 3))):
            edits = data.draw(some_edits(len(history[-1])))
            made = versions.edit(edits)
            history.append(in_a_list(history[-1], edits))
            bytes_then.append(made.path.read_bytes())
            assert values_of(made.path) == history[-1]
        for number in range(len(history) - 2, -1, -1):
            assert versions.undo().path.read_bytes() == bytes_then[number]
        assert versions.current.path == source.resolve()
        for number in range(1, len(history)):
            assert versions.redo().path.read_bytes() == bytes_then[number]
        assert source.read_bytes() == before


def test_the_history_says_which_rows_were_edited(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f'{{"text": "{n}"}}\n' for n in range(9)))
    versions = VersionedSet(Workspace(tmp_path / "home"), source)
    edits = [*(Edit(REMOVE, row) for row in (7, 2, 3)), Edit(REPLACE, 5, {"text": "new"}), Edit(INSERT, 9, {})]
    made = versions.edit(edits, of=0)
    assert made.mends == ("edited",)
    assert made.edits == {"removed": [[2, 3], [7, 7]], "replaced": [[5, 5]], "inserted": [[9, 9]]}
    told = {"changed": {"by hand": 1}, "removed": {"by hand": 3}, "inserted": 1, "num_rows": 9}
    assert told.items() <= made.tally.items()
    kept = files.read_json(versions.folder / "history.json")["versions"][0]
    assert (kept["edits"], kept["parent"]) == (made.edits, 0)
    with pytest.raises(ChangedError, match="changed elsewhere"):
        versions.edit([Edit(REMOVE, 0)], of=0)


def test_broken_lines_and_odd_bytes_stay_as_they_are_and_may_be_replaced(tmp_path: Path) -> None:
    lines = [
        b'{"text": 1.0, "text": "\\ud800\\u0000"}',
        b"broken",
        b'{"text": "K\xe4se"}',
        b'["a list"]',
        b'{"b":\t1e2}',
    ]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + b"\n\r\n \n".join(lines))
    versions = VersionedSet(Workspace(tmp_path / "home"), source)
    made = versions.edit([Edit(REMOVE, 4)])
    assert made.path.read_bytes() == b"".join(line + b"\n" for line in lines[:4])
    mended = versions.edit([Edit(REPLACE, 1, {"text": "\ud800\0"})])
    assert [raw.kind for raw in raw_rows(mended.path) if isinstance(raw, RowProblem)] == ["encoding"]
    assert values_of(mended.path)[1] == {"text": "\ud800\0"}
    # What comes first tells the kind of a file: there, only an object may stand.
    first = versions.edit([Edit(REMOVE, row) for row in (0, 1, 2)] + [Edit(INSERT, 4, {"text": "x"})])
    assert values_of(first.path) == [{"text": "x"}]
    assert first.tally["removed"] == {"by hand": 3, "unreadable": 1}


def test_a_table_becomes_lines_with_all_its_columns(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("question,answer,id\na,b,1\nc,d,2\ne,f,3\n")
    made = VersionedSet(Workspace(tmp_path / "home"), source).edit([Edit(REMOVE, 1)])
    assert values_of(made.path) == [
        {"question": "a", "answer": "b", "id": "1"},
        {"question": "e", "answer": "f", "id": "3"},
    ]


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([Edit(REMOVE, 2)], "no row 2"),
        ([Edit(INSERT, 3, {})], "no row 2"),
        ([Edit(REMOVE, -1)], "no edit"),
        ([Edit(REPLACE, 0, ["a"])], "must be a JSON object"),
        ([Edit(REPLACE, 0, {}), Edit(REPLACE, 0, {})], "edited twice"),
        ([Edit(REMOVE, 0), Edit(REMOVE, 1)], "No row would be left"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_and_changes_nothing(tmp_path: Path, edits: list[Edit], words: str) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"a": 1}\n{"a": 2}\n')
    versions = VersionedSet(Workspace(tmp_path / "home"), source)
    with pytest.raises(DataError, match=words):
        versions.edit(edits)
    assert (versions.current.number, list(versions.folder.glob("version-*"))) == (0, [])
