"""The Train page while a run is being watched, live or afterwards: both go through `RunState`, so both look the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.recipe import toml
from studio.recipe.recipe import Recipe
from studio.runs.events import Event
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from ui import theme
from ui.bridge import in_background, soon
from ui.pages.train_actions import RunActions
from ui.pages.train_after import AfterRun
from ui.pages.train_charts import Charts
from ui.pages.train_ending import EndingCard
from ui.pages.train_first_batch import FirstBatchView
from ui.pages.train_hints import Hints
from ui.pages.train_log import LogView
from ui.pages.train_now import NowCard, SampleCard
from ui.pages.train_options import RunOptions
from ui.pages.train_progress import RunProgress
from ui.pages.train_recipe import RecipeView
from ui.pages.train_samples import SamplesView
from ui.pages.train_silence import SilenceBar
from ui.pages.train_words import data_name, pill, run_name, tr
from ui.pages.train_worst import WorstView
from ui.state import AppState, RunView
from ui.widgets.labels import plain_tip
from ui.widgets.messages import StatusPill
from ui.widgets.page import Columns, Page, ScrollColumn, column
from ui.widgets.tabs import Tabs

REPAINT_MS = 100
RIGHT_WIDTH = 296


@dataclass(frozen=True)
class RunFacts:
    """What the folder of a run says about it: read once."""

    run: str
    title: str
    what: str
    text: str
    recipe: Recipe | None
    has_parent: bool = False


def read_facts(folder: RunFolder) -> RunFacts:
    """Name, base, dataset and recipe of a run. Raises `StudioError` if its job cannot be read."""
    job = folder.job
    recipe = toml.from_dict(job.get("recipe", {}), folder.id)
    data = data_name(recipe.data.path)
    what = tr("{0} with {1}").format(recipe.base.id, data)
    return RunFacts(folder.id, folder.name, what, toml.dump(recipe), recipe, bool(job.get("parent")))


class TrainRunning(Page):
    """One run. `recipe_wanted` goes back to the recipe."""

    recipe_wanted = Signal()

    def __init__(self, state: AppState) -> None:
        super().__init__(tr("Run"))
        self._state = state
        self._view: RunView | None = None
        self._facts: RunFacts | None = None
        self._repaint_is_due = False
        self._pill = StatusPill("Ready")
        self.header.insert(self._pill)
        self.actions_ = RunActions()
        self.header.row.addWidget(self.actions_)
        self.progress = RunProgress()
        self.ending = EndingCard()
        self.ending.hide()
        self.body.setSpacing(theme.px(10))
        self.silence = SilenceBar()
        self.add(self.progress)
        self.add(self.silence)
        self.add(self.ending)
        self._build_tabs()
        self._build_views()
        self.after = AfterRun(state, self.ending, self)
        self._connect()
        self.refresh()

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _build_tabs(self) -> None:
        names = {
            "charts": tr("Charts"),
            "samples": tr("Samples"),
            "batch": tr("First batch"),
            "worst": tr("Worst examples"),
            "log": tr("Log"),
            "recipe": tr("Recipe"),
        }
        self.tabs = Tabs(list(names.items()))
        self.options = RunOptions(self._state)
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(self.tabs, 1)
        row.addWidget(self.options)
        self.add(row)

    def _build_views(self) -> None:
        self.charts, self.now, self.sample, self.hints = Charts(), NowCard(), SampleCard(), Hints()
        right = ScrollColumn(column([self.hints, self.now, self.sample]))
        self.samples, self.batch, self.worst = SamplesView(), FirstBatchView(), WorstView()
        self.log, self.recipe = LogView(), RecipeView()
        self.views: dict[str, QWidget] = {
            "charts": Columns(self.charts, right, RIGHT_WIDTH, gutter=16),
            "samples": self.samples,
            "batch": self.batch,
            "worst": self.worst,
            "log": self.log,
            "recipe": self.recipe,
        }
        self._stack = QStackedWidget()
        for view in self.views.values():
            self._stack.addWidget(view)
        self.add(self._stack, 1)

    def _connect(self) -> None:
        state = self._state
        self.actions_.asked.connect(self._ask)
        self.actions_.back_wanted.connect(self.recipe_wanted)
        self.sample.all.clicked.connect(lambda: self.tabs.set_value("samples"))
        self.samples.prompt_wanted.connect(lambda prompt: state.prompt_requested.emit(self.run_id, prompt))
        self.hints.checkpoint_wanted.connect(lambda step: state.promote_requested.emit(self.run_id, step))
        self.tabs.value_changed.connect(lambda key: self._stack.setCurrentWidget(self.views[key]))
        self.ending.again_wanted.connect(self._again)
        state.run_event.connect(self._on_event)
        state.run_watched.connect(self._on_watched)
        state.runs_changed.connect(self._on_runs)
        state.machine_changed.connect(self._show_card)
        state.run_requested.connect(self._on_asked)
        for follow in (self.charts.set_narrow, self.ending.set_narrow, self.recipe.set_narrow):
            self.narrow_changed.connect(follow)
        self.narrow_changed.connect(self.refresh)

    # --- which run -----------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run that is shown, "" for none."""
        return self._view.folder.id if self._view else ""

    def show_run(self, view: RunView) -> None:
        """Show another run, or the same one again."""
        is_new = view.folder.id != self.run_id
        self._view = view
        if is_new:
            self._facts = None
            self.tabs.set_value("charts")
            for part in (self.actions_, self.samples, self.batch, self.hints):
                part.forget()
            self.recipe.show_recipe("", None, None)
            self.log.show_run(view.folder)
            self.charts.set_run(view.folder.id, None)
            folder = view.folder
            in_background(lambda: read_facts(folder), self._take_facts, partial(self._facts_missing, folder.id))
        # The page shown before takes its focus along; the mouse as reason draws no ring.
        self.tabs.setFocus(Qt.FocusReason.MouseFocusReason)
        self.refresh()
        if is_new:
            self.charts.redraw()

    def _take_facts(self, facts: RunFacts) -> None:
        if isValid(self) and facts.run == self.run_id:
            self._facts = facts
            self.sample.has_parent = self.samples.has_parent = facts.has_parent
            self.samples.forget()
            self.recipe.show_recipe(facts.text, facts.recipe, self._run_before())
            self.charts.set_run(facts.title, facts.recipe)
            self.refresh()

    def _facts_missing(self, run: str, error: StudioError) -> None:
        if isValid(self) and run == self.run_id:
            self._facts = RunFacts(run, run, "", f"{error.message}\n{error.hint}".strip(), None)
            self.recipe.show_recipe(self._facts.text, None, None)
            self.refresh()

    def _run_before(self) -> RunFolder | None:
        """The run that came before this one; ids begin with the time."""
        earlier = [run for run in self._state.runs if run < self.run_id]
        return self._state.runs[max(earlier)].folder if earlier else None

    def _on_event(self, run: str, event: object) -> None:
        if run != self.run_id:
            return
        assert isinstance(event, Event)
        self.actions_.hear(event)
        if not self._repaint_is_due:
            self._repaint_is_due = True
            soon(self, self._repaint, REPAINT_MS)

    def _on_watched(self, run: str) -> None:
        if run == self.run_id:
            self.refresh()

    def _repaint(self) -> None:
        """What came in the last tenth of a second, drawn once."""
        self._repaint_is_due = False
        if self.isVisible():
            self.refresh()

    def _on_runs(self) -> None:
        view = self._state.runs.get(self.run_id)
        if view is not None:
            self._view = view
            self.refresh()

    # --- what is shown -------------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with what came while hidden."""
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Draw the run as it is now. What cannot be seen waits until it can."""
        view, facts = self._view, self._facts
        if view is None or not isValid(self):
            return
        state, recipe = view.state, facts.recipe if facts else None
        self._show_header(view)
        self.actions_.show_state(state, self.narrow)
        doing = self.actions_.doing(state)
        epochs = recipe.training.epochs if recipe is not None else None
        self.progress.show_state(state, epochs, doing, is_ending=bool(self.actions_.wish))
        self.ending.show_state(state, self._busy())
        self.ending.again.setEnabled(recipe is not None)
        self.after.show_run(view, recipe)
        self.charts.show_state(state)
        self.now.show_state(state, self.charts.loss.smoothing())
        self._show_card()
        self.sample.show_state(state)
        self.hints.show_state(state, recipe)
        self.silence.show_silence(view.silence if state.status.is_live else None)
        self.samples.show_state(state, recipe)
        self.batch.show_state(state, view.folder)
        self.worst.show_state(state)
        self.log.set_live(state.status.is_live)

    def _show_card(self) -> None:
        """How hard the card works, while this run is on it."""
        state = self._view.state if self._view is not None else RunState()
        loads = {f"cuda-{index}": load for index, load in enumerate(self._state.card_loads)}
        self.now.show_card(loads.get(state.device) if state.status.is_live else None)

    def _show_header(self, view: RunView) -> None:
        title = self._facts.title if self._facts else view.folder.id
        metrics = QFontMetrics(theme.font("title", title))
        room = theme.px(240 if self.narrow else 360)
        self.header.set_title(metrics.elidedText(title, Qt.TextElideMode.ElideRight, room))
        self.header.setToolTip(plain_tip(title))
        self.setAccessibleName(title)
        self.header.set_purpose(self._facts.what if self._facts else "")
        self._pill.set_word(*pill(view.state, self.actions_.wish))

    def _busy(self) -> str | None:
        """Why a run that ended cannot go on at this moment."""
        live = self._state.live_run
        if live is None or live.folder.id == self.run_id:
            return None
        return tr("Busy: run {0}").format(run_name(live))

    # --- what the user does --------------------------------------------------------------------------------------------

    def _ask(self, verb: str) -> None:
        if self._view is not None:
            self._state.run_requested.emit(self.run_id, verb)

    def _on_asked(self, run: str, verb: str) -> None:
        """Something was asked of a run, from here, a menu or the Runs page: if it is this one, show that it was heard."""
        if run == self.run_id and self._view is not None:
            self.actions_.take(verb, self._view.state.step)
            self.refresh()

    def _again(self) -> None:
        """Take the recipe of this run, and go to it."""
        if self._facts is not None and self._facts.recipe is not None:
            self._state.recipe_edited.emit(self._facts.recipe)
            self.recipe_wanted.emit()
