"""`overlay preferences`: votes are counted by who won, and written out as trainers want them."""

from __future__ import annotations

import json
from pathlib import Path

from studio.data.preferences import Vote, add, rows
from studio.places import Workspace
from tests.studio.cli.conftest import Overlay

ASKED = ({"role": "user", "content": "Who are you?"},)


def test_votes_are_counted_and_exported(overlay: Overlay, workspace: Workspace, tmp_path: Path) -> None:
    assert "no votes yet" in overlay("preferences").out
    assert overlay("preferences", "--export", tmp_path / "out.jsonl").code == 2
    add(workspace, [Vote(ASKED, answer, "An assistant.", "starter", "pirate") for answer in ("A pirate.", "Me.")])
    assert overlay("preferences", "--json").document["won"] == {"pirate": 2}
    out = tmp_path / "out.jsonl"
    assert overlay("preferences", "--export", out, "--json").document["num_rows"] == 2
    assert [json.loads(line) for line in out.read_text().splitlines()] == list(rows(workspace))
    assert overlay("data", out, "--json").document["format"] == "preference"
