"""How long each frame takes while a million rows are scrolled: `python -m tests.bench.scroll [ROWS]`.

The table of the Datasets page over a real file, its rows read in the background as ever. Three hands: one that turns the wheel
(two rows a frame), one that holds Page Down (a page a frame), and one that drags the bar (anywhere). A frame is everything that
the window's thread does between one move and the next, painting included; at 60 frames a second it has 16.7 ms. Seconds of the
processor are told beside those of the clock: on a busy machine only the former are the window's own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PySide6.QtCore import QThreadPool
from PySide6.QtWidgets import QApplication

from studio.data.row_table import RowTable, open_table
from studio.data.sides import Split
from studio.places import Workspace
from ui import theme
from ui.dataset_view import RowSource
from ui.pages.dataset_rows import RowsPanel

FRAMES, FRAME_MS = 600, 1000 / 60
NUM_ROWS = 1_000_000
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "along", "the", "river")


def write_rows(path: Path, num_rows: int) -> None:
    """Chats of mixed length, 300 bytes or so each."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, size=draw.integers(4, 120))) for _ in range(997)]
    with path.open("w") as file:
        for row in range(num_rows):
            turns = [{"role": "user", "content": f"{row}: {texts[row % 997][:80]}?"}]
            turns.append({"role": "assistant", "content": texts[row * 7 % 997]})
            file.write(json.dumps({"messages": turns}) + "\n")


def frames(panel: RowsPanel, place: Callable[[int], int]) -> tuple[list[float], list[float]]:
    """Milliseconds of each frame by the clock, and of this thread by the processor; `place` is where the bar stands in it."""
    bar, app = panel.table.verticalScrollBar(), QApplication.instance()
    assert app is not None
    clock, worked = [], []
    for frame in range(FRAMES):
        began, spent = time.perf_counter(), time.thread_time()
        bar.setValue(place(frame))
        app.processEvents()
        clock.append((time.perf_counter() - began) * 1000)
        worked.append((time.thread_time() - spent) * 1000)
        # What is left of the frame belongs to the others.
        time.sleep(max(0.0, FRAME_MS - clock[-1]) / 1000)
    return clock, worked


def told(name: str, milliseconds: list[float]) -> str:
    """Quantiles, and how many frames came too late."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    late = sum(one > FRAME_MS for one in milliseconds)
    return f"{name} median {p50:.1f} ms, 99 % under {p99:.1f} ms, longest {max(milliseconds):.0f} ms, {late} late"


def measure(table: RowTable) -> None:
    """Print a line for each hand."""
    panel = RowsPanel()
    panel.resize(680, 640)  # as on a page of 1440 x 900
    panel.show()
    held = np.arange(len(table)) % 20 == 0
    rows = np.arange(len(table))
    split = Split(rows[~held], rows[held], 0)
    panel.model.show_rows(RowSource(table, is_whole=True), None, None, None, split)
    QApplication.processEvents()
    bar = panel.table.verticalScrollBar()
    row, end = theme.px(theme.ROW), bar.maximum()
    draw = np.random.default_rng(1).integers(0, end, FRAMES)
    hands: dict[str, Callable[[int], int]] = {
        "wheel": lambda frame: end // 3 + 2 * row * frame,
        "Page Down": lambda frame: end // 2 + panel.table.viewport().height() * frame,
        "drag": lambda frame: int(draw[frame]),
    }
    for name, place in hands.items():
        clock, worked = frames(panel, place)
        print(f"{name:>9}: {told('clock', clock)}; {told('processor', worked)}")
        QThreadPool.globalInstance().waitForDone()
    panel.hide()


def main() -> None:
    """Print how it scrolls."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS
    app = QApplication([])
    theme.apply(app, "light")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, num_rows)
        with open_table(Workspace(Path(folder) / "home"), path) as table:
            print(f"{len(table):,} rows, {path.stat().st_size / 1e6:,.0f} MB, {FRAMES} frames of each hand")
            measure(table)


if __name__ == "__main__":
    main()
