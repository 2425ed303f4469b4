"""Every ending of a run, brought about by an engine that only lacks the model, as its panel tells it: title, cause, next step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QThreadPool
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from studio.runs.processes import is_alive
from studio.runs.state import RunState, Status
from tests.ui.desk import Desk, make_desk
from ui.pages import train_actions
from ui.pages.train import TrainPage
from ui.pages.train_running import TrainRunning
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.messages import MessageBar

pytestmark = pytest.mark.slow
CHECKPOINT_HINT = "There was no checkpoint yet: resume begins again."


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


def watch(desk: Desk, state: AppState, name: str) -> tuple[TrainPage, TrainRunning, str]:
    """A run of that name, begun and shown; hold on to the page."""
    page = TrainPage(state)
    desk.bot.addWidget(page)
    page.resize(1240, 820)
    page.show()
    view = desk.begin(state, name)
    desk.wait(lambda: page.currentWidget() is page.running and page.running.run_id == view.folder.id)
    desk.wait(lambda: page.running._facts is not None)
    return page, page.running, view.folder.id


def shown(running: TrainRunning) -> set[str]:
    """The buttons that the panel offers."""
    return {button.text() for button in running.ending.findChildren(Button) if button.isVisible()}


def primary(running: TrainRunning) -> list[str]:
    return [
        button.text()
        for button in running.ending.findChildren(Button)
        if button.isVisible() and button._kind == "primary"
    ]


AGAIN, RESUME = "Train again with changes", "Resume"
THIRD, REPORT = "Start again with a third of the learning rate", "Copy report"
ENDINGS = {
    "short": (Status.FINISHED, "Finished after 0 s", "", AGAIN, {"Open folder", AGAIN}),
    "bad-data": (Status.FAILED, "The dataset cannot be used", "no row that can be used. Look at line 3.", AGAIN,
                 {AGAIN, RESUME, REPORT}),
    "out-of-memory": (Status.FAILED, "Out of memory at step 3", "1.4 GB more were needed. Shorten the rows.", AGAIN,
                      {AGAIN, RESUME, REPORT}),
    "nan": (Status.FAILED, "Diverged after step 3, and stopped before any harm", "not a number at step 4 (rows 7, 12)", THIRD,
            {AGAIN, THIRD, REPORT}),
    "full-disk": (Status.PAUSED, "Paused at step 3", "The disk is full. Free 120 MB in checkpoints.", RESUME, {AGAIN, RESUME}),
    "lost-card": (Status.FAILED, "Failed at step 3", "fell off the bus: the driver has lost it. Restart the computer", RESUME,
                  {AGAIN, RESUME, REPORT}),
    "dies": (Status.INTERRUPTED, "Interrupted at step 3",
             f"killed (by you, or by the system because memory ran out). {CHECKPOINT_HINT}", RESUME, {AGAIN, RESUME, REPORT}),
    "aborts": (Status.INTERRUPTED, "Interrupted at step 3", f"crashed inside a library. {CHECKPOINT_HINT}", RESUME,
               {AGAIN, RESUME, REPORT}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_has_its_title_its_cause_and_a_next_step(name: str, desk: Desk) -> None:
    status, title, cause, first, buttons = ENDINGS[name]
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, name)
        desk.wait(lambda: state.runs[run_id].state.status is status and running.ending.isVisible())
        assert running.ending.heading.text() == title
        assert cause in running.ending.text.text()
        assert shown(running) == buttons
        assert primary(running) == [first]
        assert running.ending.accessibleName() == title
        assert not running.actions_.pause.isVisible()
        assert state.live_run is None


def test_a_flood_is_drawn_to_its_end_and_the_window_answers_meanwhile(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "floods")
        answered_at: list[int] = []
        desk.wait(lambda: state.runs[run_id].state.step > 0)
        while state.runs[run_id].state.status is not Status.FINISHED:
            running.tabs.set_value("charts" if running.tabs.value() == "log" else "log")
            answered_at.append(state.runs[run_id].state.step)
            QTest.qWait(10)
        assert state.runs[run_id].state.step == 50_000
        assert len({step for step in answered_at if 0 < step < 50_000}) >= 10, (
            "it was answered in the midst of the flood"
        )
        running.refresh()
        assert "50,000 of 50,000" in running.progress.place.text()
        assert len(running.charts.loss.series) == 50_000


def test_rubbish_in_the_event_file_and_the_log_does_no_harm(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "rubbish")
        desk.wait(lambda: state.runs[run_id].state.status is Status.FINISHED and running.ending.isVisible())
        assert [taken.step for taken in state.runs[run_id].state.steps] == [1, 2, 3, 4, 5]
        running.tabs.set_value("log")
        desk.wait(lambda: running.log.toPlainText())
        first, second = running.log.toPlainText().splitlines()
        assert first == "100 %", "what a progress bar wrote last"
        assert second.endswith("x\u2026")
        assert len(second) == 2000


def test_a_run_that_dawdles_says_where_it_is_stopping_until_it_stops(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "dawdles")
        desk.wait(lambda: state.runs[run_id].state.step > 0)
        running.actions_.stop.menu().actions()[0].trigger()
        assert "stopping in step " in running.progress.place.text()
        assert running._pill.accessibleName() == "Stopping\u2026"
        assert not running.actions_.stop.isEnabled()
        desk.wait(lambda: running.ending.isVisible())
        at = state.runs[run_id].state.step
        assert at % 20 == 0
        assert running.ending.heading.text() == f"Stopped at step {at}"
        assert primary(running) == [RESUME]
        assert "stopping in" not in running.progress.place.text()


def test_a_silent_engine_can_be_stopped_by_force_and_its_run_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_actions, "FORCE_AFTER_MS", 0)
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "silent")
        desk.wait(lambda: state.runs[run_id].state.step == 3)
        pid, started = state.runs[run_id].state.pid, state.runs[run_id].state.process_started
        assert pid is not None
        assert not running.actions_.force.isVisible(), "nobody has asked for an end yet"
        running.actions_.stop.menu().actions()[0].trigger()
        desk.wait(running.actions_.force.isVisible)
        running.refresh()
        assert running.actions_.force.isVisible()
        assert not running.actions_.pause.isVisible()
        assert running.progress.place.text().endswith("stopping in step 4\u2026")
        QTest.mouseClick(running.actions_.force, Qt.MouseButton.LeftButton)
        desk.wait(lambda: running.ending.isVisible())
        assert not is_alive(pid, started)
        assert running.ending.heading.text() == "Interrupted at step 3"
        assert "killed" in running.ending.text.text()
        assert not running.actions_.force.isVisible()
        QTest.mouseClick(running.ending.resume, Qt.MouseButton.LeftButton)
        desk.wait(lambda: state.runs[run_id].state.status is Status.RUNNING and state.runs[run_id].state.pid != pid)
        assert running.ending.isHidden()
        state.run_requested.emit(run_id, "force")
        desk.wait(lambda: not state.runs[run_id].state.status.is_live)


def test_a_third_of_the_learning_rate_is_asked_for(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "nan")
        asked: list[tuple[str, object]] = []
        state.again_with_requested.connect(lambda *args: asked.append(args))
        desk.wait(running.ending.third.isVisible)
        rate = state.recipe.training.learning_rate
        QTest.mouseClick(running.ending.third, Qt.MouseButton.LeftButton)
        assert asked == [(run_id, {"training.learning_rate": pytest.approx(rate / 3, rel=0.01)})]


def test_a_report_of_what_happened_can_be_copied(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, _ = watch(desk, state, "aborts")
        desk.wait(running.ending.report.isVisible)
        QTest.mouseClick(running.ending.report, Qt.MouseButton.LeftButton)
        QThreadPool.globalInstance().waitForDone()
        desk.wait(lambda: "bad_alloc" in QGuiApplication.clipboard().text())
        text = QGuiApplication.clipboard().text()
        assert "Interrupted at step 3" in text
        assert "Overlay Studio" in text


def test_what_an_ending_says_is_the_same_when_the_run_is_opened_later(desk: Desk) -> None:
    with desk.open() as state:
        _page, running, run_id = watch(desk, state, "full-disk")
        desk.wait(running.ending.isVisible)
        said = running.ending.heading.text(), running.ending.text.text()
        folder = state.runs[run_id].folder
    with desk.open() as state:
        page = TrainPage(state)
        desk.bot.addWidget(page)
        page.show()
        state.run_selected.emit(folder.id)
        assert (page.running.ending.heading.text(), page.running.ending.text.text()) == said
        assert not [bar for bar in page.running.hints.findChildren(MessageBar) if bar.isVisible()]
    assert RunState.replay(folder.events.read()).status is Status.PAUSED
