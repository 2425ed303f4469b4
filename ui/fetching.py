"""Rows that are no file yet: sets on the hub are looked at and fetched in processes of their own, pasted ones become a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from PySide6.QtCore import QObject

from studio.data import pasted
from studio.errors import StudioError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.hub_jobs import HubLook
from studio.runs.jobs import failure
from ui.bridge import in_background
from ui.source_view import SourceView
from ui.state import AppState
from ui.training_thread import TrainingThread

MOST_PASTED_ROWS = 2_000  # are judged while somebody types


class Fetching(QObject):
    """Answers `source_requested`: each verb is a method below, with its value."""

    def __init__(self, workspace: Workspace, state: AppState, thread: TrainingThread, parent: QObject) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._thread = workspace, state, thread
        self._job = ""
        self._verbs: dict[str, Callable[[Any], None]] = {
            "new": self._begin,
            "look": self._look,
            "part": self._look_at_part,
            "fetch": self._fetch,
            "cancel": self._cancel,
            "judge": self._judge,
            "keep": self._keep,
        }
        state.source_requested.connect(lambda verb, value: self._verbs[verb](value))
        thread.job_event.connect(self._on_job_event)

    def close(self) -> None:
        """Nobody waits for an answer any more. What has come of a download is kept for the next time."""
        if self._job:
            self._thread.cancel_job(self._job)
            self._job = ""

    def _begin(self, _value: object) -> None:
        """Somebody asks for other rows."""
        self.close()
        self._state.source = SourceView()
        self._changed()

    def _changed(self) -> None:
        self._state.source_changed.emit()

    # --- the hub -----------------------------------------------------------------------------------------------------

    def _look(self, name: Any) -> None:
        self._begin(None)
        self._state.source.name = str(name)
        self._start("looking", "hub-look", {"name": str(name)})

    def _look_at_part(self, part: Any) -> None:
        """`part` is a subset and a split; an empty one is left to the repository."""
        self.close()
        subset, split = part
        self._start("looking", "hub-look", {"name": self._state.source.name, "subset": subset, "split": split})

    def _fetch(self, _value: object) -> None:
        view = self._state.source
        if view.look is not None and not view.busy:
            self._start("downloading", "hub-fetch", {"name": asdict(view.look.name)})

    def _cancel(self, _value: object) -> None:
        self.close()
        self._state.source.busy = ""
        self._changed()

    def _start(self, busy: str, kind: str, arguments: dict[str, object]) -> None:
        view = self._state.source
        view.busy, view.done, view.total, view.error, view.hint = busy, 0, 0, "", ""
        self._job = uuid4().hex
        self._thread.start_job(self._job, kind, arguments)
        self._changed()

    def _on_job_event(self, key: str, event: e.Event) -> None:
        if key != self._job:
            return
        error, view = failure(event), self._state.source
        if isinstance(event, e.Progressed):
            view.done, view.total = event.done, event.total
        elif isinstance(event, e.Finished):
            self._job = ""
            if "path" in event.result:
                view.busy, view.path = "", event.result["path"]
            else:
                load = partial(HubLook.load, Path(event.result["look"]))
                in_background(load, partial(self._looked, view), partial(self._failed, view))
        elif error is not None:
            self._job = ""
            self._failed(view, error)
        self._changed()

    def _looked(self, view: SourceView, found: HubLook) -> None:
        view.busy, view.look = "", found
        self._changed()

    def _failed(self, view: SourceView, error: StudioError) -> None:
        view.busy, view.error, view.hint = "", error.message, error.hint
        self._changed()

    # --- pasted ------------------------------------------------------------------------------------------------------

    def _judge(self, text: Any) -> None:
        """What this text is. The view is a new one, so that an answer that comes late is nobody's."""
        view = self._state.source = SourceView()
        in_background(
            partial(pasted.look, str(text), MOST_PASTED_ROWS), partial(self._judged, view), partial(self._failed, view)
        )

    def _judged(self, view: SourceView, found: pasted.Pasted) -> None:
        view.pasted = found
        self._changed()

    def _keep(self, text: Any) -> None:
        view = self._state.source
        view.busy = "keeping"

        def kept(path: Path) -> None:
            view.busy, view.path = "", str(path)
            self._changed()

        in_background(partial(pasted.keep, self._workspace, str(text)), kept, partial(self._failed, view))
