"""What `overlay train` and `overlay resume` do around a run; the run itself is another's business."""

from pathlib import Path

import pytest
import wakepy

from studio.cli import commands_train
from tests.studio.cli.conftest import Overlay


@pytest.mark.parametrize(("options", "modes"), [([], ["keep.running"]), (["--let-sleep"], [])])
def test_the_computer_stays_awake_while_a_run_is_done_unless_it_may_sleep(
    overlay: Overlay, recipe: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], modes: list[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        commands_train, "do_run", lambda *_: seen.append([str(mode.name) for mode in wakepy.global_modes()])
    )
    assert overlay("train", recipe, "--device", "cpu", *options).code == 0
    assert overlay("resume", "try", *options).code == 0
    assert seen == [modes, modes]
    assert wakepy.global_modes() == []


def test_a_computer_that_may_fall_asleep_all_the_same_is_told_of(
    overlay: Overlay, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_train, "do_run", lambda *_: None)
    monkeypatch.setenv("WAKEPY_FORCE_FAILURE", "1")
    answer = overlay("train", recipe, "--device", "cpu", "--json")
    assert answer.code == 0
    assert "falling asleep" in answer.err
    assert answer.out == ""
