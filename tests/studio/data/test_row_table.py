"""Any row by its number, the same as when all are read in order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.data import row_table
from studio.data.conversation import RawRow
from studio.data.reading import raw_rows
from studio.data.row_table import open_table
from studio.errors import DataError
from studio.places import Workspace

ROWS = b"".join(json.dumps({"text": f"row {n} {'x' * (n % 300)}"}).encode() + b"\n" for n in range(500))
PIECES = [
    b'{"text": "a"}',
    b"\n",
    b"\r\n",
    b"   \n",
    b"\xff",
    b"broken",
    b"\xef\xbb\xbf",
    b'{"text": "' + b"x" * 300 + b'"}\n',
    b" " * 300,
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), block=st.integers(1, 400))
def test_rows_by_number_are_those_of_the_reader(tmp_path: Path, content: bytes, block: int) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_table, "_BLOCK_BYTES", block)
        with open_table(Workspace(tmp_path / "home"), path) as table:
            found = list(raw_rows(path))
            assert table[:] == found
            for raw in found:
                if isinstance(raw, RawRow):
                    assert json.loads(table.line(raw.row)) == raw.value


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.csv", "folder"])
def test_every_kind_of_dataset_has_its_rows_by_number(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "a.jsonl").write_bytes(ROWS + b"broken\n")
        (path / "b.jsonl").write_bytes(ROWS)
    else:
        table = b"text\n" + b"".join(b"row,too many\n" if n == 7 else b"row\n" for n in range(500))
        path.write_bytes({"d.jsonl.gz": gzip.compress(ROWS), "d.csv": table}.get(name, ROWS))
    workspace = Workspace(tmp_path / "home")
    wanted = list(raw_rows(path))
    for _ in range(2):  # unpacked, and found unpacked
        with open_table(workspace, path) as table:
            assert len(table) == len(wanted)
            assert [table[n] for n in (499, 0, 7, -1)] == [wanted[n] for n in (499, 0, 7, -1)]
            with pytest.raises(IndexError):
                table[len(wanted)]
    assert workspace.unpacked.exists() == (name != "d.jsonl")


def test_what_was_unpacked_long_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_table, "MOST_BYTES", 10)
    workspace = Workspace(tmp_path / "home")
    for n in range(3):
        (tmp_path / f"{n}.csv").write_text(f"text\nrow {n}\n")
        with open_table(workspace, tmp_path / f"{n}.csv") as table:
            assert len(table) == 1
    assert len(list(workspace.unpacked.iterdir())) == 1


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        open_table(Workspace(tmp_path / "home"), tmp_path / "none.jsonl")
