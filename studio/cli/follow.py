"""Follow what another process does, event by event, until its last word; and let Ctrl-C mean what the user means by it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

from studio.cli.output import Output, ProgressBar
from studio.errors import DiskFullError, DivergedError, EngineError, StudioError
from studio.files import readable_bytes, readable_seconds
from studio.memory.device import is_busy
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.again import RATE, calmer_rate, recipe_of
from studio.runs.engine import Engine, start_engine
from studio.runs.folder import RunFolder
from studio.runs.jobs import Job, failure
from studio.runs.lines import Mailbox
from studio.runs.processes import silence
from studio.runs.state import RunState
from studio.runs.watchdog import LOOK_SECONDS, Pace, Watchdog

POLL_SECONDS = 0.05
RELEASE_SECONDS = 30.0
EXIT_SECONDS = 10.0
_PHASES = {"loading": "Loading the base", "tokenising": "Preparing the data", "saving": "Saving the adapter"}


class InternalError(StudioError):
    """A failure inside the engine that nobody foresaw: our fault, not the user's."""


class Interrupts:
    """Counts Ctrl-C instead of breaking off, so that no event is lost half-read. The second one breaks off."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


@contextlib.contextmanager
def engine_for(workspace: Workspace, device: str) -> Iterator[Engine]:
    """The engine of `device` for as long as the block lasts; it is sent home after it if this command started it."""
    with sent_home(start_engine(workspace, device)) as engine:
        yield engine


@contextlib.contextmanager
def sent_home(engine: Engine) -> Iterator[Engine]:
    """This engine for as long as the block lasts; if it is ours, it is to end after it."""
    try:
        yield engine
    finally:
        if engine.process is not None and engine.is_alive:
            engine.post(w.Release())
            engine.wait(RELEASE_SECONDS)


# --- runs ----------------------------------------------------------------------------------------------------------


def follow_run(
    run: RunFolder, events: Mailbox[e.Event], engine: Engine, output: Output, show: Callable[[e.Event], None]
) -> e.Event:
    """Hand each new event to `show` until the run ends, or its process with `MicroBatchHalved`; returns the last event. Ctrl-C
    stops the run and saves it.

    Raises what `raise_failure` raises if the run failed or its engine died.
    """
    asked, watch = False, Watch(run.state(), output)

    def take(event: e.Event) -> None:
        watch.hear(event)
        show(event)

    with Interrupts() as interrupts:
        while True:
            # Looked at before reading: what the engine wrote before its end must not be missed.
            alive = engine.is_alive
            ending = _show_all(events, take)
            watch.look()
            if ending is None and not alive:
                ending = _bury(run, events, engine, show)
            if ending is not None:
                raise_failure(ending, run)
                return ending
            if interrupts.count and not asked:
                asked = True
                engine.post(w.Stop(run=run.id, save=True))
                output.say("Stopping, and saving the last whole step. Press Ctrl-C again to leave at once.")
            threading.Event().wait(POLL_SECONDS)


class Watch:
    """Says once what a run's silence seems to mean, and again only if it means something else."""

    def __init__(self, state: RunState, output: Output) -> None:
        self._state, self._output = state, output
        self._dog, self._looked = Watchdog(), 0.0
        self._said: Pace | None = None

    def hear(self, event: e.Event) -> None:
        """Something has happened in the run."""
        self._state.advance(event)
        self._dog.hear(event)

    def look(self) -> None:
        """Look every few seconds."""
        state = self._state
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        pid = state.pid if state.status.is_live else None
        found = silence(self._dog, pid, state.process_started, partial(is_busy, state.device))
        if found is not None and found.pace is not self._said:
            self._output.say(f"Note: {found.message} {found.hint}")
        self._said = found.pace if found else None


def raise_failure(ending: e.Event, run: RunFolder) -> None:
    """Raise the error that the last event of a run stands for; nothing if it ended well."""
    if isinstance(ending, e.Died):
        told = run.state().ending
        assert told is not None
        raise EngineError(told.message, f"{told.hint} The log: {run.log}")
    if isinstance(ending, e.Paused) and ending.cause:
        told = run.state().ending
        assert told is not None
        raise DiskFullError(told.message, told.hint, folder=ending.folder, needs_bytes=ending.needs_bytes)
    if isinstance(ending, e.Failed) and ending.kind == DivergedError("").kind:
        rate = calmer_rate(recipe_of(run).training.learning_rate)
        command = f"`overlay train --from {run.id} --set {RATE}={rate}` starts again with it."
        raise DivergedError(ending.message, f"{ending.hint} {command}")
    _raise_failed(ending)


def _show_all(events: Mailbox[e.Event], show: Callable[[e.Event], None]) -> e.Event | None:
    for event in events.read():
        show(event)
        if isinstance(event, e.LAST_WORDS):
            return event
    return None


def _bury(run: RunFolder, events: Mailbox[e.Event], engine: Engine, show: Callable[[e.Event], None]) -> e.Event:
    run.bury(engine.exit_code, engine.end_signal)
    ending = _show_all(events, show)
    if ending is None:
        raise EngineError(
            f"The engine ended before it took up {run.id}.",
            f"`overlay resume {run.id}` begins it. The engine's log: {engine.session / 'log.txt'}",
        )
    return ending


class RunReporter:
    """Tells people how a run goes: sentences for what happens once, the bar for what happens at each step."""

    def __init__(self, output: Output, state: RunState | None = None) -> None:
        self._output = output
        self._state = state or RunState()
        output.bar.begin()

    def __call__(self, event: e.Event) -> None:
        """Take one event in."""
        self._state.advance(event)
        say = self._output.say
        match event:
            case e.PhaseEntered(name=name, detail=detail) if name in _PHASES:
                say(f"{_PHASES[name]}{f' {detail}' if detail else ''} ...")
            case e.Estimated(is_auto=True):
                say(_layers_text(event))
            case e.Prepared():
                say(
                    f"{event.num_rows} rows to learn from, {event.num_held_out} held out; {event.num_steps} steps; "
                    f"{event.num_trainable:,} of {event.num_parameters + event.num_trainable:,} parameters learn."
                )
            case e.Progressed():
                self._output.bar.update(event.done, event.total, f"{event.what} of the data")
            case e.StepTaken():
                self._show_step(self._output.bar, event)
            case e.Evaluated():
                say(f"Step {event.step}: loss on held-out rows {event.loss:.3f}")
            case e.Warned():
                say(f"Note: {event.message} {event.hint}".rstrip())
            case e.MicroBatchHalved():
                say(f"Note: {self._state.warnings[-1].message} Going on from the last checkpoint ...")

    def _show_step(self, bar: ProgressBar, event: e.StepTaken) -> None:
        left = self._state.seconds_left
        rate = event.num_tokens / event.seconds if event.seconds > 0 else 0.0
        parts = [f"loss {event.loss:.3f}", f"{rate:,.0f} tokens/s"]
        parts += [f"{readable_seconds(left)} left"] if left is not None else []
        bar.update(event.step, self._state.num_steps or event.step, "  ".join(parts))


def _layers_text(event: e.Estimated) -> str:
    """What auto checkpointing came to, and why."""
    memory = f"the {readable_bytes(event.card_bytes)} of this card" if event.card_bytes else "this computer's memory"
    if not event.num_checkpointed:
        return f"No layer has to be recomputed: {memory} hold the activations of all {event.num_layers}."
    return f"{event.num_checkpointed} of {event.num_layers} layers are recomputed: {memory} allow no fewer."


# --- imports, merges -----------------------------------------------------------------------------------------------


def follow_job(job: Job, output: Output, words: str) -> e.Finished:
    """Show the progress of an import or a merge until it is done. Ctrl-C cancels it; nothing half-done remains."""
    output.bar.begin()
    try:
        while True:
            for event in job.read():
                if isinstance(event, e.Progressed):
                    output.bar.update(event.done, event.total, f"{words}: {event.what}")
                if isinstance(event, e.Finished):
                    output.bar.clear()
                    # Its memory may be needed for what comes next.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        job.process.wait(EXIT_SECONDS)
                    return event
                _raise_failed(event)
            threading.Event().wait(POLL_SECONDS)
    except KeyboardInterrupt:
        job.cancel()
        raise


def _raise_failed(event: e.Event) -> None:
    if isinstance(event, e.Failed) and event.kind == "internal":
        raise InternalError(event.message, event.hint)
    error = failure(event)
    if error is not None:
        raise error
