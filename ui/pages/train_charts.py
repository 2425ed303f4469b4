"""The curves of a run. Steps are added as they come; only a run that went back to a checkpoint is drawn afresh."""

from __future__ import annotations

import math
from collections.abc import Callable

from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from studio.recipe.rate import planned_rates
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.state import RunState
from ui import theme
from ui.measured import Peak, gigabytes
from ui.pages.train_chart_menu import ChartMenu
from ui.pages.train_look import Look, scale_of
from ui.pages.train_words import short_count, tr
from ui.widgets.buttons import Button
from ui.widgets.loss_plot import LossPlot
from ui.widgets.memory_layout import BYTES_PER_GB, gb_text
from ui.widgets.plots import PlotCard
from ui.widgets.small_plot import SmallPlot

MAX_MARKS = 4  # with more epochs their lines would hide the curve
CURVES: dict[str, Callable[[e.StepTaken], float | None]] = {
    "rate": lambda taken: taken.learning_rate,
    "norm": lambda taken: taken.grad_norm,
    "speed": lambda taken: taken.num_tokens / taken.seconds if taken.seconds > 0 else None,
    "size": lambda taken: taken.delta_norm,
}


class Charts(QWidget):
    """Loss large, four quiet curves below it, and the memory beside its estimate: over one axis, under one cursor."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[e.StepTaken] = []
        self._evaluations: list[e.Evaluated] = []
        self._saved: list[int] = []
        self._epochs: list[tuple[float, str]] = []
        self._marked: list[tuple[float, str]] = []
        self._resumes: list[int] = []
        self._recipe: Recipe | None = None
        self._planned_for: tuple[int, Recipe | None] | None = None
        self._limit = 0.0
        self._clipped = 0
        self._axis = "step"
        self.loss = LossPlot(tr("Loss"), axes=True)
        self.loss.setMinimumHeight(theme.px(260))
        self.small = {
            "rate": SmallPlot(tr("Learning rate"), tr("pale: planned"), width=2),
            "norm": SmallPlot(tr("Gradient norm")),
            "speed": SmallPlot(tr("Tokens per second")),
            "size": SmallPlot(tr("Overlay size"), tr("norm of \u0394W, from 0"), width=2),
        }
        self.memory = SmallPlot(tr("Memory, GB"), width=2, fill=True)
        self.large = Button(tr("Enlarge"), "link")
        self.large.clicked.connect(self._toggle_large)
        self.memory.clicked.connect(self._toggle_large)
        self.memory.add_head(self.large)
        self._peak: Peak | None = None
        self._narrow = False
        self._grid = QGridLayout()
        self._grid.setSpacing(theme.px(16))
        for plot in (*self.small.values(), self.memory):
            plot.setMinimumHeight(theme.px(148))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(16))
        column.addWidget(self.loss, 3)
        column.addLayout(self._grid, 2)
        self.look = Look(self.loss, self.plots(), self)
        self.menu = ChartMenu(self.plots(), self.loss, self.look.follow, self)
        self.loss.axis_chosen.connect(self._choose_axis)
        self.set_narrow(False)

    def plots(self) -> list[PlotCard]:
        """Every plot, in reading order."""
        return [self.loss, *self.small.values(), self.memory]

    def _toggle_large(self) -> None:
        """The memory alone, or all curves: it is the proof of the estimate."""
        alone = not self.loss.isHidden()
        for plot in (self.loss, *self.small.values()):
            plot.setHidden(alone)
        self.large.set_label(tr("All charts") if alone else tr("Enlarge"))
        self.set_narrow(self._narrow)
        self.memory.refresh()

    def set_narrow(self, narrow: bool) -> None:
        """Lay the small curves out in two columns, else in three; the memory has the last row's rest, or all of it."""
        self._narrow = narrow
        across = 2 if narrow else 3
        plots = list(self.small.values())
        for index, plot in enumerate(plots):
            self._grid.addWidget(plot, index // across, index % across)
        row, first = divmod(len(plots), across)
        first = first if not self.loss.isHidden() else 0
        self._grid.addWidget(self.memory, row, first, 1, across - first)
        self._grid.setColumnStretch(2, 0 if narrow else 1)
        for index in range(2):
            self._grid.setColumnStretch(index, 1)

    def set_run(self, name: str, recipe: Recipe | None) -> None:
        """Draw for a run of this name; its recipe (None: not known) says where gradients are clipped and which rates are
        planned."""
        self._recipe, self._limit = recipe, recipe.training.max_grad_norm if recipe is not None else 0.0
        self.look.follow()
        self.menu.set_run(name)
        self.small["norm"].set_lines([(self._limit, tr("clip"), "clip")] if self._limit else [])
        self._clipped = sum(self._is_clipped(taken) for taken in self._steps)
        self._tell_findings()

    def show_state(self, state: RunState) -> None:
        """Bring all curves up to `state`."""
        known = len(self._steps)
        if known > len(state.steps) or (known and state.steps[known - 1] is not self._steps[-1]):
            self._start_afresh()
            known = 0
        for taken in state.steps[known:]:
            self._add(taken)
        if self._axis != "step" and (known != len(state.steps) or not known):
            self._rescale()
        for plot in self.plots():
            plot.set_total_steps(state.num_steps or 0)
        self._show_planned(state)
        self._show_memory(state)
        self._tell_findings()
        self._show_marks(state)
        self.menu.set_state(state)

    def redraw(self) -> None:
        """Draw at once, as for a run that has just been opened."""
        for plot in self.plots():
            plot.redraw()

    def _choose_axis(self, axis: str) -> None:
        self._axis = axis
        self._rescale()

    def _rescale(self) -> None:
        scale = scale_of(self._axis, self._steps)
        for plot in self.plots():
            plot.set_scale(scale)

    def _show_planned(self, state: RunState) -> None:
        """The rates that the recipe plans, once the length of the run is known."""
        planned_for = (state.num_steps or 0, self._recipe)
        if planned_for != self._planned_for:
            self._planned_for = planned_for
            steps, rates = planned_rates(self._recipe.training, planned_for[0]) if self._recipe else ([], [])
            self.small["rate"].set_planned(steps, rates)

    def _show_memory(self, state: RunState) -> None:
        """What the process held, and where that can be compared, what it was expected to and what the card has."""
        steps, sizes = gigabytes(state)
        if sizes != self.memory.series.values.tolist() or steps != self.memory.series.steps.tolist():
            self.memory.set_series(steps, sizes)
        peak = Peak.of(state)
        if peak == self._peak:
            return
        self._peak = peak
        self.memory.set_title(tr("Graphics memory, GB") if peak.on_card else tr("Main memory, GB"))
        lines = []
        if peak.estimated_bytes is not None:
            text = tr("estimate {0}").format(gb_text(peak.estimated_bytes))
            lines.append((peak.estimated_bytes / BYTES_PER_GB, text, "estimate"))
        if peak.card_bytes is not None:
            lines.append((peak.card_bytes / BYTES_PER_GB, tr("card {0}").format(gb_text(peak.card_bytes)), "limit"))
        self.memory.set_lines(lines)
        self.memory.set_finding(_finding(peak))

    def _start_afresh(self) -> None:
        self._steps, self._epochs, self._marked, self._clipped = [], [], [], 0
        self.loss.set_marks([])
        for plot in (self.loss, *self.small.values()):
            plot.set_series([], [])

    def _add(self, taken: e.StepTaken) -> None:
        before = self._steps[-1].epoch if self._steps else 0.0
        # The step that reaches a whole number is the last of its epoch.
        if self._steps and math.ceil(taken.epoch) > math.ceil(before):
            self._epochs.append((taken.step, tr("epoch {0} begins").format(math.ceil(taken.epoch))))
        self._steps.append(taken)
        self._clipped += self._is_clipped(taken)
        self.loss.append(taken.step, taken.loss)
        for key, curve in CURVES.items():
            value = curve(taken)
            # What was not measured at this step is no gap in the curve.
            if value is not None:
                self.small[key].append(taken.step, value)

    def _show_marks(self, state: RunState) -> None:
        if self._evaluations != state.evaluations:
            self._evaluations = list(state.evaluations)
            self.loss.set_evaluations([(found.step, found.loss) for found in state.evaluations])
        saved = [each.step for each in state.checkpoints]
        if self._saved != saved:
            self._saved = saved
            self.loss.set_checkpoints([float(step) for step in saved])
        if len(self._marked) != len(self._epochs) <= MAX_MARKS:
            self._marked = list(self._epochs)
            self.loss.set_marks(self._marked)
        if self._resumes != state.resumes:
            self._resumes = list(state.resumes)
            self.loss.set_breaks(self._resumes)
            for plot in (*self.small.values(), self.memory):
                plot.set_breaks(self._resumes, every_step=plot not in (self.memory, self.small["size"]))

    def _is_clipped(self, taken: e.StepTaken) -> bool:
        return bool(self._limit) and taken.grad_norm > self._limit

    def _tell_findings(self) -> None:
        count = self._clipped
        text = tr("1 step clipped") if count == 1 else tr("{0} steps clipped").format(count) if count else ""
        self.small["norm"].set_finding(text)
        seconds = sum(taken.seconds for taken in self._steps[1:])
        tokens = sum(taken.num_tokens for taken in self._steps[1:])
        mean = tr("on average {0}").format(short_count(tokens / seconds)) if seconds > 0 else ""
        self.small["speed"].set_finding(mean)


def _finding(peak: Peak) -> str:
    """Measured against estimated, or why there is nothing to hold it against."""
    if peak.on_card or peak.measured_bytes is None:
        return peak.text
    return tr("{0} GB measured; the estimate is for cards").format(gb_text(peak.measured_bytes))
