"""Curves over steps, in the studio's look: a titled card, a horizontal grid, two to five ticks, no frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QHideEvent, QShowEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui import theme
from ui.widgets.labels import PlainLabel
from ui.widgets.page import Card
from ui.widgets.series import Floats, Series, nice_ticks, thinned, tick_texts

REPAINT_MS = 100
LABEL = 18  # height of a line's label
EDGE = 0.02  # share of the step axis kept free at both ends, so that a marker there stays whole
LINE_KINDS = {
    "clip": ("warn", Qt.PenStyle.DashLine),
    "estimate": ("text2", Qt.PenStyle.DashLine),
    "limit": ("bad", None),
}


class _Axis(pg.AxisItem):  # type: ignore[misc]
    """An axis with one level of round ticks; as many as there is room for. The lower one counts whole steps."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """The ticks, one level."""
        steps = self.orientation == "bottom"
        room = theme.px(76 if steps else 24)
        most = max(2, min(10 if steps else 5, int(size / room) + 1))
        ticks = nice_ticks(minVal, maxVal, most, whole=steps)
        return [(ticks[1] - ticks[0] if len(ticks) > 1 else 1.0, ticks)]

    def tickStrings(self, values: Sequence[float], _scale: float, _spacing: float) -> list[str]:
        """Their labels."""
        return tick_texts(list(values))

    def boundingRect(self) -> QRectF:
        """Room for half a label beyond the ends, or pyqtgraph leaves out the first and the last."""
        rect: QRectF = super().boundingRect()
        return rect.adjusted(-20, -10, 20, 10)


class Canvas(pg.PlotWidget):  # type: ignore[misc]
    """A bare plot in the present theme, without menus, buttons or mouse zoom; the wheel scrolls the page."""

    def __init__(self, name: str) -> None:
        axes = {side: _Axis(side) for side in ("left", "bottom")}
        super().__init__(background=None, axisItems=axes)
        self.setAccessibleName(name)
        self.setFrameShape(self.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(theme.px(80))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.getPlotItem().layout.setContentsMargins(0, theme.px(8), theme.px(18), 0)
        self.getViewBox().setDefaultPadding(0)
        self.restyle()

    def restyle(self) -> None:
        """Take axis colours and fonts from the theme."""
        look = theme.current()
        self.setBackground(look.colour("surface"))
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setZValue(-1000)
            axis.setTextPen(look.colour("text2"))
            axis.setStyle(
                tickFont=theme.font("caption"),
                tickTextOffset=theme.px(6),
                tickLength=0,
                hideOverlappingLabels=False,
                tickAlpha=255,
                autoExpandTextSpace=True,
            )
            axis.setPen(pg.mkPen(look.colour("outline")) if side == "bottom" else pg.mkPen(None))
        left = self.getAxis("left")
        left.setGrid(255)
        left.setZValue(-1000)
        left.setTickPen(pg.mkPen(look.colour("line")))
        left.setWidth(theme.px(48))
        bottom = self.getAxis("bottom")
        bottom.setTickPen(pg.mkPen(look.colour("outline")))
        bottom.setStyle(tickLength=theme.px(4), tickTextOffset=theme.px(4))
        bottom.setHeight(theme.px(24))

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()

    def sizeHint(self) -> QSize:
        """A modest size; the layout gives more."""
        return QSize(theme.px(280), theme.px(120))


def plain_pen(role: str, width: float = 1.0, style: Qt.PenStyle | None = None) -> Any:
    """A pen in a colour role; solid unless `style`."""
    return pg.mkPen(theme.current().colour(role), width=width, style=style or Qt.PenStyle.SolidLine)


class PlotCard(Card):
    """A card with a plot that repaints itself at most ten times a second, and only while it can be seen.

    Title left, finding right. `clicked` is told by a click on the plot, for pages that open it large.
    """

    clicked = Signal()

    def __init__(self, title: str, note: str = "", *, compact: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(title, compact=compact, parent=parent)
        self.canvas = Canvas(title)
        self.finding = PlainLabel(note, "small", "text2", elide=True)
        self.finding.setVisible(bool(note))
        self.add_head(self.finding)
        self.add(self.canvas, 1)
        self.series = Series()
        self._total = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REPAINT_MS)
        self._timer.timeout.connect(self.redraw)
        self._stale = True
        self.canvas.scene().sigMouseClicked.connect(self._on_click)
        theme.changed.connect(self._recolour)

    def minimumSizeHint(self) -> QSize:
        """A plot may become narrow, whatever stands in its head."""
        return QSize(theme.px(160), super().minimumSizeHint().height())

    def set_finding(self, text: str) -> None:
        """Say at the right of the title what the curve shows ("1 step clipped")."""
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

    def set_step_range(self, first: float, last: float) -> tuple[float, float]:
        """Show the steps `first` to `last`, or to the planned end; returned is what stands between the free edges."""
        first = min(0.0, first)
        last = max(self._total, last, first + 1.0)
        edge = (last - first) * EDGE
        self.canvas.setXRange(first - edge, last + edge, padding=0)
        return first, last

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
        self._lines: list[tuple[float, str, str]] = []
        self._line_items: list[Any] = []
        self._planned_curve = self.canvas.plot(connect="finite")
        self._curve = self.canvas.plot(connect="finite", antialias=width > 1)
        self.restyle()

    def set_planned(self, steps: Sequence[float], values: Sequence[float]) -> None:
        """Draw what is planned, paler than what happened."""
        self._planned.set(steps, values)
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
            text = pg.TextItem(label, color=theme.current().colour(role), anchor=(0 if kind == "limit" else 1, 1))
            text.setFont(theme.font("caption"))
            for item in (line, text):
                self.canvas.addItem(item, ignoreBounds=True)
                self._line_items.append(item)

    def draw(self) -> None:
        """Curves, ranges and the places of the labels."""
        self._curve.setData(*thinned(self.series.steps, self.series.values))
        self._planned_curve.setData(*thinned(self._planned.steps, self._planned.values))
        steps = np.concatenate([self.series.steps, self._planned.steps])
        parts = [self.series.values, self._planned.values, np.array([value for value, _, _ in self._lines])]
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        first, last = self.set_step_range(*((float(steps.min()), float(steps.max())) if len(steps) else (0.0, 1.0)))
        high = float(values.max()) if len(values) else 1.0
        low = 0.0 if self._from_zero or not len(values) else float(values.min())
        margin = (high - low) * 0.12 or abs(high) or 1.0
        bottom, top = low if self._from_zero else low - margin, high + margin
        share = min(theme.px(LABEL) / max(self.canvas.getViewBox().height(), 1.0), 0.4)
        if any(kind == "limit" for _, _, kind in self._lines):
            top = max(top, bottom + (high - bottom) / (1 - share))  # its label stands above the highest line
        self.canvas.setYRange(bottom, top, padding=0)
        self._place_labels(first, last, top, (top - bottom) * share)

    def _place_labels(self, first: float, last: float, top: float, height: float) -> None:
        """Each label above its line, unless another line or the end of the plot is nearer than the label is high."""
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
