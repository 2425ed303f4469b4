"""How long the window does not answer while an engine floods it: `python -m tests.bench.window_stalls [PORTION...]`.

The whole window, its conductor and its thread, with an engine that writes 50,000 steps at once. A timer of 5 ms measures the gaps
between its ticks; `PORTION` is how many events the thread passes on at once (`ui.training_thread`), 0 for all.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication

from studio.runs.state import Status
from tests.ui.desk import Desk, make_desk
from ui import theme, training_thread
from ui.settings import Settings
from ui.window import Window

TICK_MS = 5
MOST_SECONDS = 120.0


class Waiting:
    """What the desk needs of a test's bot: to wait while events go on."""

    def waitUntil(self, condition: Callable[[], bool], timeout: float) -> None:
        until = time.monotonic() + timeout / 1000
        while not condition():
            assert time.monotonic() < until, "it took too long"
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)


def gaps(portion: int) -> tuple[list[float], float]:
    """Milliseconds between ticks from the beginning of a flood until it is drawn, and the seconds that took."""
    training_thread.PORTION = portion or sys.maxsize
    bot: Any = Waiting()
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        made = make_desk(Path(place), bot, patch)
        found = watched(next(made), bot)
        next(made, None)  # which clears away
    return found


def watched(desk: Desk, bot: Waiting) -> tuple[list[float], float]:
    """The window opened on a flood."""
    with desk.open() as state:
        window = Window(desk.workspace, state, Settings())
        window.resize(1440, 900)
        window.show_page("train")
        window.show()
        ticks: list[float] = []
        timer = QTimer()
        timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
        view = desk.begin(state, "floods")
        timer.start(TICK_MS)
        began = time.perf_counter()
        bot.waitUntil(lambda: state.runs[view.folder.id].state.status is Status.FINISHED, MOST_SECONDS * 1000)
        took = time.perf_counter() - began
        until = time.monotonic() + 1
        bot.waitUntil(lambda: time.monotonic() > until, 5000)
        timer.stop()
        window.hide()
        window.deleteLater()
    return (np.diff(ticks) * 1000).tolist(), took


def main() -> None:
    """Print one line for each portion."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = QApplication([])
    theme.apply(app, "light")
    for portion in [int(text) for text in sys.argv[1:]] or [training_thread.PORTION]:
        found, took = gaps(portion)
        p50, p99 = np.percentile(found, [50, 99])
        said = f"{len(found)} ticks, median {p50:.0f} ms, 99 % under {p99:.0f} ms, longest {max(found):.0f} ms"
        print(f"portion {portion or 'all'}: 50,000 events in {took:.1f} s; {said}")


if __name__ == "__main__":
    main()
