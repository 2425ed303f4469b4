"""Fit tests: from the wish to the engine and back to the pages. One at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from PySide6.QtCore import QObject, Signal

from studio.errors import StudioError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import fit_test_of
from ui.bridge import in_background
from ui.fit_view import FitTestView
from ui.state import AppState
from ui.training_thread import TrainingThread


class FitTesting(QObject):
    """Answers `fit_test_requested` and `fit_test_stop_requested`; tells by `state.fit_test`."""

    answered = Signal()
    """A test has measured something: what is said about the recipe may be another."""

    def __init__(
        self, workspace: Workspace, state: AppState, thread: TrainingThread, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._thread = workspace, state, thread
        self._test = ""
        # What a stopped test leaves behind: the answer of the one before it.
        self._before: FitTestView | None = None
        state.fit_test_requested.connect(self._begin)
        state.fit_test_stop_requested.connect(self._stop)
        thread.engine_news.connect(self._on_news)
        thread.engine_changed.connect(self._on_engine_changed)
        thread.refused.connect(self._on_refused)

    def close(self) -> None:
        """Nobody will be there to hear the answer."""
        if self._test:
            self._thread.wish(w.Hush(ask=self._test))

    def _begin(self) -> None:
        state = self._state
        if state.fit_test is not None and not state.fit_test.is_over:
            return
        if state.live_run is not None:
            sentence = self.tr("{0} is still training.").format(state.live_run.folder.name)
            state.noticed.emit("warn", sentence, self.tr("A fit test would need its memory: wait, or pause it."))
            return
        self._before = state.fit_test
        self._show(FitTestView(state.recipe, state.data.num_good))
        in_background(partial(fit_test_of, self._workspace, state.recipe), self._post, self._fail)

    def _post(self, wish: w.TestFit) -> None:
        view = self._state.fit_test
        if view is None or view.is_stopping:
            self._show(self._before)
            return
        self._test = wish.test
        self._thread.wish(wish)

    def _stop(self) -> None:
        view = self._state.fit_test
        if view is None or view.is_over or view.is_stopping:
            return
        self._show(replace(view, is_stopping=True))
        if self._test:
            self._thread.wish(w.Hush(ask=self._test))

    def _on_news(self, event: e.Event) -> None:
        view = self._state.fit_test
        if not self._test or view is None or getattr(event, "test", "") != self._test:
            return
        match event:
            case e.FitTestProgressed(phase=phase, step=step, num_steps=num_steps):
                self._show(replace(view, phase=phase, step=step, num_steps=num_steps))
            case e.FitTested():
                self._end(replace(view, result=event))
                self.answered.emit()
            case e.FitTestStopped():
                self._end(self._before)
            case e.FitTestFailed(message=message, hint=hint):
                self._end(replace(view, error=message, hint=hint))

    def _on_engine_changed(self, word: str) -> None:
        view = self._state.fit_test
        if word != "gone" or not self._test or view is None:
            return
        if view.is_stopping:
            self._end(self._before)
            return
        message = self.tr("The engine ended before the test had an answer, most likely because memory ran out.")
        hint = self.tr("Halve the micro-batch (the result stays the same), shorten the rows, or close other programs.")
        self._end(replace(view, error=message, hint=hint))

    def _on_refused(self, what: str, error: StudioError) -> None:
        if what == "test":
            self._fail(error)

    def _fail(self, error: StudioError) -> None:
        view = self._state.fit_test
        if view is not None and not view.is_over:
            self._end(replace(view, error=error.message, hint=error.hint))

    def _end(self, view: FitTestView | None) -> None:
        self._test = ""
        self._show(view)

    def _show(self, view: FitTestView | None) -> None:
        self._state.fit_test = view
        self._state.fit_test_changed.emit()
