"""What is written of datasets while one looks at them: exports and merges, and the mends that the window must not cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from PySide6.QtCore import QObject

from studio.data.mixing import Weighed
from studio.runs import events as e
from studio.runs.jobs import failure
from ui.dataset_view import DatasetView, Export
from ui.state import AppState, JobView
from ui.training_thread import TrainingThread


class Exporting(QObject):
    """Each piece of writing is one of the state's tasks, so that the window asks before it closes."""

    def __init__(self, state: AppState, thread: TrainingThread, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state, self._thread = state, thread
        self._exports: dict[str, Export] = {}
        self._watched: set[str] = set()
        self._weighed: dict[str, tuple[DatasetView, str]] = {}
        thread.job_event.connect(self._on_job_event)

    def watch(self, key: str, kind: str, title: str) -> None:
        """The job of this key writes something that is not to be cut short unasked."""
        self._watched.add(key)
        self._state.jobs[key] = JobView(key, kind, title)
        self._state.job_changed.emit(self._state.jobs[key])

    def export(self, view: DatasetView, source: Path, wanted: Export) -> None:
        """Write the rows of `source`, which is a version of the dataset, and those of other sets."""
        paths = [str(source), *wanted.others]
        told: dict[str, object] = {
            "out": wanted.out,
            "name": wanted.name,
            "paths": paths,
            "weights": list(wanted.weights) or [1.0] * len(paths),
            "seed": wanted.seed,
            "mapping": vars(view.mapping) if view.mapping else None,
        }
        key = uuid4().hex
        self._exports[key] = wanted
        title = self.tr("Writing {0}").format(Path(wanted.out).name if wanted.out else wanted.name)
        self.watch(key, "export-rows", title)
        self._thread.start_job(key, "export-rows", told)

    def weigh(self, view: DatasetView, path: Any) -> None:
        """Find out what is in another set."""
        if not isinstance(view.weighed.get(path), Weighed):
            key = uuid4().hex
            view.weighed[path] = None
            self._weighed[key] = view, path
            self._thread.start_job(key, "weigh", {"data": path})

    def close(self) -> None:
        """Nobody will look at the answers any more."""
        for key in (*self._weighed, *self._exports):
            self._thread.cancel_job(key)

    def _on_job_event(self, key: str, event: e.Event) -> None:
        is_over = isinstance(event, e.ENDINGS)
        if key in self._watched:
            self._follow(self._state.jobs[key], event, is_over=is_over)
        if key in self._weighed and is_over:
            view, path = self._weighed.pop(key)
            view.weighed[path] = failure(event) or _weighed(event)
            self._state.dataset_changed.emit()
        if key in self._exports and is_over:
            self._exported(self._exports.pop(key), event)

    def _follow(self, job: JobView, event: e.Event, *, is_over: bool) -> None:
        if isinstance(event, e.Progressed):
            job.what, job.done, job.total = event.what, event.done, event.total
        if is_over:
            self._watched.discard(job.key)
            job.is_over = True
        self._state.job_changed.emit(job)

    def _exported(self, wanted: Export, event: e.Event) -> None:
        error = failure(event)
        if isinstance(event, e.Died) and event.signal == "SIGTERM":
            self._state.noticed.emit("info", self.tr("Nothing was written."), self.tr("You have cancelled it."))
        elif error is not None:
            self._state.noticed.emit("bad", error.message, error.hint)
        elif isinstance(event, e.Finished):
            told = event.result
            words = self.tr("{0} rows are now in {1}.").format(f"{told['num_rows']:,}", told["path"])
            left_out = told["num_left_out"]
            hint = self.tr("{0} could not be used and were left out.").format(left_out) if left_out else ""
            self._state.noticed.emit("ok", words, hint)
            if not wanted.out:
                self._state.dataset_requested.emit("open", told["path"])


def _weighed(event: e.Event) -> Weighed:
    assert isinstance(event, e.Finished)
    return Weighed(*(event.result[name] for name in ("num_rows", "num_good", "num_characters")))
