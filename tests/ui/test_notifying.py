"""What is worth an interruption, and who hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QSystemTrayIcon, QWidget
from pytestqt.qtbot import QtBot

from studio.runs import events as e
from tests.ui.pages.train_facts import add_run, feed, run_events
from ui import notifying
from ui.notifying import Notifier
from ui.state import AppState


class Desktop:
    """Stands for the desktop's tray and for a screen reader: both are somebody else's programs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_tray: bool = True) -> None:
        self.shown: list[tuple[str, str]] = []
        self.announced: list[str] = []
        monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", staticmethod(lambda: has_tray))
        monkeypatch.setattr(QSystemTrayIcon, "supportsMessages", staticmethod(lambda: has_tray))
        monkeypatch.setattr(QSystemTrayIcon, "show", lambda _: None)
        monkeypatch.setattr(
            QSystemTrayIcon, "showMessage", lambda _, title, text, *more: self.shown.append((title, text))
        )
        monkeypatch.setattr(
            notifying.QAccessible,
            "updateAccessibility",
            staticmethod(lambda event: self.announced.append(event.message())),
        )


@pytest.fixture
def state() -> AppState:
    return AppState()


def tell(state: AppState, folder: Path, window: QWidget, event: e.Event) -> None:
    """A run ends while a notifier listens."""
    notifier = Notifier(state, window)
    view = add_run(state, folder / "run", list(run_events(20)))
    feed(state, view, event)
    notifier.deleteLater()


@pytest.mark.parametrize(
    ("event", "title", "part"),
    [
        (e.Finished(run="run", adapter="pirate", seconds=1.0, time=124.0), "pirate v1 is done", "After 2.1 min."),
        (e.Paused(step=10, cause="The disk is full.", hint="Free 1 GB."), "pirate v1 had to pause", "Free 1 GB."),
        (e.Failed(kind="data", message="No rows.", hint="Add some."), "pirate v1 has ended", "No rows. Add some."),
        (e.Died(exit_code=None, signal="SIGKILL", last_lines=[]), "pirate v1 has ended", "killed"),
    ],
)
def test_a_user_who_looks_elsewhere_is_told_how_a_run_ended(
    event: e.Event,
    title: str,
    part: str,
    state: AppState,
    tmp_path: Path,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desktop, window = Desktop(monkeypatch), QWidget()
    qtbot.addWidget(window)
    tell(state, tmp_path, window, event)
    ((shown, text),) = desktop.shown
    assert shown == title
    assert part in text
    assert desktop.announced == [f"{title} {text}"]


@pytest.mark.parametrize(
    "event", [e.Paused(step=20), e.Stopped(step=20, saved=True), e.Evaluated(step=20, loss=1.0, num_supervised=1)]
)
def test_what_he_did_himself_is_no_news(
    event: e.Event, state: AppState, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop, window = Desktop(monkeypatch), QWidget()
    qtbot.addWidget(window)
    tell(state, tmp_path, window, event)
    assert desktop.shown == desktop.announced == []


@pytest.mark.parametrize("why", ["not wanted", "window in front", "no tray"])
def test_nobody_is_interrupted_who_does_not_want_it_or_sees_it_anyway(
    why: str, state: AppState, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    desktop, window = Desktop(monkeypatch, has_tray=why != "no tray"), QWidget()
    qtbot.addWidget(window)
    state.notify = why != "not wanted"
    monkeypatch.setattr(window, "isActiveWindow", lambda: why == "window in front", raising=False)
    tell(state, tmp_path, window, e.Finished(run="run", seconds=1.0))
    assert desktop.shown == []
    assert len(desktop.announced) == 1, "a screen reader says it all the same"
