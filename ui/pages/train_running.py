"""The Train page while a run is being watched, live or afterwards: both go through `RunState`, so both look the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QHideEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QMenu, QPlainTextEdit, QProgressBar, QStackedWidget, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.recipe import toml
from studio.recipe.recipe import Recipe
from studio.runs.events import LAST_WORDS
from studio.runs.folder import RunFolder
from studio.runs.state import RunState, Status
from ui import theme
from ui.bridge import every, in_background, soon
from ui.pages.train_charts import Charts
from ui.pages.train_now import EndingCard, NowCard, SampleCard, Warnings, seconds_trained
from ui.pages.train_samples import SamplesView
from ui.pages.train_silence import SilenceBar
from ui.pages.train_words import data_name, duration, pill, run_name, tr
from ui.state import AppState, RunView
from ui.widgets.buttons import Button
from ui.widgets.labels import PlainLabel, plain_tip
from ui.widgets.messages import StatusPill
from ui.widgets.numbers import format_int
from ui.widgets.page import Columns, Page, ScrollColumn, column
from ui.widgets.tabs import Tabs

REPAINT_MS = 100
LOG_MS = 1000
RIGHT_WIDTH = 296


@dataclass(frozen=True)
class RunFacts:
    """What the folder of a run says about it: read once."""

    run: str
    title: str
    what: str
    text: str
    recipe: Recipe | None


def read_facts(folder: RunFolder) -> RunFacts:
    """Name, base, dataset and recipe of a run. Raises `StudioError` if its job cannot be read."""
    job = folder.job
    recipe = toml.from_dict(job.get("recipe", {}), folder.id)
    data = data_name(recipe.data.path)
    what = tr("{0} with {1}").format(recipe.base.id, data)
    return RunFacts(folder.id, folder.name, what, toml.dump(recipe), recipe)


class TrainRunning(Page):
    """One run. `recipe_wanted` goes back to the recipe."""

    recipe_wanted = Signal()

    def __init__(self, state: AppState) -> None:
        super().__init__(tr("Run"))
        self._state = state
        self._view: RunView | None = None
        self._facts: RunFacts | None = None
        self._wish = ""
        self._pill = StatusPill("Ready")
        self.header.insert(self._pill)
        self._build_actions()
        self._build_progress()
        self.ending = EndingCard()
        self.ending.hide()
        self.add(self.ending)
        self.tabs = Tabs(
            [("charts", tr("Charts")), ("samples", tr("Samples")), ("log", tr("Log")), ("recipe", tr("Recipe"))]
        )
        self.add(self.tabs)
        self._build_views()
        self.ending.resume_wanted.connect(partial(self._ask, "resume"))
        self.ending.chat_wanted.connect(self._chat)
        self.ending.again_wanted.connect(self._again)
        self._repaint_is_due = False
        self._log_timer = every(self, LOG_MS, self._read_log)
        self._log_timer.stop()
        state.run_event.connect(self._on_event)
        state.run_watched.connect(self._on_watched)
        state.runs_changed.connect(self._on_runs)
        self.narrow_changed.connect(self.refresh)
        self.narrow_changed.connect(self.charts.set_narrow)
        self.refresh()

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _build_actions(self) -> None:
        self.back = Button(tr("Back to recipe"), "quiet")
        self.back.clicked.connect(self.recipe_wanted)
        words = {"sample": tr("Sample now"), "evaluate": tr("Evaluate now"), "save": tr("Save now")}
        self.wishes = {verb: Button(text, "quiet") for verb, text in words.items()}
        for verb, button in self.wishes.items():
            button.clicked.connect(partial(self._ask, verb))
        # In a narrow window the three share a menu.
        self.more = Button(tr("More"), "quiet")
        menu = QMenu(self.more)
        for verb, text in words.items():
            menu.addAction(text, partial(self._ask, verb))
        self.more.setMenu(menu)
        self.stop = Button(tr("Stop"), icon="stop")
        menu = QMenu(self.stop)
        menu.addAction(tr("Stop and save"), partial(self._ask, "stop"))
        menu.addAction(tr("Stop without saving"), partial(self._ask, "discard"))
        self.stop.setMenu(menu)
        self.pause = Button(tr("Pause"), icon="pause")
        self.pause.clicked.connect(partial(self._ask, "pause"))
        for button in (self.back, *self.wishes.values(), self.more, self.stop, self.pause):
            self.header.row.addWidget(button)

    def _build_progress(self) -> None:
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(theme.px(8))
        self.bar.setAccessibleName(tr("Progress of the run"))
        self.percent = PlainLabel("", "strong")
        self.place = PlainLabel("", "body", "text2", elide=True)
        self.gone = PlainLabel("", "body", "text2")
        self.left = PlainLabel("", "strong")
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(self.percent)
        row.addWidget(self.place, 1)
        row.addWidget(self.gone)
        row.addSpacing(theme.px(8))
        row.addWidget(self.left)
        self.body.setSpacing(theme.px(10))
        self.silence = SilenceBar()
        self.add(self.bar)
        self.add(row)
        self.add(self.silence)

    def _build_views(self) -> None:
        self.charts, self.now, self.sample, self.warnings = Charts(), NowCard(), SampleCard(), Warnings()
        self.sample.all.clicked.connect(lambda: self.tabs.set_value("samples"))
        right = ScrollColumn(column([self.warnings, self.now, self.sample]))
        self.samples, self.log, self.recipe = SamplesView(), _text(tr("Log")), _text(tr("Recipe"))
        self.views: dict[str, QWidget] = {
            "charts": Columns(self.charts, right, RIGHT_WIDTH, gutter=16),
            "samples": self.samples,
            "log": self.log,
            "recipe": self.recipe,
        }
        self._stack = QStackedWidget()
        for view in self.views.values():
            self._stack.addWidget(view)
        self.tabs.value_changed.connect(self._on_tab)
        self.add(self._stack, 1)

    # --- which run -----------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run that is shown, "" for none."""
        return self._view.folder.id if self._view else ""

    def show_run(self, view: RunView) -> None:
        """Show another run, or the same one again."""
        is_new = view.folder.id != self.run_id
        if is_new:
            self._facts, self._wish = None, ""
            self.tabs.set_value("charts")
            self.samples.forget()
            self.log.clear()
            self.recipe.clear()
            folder = view.folder
            in_background(lambda: read_facts(folder), self._take_facts, partial(self._facts_missing, folder.id))
        self._view = view
        # The page shown before takes its focus along; the mouse as reason draws no ring.
        self.tabs.setFocus(Qt.FocusReason.MouseFocusReason)
        self.refresh()
        if is_new:
            self.charts.redraw()

    def _take_facts(self, facts: RunFacts) -> None:
        if isValid(self) and facts.run == self.run_id:
            self._facts = facts
            self.recipe.setPlainText(facts.text)
            if facts.recipe is not None:
                self.charts.set_grad_limit(facts.recipe.training.max_grad_norm)
            self.refresh()

    def _facts_missing(self, run: str, error: StudioError) -> None:
        if isValid(self) and run == self.run_id:
            self._facts = RunFacts(run, run, "", f"{error.message}\n{error.hint}".strip(), None)
            self.recipe.setPlainText(self._facts.text)
            self.refresh()

    def _on_event(self, run: str, event: object) -> None:
        if run != self.run_id:
            return
        if isinstance(event, LAST_WORDS):
            self._wish = ""
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

    def refresh(self) -> None:
        """Draw the run as it is now. What cannot be seen waits until it can."""
        view = self._view
        if view is None or not isValid(self):
            return
        state = view.state
        title = self._facts.title if self._facts else view.folder.id
        room = theme.px(240 if self.narrow else 360)
        metrics = QFontMetrics(theme.font("title", title))
        self.header.set_title(metrics.elidedText(title, Qt.TextElideMode.ElideRight, room))
        self.header.setToolTip(plain_tip(title))
        self.setAccessibleName(title)
        self.header.set_purpose(self._facts.what if self._facts else "")
        self._pill.set_word(*pill(state, self._wish))
        self._show_actions(state)
        self._show_progress(state)
        self.ending.show_state(state, self._busy())
        self.ending.again.setEnabled(self._facts is not None and self._facts.recipe is not None)
        self.charts.show_state(state)
        self.now.show_state(state, self.charts.loss.smoothing())
        self.sample.show_state(state)
        self.warnings.show_state(state)
        self.silence.show_silence(view.silence if state.status.is_live else None)
        self.samples.show_state(state)
        self._rest_or_follow()

    def _busy(self) -> str | None:
        """Why a run that ended cannot go on at this moment."""
        live = self._state.live_run
        if live is None or live.folder.id == self.run_id:
            return None
        return tr("Busy: run {0}").format(run_name(live))

    def _show_actions(self, state: RunState) -> None:
        live = state.status.is_live
        for button in (self.stop, self.pause):
            button.setVisible(live)
            button.setEnabled(not self._wish)
        for button in (*self.wishes.values(), self.more):
            button.setVisible(live and (button is self.more) == self.narrow)
            button.setEnabled(not self._wish and state.status is Status.RUNNING)

    def _show_progress(self, state: RunState) -> None:
        done, total = state.step, state.num_steps
        words = tr("step {0}").format(format_int(done))
        if total:
            words = tr("step {0} of {1}").format(format_int(done), format_int(total))
        words += self._epoch(state)
        if state.progress is not None:
            done, total = state.progress.done, state.progress.total
            words = tr("line {0} of {1}").format(format_int(done), format_int(total))
        self.bar.setRange(0, total or 1)
        self.bar.setValue(done)
        share = 100 * done // total if total else 0
        self.percent.setText(f"{share} %")
        self.place.setText(words)
        seconds = seconds_trained(state)
        self.gone.setText(tr("{0} gone").format(duration(seconds)) if seconds else "")
        left = state.seconds_left if state.status.is_live else None
        self.left.setText(tr("\u2248 {0} left").format(duration(left)) if left is not None else "")

    def _epoch(self, state: RunState) -> str:
        """Which pass over the data it is, of how many where the recipe says so."""
        if not state.steps:
            return ""
        recipe = self._facts.recipe if self._facts else None
        epochs, epoch = recipe.training.epochs if recipe else None, max(math.ceil(state.steps[-1].epoch), 1)
        if epochs is None:
            return tr(", epoch {0}").format(epoch)
        return tr(", epoch {0} of {1}").format(epoch, epochs)

    def _on_tab(self, key: str) -> None:
        self._stack.setCurrentWidget(self.views[key])
        self._rest_or_follow()

    # --- the log -------------------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the log again."""
        super().showEvent(event)
        self.refresh()

    def hideEvent(self, event: QHideEvent) -> None:
        """Rest while hidden."""
        super().hideEvent(event)
        self._log_timer.stop()

    def _rest_or_follow(self) -> None:
        """Read the log while somebody looks at it and something may still be written."""
        looking = self.isVisible() and self.tabs.value() == "log" and self._view is not None
        if not looking:
            self._log_timer.stop()
            return
        assert self._view is not None
        live = self._view.state.status.is_live
        if live and not self._log_timer.isActive():
            self._log_timer.start()
            self._read_log()
        elif not live and (self._log_timer.isActive() or not self.log.toPlainText()):
            self._log_timer.stop()
            self._read_log()

    def _read_log(self) -> None:
        if self._view is not None:
            folder = self._view.folder
            in_background(folder.last_lines, partial(self._show_log, folder.id), partial(self._log_missing, folder.id))

    def _show_log(self, run: str, lines: list[str]) -> None:
        if isValid(self) and run == self.run_id:
            text = "\n".join(lines) or tr("Nothing has been written yet.")
            if text != self.log.toPlainText():
                self.log.setPlainText(text)

    def _log_missing(self, run: str, error: StudioError) -> None:
        self._show_log(run, [error.message, error.hint])

    # --- what the user does --------------------------------------------------------------------------------------------

    def _ask(self, verb: str) -> None:
        if self._view is None:
            return
        if verb in ("stop", "discard", "pause"):
            self._wish = verb
        self._state.run_requested.emit(self.run_id, verb)
        self.refresh()

    def _chat(self) -> None:
        if self._view is not None and self._view.state.adapter:
            self._state.chat_selected.emit(self._view.state.adapter)

    def _again(self) -> None:
        """Take the recipe of this run, and go to it."""
        if self._facts is not None and self._facts.recipe is not None:
            self._state.recipe_edited.emit(self._facts.recipe)
            self.recipe_wanted.emit()


def _text(name: str) -> QPlainTextEdit:
    """A page of plain text to be read and copied."""
    result = QPlainTextEdit()
    result.setReadOnly(True)
    result.setAccessibleName(name)
    result.setTabChangesFocus(True)
    result.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
    result.setFont(theme.font("mono", "-"))
    return result
