"""Votes land in a file that every reader knows, one line each; a crash costs at most the line that was being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.data.preferences import Vote, add, rows, votes_path, withdraw
from studio.data.rows import read
from studio.errors import DataError
from studio.places import Workspace

ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who <b>are</b> you?"})


def vote(chosen: str = "A pirate.", rejected: str = "An assistant.") -> Vote:
    return Vote(ASKED, chosen, rejected, "starter", chosen_by="pirate")


def test_votes_are_read_as_a_preference_set(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    assert add(home, [vote(), vote(rejected="Nobody.\n\nReally \u2028")]) == 2
    found = read(votes_path(home))
    assert (found.format, found.num_rows, found.problems) == ("preference", 2, ())
    said = [(message.role, message.content) for message in found.conversations[0].messages]
    assert said == [*((turn["role"], turn["content"]) for turn in ASKED), ("assistant", "A pirate.")]
    row = next(rows(home))
    assert (row["rejected"][0]["content"], row["chosen_by"], row["rejected_by"]) == ("An assistant.", "pirate", "")


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    add(home, [vote()])
    with open(votes_path(home), "ab") as file:
        file.write(b'{"prompt": [{"role": "us')
    last = vote("Another.")
    assert add(home, [last]) == 2
    assert [row["chosen"][0]["content"] for row in rows(home)] == ["A pirate.", "Another."]
    assert withdraw(home, [last.id]) == 1
    assert [row["chosen"][0]["content"] for row in rows(home)] == ["A pirate."]


@pytest.mark.parametrize("wrong", [vote(rejected="A pirate."), vote(chosen=" "), vote(rejected="\0"), vote("\ud800")])
def test_what_nobody_could_learn_from_is_no_vote(tmp_path: Path, wrong: Vote) -> None:
    with pytest.raises(DataError):
        add(Workspace(tmp_path), [vote(), wrong])
    assert list(rows(Workspace(tmp_path))) == []
