"""Curves over steps, in the studio's look: a titled card, a horizontal grid, two to five ticks, no frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPoint, QSize, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent
from PySide6.QtWidgets import QWidget

from ui import theme
from ui.widgets.canvas import Canvas, plain_pen
from ui.widgets.labels import PlainLabel
from ui.widgets.numbers import format_int
from ui.widgets.page import Card
from ui.widgets.series import Floats, Scale, Series

__all__ = ["PlotCard", "plain_pen"]
REPAINT_MS = 100
EDGE = 0.02  # share of the step axis kept free at both ends, so that a marker there stays whole


class PlotCard(Card):
    """A card with a plot that repaints itself at most ten times a second, and only while it can be seen.

    Title left, finding right. Values are kept by step; `set_scale` draws them over something else. `clicked` is told by a
    click on the plot, for pages that open it large.
    """

    clicked = Signal()
    cursor_moved = Signal(object)
    """float: the step that is pointed at; None: none."""
    stretch_chosen = Signal(float, float)
    """(first step, last step) to be looked at more closely."""
    menu_wanted = Signal(QPoint)

    def __init__(self, title: str, note: str = "", *, compact: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(title, compact=compact, parent=parent)
        self.canvas = Canvas(title)
        if compact:
            self.body.setContentsMargins(0, theme.px(-6), 0, 0)
        self._said = note
        self.finding = PlainLabel(note, "small", "text2", elide=True)
        self.finding.setVisible(bool(note))
        self.add_head(self.finding)
        self.add(self.canvas, 1)
        self.series = Series()
        self._total = 0.0
        self._scale = Scale()
        self._stretch: tuple[float, float] | None = None
        self._cursor = pg.InfiniteLine(0, angle=90)
        self._cursor.hide()
        self.canvas.addItem(self._cursor, ignoreBounds=True)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REPAINT_MS)
        self._timer.timeout.connect(self.redraw)
        self._stale = True
        self.canvas.scene().sigMouseClicked.connect(self._on_click)
        self.canvas.hovered.connect(self._on_hover)
        self.canvas.dragged.connect(self._on_drag)
        self.canvas.menu_wanted.connect(self.menu_wanted)
        theme.changed.connect(self._recolour)

    def minimumSizeHint(self) -> QSize:
        """A plot may become narrow, whatever stands in its head."""
        return QSize(theme.px(160), super().minimumSizeHint().height())

    def set_finding(self, text: str) -> None:
        """Say at the right of the title what the curve shows ("1 step clipped")."""
        self._said = text
        self.finding.setText(text)
        self.finding.setVisible(bool(text))

    def set_series(self, steps: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """Replace the curve; NaN draws a gap."""
        self.series.set(steps, values)
        self.refresh()

    def set_total_steps(self, num_steps: float) -> None:
        """Let the axis span a run of `num_steps`; 0 lets it end with the data."""
        if num_steps != self._total:
            self._total = num_steps
            self.refresh()

    def set_scale(self, scale: Scale) -> None:
        """Draw over what `scale` counts, from now on."""
        self._scale = scale
        self.canvas.set_whole(scale.counts_steps)
        self.refresh()

    def set_stretch(self, stretch: tuple[float, float] | None) -> None:
        """Show only the steps from `stretch[0]` to `stretch[1]`; None follows the run again."""
        if stretch != self._stretch:
            self._stretch = stretch
            self.refresh()

    def set_step_range(self, first: float, last: float) -> tuple[float, float]:
        """Show the steps `first` to `last`, or to the planned end, or the chosen stretch; returned is what stands between
        the free edges, in units of the axis."""
        first, last = self._stretch or (min(0.0, first), max(self._total, last, first + 1.0))
        low, high = (float(each) for each in self.places(np.array([first, last])))
        high = max(high, low + 1e-9)
        edge = (high - low) * EDGE
        self.canvas.setXRange(low - edge, high + edge, padding=0)
        return low, high

    def places(self, steps: Floats) -> Floats:
        """Where these steps stand on the axis."""
        return self._scale.at(steps)

    def in_sight(self, steps: Floats, values: Floats) -> tuple[Floats, Floats]:
        """What of a curve is to be seen, and one point more at either side."""
        if self._stretch is None or not len(steps):
            return steps, values
        first = max(0, int(np.searchsorted(steps, self._stretch[0])) - 1)
        last = int(np.searchsorted(steps, self._stretch[1], "right")) + 1
        return steps[first:last], values[first:last]

    def append(self, step: float, value: float) -> None:
        """Add a point; the repaint is put off so that many points make one."""
        self.series.append(step, value)
        self.refresh()

    def refresh(self) -> None:
        """Repaint soon, if anybody can see it."""
        self._stale = True
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with what came while hidden."""
        super().showEvent(event)
        if self._stale:
            self.redraw()

    def hideEvent(self, event: QHideEvent) -> None:
        """Rest while hidden."""
        super().hideEvent(event)
        self._timer.stop()

    def redraw(self) -> None:
        """Bring the plot up to date at once."""
        self._stale = False
        self.draw()
        self.canvas.setAccessibleDescription(self.summary())

    # --- the cursor ------------------------------------------------------------------------------------------------

    def set_cursor(self, step: float | None) -> None:
        """Draw an upright line at this step, and say what the curve is there; None takes both away."""
        self._cursor.setVisible(step is not None)
        if step is not None:
            self._cursor.setPen(plain_pen("text3"))
            self._cursor.setPos(float(self.places(np.array([step]))[0]))
        self.show_reading(None if step is None else self.reading(step))

    def show_reading(self, text: str | None) -> None:
        """Write what the cursor points at in the place of the finding."""
        shown = self._said if text is None else text
        self.finding.setText(shown)
        self.finding.setVisible(bool(shown))

    def nearest(self, step: float) -> int:
        """Index of the value nearest to `step`; -1 if there is none."""
        steps = self.series.steps
        if not len(steps):
            return -1
        after = min(int(np.searchsorted(steps, step)), len(steps) - 1)
        return after - 1 if after and step - steps[after - 1] < steps[after] - step else after

    def reading(self, step: float) -> str:
        """What the curve is at `step`: `step 213: 0.47`."""
        index = self.nearest(step)
        if index < 0:
            return ""
        value = float(self.series.values[index])
        said = f"{value:.4g}" if np.isfinite(value) else self.tr("no value")
        return self.tr("step {0}: {1}").format(format_int(int(self.series.steps[index])), said)

    def _on_hover(self, place: float | None) -> None:
        step = None if place is None else float(self._scale.steps_at(np.array([place]))[0])
        self.cursor_moved.emit(step)

    def _on_drag(self, first: float, last: float) -> None:
        ends = self._scale.steps_at(np.array([first, last]))
        self.stretch_chosen.emit(float(ends[0]), float(ends[1]))

    # --- for subclasses ----------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Give the curves their data; for subclasses."""
        raise NotImplementedError

    def restyle(self) -> None:
        """Give the curves their colours; for subclasses."""
        raise NotImplementedError

    def summary(self) -> str:
        """The curve in words; for subclasses."""
        raise NotImplementedError

    def as_table(self) -> list[tuple[float, ...]]:
        """The rows behind the curve: step and value."""
        return list(zip(self.series.steps.tolist(), self.series.values.tolist(), strict=True))

    def _recolour(self) -> None:
        self.canvas.restyle()
        self.restyle()
        self.refresh()

    def _on_click(self, _event: object) -> None:
        self.clicked.emit()
