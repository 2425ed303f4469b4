"""Journeys run on a display, with the real window, the real engine and a workspace of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.places import Workspace
from studio.runs.engine import running_engine
from tests.journeys.hand import Hand
from tests.ui.conftest import _themed, qapp_cls  # noqa: F401 - the same application as the window's own tests
from ui.app import Studio
from ui.settings import Settings

SHOTS = Path(os.environ.get("OVERLAY_SHOTS", ""))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    workspace = Workspace(tmp_path / "home")
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    yield workspace
    engine = running_engine(workspace, "cpu")
    if engine is not None:
        psutil.Process(engine.pid).kill()


@pytest.fixture
def open_window(workspace: Workspace, qtbot: QtBot) -> Iterator[Callable[[], tuple[Studio, Hand]]]:
    """Open the window as `ui.app.main` does, and get a hand to use it with."""
    opened: list[Studio] = []

    def open_it() -> tuple[Studio, Hand]:
        studio = Studio(workspace, Settings.load(workspace))
        opened.append(studio)
        studio.window.resize(1440, 900)
        studio.open()
        qtbot.waitExposed(studio.window)
        hand = Hand(qtbot, studio.window, SHOTS if SHOTS.name else None)
        hand.until(lambda: studio.state.is_gathered, "the workspace to be looked at")
        return studio, hand

    yield open_it
    for studio in opened:
        # However a test ended, its thread ends too.
        if studio.conductor.thread_.isRunning():
            studio.conductor.close()
        studio.window.deleteLater()
    QApplication.processEvents()
