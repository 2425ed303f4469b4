"""The fit test on the Train page: the button that begins it, how far it is, and what it has measured."""

from __future__ import annotations

import time

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from studio.runs import events as e
from ui import theme, wording
from ui.bridge import every
from ui.fit_view import FitTestView
from ui.pages.train_words import duration, num_steps, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.labels import IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import MessageBar
from ui.widgets.numbers import format_int

CLOCK_MS = 20_000
_PHASES = ("waiting", "checking", "loading", "tokenising")
_FACES = {
    "fits": ("check-circle", "ok", True),
    "past": ("info", "text3", False),
}


class FitTestPanel(QWidget):
    """What `state.fit_test` says; nothing of it before the first test. `button` is the page's to place."""

    fixes_wanted = Signal()

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self._state = state
        self.button = Button(tr("Fit test"), icon="gauge", size="action")
        self.button.clicked.connect(self._press)
        self._work = self._build_work()
        self._icon = IconLabel("check-circle", "ok", 16, filled=True)
        self.heading = PlainLabel("", "strong", elide=True)
        self.time = PlainLabel("", "body", elide=True)
        self.figures = PlainLabel("", "small", "text2", elide=True)
        self.subject = PlainLabel("", "small", "text3", elide=True)
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(self._icon)
        head.addWidget(self.heading, 1)
        self.message = MessageBar("bad", "", tr("Show fixes"))
        self.message.action_triggered.connect(self.fixes_wanted)
        policy = self.sizePolicy()
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(4))
        column.addWidget(self._work)
        column.addWidget(self.message)
        column.addLayout(head)
        for label in (self.time, self.figures, self.subject):
            column.addWidget(label)
        # The time of arrival moves on while nobody starts.
        every(self, CLOCK_MS, self._tick)

    def _build_work(self) -> QWidget:
        result = QWidget()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(theme.px(8))
        self.bar.setAccessibleName(tr("Progress of the fit test"))
        self.phase = PlainLabel("", "body", "text2", elide=True)
        column = QVBoxLayout(result)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(6))
        column.addWidget(self.phase)
        column.addWidget(self.bar)
        return result

    @property
    def is_testing(self) -> bool:
        """Whether a test is in progress."""
        view = self._state.fit_test
        return view is not None and not view.is_over

    @property
    def refusal(self) -> str:
        """What the last test said, if it has shown that the recipe does not fit; else nothing."""
        view, state = self._state.fit_test, self._state
        if view is None or view.result is None or view.result.fits:
            return ""
        return view.result.message if view.holds_for(state.recipe, state.data.num_good) else ""

    def _press(self) -> None:
        if self.is_testing:
            self._state.fit_test_stop_requested.emit()
        else:
            self._state.fit_test_requested.emit()

    def _tick(self) -> None:
        if self.isVisible() and not self.is_testing:
            self._show_answer()

    # --- what is shown -------------------------------------------------------------------------------------------------

    def refresh(self, reason: str | None, *, brief: bool = False) -> None:
        """Show the facts as they are now.

        `reason` is what keeps a test from being begun, if anything does; with `brief` the button is its icon alone.
        """
        view, testing = self._state.fit_test, self.is_testing
        self._show_button(reason)
        if brief:
            self.button.setText("")
        self._work.setVisible(testing)
        if testing and view is not None:
            self._show_progress(view)
        self._show_answer()

    def _show_button(self, reason: str | None) -> None:
        view, testing = self._state.fit_test, self.is_testing
        stopping = testing and view is not None and view.is_stopping
        self.button.set_label(tr("Stop the test") if testing else tr("Fit test"))
        self.button.set_icon("stop" if testing else "gauge")
        self.button.set_reason(tr("Stopping\u2026") if stopping else None)
        self.button.setEnabled(not stopping and (testing or reason is None))
        what = tr("Fit test: three real steps on the longest rows measure the memory and the time. Nothing is kept.")
        self.button.setToolTip(plain_tip("" if testing else f"{what}\n{reason}" if reason else what))
        self.button.setAccessibleDescription(reason or what)

    def _show_progress(self, view: FitTestView) -> None:
        if view.phase == "training":
            current = min(view.step + 1, view.num_steps)
            text, done = tr("Step {0} of {1}").format(current, view.num_steps), len(_PHASES) + view.step
        else:
            starting = self._state.engine == "starting"
            words = {
                "waiting": tr("Starting the engine\u2026") if starting else tr("Waiting for the engine\u2026"),
                "checking": tr("Checking base and data\u2026"),
                "loading": tr("Loading the base\u2026"),
                "tokenising": tr("Reading the data\u2026"),
            }
            text = words.get(view.phase, view.phase)
            done = _PHASES.index(view.phase) if view.phase in _PHASES else 0
        text = tr("Ends after this: {0}").format(text) if view.is_stopping else tr("Fit test: {0}").format(text)
        self.bar.setRange(0, len(_PHASES) + view.num_steps)
        self.bar.setValue(done)
        self.phase.setText(text)

    def _show_answer(self) -> None:
        """The answer of the last test, or that it is of another recipe than the one that is shown."""
        view, state = self._state.fit_test, self._state
        answered = view is not None and view.is_over
        holds = answered and view is not None and view.holds_for(state.recipe, state.data.num_good)
        result = view.result if answered and view is not None else None
        self.setVisible(self.is_testing or (answered and (holds or result is not None)))
        refused = holds and (result is None or not result.fits)
        self.message.setVisible(refused)
        for widget in (self._icon, self.heading, self.subject):
            widget.setVisible(result is not None and not refused)
        measured = holds and result is not None and result.fits
        self.time.setVisible(measured)
        self.figures.setVisible(measured)
        if view is None or not answered:
            return
        if refused:
            self._show_refusal(view)
        elif result is not None:
            self._show_result(view, result, holds)

    def _show_refusal(self, view: FitTestView) -> None:
        if view.result is not None:
            self.message.show_message("bad", view.result.message, tr("Show fixes"))
            self.message.setToolTip(plain_tip(view.result.hint))
        else:
            self.message.show_message("bad", f"{view.error} {view.hint}".strip())
            self.message.setToolTip("")

    def _show_result(self, view: FitTestView, result: e.FitTested, holds: bool) -> None:
        icon, role, filled = _FACES["fits" if holds else "past"]
        self._icon.set_icon(icon, role, filled=filled)
        words = compared(result)
        self.heading.setText(tr("Fits: {0}").format(words) if holds else tr("Before the change: {0}").format(words))
        self.heading.set_role("text" if holds else "text2")
        self.heading.set_kind("strong" if holds else "body")
        self.subject.setText(subject(view, result) if holds else tr("{0}. Test again.").format(subject(view, result)))
        if holds:
            self.figures.setText(figures(result))
            self._show_time(view, result)

    def _show_time(self, view: FitTestView, result: e.FitTested) -> None:
        each = result.seconds_per_step
        steps = result.num_steps if view.same_length(self._state.recipe) else num_steps(self._state)
        if each is None or not steps:
            self.time.setVisible(False)
            return
        seconds = each * steps
        words = tr("\u2248 {0}, done at {1} if started now").format(
            duration(seconds), wording.arrival(time.time() + seconds)
        )
        self.time.setText(words)
        about = tr("{0} steps of {1} each").format(format_int(steps), step_seconds(each))
        self.time.setToolTip(plain_tip(tr("{0}. Evaluating, sampling and saving come on top.").format(about)))
        self.figures.setText(tr("{0} per step. {1}").format(step_seconds(each), self.figures.text()))


def step_seconds(seconds: float) -> str:
    """`0.35 s`, `1.4 s`, `16 s`, `2.1 min`."""
    return tr("{0} s").format(f"{seconds:.2g}") if seconds < 10 else duration(seconds)


def compared(result: e.FitTested) -> str:
    """The measured peak beside the estimate, where the two can be compared."""
    if not result.fits:
        return tr("it did not fit")
    measured = gb_text(result.process_bytes)
    if result.device == "cpu":
        return tr("{0} GB of main memory measured").format(measured)
    if result.estimated_process_bytes is None:
        return tr("{0} GB measured").format(measured)
    estimated = gb_text(result.estimated_process_bytes)
    return tr("{0} GB measured, \u2248 {1} GB estimated").format(measured, estimated)


def figures(result: e.FitTested) -> str:
    """What lies below the one number: tensors and allocator on a card; without one, why nothing is compared."""
    estimated = result.estimated_total_bytes
    about = tr(" (\u2248 {0} estimated)").format(gb_text(estimated)) if estimated is not None else ""
    if result.device == "cpu":
        if estimated is None:
            return tr("There is no estimate for this base.")
        return tr("No card: the estimate is made for cards and not compared.")
    parts = []
    if result.allocated_bytes is not None:
        parts.append(tr("Tensors {0}{1}").format(gb_text(result.allocated_bytes), about))
    if result.reserved_bytes is not None:
        parts.append(tr("allocator {0} GB").format(gb_text(result.reserved_bytes)))
    return ", ".join(parts)


def subject(view: FitTestView, result: e.FitTested) -> str:
    """What was tested, in a line."""
    recipe = view.recipe
    words = tr("Measured for {0}, rank {1}, {2} tokens at once")
    return words.format(recipe.base.id, recipe.adapter.rank, format_int(result.micro_batch_tokens))
