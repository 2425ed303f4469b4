"""The curve that everybody watches: loss per step, smoothed, with evaluations, checkpoints and the best of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QWidget

from ui import theme
from ui.widgets.buttons import Button
from ui.widgets.canvas import plain_pen
from ui.widgets.controls import Choice
from ui.widgets.labels import PlainLabel
from ui.widgets.legend import LegendEntry
from ui.widgets.numbers import format_int
from ui.widgets.plots import PlotCard
from ui.widgets.series import MAX_POINTS, Floats, broken, logarithms, smooth, thinned
from ui.widgets.sliders import Slider

RAW_POINTS = 3000


class LossPlot(PlotCard):
    """Loss over steps. A NaN is a gap. Smoothing is a debiased average, for the eye alone: it is never saved, and begins anew
    behind every gap."""

    axis_chosen = Signal(str)
    """step, epoch, tokens or time."""
    follow_wanted = Signal()
    """The whole run is to be seen again."""

    def __init__(
        self, title: str = "", *, smoothing: float = 0.92, axes: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(title or "Loss", compact=False, parent=parent)
        self._axes = axes
        self._logarithmic = False
        self._evaluations: list[tuple[float, float]] = []
        self._checkpoints: list[float] = []
        self._marks: list[tuple[float, str]] = []
        self._mark_items: list[Any] = []
        self._breaks: Collection[float] = ()
        self._drawn: Floats = np.empty(0)
        self._smoothed: Floats = np.empty(0)
        self._build_head(smoothing)
        self._raw = self.canvas.plot(connect="finite", antialias=False)
        self._line = self.canvas.plot(connect="finite", antialias=True)
        self._scatter = {name: pg.ScatterPlotItem() for name in ("diamond", "triangle", "star", "end")}
        for item in self._scatter.values():
            self.canvas.addItem(item, ignoreBounds=True)
        self._labels = {"best": pg.TextItem(anchor=(0.5, 1.25)), "end": pg.TextItem(anchor=(-0.15, 0.5))}
        self._reading = pg.TextItem(anchor=(0, 0))
        self._reading.hide()
        for item in (*self._labels.values(), self._reading):
            self.canvas.addItem(item, ignoreBounds=True)
        self.canvas.let_keys_in()
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
        axes = [("step", self.tr("Step")), ("epoch", self.tr("Epoch")), ("tokens", self.tr("Tokens"))]
        self.axis = Choice([*axes, ("time", self.tr("Minutes"))], "step", name=self.tr("Horizontal axis"))
        self.axis.setFixedWidth(theme.px(98))
        self.axis.hide()
        self.axis.value_changed.connect(lambda key: self.axis_chosen.emit(str(key)))
        self.follow = Button(self.tr("Follow"), "link", "arrow-clockwise")
        self.follow.setToolTip(self.tr("Show the whole run again, and its newest step"))
        self.follow.clicked.connect(self.follow_wanted)
        self.follow.hide()
        for part in (self.follow, self._smoothing_title, self.slider, self._smoothing_label, self.axis):
            self.add_head(part)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where there is little room, the slider keeps its tooltip and loses its words, then the legend goes."""
        super().resizeEvent(event)
        self._fit_head()

    def _fit_head(self) -> None:
        words = (self._smoothing_title, self._smoothing_label)
        entries = tuple(self.legend.values())

        def width(parts: Sequence[QWidget]) -> int:
            return sum(part.sizeHint().width() + self.head.spacing() for part in parts)

        extra = [part for part in (self.finding, self.follow) if not part.isHidden()]
        room = self.width() - theme.px(48) - width((self._title, *extra)) - self.slider.width()
        # In this order: a sign that nobody explains is worse than an axis that is chosen in the menu.
        for parts in (entries, (self.axis,) if self._axes else (), words):
            needed = self.axis.width() + self.head.spacing() if self.axis in parts else width(parts)
            fits = room >= needed
            room -= needed if fits else 0
            for part in parts:
                part.setVisible(fits)

    def set_breaks(self, breaks: Collection[float]) -> None:
        """Draw a gap behind each of these steps: another process went on from there."""
        self._breaks = breaks
        self.refresh()

    def set_stretch(self, stretch: tuple[float, float] | None) -> None:
        """Show a stretch of the run, and the way back; None follows the run."""
        super().set_stretch(stretch)
        self.follow.setVisible(stretch is not None)
        self._fit_head()

    def smoothing(self) -> float:
        """The share of the past in the smoothed line, 0 to 0.99."""
        return self.slider.value() / 100

    def set_smoothing(self, share: float) -> None:
        """Move the slider."""
        self.slider.setValue(round(share * 100))

    def _smoothing_moved(self) -> None:
        self._smoothing_label.setText(f"{self.smoothing():.2f}")
        self.refresh()

    def logarithmic(self) -> bool:
        """Whether the same ratio of losses is the same height everywhere."""
        return self._logarithmic

    def set_logarithmic(self, logarithmic: bool) -> None:
        """Draw on a logarithmic axis, or on a plain one. A loss of zero or below has no place on the first and is a gap."""
        self._logarithmic = logarithmic
        self.canvas.set_logarithmic(logarithmic)
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
        self._reading.setColor(look.colour("text"))
        self._reading.setFont(theme.font("label"))
        self._reading.fill = pg.mkBrush(look.colour("surface"))
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
        steps, values = broken(self.series.steps, self.series.values, self._breaks)
        smoothed = smooth(values, self.smoothing())
        self._drawn, self._smoothed = steps, smoothed
        for item, curve, most in ((self._raw, values, RAW_POINTS), (self._line, smoothed, MAX_POINTS)):
            x, y = thinned(*self.in_sight(steps, curve), most)
            item.setData(self.places(x), self._heights(y))
        for name, item in (("raw", self._raw), ("line", self._line)):
            item.setVisible(self.legend[name].isChecked())
        low, high, last = self._ranges()
        self._draw_markers(low, high)
        for mark, text in zip(self._marks, self._mark_items[1::2], strict=True):
            text.setPos(self._x(mark[0]), high)
        for mark, line in zip(self._marks, self._mark_items[::2], strict=True):
            line.setPos(self._x(mark[0]))
        self._draw_end(last)

    def _x(self, step: float) -> float:
        """Where a step stands on the axis."""
        return float(self.places(np.array([step]))[0])

    def _heights(self, losses: Floats) -> Floats:
        """Where these losses stand on the upright axis; NaN for nowhere."""
        return logarithms(losses) if self._logarithmic else losses

    def _y(self, loss: float) -> float:
        return float(self._heights(np.array([loss]))[0])

    def _ranges(self) -> tuple[float, float, float]:
        """Lowest and highest place to be seen, and the last step; the axes are set to them."""
        inside = self._stretch or (-math.inf, math.inf)
        evaluations = [loss for step, loss in self._evaluations if inside[0] <= step <= inside[1]]
        every = np.concatenate([self.in_sight(self.series.steps, self.series.values)[1], np.array(evaluations)])
        every = self._heights(every)
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
        evaluations = self._evaluations if self.legend["diamond"].isChecked() else []
        shown = [point for point in evaluations if math.isfinite(self._y(point[1]))]
        best = min(shown, key=lambda point: point[1], default=None)
        self._scatter["diamond"].setData(
            pos=[(self._x(step), self._y(loss)) for step, loss in shown if (step, loss) != best]
        )
        self._scatter["star"].setData(pos=[(self._x(best[0]), self._y(best[1]))] if best else [])
        self._labels["best"].setVisible(best is not None)
        if best is not None:
            self._labels["best"].setText(self.tr("best {0}").format(f"{best[1]:.2f}"))
            self._labels["best"].setAnchor((self._side(self._x(best[0])), 1.25))
            self._labels["best"].setPos(self._x(best[0]), self._y(best[1]))
        saved = self._checkpoints if self.legend["triangle"].isChecked() else []
        height = low + (high - low) * 0.035
        self._scatter["triangle"].setData(pos=[(self._x(step), height) for step in saved])

    def _draw_end(self, last: float) -> None:
        value = float(self._smoothed[-1]) if len(self._smoothed) else math.nan
        place, height = self._x(last), self._y(value)
        shown = self.legend["line"].isChecked() and math.isfinite(height)
        self._scatter["end"].setData(pos=[(place, height)] if shown else [])
        self._labels["end"].setVisible(shown)
        if shown:
            self._labels["end"].setText(f"{value:.2f}")
            self._labels["end"].setAnchor(self._end_anchor(place))
            self._labels["end"].setPos(place, height)

    def _end_anchor(self, place: float) -> tuple[float, float]:
        """Beside the point, or where the plot ends above it; below it if the label of the best one stands there."""
        if self._side(place) <= 0.5:
            return -0.15, 0.5
        best = self._labels["best"]
        first, last = self.canvas.viewRange()[0]
        is_taken = best.isVisible() and abs(best.pos().x() - place) < (last - first) / 8
        return (1, -0.35) if is_taken else (1, 1.25)

    def show_reading(self, text: str | None) -> None:
        """Write what the cursor points at beside it, at the top."""
        self._reading.setVisible(bool(text))
        if text:
            place, (first, last) = float(self._cursor.value()), self.canvas.viewRange()[0]
            self._reading.setText(text)
            self._reading.setAnchor((1.04, 0) if place > (first + last) / 2 else (-0.04, 0))
            self._reading.setPos(place, self.canvas.viewRange()[1][1])
            self.canvas.setAccessibleDescription(text)

    def reading(self, step: float) -> str:
        """`step 213: loss 1.31, smoothed 1.24`, and the evaluation there if there was one."""
        index = self.nearest(step)
        if index < 0:
            return ""
        at = float(self.series.steps[index])
        loss, place = float(self.series.values[index]), int(np.searchsorted(self._drawn, at))
        said = [f"{loss:.3f}" if math.isfinite(loss) else self.tr("no value")]
        if place < len(self._smoothed) and math.isfinite(self._smoothed[place]):
            said.append(self.tr("smoothed {0}").format(f"{self._smoothed[place]:.3f}"))
        said += [self.tr("evaluation {0}").format(f"{found:.3f}") for where, found in self._evaluations if where == at]
        return self.tr("step {0}: loss {1}").format(format_int(int(at)), ", ".join(said))

    def _side(self, place: float) -> float:
        """Where a label holds on to its point so that it stays inside: 0 by its left end, 1 by its right, else 0.5."""
        first, last = self.canvas.viewRange()[0]
        share = (place - first) / (last - first)
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
        steps, values = broken(self.series.steps, self.series.values, self._breaks)
        smoothed = smooth(values, self.smoothing())[np.isin(steps, self.series.steps)]
        return list(zip(self.series.steps.tolist(), self.series.values.tolist(), smoothed.tolist(), strict=True))
