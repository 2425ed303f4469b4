"""Bases and adapters: imports, merges, exports and library work, each in the background, with its news for the pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from PySide6.QtCore import QObject, Signal

from studio import files
from studio.errors import AdapterError, StudioError
from studio.library import shelf
from studio.library.adapter import Adapter
from studio.library.promote import promote
from studio.models.bases import Base, list_bases
from studio.places import Workspace
from studio.recipe.presets import STARTER
from studio.runs import dataset_jobs
from studio.runs import events as e
from studio.runs.jobs import failure
from ui.bridge import in_background
from ui.state import AppState, JobView
from ui.training_thread import TrainingThread


class Shelving(QObject):
    """Answers the wishes about bases and adapters."""

    base_added = Signal(str)
    """Id of a base that has just been imported and listed; "" if an import failed."""
    milestone = Signal(str)
    """`export`: an adapter has been merged or exported."""

    def __init__(
        self, workspace: Workspace, state: AppState, thread: TrainingThread, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._thread = workspace, state, thread
        # Where each adapter lies that was thrown away since the window opened, by the name it had.
        self._trashed: dict[str, Path] = {}
        state.base_requested.connect(self._add_base)
        state.merge_requested.connect(self._merge)
        state.export_requested.connect(self._export)
        state.adapter_requested.connect(self._shelve)
        state.promote_requested.connect(self._promote)
        state.job_cancel_requested.connect(thread.cancel_job)
        thread.job_event.connect(self._on_job_event)

    def list_bases(self, then: Callable[[], None] = lambda: None) -> None:
        """Bring the list of bases up to date, then call `then`."""

        def listed(bases: list[Base]) -> None:
            self._state.bases = bases
            self._state.bases_changed.emit()
            then()

        in_background(partial(list_bases, self._workspace), listed, self._tell)

    def list_adapters(self, then: Callable[[], None] = lambda: None) -> None:
        """Bring the list of adapters up to date, then call `then`."""

        def listed(adapters: list[Adapter]) -> None:
            self._state.adapters = adapters
            self._state.adapters_changed.emit()
            then()

        in_background(partial(shelf.list_adapters, self._workspace), listed, self._tell)

    def _tell(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)

    # --- jobs ------------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, title: str) -> JobView:
        job = JobView(uuid4().hex, kind, title)
        self._state.jobs[job.key] = job
        self._state.job_changed.emit(job)
        return job

    def _over(self, job: JobView, result: dict[str, Any] | None = None, error: StudioError | None = None) -> None:
        job.is_over, job.result = True, result or {}
        if error is not None:
            job.error, job.hint = error.message, error.hint
        self._state.job_changed.emit(job)

    def _add_base(self, source: str) -> None:
        is_starter = source == STARTER
        title = self.tr("Adding the starter base") if is_starter else self.tr("Adding {0}").format(Path(source).name)
        if any(job.kind == "import" and job.title == title for job in self._state.live_jobs):
            return
        # The worker lives in another folder: what it is told must be a whole path.
        told = source if is_starter else str(Path(source).expanduser().absolute())
        job = self._begin("import", title)
        self._thread.start_job(job.key, "import", {"source": told, "name": None})

    def _merge(self, name: str, folder: str, dtype: str) -> None:
        adapter = self._state.adapter(name)
        if adapter is None:
            self._tell(StudioError(self.tr("There is no adapter called {0}.").format(name)))
            return

        def begin(base: Base) -> None:
            job = self._begin("merge", self.tr("Merging {0}").format(name))
            arguments: dict[str, object] = {
                "adapter": str(adapter.path),
                "base": str(base.path),
                "out": folder,
                "dtype": dtype,
            }
            self._thread.start_job(job.key, "merge", arguments)

        in_background(partial(_base_for_merge, self._workspace, adapter, Path(folder)), begin, self._tell)

    def _export(self, name: str, folder: str) -> None:
        adapter = self._state.adapter(name)
        if adapter is None:
            self._tell(StudioError(self.tr("There is no adapter called {0}.").format(name)))
            return
        job = self._begin("export", self.tr("Exporting {0}").format(name))

        def done(size: int) -> None:
            self._over(job, {"path": folder, "bytes": size})
            self._ended_well(job)

        def failed(error: StudioError) -> None:
            self._over(job, error=error)
            self._tell(error)

        in_background(partial(_copy_adapter, adapter.path, Path(folder)), done, failed)

    def _on_job_event(self, key: str, event: e.Event) -> None:
        job = self._state.jobs.get(key)
        if job is None or job.is_over or job.kind in dataset_jobs.KINDS:
            return
        error = failure(event)
        if isinstance(event, e.Progressed):
            job.what, job.done, job.total = event.what, event.done, event.total
            self._state.job_changed.emit(job)
        elif isinstance(event, e.Finished):
            self._over(job, event.result)
            self._ended_well(job)
        elif error is not None:
            self._ended_badly(job, event, error)

    def _ended_well(self, job: JobView) -> None:
        if job.kind == "import":
            self.list_bases(lambda: self.base_added.emit(str(job.result.get("id", ""))))
            return
        self.milestone.emit("export")
        words = self.tr("The merged model is in {0}.") if job.kind == "merge" else self.tr("The copy is in {0}.")
        size = files.readable_bytes(job.result.get("bytes", 0))
        self._state.noticed.emit("ok", words.format(f"{job.result.get('path', '')} ({size})"), "")

    def _ended_badly(self, job: JobView, event: e.Event, error: StudioError) -> None:
        if isinstance(event, e.Died) and event.signal == "SIGTERM":
            # Only we end a worker that way, and only because the user wished it.
            error = StudioError(self.tr("{0} was cancelled.").format(job.title))
            self._over(job, error=error)
            self._state.noticed.emit("info", error.message, self.tr("Nothing of it remains."))
        else:
            self._over(job, error=error)
            self._tell(error)
        if job.kind == "import":
            self.base_added.emit("")

    # --- the library -----------------------------------------------------------------------------------------------

    def _shelve(self, verb: str, name: str, value: str) -> None:
        if verb == "restore":
            # The trash may hold others of that name, from earlier days.
            value = str(self._trashed.pop(name, self._workspace.trash / name))
        act = partial(_VERBS[verb], self._workspace, name, value)
        in_background(act, partial(self._shelved, verb, name), self._tell)

    def _shelved(self, verb: str, name: str, now: str) -> None:
        state = self._state
        if verb == "check":
            kind = "bad" if now else "ok"
            sentence = self.tr("{0}: {1}").format(name, now) if now else self.tr("{0} is sound.").format(name)
            state.noticed.emit(kind, sentence, self.tr("Get it again, or train it again.") if now else "")
            return
        if verb == "remove":
            self._trashed[name] = Path(now)
            state.noticed.emit("info", self.tr("{0} is in the trash.").format(name), "")
        show = verb in ("import", "rename", "restore")
        self.list_adapters(lambda: state.adapter_selected.emit(now) if show else None)

    def _promote(self, run: str, step: int) -> None:
        """Make a checkpoint of a run an adapter of its own, and show it."""
        view = self._state.runs.get(run)
        if view is not None:
            in_background(partial(promote, self._workspace, view.folder, step), self._promoted, self._tell)

    def _promoted(self, adapter: Adapter) -> None:
        sentence = self.tr("The checkpoint is in your library as {0}.").format(adapter.name)
        self._state.noticed.emit("ok", sentence, self.tr("The run goes on as it was."))
        self.list_adapters()


def _base_for_merge(workspace: Workspace, adapter: Adapter, out: Path) -> Base:
    if out.exists():
        raise StudioError(f"{out} exists already.", "Choose a folder that does not exist yet.")
    base = shelf.base_for(workspace, adapter)
    why = shelf.fits(adapter, base)
    if why:
        raise AdapterError(why, f"Merge it into the base it was made for: {adapter.base or 'ask its maker'}.")
    return base


def _copy_adapter(source: Path, target: Path) -> int:
    """Copy the plain files of a PEFT folder; returns their bytes. Raises `StudioError` if `target` exists already."""
    found = [path for path in sorted(source.iterdir()) if path.is_file() and path.name != files.MANIFEST]
    size = sum(path.stat().st_size for path in found)
    with files.new_folder(target, needs_bytes=size) as building:
        for path in found:
            shutil.copyfile(path, building / path.name)
    return size


# Each takes workspace, name and value, and returns the adapter's name; `check` the first thing that is wrong, `remove` where
# the adapter lies now, which is the value that `restore` takes.
_VERBS: dict[str, Callable[[Workspace, str, str], str]] = {
    "rename": lambda place, name, value: shelf.rename(place, name, value).name,
    "tag": lambda place, name, value: shelf.tag(place, name, add=(value,)).name,
    "untag": lambda place, name, value: shelf.tag(place, name, remove=(value,)).name,
    "note": lambda place, name, value: shelf.set_note(place, name, value).name,
    "remove": lambda place, name, _: str(shelf.remove(place, name)),
    "restore": lambda place, name, value: shelf.restore(place, Path(value), name).name,
    "import": lambda place, name, value: shelf.import_adapter(place, Path(name), value or None).name,
    "check": lambda place, name, _: " ".join(shelf.check(shelf.find(place, name))[:1]),
}
