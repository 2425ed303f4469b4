"""How the charts of a run are looked at together: one axis, one cursor, one stretch of the run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QObject

from studio.runs.events import StepTaken
from ui.widgets.loss_plot import LossPlot
from ui.widgets.plots import PlotCard
from ui.widgets.series import Scale

LEAST_STEPS = 4.0  # a stretch that is worth looking at
ZOOM = 0.5


def scale_of(axis: str, steps: Sequence[StepTaken]) -> Scale:
    """Epochs, tokens or minutes of training at each step; pauses do not count. Steps themselves for `step`."""
    if axis == "step" or not steps:
        return Scale()
    numbers = np.array([taken.step for taken in steps], dtype=np.float64)
    if axis == "epoch":
        return Scale(numbers, np.array([taken.epoch for taken in steps]))
    if axis == "tokens":
        return Scale(numbers, np.cumsum([float(taken.num_tokens) for taken in steps]))
    return Scale(numbers, np.cumsum([taken.seconds for taken in steps]) / 60)


class Look(QObject):
    """Keeps the plots together. Until a stretch is chosen they follow the run; the keyboard works in the loss plot."""

    def __init__(self, loss: LossPlot, plots: Sequence[PlotCard], parent: QObject) -> None:
        super().__init__(parent)
        self._loss, self._plots = loss, list(plots)
        self._cursor: float | None = None
        self._stretch: tuple[float, float] | None = None
        for plot in plots:
            plot.cursor_moved.connect(self.point)
            plot.stretch_chosen.connect(self.choose)
            plot.canvas.told.connect(self._tell)
        loss.canvas.stepped.connect(self._step)
        loss.follow_wanted.connect(self.follow)

    def point(self, step: float | None) -> None:
        """Draw the cursor at `step` in every plot; None takes it away."""
        self._cursor = step
        for plot in self._plots:
            plot.set_cursor(step)

    def choose(self, first: float, last: float) -> None:
        """Look at a stretch of the run."""
        middle, half = (first + last) / 2, max(last - first, LEAST_STEPS) / 2
        self._stretch = (max(0.0, middle - half), middle + half)
        self._show()

    def follow(self) -> None:
        """See the whole run again, and its newest step."""
        self._stretch = None
        self._show()

    def _show(self) -> None:
        for plot in self._plots:
            plot.set_stretch(self._stretch)
            plot.refresh()
        if self._cursor is not None:
            self.point(self._cursor)

    def _step(self, steps: int) -> None:
        known = self._loss.series.steps
        if len(known):
            at = float(known[-1]) if self._cursor is None else self._cursor + steps
            self.point(min(max(at, float(known[0])), float(known[-1])))

    def _tell(self, word: str) -> None:
        known = self._loss.series.steps
        if word == "all":
            self.follow()
        elif word == "none":
            self.point(None)
        elif len(known) and word in ("first", "last"):
            self.point(float(known[0 if word == "first" else -1]))
        elif len(known):
            self._zoom(ZOOM if word == "in" else 1 / ZOOM, float(known[-1]))

    def _zoom(self, factor: float, last: float) -> None:
        first, end = self._stretch or (0.0, last)
        middle = self._cursor if self._cursor is not None and first <= self._cursor <= end else (first + end) / 2
        half = (end - first) / 2 * factor
        if middle - half <= 0 and middle + half >= last:
            self.follow()
        else:
            self.choose(middle - half, middle + half)
