"""The computer stays awake exactly while a run is live, and only if the user lets us."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import wakepy
from pytestqt.qtbot import QtBot

from studio.runs import wishes as w
from studio.runs.engine import running_engine
from studio.runs.state import Status
from tests.ui.desk import Desk, make_desk
from ui import keep_awake
from ui.settings import Settings


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


def names() -> list[str]:
    return [str(mode.name) for mode in wakepy.global_modes()]


def test_the_computer_is_kept_awake_while_a_run_is_live_and_not_longer(desk: Desk) -> None:
    with desk.open() as state:
        view = desk.begin(state, "long")
        desk.wait(lambda: names() == ["keep.running"])
        state.run_requested.emit(view.folder.id, "stop")
        desk.wait(lambda: view.state.status is Status.STOPPED)
        desk.wait(lambda: names() == [])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_window_that_closes_lets_go_and_leaves_it_to_the_engine(desk: Desk, wanted: bool) -> None:
    with desk.open(Settings(keep_awake=wanted)) as state:
        run = desk.begin(state, "long").folder.id
        desk.wait(lambda: names() == ["keep.running"] * wanted)
    assert names() == []
    engine = running_engine(desk.workspace, "cpu")
    assert engine is not None
    wishes = [wish for wish in engine.inbox.read() if isinstance(wish, w.StayAwake)]
    assert wishes == [w.StayAwake(run=run)] * wanted


def test_the_setting_holds_at_once_in_mid_run(desk: Desk) -> None:
    settings = Settings(keep_awake=False)
    with desk.open(settings) as state:
        desk.begin(state, "long")
        keeper = desk.conductors[-1].keep_awake
        assert not keeper.is_on
        settings.keep_awake = True
        keeper.look()
        desk.wait(lambda: names() == ["keep.running"])
        settings.keep_awake = False
        keeper.look()
        desk.wait(lambda: names() == [])


def test_what_cannot_be_had_is_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def refused() -> Iterator[bool]:
        yield False

    monkeypatch.setattr(keep_awake, "kept_awake", refused)
    with desk.open() as state:
        heard: list[tuple[str, str, str]] = []
        state.noticed.connect(lambda *words: heard.append(words))
        run = desk.begin(state, "long").folder.id
        desk.wait(lambda: heard)
        state.run_requested.emit(run, "pause")
        desk.wait(lambda: state.runs[run].state.status is Status.PAUSED and not desk.conductors[-1].keep_awake.is_on)
        state.run_requested.emit(run, "resume")
        desk.wait(lambda: desk.conductors[-1].keep_awake.is_on and state.runs[run].state.step > 3)
        state.run_requested.emit(run, "stop")
        desk.wait(lambda: state.runs[run].state.status is Status.STOPPED)
    assert [(kind, "falling asleep" in text) for kind, text, _ in heard] == [("warn", True)]
