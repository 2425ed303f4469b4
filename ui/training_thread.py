"""The background training thread.

It owns the engine process that runs QLoRA, follows its event files and turns each event into a Qt signal. The work sits in
the process behind it, because a thread shares the interpreter's lock and the CUDA context with the window: a crash there would
be a crash here, and memory only comes back when a process ends.

All methods may be called from the window; they return at once and take effect on this thread.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from PySide6.QtCore import QObject, QThread, Signal

from studio.errors import EngineError, StudioError
from studio.memory.device import is_busy
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import refuse_changes
from studio.runs.engine import Engine, refuse_busy, running_engine, start_engine
from studio.runs.folder import RunFolder, list_runs
from studio.runs.jobs import Job, start_job
from studio.runs.lines import Mailbox
from studio.runs.processes import is_alive, kill, own_start, silence
from studio.runs.queue import take_out
from studio.runs.state import RunState
from studio.runs.sweep import sweep
from studio.runs.watchdog import LOOK_SECONDS, Silence, Watchdog

POLL_SECONDS = 0.05
RELEASE_SECONDS = 10.0
PORTION = 500  # events at once: some 20 ms of the window's time
_log = logging.getLogger(__name__)


@dataclass
class _Followed:
    """A run whose event file is being read, and the process that is at it; `pid` is None until one has begun. One that
    `is_to_go_on` waits for its engine to end, and for the next one. `untold` is what was read and not yet passed on,
    `silence` what was last said of one that says nothing. `is_ours` if it was our engine that was asked for it."""

    run: RunFolder
    mailbox: Mailbox[e.Event]
    device: str
    pid: int | None
    process_started: float
    is_to_go_on: bool = False
    watchdog: Watchdog = field(default_factory=Watchdog)
    silence: Silence | None = None
    untold: deque[e.Event] = field(default_factory=deque)
    is_ours: bool = False


class TrainingThread(QThread):
    """Owner of the engine; everything it learns leaves by a signal."""

    run_followed = Signal(object, object)
    """(RunFolder, RunState): from here on its events come as `run_event`; the state is all that came before, and is yours."""
    run_event = Signal(str, object)
    """(run id, Event): something happened in a run that is being followed."""
    engine_news = Signal(object)
    """Event: an answer, a loaded base."""
    engine_changed = Signal(str)
    """`off`, `starting`, `ready` or `gone` (it ended by itself)."""
    job_event = Signal(str, object)
    """(job id, Event): progress or end of an import or a merge."""
    run_watched = Signal(str, object)
    """(run id, Silence or None): a run that says nothing is slow, suspended or hangs; None when all is well again."""
    refused = Signal(str, object)
    """(what was wished, StudioError): it could not be done."""

    def __init__(self, workspace: Workspace, device: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._device = device
        self._tasks: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._followed: dict[str, _Followed] = {}
        self._jobs: dict[str, Job] = {}
        self._felt = 0.0

    # --- what the window asks for ----------------------------------------------------------------------------------

    def start_run(self, run: RunFolder) -> None:
        """Train a new run, or go on with one."""
        self._tasks.put(("train", lambda: self._start_run(run)))

    def follow(self, run: RunFolder, *, keep: bool = False) -> None:
        """Tell what happens in a run that somebody else has begun, or is about to (`keep`); else one that stands still is told
        once."""
        self._tasks.put(("follow", lambda: self._follow(run, keep=keep)))

    def wish(self, wish: w.Wish) -> None:
        """Pass a wish to the engine; one is started for a question or a fit test, and for nothing else."""
        self._tasks.put(("test" if isinstance(wish, w.TestFit) else "ask", lambda: self._post(wish)))

    def start_job(self, key: str, kind: str, arguments: dict[str, object]) -> None:
        """Begin an import or a merge; its events come as `job_event` with this key."""
        self._tasks.put((kind, lambda: self._start_job(key, kind, arguments)))

    def cancel_job(self, key: str) -> None:
        """End an import or a merge; nothing of it remains."""
        self._tasks.put(("cancel", lambda: self._jobs[key].cancel() if key in self._jobs else None))

    def force_stop(self, run_id: str) -> None:
        """End the engine that is at this run without asking it. The run can go on from its last checkpoint."""
        self._tasks.put(("force", lambda: self._force_stop(run_id)))

    def release(self) -> None:
        """End the engine and give its memory back; a run in progress is paused."""
        self._tasks.put(("release", self._release))

    def finish(self) -> None:
        """End this thread. The engine goes on with a run in progress, else ends by itself: nobody attends it any more."""
        self._tasks.put(None)
        self.wait()

    # --- on this thread --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what was asked, look at the files, rest a little; again."""
        self._find_again()
        while True:
            try:
                task = self._tasks.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self._look()
                continue
            if task is None:
                self._look()
                if self._engine is not None:
                    self._engine.let_go()
                return
            what, act = task
            try:
                act()
            except StudioError as error:
                self.refused.emit(what, error)
            except OSError as error:
                self.refused.emit(what, StudioError(f"That could not be done: {error}.", "Try again."))

    def _find_again(self) -> None:
        """An engine and runs that outlived the window before this one; what else it left is cleared away."""
        self._engine = running_engine(self._workspace, self._device)
        if self._engine is not None:
            pid, process_started = own_start()
            self._engine.post(w.Attend(pid=pid, process_started=process_started))
            # What it answered to the window before is no news.
            self._engine.news.read()
            self.engine_changed.emit("ready")
        for path in sweep(self._workspace):
            _log.info("left behind, removed: %s", path)
        for run in list_runs(self._workspace):
            if run.is_readable and run.bury().status.is_live:
                self._follow(run, keep=False)

    def _follow(self, run: RunFolder, *, keep: bool) -> None:
        """Fold the past, hand it over, and read on from there; without `keep` only while the run is live."""
        if run.id in self._followed:
            return
        mailbox = run.events
        past = mailbox.read()
        state = RunState.replay(past)
        if keep or state.status.is_live:
            followed = _Followed(run, mailbox, state.device, state.pid, state.process_started)
            for event in past:
                followed.watchdog.hear(event)
            self._followed[run.id] = followed
        # From here on the state belongs to whoever hears this: nobody changes it on this thread.
        self.run_followed.emit(run, state)

    def _ensure_engine(self) -> Engine:
        if self._engine is None or not self._engine.is_alive:
            self.engine_changed.emit("starting")
            try:
                self._engine = start_engine(self._workspace, self._device)
            except StudioError:
                self.engine_changed.emit("off")
                raise
            self.engine_changed.emit("ready")
        return self._engine

    def _start_run(self, run: RunFolder) -> None:
        refuse_changes(self._workspace, run)
        engine = self._ensure_engine()
        refuse_busy(engine, self._workspace)
        take_out(self._workspace, run)
        self._follow(run, keep=True)
        self._followed[run.id].is_ours = True
        engine.post(w.Train(folder=str(run.path)))

    def _post(self, wish: w.Wish) -> None:
        if isinstance(wish, w.Say | w.TestFit):
            self._ensure_engine().post(wish)
            return
        followed = self._followed.get(str(getattr(wish, "run", "")))
        engine = self._engine
        if followed is not None and (engine is None or followed.device not in ("", self._device)):
            # Begun elsewhere, by a command for instance: its own engine must hear this.
            engine = running_engine(self._workspace, followed.device or self._device)
        if engine is not None:
            engine.post(wish)

    def _start_job(self, key: str, kind: str, arguments: dict[str, object]) -> None:
        try:
            self._jobs[key] = start_job(self._workspace, kind, arguments)
        except StudioError as error:
            self.job_event.emit(key, e.Failed(kind=error.kind, message=error.message, hint=error.hint))

    def _force_stop(self, run_id: str) -> None:
        followed = self._followed.get(run_id)
        if followed is None or followed.pid is None:
            return
        if not kill(followed.pid, followed.process_started) and is_alive(followed.pid, followed.process_started):
            raise EngineError("The engine could not be ended: it belongs to somebody else.", "Ask its owner to end it.")
        self._felt = 0.0  # its last word is given at once

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.post(w.Release())
            self._engine.wait(RELEASE_SECONDS)
            self._look()

    def _look(self) -> None:
        """Read what has come; give a last word to what ended without one."""
        engine = self._engine
        # Looked at before reading: what was written before its end must not be missed.
        gone = engine is not None and not engine.is_alive
        if engine is not None:
            for event in engine.news.read():
                self.engine_news.emit(event)
        feel = time.monotonic() - self._felt > LOOK_SECONDS
        for followed in list(self._followed.values()):
            if feel:
                self._feel_pulse(followed)
            self._read_run(followed, engine if gone else None)
        if feel:
            self._watch()
            self._felt = time.monotonic()
        for key, job in list(self._jobs.items()):
            for event in job.read():
                self.job_event.emit(key, event)
                if isinstance(event, e.ENDINGS):
                    self._jobs.pop(key, None)
        if gone:
            self._engine = None
            self.engine_changed.emit("gone")
            self._go_on()

    def _go_on(self) -> None:
        """Have a new engine take up what the one that has ended left for it."""
        for followed in self._followed.values():
            if followed.is_to_go_on:
                followed.is_to_go_on = False
                try:
                    self._ensure_engine().post(w.Train(folder=str(followed.run.path)))
                except StudioError as error:
                    self.refused.emit("train", error)

    def _tell(self, followed: _Followed) -> None:
        """Pass on what has happened, a window's portion at a time: it draws and answers between two of them."""
        for _ in range(min(PORTION, len(followed.untold))):
            event = followed.untold.popleft()
            self.run_event.emit(followed.run.id, event)
            if isinstance(event, e.ENDINGS):
                self._followed.pop(followed.run.id, None)

    def _feel_pulse(self, followed: _Followed) -> None:
        """Give a run of somebody else's engine its last word, if that engine is gone without one."""
        engine = self._engine
        ours = engine is not None and engine.pid == followed.pid
        if followed.pid is not None and not ours and not is_alive(followed.pid, followed.process_started):
            followed.run.bury()

    def _watch(self) -> None:
        """Judge the silence of each run, and tell when there is something else to say of it."""
        for followed in self._followed.values():
            busy = partial(is_busy, followed.device)
            found = silence(followed.watchdog, followed.pid, followed.process_started, busy)
            if found != followed.silence:
                followed.silence = found
                self.run_watched.emit(followed.run.id, found)

    def _read_run(self, followed: _Followed, gone: Engine | None) -> None:
        """Pass on what has happened; `gone` is our engine, if it has just ended."""
        run_id = followed.run.id
        events = followed.mailbox.read()
        if gone is not None and not any(isinstance(event, e.ENDINGS) for event in events):
            followed.run.bury(gone.exit_code, gone.end_signal)
            events += followed.mailbox.read()
        for event in events:
            followed.watchdog.hear(event)
            if isinstance(event, e.Started):
                followed.device, followed.pid = event.device, event.pid
                followed.process_started = event.process_started
            if isinstance(event, e.MicroBatchHalved):
                # An engine of somebody else's is followed by whoever started it.
                followed.is_to_go_on = self._engine is not None and self._engine.pid == followed.pid
        followed.untold.extend(events)
        self._tell(followed)
        if gone is not None and followed.is_ours and followed.pid is None and run_id in self._followed:
            del self._followed[run_id]
            log = gone.session / "log.txt"
            error = EngineError(f"The engine ended before it began {followed.run.name}.", f"Its log says why: {log}")
            self.refused.emit("train", error)
