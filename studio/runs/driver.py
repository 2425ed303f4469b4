"""Who works through the queue: a process of its own, `python -m studio.runs.driver`, that no window takes along when it dies.

It needs neither a window nor torch. It takes the first run off the list, has the engine of that run's device do it, follows the
run's events to their end, writes down how it ended, and takes the next. An operating-system lock that ends with its holder
keeps it single. What it knows lies in the queue's file: killed at any instant, it leaves a run in an engine that works on and a
list that says so, and the next driver follows that run from there. When nothing waits any more, or the user wishes no more to
be begun, it ends.

The card belongs to whoever is at it: a run begun by hand, from a window or by a command, is waited for. No two runs can share
it, whatever anybody does: an engine holds its device by a lease, and does one run after the other.

An ending of one run is no reason not to do the next, with four exceptions, after each of which the next one would only end
likewise, or take what the user has just asked for: the disk is full; the card is lost; no engine comes up, or three have died
running; and a pause, for who pauses a run wants the card. Then the queue halts and says why. What was not at fault goes
back to the head of the list.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from studio import files
from studio.errors import BusyError, DivergedError, EngineError, StudioError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.awake import kept_awake
from studio.runs.create import changed_inputs, explain
from studio.runs.endings import Ending, leaves_no_card
from studio.runs.engine import EXIT_BUSY, Engine, busy_with, running_engine, spawn_python, start_engine
from studio.runs.folder import RunFolder
from studio.runs.follower import POLL_SECONDS, Follower
from studio.runs.processes import own_start
from studio.runs.queue import Done, Turn, begin_report, changing, read_queue
from studio.runs.report import write_report
from studio.runs.state import RunState, Status

LET_SLEEP = "--let-sleep"
START_SECONDS = 60.0
RELEASE_SECONDS = 30.0
NEW_SECONDS = 5.0
# A run that takes the computer down with it must not do so each time that somebody starts the queue again.
MOST_TAKES = 3
MOST_DEATHS = 3
_DIVERGED = DivergedError("").kind
_log = logging.getLogger(__name__)
_left_running: list[subprocess.Popen[bytes]] = []


def start(workspace: Workspace, let_sleep: bool = False) -> None:
    """Have the queue worked through, by the driver that is at it or by a new one; returns once there is one.

    With `let_sleep` a new one does not keep the computer from falling asleep.

    Raises `StudioError` if nothing waits, `EngineError` if no driver comes up.
    """
    with changing(workspace) as queue:
        if not queue.waiting and queue.turn is None:
            raise StudioError("No run waits for its turn.", "`overlay queue add RECIPE` adds one.")
        begin_report(queue)
        is_driven = queue.is_driven
    if not is_driven:
        log = workspace.queue / "log.txt"
        process = spawn_python(["studio.runs.driver", *([LET_SLEEP] if let_sleep else [])], log, workspace)
        _left_running.append(process)
        _await_driver(workspace, process)


def _await_driver(workspace: Workspace, process: subprocess.Popen[bytes]) -> None:
    deadline, pause = time.monotonic() + START_SECONDS, threading.Event()
    while time.monotonic() < deadline:
        code = process.poll()
        # A short queue may be done, and its driver gone, before anybody has looked.
        if code in (0, EXIT_BUSY) or read_queue(workspace).is_driven:
            return
        if code is not None:
            break
        pause.wait(0.02)
    process.kill()
    process.wait()
    raise EngineError(
        f"The queue could not be started (exit code {process.returncode}).",
        f"Its log says why: {workspace.queue / 'log.txt'}",
    )


class Driver:
    """One driver at work, from its first look at the list to its end."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pause = threading.Event()
        self._engine: Engine | None = None
        self._num_deaths = 0

    def work(self) -> None:
        """Do one run after the other."""
        with changing(self._workspace) as queue:
            queue.driver = own_start()
        while (turn := self._next()) is not None:
            self._record(turn, *self._do(turn))
        self._let_go()

    # --- turns -------------------------------------------------------------------------------------------------------

    def _next(self) -> Turn | None:
        """What the driver before this one was at, else the next one as soon as its device is free. None, and no driver any
        more, if there is none."""
        while True:
            head = next(iter(read_queue(self._workspace).waiting), "")
            engine = running_engine(self._workspace, _device(self._run(head))) if head else None
            tasks = self._tasks(engine) if engine is not None else []
            busy = next((run for run in tasks if run.id != head), None)
            with changing(self._workspace) as queue:
                if queue.turn is not None:
                    return queue.turn
                if not queue.is_started or not queue.waiting:
                    queue.is_started, queue.driver = False, None
                    return None
                if queue.waiting[0] == head and busy is None:
                    queue.turn = Turn(queue.waiting.pop(0), time.time())
                    return queue.turn
            if busy is not None and engine is not None:
                self._await(busy, engine, lambda head=head: self._is_next(head))  # type: ignore[misc]

    def _run(self, run_id: str) -> RunFolder:
        return RunFolder(self._workspace.runs / run_id)

    def _is_next(self, head: str) -> bool:
        queue = read_queue(self._workspace)
        return queue.is_started and queue.waiting[:1] == [head]

    def _tasks(self, engine: Engine) -> list[RunFolder]:
        """The runs that `engine` is at, or has been asked for and not yet begun."""
        found = []
        for wish in w.wish_file(engine.session / "wishes.jsonl").read():
            if isinstance(wish, w.Train):
                run = RunFolder(Path(wish.folder))
                begun = any(isinstance(event, e.Started) and event.pid == engine.pid for event in run.events.read())
                found += [] if begun or not run.path.exists() else [run]
        busy = busy_with(engine, self._workspace)
        return [*([self._run(busy)] if busy is not None else []), *found]

    def _await(self, busy: RunFolder, engine: Engine, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Wait until `engine` has done with `busy`, as long as that is wanted."""
        _log.info("waiting for the end of %s", busy.id)
        news, state, begun = busy.events, RunState(), False
        while engine.is_alive and is_wanted():
            for event in news.read():
                state.advance(event)
                begun |= isinstance(event, e.Started) and event.pid == engine.pid
            if begun and not state.status.is_live:
                return
            self._pause.wait(POLL_SECONDS)
        busy.bury()  # its engine may have gone without a last word

    def _do(self, turn: Turn) -> tuple[RunState, Ending | None]:
        """See the run to its end; returns its state, and why the queue cannot go on, if that is so."""
        run = self._run(turn.run)
        state = run.bury()
        is_over = state.ended is not None and state.ended >= turn.took_up and not state.status.is_live
        if is_over and (state.status is not Status.INTERRUPTED or turn.takes >= MOST_TAKES):
            return state, None
        if is_over:
            with changing(self._workspace) as queue:
                queue.turn = turn = replace(turn, takes=turn.takes + 1)
        if state.status is Status.WAITING and not self._pin_down(run):
            return run.state(), None
        try:
            return self._see_through(run, turn, state), None
        except (EngineError, BusyError) as error:
            return run.bury(), Ending(error.message, error.hint)

    def _pin_down(self, run: RunFolder) -> bool:
        """A run that has not begun is no experiment yet: what changed while it waited is taken as it is now, and told.

        False if it cannot be begun at all; the run then says why.
        """
        try:
            changed, job = changed_inputs(self._workspace, run)
        except StudioError as error:
            kind, message, hint = explain(error)
            run.events.post(e.Failed(kind=kind, message=message, hint=hint))
            return False
        if changed:
            files.write_json(run.path / "job.json", job)
            said = f"The {' and the '.join(changed)} changed while this run waited: it is trained as they are now."
            run.events.post(e.Warned(message=said))
        return True

    def _see_through(self, run: RunFolder, turn: Turn, state: RunState) -> RunState:
        """Follow the run through as many engines as it takes. Raises `EngineError` if one does not take it up, `BusyError` if the
        card is held from another workspace."""
        while True:
            is_live = state.status.is_live
            engine, is_asked = self._engine_of(state.device if is_live else _device(run), run)
            follower = Follower(self._workspace, run, turn, engine, self._pause)
            if is_live and not (state := run.bury()).status.is_live:
                return state  # it has ended while we looked for its engine
            if not is_asked:
                engine.post(w.Train(folder=str(run.path)))
            state = follower.follow()
            if isinstance(follower.last, e.MicroBatchHalved):
                engine.wait(RELEASE_SECONDS)  # its memory is free only then, for the next one to go on with
                continue
            if state.status is Status.PAUSED and engine.is_alive:
                engine.post(w.Release())  # a pause gives the card back, and with it the base that lies there
            return state

    def _engine_of(self, device: str, run: RunFolder) -> tuple[Engine, bool]:
        """The engine of `device` for `run`, and whether it has been asked for it already: then whoever's it is, else our own.

        Whoever starts an engine may end it: a command does when it has its answer, and a run that we had begun there would
        be paused by that. So one that is somebody else's is waited for while it is at a run, and sent home when it is not.
        """
        if self._engine is not None and self._engine.device == device and self._engine.is_alive:
            return self._engine, any(task.id == run.id for task in self._tasks(self._engine))
        self._let_go()
        while True:
            other = running_engine(self._workspace, device)
            if other is None:
                engine = start_engine(self._workspace, device)
                if engine.process is not None:
                    self._engine = engine
                    return engine, False
                continue  # somebody was quicker
            tasks = self._tasks(other)
            if any(task.id == run.id for task in tasks):
                return start_engine(self._workspace, device), True  # attended by us from now on
            if tasks:
                self._await(tasks[0], other)
            elif _is_new(other):
                self._pause.wait(POLL_SECONDS)  # whoever has started it is about to say what for
            elif other.is_alive:
                other.post(w.Release())
                if not other.wait(RELEASE_SECONDS):
                    raise EngineError(f"The engine that holds {device} does not end.", f"End the process {other.pid}.")

    def _let_go(self) -> None:
        """An engine that nobody attends ends by itself; one that a window attends stays with its base."""
        if self._engine is not None and self._engine.is_alive:
            self._engine.let_go()
        self._engine = None

    # --- endings ----------------------------------------------------------------------------------------------------

    def _record(self, turn: Turn, state: RunState, trouble: Ending | None) -> None:
        """Write down how the turn ended, and halt the queue if the next one would fare no better."""
        self._num_deaths = self._num_deaths + 1 if state.status is Status.INTERRUPTED else 0
        with changing(self._workspace) as queue:
            last = queue.turn or turn
            halt, comes_back = self._reason_to_halt(state, trouble)
            done = _done(last, state, _last_failure(self._run(turn.run)))
            queue.turn = None
            if trouble is None:
                queue.done.append(done)
                queue.is_seen = False
            if comes_back:
                queue.waiting.insert(0, turn.run)
            if halt is not None:
                queue.is_started, queue.halt = False, (halt.message, halt.hint)
        _log.info("%s: %s %s", turn.run, done.ending, done.message)
        # The report is a convenience: a full disk must not keep the queue from saying that the disk is full.
        with contextlib.suppress(StudioError, OSError):
            write_report(self._workspace, read_queue(self._workspace))

    def _reason_to_halt(self, state: RunState, trouble: Ending | None) -> tuple[Ending | None, bool]:
        """Why the queue is not to go on (None: it is), and whether the run is to be the next one when it does."""
        ending = state.ending or Ending("")
        if trouble is not None:
            return trouble, state.status is not Status.FINISHED
        if state.status is Status.PAUSED and ending.cause:
            return Ending(ending.cause, "Make room, then start the queue: it goes on with the run that paused."), True
        if state.status is Status.PAUSED:
            return Ending("A run was paused, which leaves the card to you.", "Start the queue for the next one."), False
        if leaves_no_card(ending):
            return ending, True
        if self._num_deaths >= MOST_DEATHS:
            words = f"{MOST_DEATHS} engines in a row have died: {ending.message}"
            return Ending(words, "Look at what they have in common before you start the queue again."), False
        return None, False


def _is_new(engine: Engine) -> bool:
    """Whether it has come up within the last seconds, so that its first task may be on its way."""
    ready = [
        event.time for event in e.event_file(engine.session / "events.jsonl").read() if isinstance(event, e.EngineReady)
    ]
    return engine.is_alive and bool(ready) and time.time() - ready[-1] < NEW_SECONDS


def _device(run: RunFolder) -> str:
    """Where the run is to be done; a damaged job is found out when it is begun."""
    return str(run.job.get("device", "cpu")) if run.is_readable else "cpu"


def _last_failure(run: RunFolder) -> e.Failed | None:
    words = [event for event in run.events.read() if isinstance(event, e.LAST_WORDS)]
    return words[-1] if words and isinstance(words[-1], e.Failed) else None


def _done(turn: Turn, state: RunState, failed: e.Failed | None) -> Done:
    told = state.ending or Ending("")
    ending, message, hint = str(state.status), told.message, told.hint
    if failed is not None and failed.kind == _DIVERGED:
        ending = "diverged"
    elif turn.diverged and state.status is Status.STOPPED:
        ending, message, hint = "diverged", turn.diverged, told.hint
    ended = state.ended if state.ended is not None else time.time()
    return Done(turn.run, ending, turn.took_up, ended, message, hint)


def main(arguments: Sequence[str] = ()) -> int:
    """Work through the queue of the workspace, awake unless told otherwise; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    workspace = Workspace.default()
    workspace.queue.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.queue / "driver.lock")
    try:
        # Who has just found nothing more to do may still hold it for a moment.
        lock.acquire(timeout=RELEASE_SECONDS)
    except Timeout:
        return EXIT_BUSY
    with lock, contextlib.nullcontext() if LET_SLEEP in arguments else kept_awake():
        Driver(workspace).work()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
