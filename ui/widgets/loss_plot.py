"""The curve that everybody watches: loss per step, smoothed, with evaluations, checkpoints and the best of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPaintEvent, QPen, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing
from ui.widgets.labels import PlainLabel
from ui.widgets.plots import PlotCard, plain_pen
from ui.widgets.series import smooth, thinned
from ui.widgets.sliders import Slider

RAW_POINTS = 3000


class LegendEntry(QAbstractButton):
    """A legend entry that shows or hides what it names; hidden, it is struck through."""

    def __init__(self, mark: str, text: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mark = mark
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setAccessibleName(text)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        FocusRing(self, 2)

    def sizeHint(self) -> QSize:
        """Mark and text."""
        width = QFontMetrics(theme.font("small")).horizontalAdvance(self.text())
        return QSize(width + theme.px(20), theme.px(20))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw mark and text."""
        look = theme.current()
        painter = paint.start(self)
        font = theme.font("small")
        font.setStrikeOut(not self.isChecked())
        middle, unit = self.height() / 2, theme.px(12) / 12
        corner = QPointF(0, middle - 6 * unit)

        def at(*points: tuple[float, float]) -> QPolygonF:
            return QPolygonF([corner + QPointF(x * unit, y * unit) for x, y in points])

        painter.setBrush(Qt.BrushStyle.NoBrush)
        if self._mark == "raw":
            painter.setPen(QPen(look.colour("raw"), 1.2))
            painter.drawPolyline(at((0, 9), (3, 3), (6, 9), (9, 3), (12, 8)))
        elif self._mark == "line":
            painter.setPen(QPen(look.colour("atext"), 2))
            painter.drawPolyline(at((0, 6), (12, 6)))
        elif self._mark == "diamond":
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("text"))
            painter.drawPolygon(at((6, 1.5), (10.5, 6), (6, 10.5), (1.5, 6)))
        else:
            painter.setPen(QPen(look.colour("text2"), 1.3))
            painter.drawPolygon(at((1.5, 2.5), (10.5, 2.5), (6, 10.5)))
        painter.setFont(font)
        painter.setPen(look.colour("text2" if self.isChecked() else "text3"))
        text = QRectF(theme.px(17), 0, self.width() - theme.px(17), self.height())
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())
        painter.end()


class LossPlot(PlotCard):
    """Loss over steps. A NaN is a gap. Smoothing is a debiased average, for the eye alone: it is never saved."""

    def __init__(self, title: str = "", *, smoothing: float = 0.92, parent: QWidget | None = None) -> None:
        super().__init__(title or "Loss", compact=False, parent=parent)
        self._evaluations: list[tuple[float, float]] = []
        self._checkpoints: list[float] = []
        self._marks: list[tuple[float, str]] = []
        self._mark_items: list[Any] = []
        self._smoothed = np.empty(0)
        self._build_head(smoothing)
        self._raw = self.canvas.plot(connect="finite", antialias=False)
        self._line = self.canvas.plot(connect="finite", antialias=True)
        self._scatter = {name: pg.ScatterPlotItem() for name in ("diamond", "triangle", "star", "end")}
        for item in self._scatter.values():
            self.canvas.addItem(item, ignoreBounds=True)
        self._labels = {"best": pg.TextItem(anchor=(0.5, 1.25)), "end": pg.TextItem(anchor=(-0.15, 0.5))}
        for item in self._labels.values():
            self.canvas.addItem(item, ignoreBounds=True)
        self.restyle()

    def _build_head(self, smoothing: float) -> None:
        self.legend = {
            "raw": LegendEntry("raw", self.tr("Each step")),
            "line": LegendEntry("line", self.tr("Smoothed")),
            "diamond": LegendEntry("diamond", self.tr("Evaluation")),
            "triangle": LegendEntry("triangle", self.tr("Checkpoint")),
        }
        for index, entry in enumerate(self.legend.values()):
            entry.toggled.connect(self.refresh)
            self.head.insertWidget(2 + index, entry)
            self.head.setSpacing(theme.px(12))
        self.slider = Slider(0, 99, round(smoothing * 100), name=self.tr("Smoothing"))
        self.slider.setFixedWidth(theme.px(88))
        self.slider.setToolTip(self.tr("Smoothing"))
        self.slider.valueChanged.connect(self._smoothing_moved)
        self._smoothing_label = PlainLabel(f"{smoothing:.2f}", "small", "text2")
        self._smoothing_title = PlainLabel(self.tr("Smoothing"), "small", "text2")
        self.add_head(self._smoothing_title)
        self.add_head(self.slider)
        self.add_head(self._smoothing_label)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where there is little room, the slider keeps its tooltip and loses its words, then the legend goes."""
        super().resizeEvent(event)
        self._fit_head()

    def _fit_head(self) -> None:
        words = (self._smoothing_title, self._smoothing_label)
        entries = tuple(self.legend.values())

        def width(parts: Sequence[QWidget]) -> int:
            return sum(part.sizeHint().width() + self.head.spacing() for part in parts)

        finding = () if self.finding.isHidden() else (self.finding,)
        taken = theme.px(48) + width((self._title, *finding)) + self.slider.width()
        room = self.width() - taken - width(entries)
        for entry in entries:
            entry.setVisible(room >= 0)
        for label in words:
            label.setVisible(room >= width(words))

    def smoothing(self) -> float:
        """The share of the past in the smoothed line, 0 to 0.99."""
        return self.slider.value() / 100

    def set_smoothing(self, share: float) -> None:
        """Move the slider."""
        self.slider.setValue(round(share * 100))

    def _smoothing_moved(self) -> None:
        self._smoothing_label.setText(f"{self.smoothing():.2f}")
        self.refresh()

    def set_evaluations(self, points: Sequence[tuple[float, float]]) -> None:
        """Show evaluations given as (step, loss); the lowest one is marked as the best."""
        self._evaluations = [(step, loss) for step, loss in points if math.isfinite(loss)]
        self.refresh()

    def set_checkpoints(self, steps: Sequence[float]) -> None:
        """Show at which steps a checkpoint was saved."""
        self._checkpoints = list(steps)
        self.refresh()

    def set_marks(self, marks: Sequence[tuple[float, str]]) -> None:
        """Draw dashed upright lines given as (step, text), such as "epoch 2 begins"."""
        self._marks = list(marks)
        self.restyle()
        self.refresh()

    def restyle(self) -> None:
        """Colours of all that is drawn."""
        look = theme.current()
        self._raw.setPen(plain_pen("raw"))
        self._line.setPen(plain_pen("atext", 2))
        halo = plain_pen("surface", 1.5)
        text, blue = pg.mkBrush(look.colour("text")), pg.mkBrush(look.colour("atext"))
        styles: dict[str, tuple[str, int, Any, Any]] = {
            "diamond": ("d", 11, text, halo),
            "triangle": ("t", 11, pg.mkBrush(look.colour("surface")), plain_pen("text2", 1.3)),
            "star": ("star", 15, text, halo),
            "end": ("o", 9, blue, halo),
        }
        for name, (symbol, size, brush, pen) in styles.items():
            item = self._scatter[name]
            item.setSymbol(symbol)
            item.setSize(theme.px(size))
            item.setBrush(brush)
            item.setPen(pen)
        for name, role, kind in (("best", "text", "pill"), ("end", "atext", "strong")):
            self._labels[name].setColor(look.colour(role))
            self._labels[name].setFont(theme.font(kind))
            self._labels[name].fill = pg.mkBrush(look.colour("surface")) if name == "best" else pg.mkBrush(None)
        self._restyle_marks()
        self._fit_head()

    def _restyle_marks(self) -> None:
        for item in self._mark_items:
            self.canvas.removeItem(item)
        self._mark_items = []
        for step, words in self._marks:
            pen = plain_pen("text3", 1, Qt.PenStyle.DashLine)
            line = pg.InfiniteLine(step, angle=90, pen=pen)
            text = pg.TextItem(words, color=theme.current().colour("text2"), anchor=(1, 0))
            text.setFont(theme.font("caption"))
            for item in (line, text):
                self.canvas.addItem(item, ignoreBounds=True)
                self._mark_items.append(item)

    def draw(self) -> None:
        """Curves, ranges, markers and labels."""
        steps, values = self.series.steps, self.series.values
        self._smoothed = smooth(values, self.smoothing())
        self._raw.setData(*thinned(steps, values, RAW_POINTS))
        self._line.setData(*thinned(steps, self._smoothed))
        for name, item in (("raw", self._raw), ("line", self._line)):
            item.setVisible(self.legend[name].isChecked())
        low, high, last = self._ranges()
        self._draw_markers(low, high)
        for mark, text in zip(self._marks, self._mark_items[1::2], strict=True):
            text.setPos(mark[0], high)
        self._draw_end(last)

    def _ranges(self) -> tuple[float, float, float]:
        """Lowest and highest loss to be seen, and the last step; the axes are set to them."""
        every = np.concatenate([self.series.values, np.array([loss for _, loss in self._evaluations])])
        every = every[np.isfinite(every)]
        low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
        margin = (high - low) * 0.04 or max(abs(high) * 0.1, 0.1)
        low, high = low - 3.5 * margin, high + margin
        last = float(self.series.steps[-1]) if len(self.series) else 0.0
        first = float(self.series.steps[0]) if len(self.series) else 0.0
        room = 0.0 if self._total >= last else max(last - min(first, 0.0), 1.0) * 0.1
        self.set_step_range(first, last + room)
        self.canvas.setYRange(low, high, padding=0)
        return low, high, last

    def _draw_markers(self, low: float, high: float) -> None:
        shown = self._evaluations if self.legend["diamond"].isChecked() else []
        best = min(shown, key=lambda point: point[1], default=None)
        self._scatter["diamond"].setData(pos=[point for point in shown if point != best])
        self._scatter["star"].setData(pos=[best] if best else [])
        self._labels["best"].setVisible(best is not None)
        if best is not None:
            self._labels["best"].setText(self.tr("best {0}").format(f"{best[1]:.2f}"))
            self._labels["best"].setAnchor((self._side(best[0]), 1.25))
            self._labels["best"].setPos(*best)
        saved = self._checkpoints if self.legend["triangle"].isChecked() else []
        height = low + (high - low) * 0.035
        self._scatter["triangle"].setData(pos=[(step, height) for step in saved])

    def _draw_end(self, last: float) -> None:
        value = float(self._smoothed[-1]) if len(self._smoothed) else math.nan
        shown = self.legend["line"].isChecked() and math.isfinite(value)
        self._scatter["end"].setData(pos=[(last, value)] if shown else [])
        self._labels["end"].setVisible(shown)
        if shown:
            self._labels["end"].setText(f"{value:.2f}")
            # Beside the point, or above it where the plot ends.
            self._labels["end"].setAnchor((1, 1.25) if self._side(last) > 0.5 else (-0.15, 0.5))
            self._labels["end"].setPos(last, value)

    def _side(self, step: float) -> float:
        """Where a label holds on to its point so that it stays inside: 0 by its left end, 1 by its right, else 0.5."""
        first, last = self.canvas.viewRange()[0]
        share = (step - first) / (last - first)
        return 0.0 if share < 0.06 else 1.0 if share > 0.94 else 0.5

    def summary(self) -> str:
        """Where the loss began, where it is, and its lowest point: `Loss 2.31 to 1.18 over 1,200 steps; ...`."""
        good = np.flatnonzero(np.isfinite(self.series.values))
        if not len(good):
            return self.tr("No loss yet")
        steps, values = self.series.steps, self.series.values
        lowest = int(good[np.argmin(values[good])])
        words = self.tr("Loss {0:.2f} to {1:.2f} over {2:,} steps; lowest {3:.2f} at {4:,}").format(
            float(values[good[0]]),
            float(values[good[-1]]),
            int(steps[-1] - steps[0] + 1),
            float(values[lowest]),
            int(steps[lowest]),
        )
        gaps = len(values) - len(good)
        return words + (self.tr("; {0:,} without a value").format(gaps) if gaps else "")

    def as_table(self) -> list[tuple[float, ...]]:
        """The rows behind the plot: step, loss, smoothed loss."""
        smoothed = smooth(self.series.values, self.smoothing())
        return list(zip(self.series.steps.tolist(), self.series.values.tolist(), smoothed.tolist(), strict=True))
