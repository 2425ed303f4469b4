"""Small quiet plots: learning rate, gradient norm, tokens per second, memory over time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from ui import theme
from ui.widgets.canvas import plain_pen
from ui.widgets.plots import PlotCard
from ui.widgets.series import Series, broken, thinned

LABEL = 18  # height of a line's label
LINE_KINDS = {
    "clip": ("warn", Qt.PenStyle.DashLine),
    "estimate": ("text2", Qt.PenStyle.DashLine),
    "limit": ("bad", None),
}


class SmallPlot(PlotCard):
    """One quiet curve: learning rate, gradient norm, tokens per second, memory over time.

    `set_planned` draws what is to come, paler; `set_lines` draws labelled levels; `fill` shades below the curve.
    """

    def __init__(
        self,
        title: str,
        note: str = "",
        *,
        width: float = 1.0,
        fill: bool = False,
        from_zero: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(title, note, parent=parent)
        self._width, self._fill, self._from_zero = width, fill, from_zero
        self._planned = Series()
        self._breaks: Collection[float] = ()
        self._every_step = False
        self._lines: list[tuple[float, str, str]] = []
        self._line_items: list[Any] = []
        self._planned_curve = self.canvas.plot(connect="finite")
        self._curve = self.canvas.plot(connect="finite", antialias=width > 1)
        self.restyle()

    def set_planned(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Draw what is planned, paler than what happened."""
        self._planned.set(steps, values)
        self.refresh()

    def set_breaks(self, breaks: Collection[float], *, every_step: bool) -> None:
        """Draw a gap behind each of these steps; where the curve has a value at `every_step`, also where steps are missing."""
        self._breaks, self._every_step = breaks, every_step
        self.refresh()

    def set_lines(self, lines: Sequence[tuple[float, str, str]]) -> None:
        """Draw levels given as (value, label, kind); kind is `clip`, `estimate` or `limit`."""
        self._lines = list(lines)
        self.restyle()
        self.refresh()

    def restyle(self) -> None:
        """Colours of curve, plan and levels."""
        self._planned_curve.setPen(plain_pen("raw", self._width))
        self._curve.setPen(plain_pen("atext", self._width))
        if self._fill:
            self._curve.setFillLevel(0)
            self._curve.setBrush(theme.current().colour("soft"))
        for item in self._line_items:
            self.canvas.removeItem(item)
        self._line_items = []
        for value, label, kind in self._lines:
            role, style = LINE_KINDS[kind]
            line = pg.InfiniteLine(value, angle=0, pen=plain_pen(role, 2 if style is None else 1, style))
            text = pg.TextItem(label, color=theme.current().colour(role), anchor=(0, 0) if kind == "limit" else (1, 1))
            text.setFont(theme.font("caption"))
            for item in (line, text):
                self.canvas.addItem(item, ignoreBounds=True)
                self._line_items.append(item)

    def draw(self) -> None:
        """Curves, ranges and the places of the labels."""
        seen = self.in_sight(self.series.steps, self.series.values)
        planned = self.in_sight(self._planned.steps, self._planned.values)
        drawn = broken(*seen, self._breaks, every_step=self._every_step)
        for curve, points in ((self._curve, drawn), (self._planned_curve, planned)):
            steps, values = thinned(*points)
            curve.setData(self.places(steps), values)
        steps = np.concatenate([self.series.steps, self._planned.steps])
        values = np.concatenate([seen[1], planned[1], np.array([value for value, _, _ in self._lines])])
        values = values[np.isfinite(values)]
        first, last = self.set_step_range(*((float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)))
        high = float(values.max()) if len(values) else 1.0
        low = 0.0 if self._from_zero or not len(values) else float(values.min())
        margin = (high - low) * 0.12 or abs(high) or 1.0
        bottom, top = low if self._from_zero else low - margin, high + margin
        share = min(theme.px(LABEL) / max(self.canvas.getViewBox().height(), 1.0), 0.4)
        self.canvas.setYRange(bottom, top, padding=0)
        self._place_labels(first, last, top, (top - bottom) * share)

    def _place_labels(self, first: float, last: float, top: float, height: float) -> None:
        """Each label above its line, unless another line or the end of the plot is nearer than the label is high; that of a
        limit below it, where there is nothing but what is still free."""
        texts = [item for item in self._line_items if isinstance(item, pg.TextItem)]
        for (value, _, kind), text in zip(self._lines, texts, strict=True):
            next_up = min((other for other, _, _ in self._lines if other > value), default=top)
            if kind != "limit":
                text.setAnchor((1, 0 if next_up - value < height else 1))
            text.setPos(first if kind == "limit" else last, value)

    def summary(self) -> str:
        """First, last and range in words."""
        values = self.series.values[np.isfinite(self.series.values)]
        if not len(values):
            return self.tr("No values yet")
        return self.tr("{0:.4g} to {1:.4g} over {2:,} points; between {3:.4g} and {4:.4g}").format(
            float(values[0]), float(values[-1]), len(values), float(values.min()), float(values.max())
        )
