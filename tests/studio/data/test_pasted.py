"""Rows that were pasted: what they are taken for, and the file that they become."""

from pathlib import Path

import pytest

from studio.data.conversation import RawRow
from studio.data.pasted import keep, look
from studio.data.reading import raw_rows
from studio.errors import DataError
from studio.places import Workspace

TALK = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


@pytest.mark.parametrize(
    ("text", "suffix", "num_rows", "format"),
    [
        (f"{TALK}\n{TALK}\n", ".jsonl", 2, "messages"),
        (TALK, ".json", 1, "messages"),
        (f"[{TALK},\n {TALK}]", ".json", 2, "messages"),
        ('question,answer\n"a, b",c\nd,e\n', ".csv", 2, "question-answer"),
        ("question\tanswer\nWho, then?\tI", ".tsv", 1, "question-answer"),
        ("Once, there was\na ship.", ".txt", 1, "text"),
    ],
)
def test_a_paste_is_taken_for_what_it_is(text: str, suffix: str, num_rows: int, format: str, tmp_path: Path) -> None:
    found = look(text)
    assert (found.suffix, len(found.rows), found.num_problems) == (suffix, num_rows, 0)
    assert found.detection.format == format
    path = keep(Workspace(tmp_path), text)
    assert path == keep(Workspace(tmp_path), text)
    assert [row.value for row in raw_rows(path) if isinstance(row, RawRow)] == [
        row.value for row in found.rows if isinstance(row, RawRow)
    ]


def test_a_broken_line_is_counted_and_nothing_is_refused() -> None:
    assert look(f"{TALK}\n{{broken\n{TALK}").num_problems == 1
    with pytest.raises(DataError, match="no rows"):
        look(" \n")
