"""What the command says before an engine is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.places import Workspace
from studio.runs.engine import running_engine
from tests.studio.cli.conftest import Overlay


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id = "small"', 'id = "nobody"', "nobody"),
        ("rows.jsonl", "nowhere.jsonl", "nowhere.jsonl"),
        ("rank = 2", "rank = 0", "adapter.rank"),
    ],
)
def test_what_can_be_known_before_is_refused_before(
    overlay: Overlay, workspace: Workspace, recipe: Path, old: str, new: str, words: str
) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    answer = overlay("fit-test", recipe, "--json", "--device", "cpu")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert running_engine(workspace, "cpu") is None


def test_it_explains_itself(overlay: Overlay, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        overlay("fit-test", "--help")
    assert caught.value.code == 0
    assert "three steps" in capsys.readouterr().out
