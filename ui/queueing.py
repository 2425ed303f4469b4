"""The queue of runs: from the wishes of the pages to its file, and from the file, which others change too, back to the pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtCore import QObject

from studio.errors import DamagedError, StudioError
from studio.memory.waiting import Card, Need
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs import driver
from studio.runs import queue as q
from studio.runs.create import read_job
from studio.runs.engine import running_engine
from studio.runs.folder import RunFolder
from studio.runs.report import Report, write_report
from studio.runs.state import Status
from ui.bridge import every, in_background
from ui.queue_view import QueueEntry, QueueView
from ui.state import AppState
from ui.training_thread import TrainingThread

LOOK_MS = 1000
# What tells whether the file, or who works through it, has changed.
Stamp = tuple[int, int, bool]


class Queueing(QObject):
    """Answers `queue_requested`; tells by `state.queue`. The process that works through the queue is no part of the window."""

    def __init__(
        self,
        workspace: Workspace,
        state: AppState,
        thread: TrainingThread,
        device: str,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._thread, self._device = workspace, state, thread, device
        self._opened = time.time()
        self._stamp: Stamp = (0, 0, False)
        self._is_looking = False
        state.queue_requested.connect(self._wished)
        self._timer = every(self, LOOK_MS, self.look)

    def close(self) -> None:
        """Look no more. The queue goes on."""
        self._timer.stop()

    # --- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read the file if it was changed; one look at a time."""
        if not self._is_looking and self._state.is_gathered:
            self._is_looking = True
            look = partial(_look, self._workspace, self._stamp, self._opened)
            in_background(look, self._seen, self._not_seen)

    def _not_seen(self, error: StudioError) -> None:
        self._is_looking = False
        if self._timer.isActive():
            self._timer.stop()  # said once; a wish that succeeds begins to look again
            self._tell(error)

    def _seen(self, found: tuple[Stamp, QueueView] | None) -> None:
        self._is_looking = False
        if found is None:
            return
        state, before = self._state, self._state.queue
        self._stamp, state.queue = found
        if state.queue.current and state.queue.current != before.current:
            self._thread.follow(RunFolder(self._workspace.runs / state.queue.current), keep=True)
        if state.edited_run and state.queue.entry(state.edited_run) is None:
            self._let_go_of_edit()
        if state.queue.halt != before.halt and state.queue.halt[0]:
            sentence = self.tr("The queue stopped. {0}").format(state.queue.halt[0])
            state.noticed.emit("warn", sentence, state.queue.halt[1])
        state.queue_changed.emit()

    def _let_go_of_edit(self) -> None:
        """The run being edited waits no more: the recipe on the page is a draft like any other."""
        state = self._state
        state.edited_run = ""
        state.noticed.emit("info", self.tr("The run being edited waits no more."), self.tr("Its recipe stays here."))
        state.recipe_changed.emit()

    # --- wishes ------------------------------------------------------------------------------------------------------

    def _wished(self, verb: str, run_id: str, value: object) -> None:
        run = RunFolder(self._workspace.runs / run_id)
        place, recipe, let_sleep = self._workspace, self._state.recipe, not self._state.keep_awake
        acts: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
            "add": (partial(_add_and_start, place, recipe, self._device, let_sleep), self._added),
            "edit": (partial(_recipe_of, run), partial(self._edit, run_id)),
            "save": (partial(q.edit, place, run, recipe), self._saved),
            "move": (partial(q.move, place, run, int(str(value or 1))), self._done),
            "remove": (partial(q.remove, place, run), self._done),
            "start": (partial(driver.start, place, let_sleep), self._done),
            "stop": (partial(q.hold, place), self._done),
            "seen": (partial(q.mark_seen, place), self._done),
            "report": (partial(_report, place), self._state.folder_requested.emit),
        }
        if verb == "cancel":
            self._state.edited_run = ""
            self._state.recipe_changed.emit()
            return
        act, then = acts[verb]
        in_background(act, then, self._tell)

    def _done(self, _: object) -> None:
        if not self._timer.isActive():
            self._timer.start()
        self.look()

    def _added(self, run: RunFolder) -> None:
        live = self._state.live_run
        hint = self.tr("It begins when {0} has ended.").format(live.folder.name) if live is not None else ""
        self._state.noticed.emit("ok", self.tr("{0} waits for its turn.").format(run.name), hint)
        self._thread.follow(run)
        self._done(run)

    def _edit(self, run_id: str, recipe: Recipe) -> None:
        state = self._state
        state.edited_run = run_id
        state.recipe_edited.emit(recipe)
        state.page_requested.emit("train")

    def _saved(self, run: RunFolder) -> None:
        state = self._state
        state.edited_run = ""
        self._thread.follow(run)  # its name and its recipe are others now
        state.recipe_changed.emit()
        state.noticed.emit("ok", self.tr("{0} waits with its new recipe.").format(run.name), "")
        state.page_requested.emit("runs")
        self._done(run)

    def _tell(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)


# --- on a worker thread ----------------------------------------------------------------------------------------------


def _add_and_start(workspace: Workspace, recipe: Recipe, device: str, let_sleep: bool) -> RunFolder:
    """Who adds a run while another is at work wants it to begin after that one."""
    run = q.add(workspace, recipe, device=device)
    assert run.job, "read here, so that the window need not"
    driver.start(workspace, let_sleep)
    return run


def _report(workspace: Workspace) -> str:
    """Write the report as it is now; returns where it lies."""
    return str(write_report(workspace, q.read_queue(workspace)))


def _recipe_of(run: RunFolder) -> Recipe:
    """The run's recipe, with its dataset where the run found it. Raises `DamagedError`."""
    job = read_job(run)
    return replaced(job.recipe, "data.path", str(job.data))


def _look(workspace: Workspace, before: Stamp, opened: float) -> tuple[Stamp, QueueView] | None:
    """The queue now, and what tells the next change; None if nothing has changed since `before`."""
    try:
        status = q.queue_file(workspace).stat()
    except FileNotFoundError:
        return None
    queue = q.read_queue(workspace)
    stamp = (status.st_mtime_ns, status.st_size, queue.is_driven)
    if stamp == before:
        return None
    lines = () if queue.is_seen else Report.of(workspace, queue).lines
    view = QueueView(
        entries=tuple(_entries(workspace, queue.waiting)),
        current=queue.turn.run if queue.turn else "",
        is_driven=queue.is_driven,
        is_started=queue.is_started,
        halt=queue.halt,
        lines=lines,
        is_away=bool(lines) and all(done.ended < opened for done in queue.done),
    )
    return stamp, view


def _entries(workspace: Workspace, waiting: list[str]) -> list[QueueEntry]:
    engine = running_engine(workspace, "cuda-0")
    card = Card.here(workspace, {engine.pid} if engine else ()) if waiting else None
    return [_entry(RunFolder(workspace.runs / run), card) for run in waiting]


def _entry(run: RunFolder, card: Card | None) -> QueueEntry:
    try:
        job = read_job(run)
    except DamagedError:
        return QueueEntry(run.id, run.id, "", "")
    need = card.need(job.base, job.recipe) if card and job.device != "cpu" else Need()
    begun = run.state().status is not Status.WAITING
    return QueueEntry(run.id, run.name, job.recipe.base.id, job.data.name, need.bytes, need.verdict, begun)
