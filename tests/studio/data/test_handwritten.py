"""A set written by hand is kept whole each time, rows that are half written too, and can be gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from studio.data.handwritten import WrittenSet, keep, open_written, written_sets
from studio.data.rewriting import EditedTurn
from studio.data.rows import read
from studio.errors import DataError
from studio.places import Workspace


def row(question: str, answer: str) -> tuple[EditedTurn, ...]:
    return EditedTurn("user", question), EditedTurn("assistant", answer)


def test_what_is_written_is_kept_and_gone_on_with(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    own = (EditedTurn("system", "Shout."), *row("c", "D"))
    written = WrittenSet("My pirates/..", "Be brief.", (row("a", "b\ud800"), row("half", ""), row("", " "), own))
    path = keep(workspace, written, None)
    assert path is not None
    assert path.parent == workspace.written
    found = read(path)
    assert (found.num_rows, [problem.kind for problem in found.problems]) == (3, ["characters", "content"])
    assert [message.content for message in found.conversations[0].messages] == ["Shout.", "c", "D"]
    again = open_written(path)
    assert (again.system, again.rows[2]) == ("", own)
    same = WrittenSet("My pirates", "Be brief.", (row("a", "b"), row("c", "")))
    assert keep(workspace, same, path) == path
    assert open_written(path) == replace(same, name=path.stem)


def test_a_set_takes_another_name_and_never_the_file_of_another_set(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert keep(workspace, WrittenSet("a", "only this", (row("", ""),)), None) is None
    first = keep(workspace, WrittenSet("a", "", (row("1", "1"),)), None)
    second = keep(workspace, WrittenSet("a", "", (row("2", "2"),)), None)
    assert [path.name for path in (first, second) if path] == ["a.jsonl", "a-2.jsonl"]
    moved = keep(workspace, WrittenSet("b", "", (row("2", "2"),)), second)
    assert {path.name for path in written_sets(workspace)} == {"a.jsonl", "b.jsonl"}
    assert moved is not None
    assert open_written(moved).rows == (row("2", "2"),)


@pytest.mark.parametrize("line", ['{"messages": [], "id": 1}', '{"question": "a", "answer": "b"}', "[1, {}]", "broken"])
def test_what_was_not_written_here_is_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}]}\n' + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        open_written(path)
