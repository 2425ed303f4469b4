"""A new run in the place of one that cannot or should not go on, and the question whether it is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from PySide6.QtCore import QCoreApplication, QObject, Signal
from PySide6.QtWidgets import QWidget

from studio.errors import ChangedError, NotFoundError, StudioError
from studio.places import Workspace
from studio.runs.again import again
from studio.runs.folder import RunFolder
from ui.bridge import in_background
from ui.closing import CANCEL, Question
from ui.state import AppState

NEW = "new"


def _tr(text: str) -> str:
    return QCoreApplication.translate("starting", text)


class Starting(QObject):
    """Answers the wish to begin a run again with other settings, from its last good checkpoint if there is one."""

    created = Signal(object)
    """RunFolder: it is there, and nothing of it is trained yet."""

    def __init__(self, workspace: Workspace, state: AppState, device: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._device = workspace, state, device
        self._is_creating = False
        state.again_with_requested.connect(self._again)

    def _again(self, run_id: str, changes: Mapping[str, object]) -> None:
        view, live = self._state.runs.get(run_id), self._state.live_run
        if self._is_creating:
            return
        if view is None:
            self._failed(NotFoundError(_tr("That run is gone."), ""))
        elif live is not None:
            sentence = _tr("{0} is still training.").format(live.folder.name)
            self._state.noticed.emit("warn", sentence, _tr("Stop or pause it first, then start this one."))
        else:
            self._is_creating = True
            make = partial(_make, self._workspace, view.folder, dict(changes), self._device)
            in_background(make, self._made, self._failed)

    def _made(self, run: RunFolder) -> None:
        self._is_creating = False
        self.created.emit(run)

    def _failed(self, error: StudioError) -> None:
        self._is_creating = False
        self._state.noticed.emit("bad", error.message, error.hint)


def _make(workspace: Workspace, run: RunFolder, changes: Mapping[str, object], device: str) -> RunFolder:
    made = again(workspace, run, changes, device=device)
    assert made.job, "read here, so that the window need not"
    return made


def ask_about_change(parent: QWidget, state: AppState, run_id: str, error: ChangedError) -> Question:
    """Whether a run whose input has changed is to be followed by a new one that begins where it stands."""

    def answer(key: str) -> None:
        if key == NEW:
            state.again_with_requested.emit(run_id, {})

    question = Question(
        _tr("This run cannot go on as it was"),
        _tr("{0} A new run can begin with what it has learnt so far, on the files as they are now.").format(
            error.message
        ),
        [(NEW, _tr("New run from here")), (CANCEL, _tr("Leave it as it is"))],
        answer,
        parent,
    )
    question.open()
    return question
