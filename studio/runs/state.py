"""What a run looks like now: a fold over its events. Live and replayed runs go through the same code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from studio.runs import events as e
from studio.runs.endings import Ending, death


class Status(StrEnum):
    """Where a run stands. The words shown to users are the window's."""

    WAITING = "waiting"
    LOADING = "loading"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_live(self) -> bool:
        """A process should be at work on it."""
        return self in (Status.LOADING, Status.RUNNING)


@dataclass
class RunState:
    """A run's picture. `advance` is the only way in which it changes."""

    status: Status = Status.WAITING
    phase: str = ""
    progress: e.Progressed | None = None  # of the phase, where it tells
    device: str = ""
    pid: int | None = None
    process_started: float = 0.0
    memory_kills: int | None = None
    resumes: list[int] = field(default_factory=list)  # steps behind which another process took the run up
    began: float | None = None
    ended: float | None = None
    prepared: e.Prepared | None = None
    steps: list[e.StepTaken] = field(default_factory=list)
    evaluations: list[e.Evaluated] = field(default_factory=list)
    samples: list[e.SampleWritten] = field(default_factory=list)
    checkpoints: list[e.CheckpointSaved] = field(default_factory=list)
    warnings: list[e.Warned] = field(default_factory=list)
    halvings: list[e.MicroBatchHalved] = field(default_factory=list)
    judgements: list[e.RowsJudged] = field(default_factory=list)
    prompts_added: list[str] = field(default_factory=list)
    first_batch: e.FirstBatchWritten | None = None
    ended_early: e.EndedEarly | None = None
    memories: list[e.MemoryMeasured] = field(default_factory=list)
    estimate: e.Estimated | None = None
    adapter: str = ""
    energy_joules: float | None = None  # what the card has taken, whoever used it, since the last of `resumes`
    ending: Ending | None = None

    @classmethod
    def replay(cls, events: Iterable[e.Event]) -> RunState:
        """The state after these events; any prefix of an event file is a valid argument."""
        state = cls()
        for event in events:
            state.advance(event)
        return state

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.steps[-1].step if self.steps else 0

    @property
    def num_steps(self) -> int | None:
        """Optimizer steps in all, once known."""
        return self.prepared.num_steps if self.prepared else None

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, training loss) of each step of the curve that counts."""
        return [(taken.step, taken.loss) for taken in self.steps]

    @property
    def memory(self) -> e.MemoryMeasured | None:
        """What was measured last."""
        return self.memories[-1] if self.memories else None

    @property
    def memory_curve(self) -> list[tuple[int, int, int | None]]:
        """(step, process bytes, allocated bytes) over the run, to be drawn against `estimate`."""
        return [(one.step, one.process_bytes, one.allocated_bytes) for one in self.memories]

    @property
    def best_evaluation(self) -> e.Evaluated | None:
        """The lowest evaluation, the first of several such. That of step 0 is the base's, and not counted."""
        counted = (found for found in self.evaluations if found.step and math.isfinite(found.loss))
        return min(counted, key=lambda found: found.loss, default=None)

    @property
    def best_checkpoint(self) -> e.CheckpointSaved | None:
        """The checkpoint that is kept for its evaluation, however many come after it."""
        return next((saved for saved in reversed(self.checkpoints) if saved.is_best), None)

    @property
    def worst_rows(self) -> list[dict[str, Any]]:
        """The rows that are hardest to predict, worst first, as they were judged last."""
        return self.judgements[-1].rows if self.judgements else []

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the last 20 steps: None before the third one."""
        recent = self.steps[-20:]
        if self.num_steps is None or len(recent) < 3:
            return None
        # The first step warms caches up and says little about the others.
        mean = sum(taken.seconds for taken in recent[1:]) / (len(recent) - 1)
        return mean * (self.num_steps - self.step)

    def advance(self, event: e.Event) -> None:
        """Take one event in. Events that are none of a run's business are passed over."""
        match event:
            case e.Started():
                self._begin(event)
            case e.Prepared():
                self.prepared = event
            case e.PhaseEntered() | e.Progressed():
                self._enter(event)
            case e.StepTaken():
                self.steps.append(event)
                self.status, self.phase = Status.RUNNING, "training"
            case e.Evaluated() | e.SampleWritten() | e.CheckpointSaved() | e.RowsJudged():
                self._list(event)
            case e.FirstBatchWritten() | e.PromptAdded() | e.EndedEarly():
                self._note(event)
            case e.MemoryMeasured() | e.Estimated():
                self._reckon(event)
            case e.Warned() | e.MicroBatchHalved():
                self._warn(event)
            case _:
                self._end(event)

    def _begin(self, event: e.Started) -> None:
        self.status, self.phase, self.progress, self.ending, self.ended = Status.LOADING, "", None, None, None
        self.device, self.pid, self.process_started = event.device, event.pid, event.process_started
        self.memory_kills = event.memory_kills
        self.began = event.time if self.began is None else self.began
        resumes = [step for step in self.resumes if step < event.from_step]
        self.resumes = [*resumes, event.from_step] if event.from_step else []
        # Steps beyond the checkpoint from which the run goes on are taken again: the curve shows them once.
        self.steps = [taken for taken in self.steps if taken.step <= event.from_step]
        self.evaluations = [found for found in self.evaluations if found.step <= event.from_step]
        self.samples = [sample for sample in self.samples if sample.step <= event.from_step]
        self.checkpoints = [saved for saved in self.checkpoints if saved.step <= event.from_step]
        self.memories = [measured for measured in self.memories if measured.step <= event.from_step]
        self.judgements = [judged for judged in self.judgements if judged.step <= event.from_step]
        if self.ended_early and self.ended_early.step > event.from_step:
            self.ended_early = None

    def _list(self, event: e.Evaluated | e.SampleWritten | e.CheckpointSaved | e.RowsJudged) -> None:
        match event:
            case e.Evaluated():
                self.evaluations.append(event)
            case e.SampleWritten():
                self.samples.append(event)
            case e.CheckpointSaved():
                self.checkpoints.append(event)
            case e.RowsJudged():
                self.judgements.append(event)

    def _note(self, event: e.FirstBatchWritten | e.PromptAdded | e.EndedEarly) -> None:
        match event:
            case e.FirstBatchWritten():
                self.first_batch = event
            case e.EndedEarly():
                self.ended_early = event
            case e.PromptAdded(prompt=prompt) if prompt not in self.prompts_added:
                self.prompts_added.append(prompt)

    def _reckon(self, event: e.MemoryMeasured | e.Estimated) -> None:
        if isinstance(event, e.Estimated):
            self.estimate = event
            return
        # Measured once more after saving: the later word on a step holds.
        if self.memories and self.memories[-1].step == event.step:
            self.memories.pop()
        self.memories.append(event)

    def _enter(self, event: e.PhaseEntered | e.Progressed) -> None:
        if isinstance(event, e.Progressed):
            self.progress = event
            return
        self.phase, self.progress = event.name, None
        if event.name == "training":
            self.status = Status.RUNNING

    def _warn(self, event: e.Warned | e.MicroBatchHalved) -> None:
        if isinstance(event, e.Warned):
            self.warnings.append(event)
            return
        self.halvings.append(event)
        said = (
            f"{event.cause} at step {event.step}. The micro-batch is halved, from {event.was:,} to "
            f"{event.now:,} {event.unit}; the batch, and with it the result, stays the same."
        )
        # The ending is of the process alone: the warning stays when the next one has taken the run up.
        self.warnings.append(e.Warned(time=event.time, message=said))
        saved = self.checkpoints[-1].step if self.checkpoints else 0
        where = f"from step {saved}" if saved else "from the beginning"
        self.ending = Ending(said, f"It goes on {where} by itself. Should nothing happen, Resume does the same.")
        self.status, self.ended = Status.INTERRUPTED, event.time
        self.phase, self.progress, self.pid = "", None, None

    def _end(self, event: e.Event) -> None:
        match event:
            case e.Finished(adapter=adapter, result=result):
                self.status, self.adapter = Status.FINISHED, adapter
                taken = result.get("energy_joules")
                self.energy_joules = float(taken) if isinstance(taken, int | float) else None
            case e.Stopped(saved=saved, adapter=adapter):
                self.status, self.adapter = Status.STOPPED, adapter
                self.ending = Ending(
                    f"Stopped at step {event.step}." if saved else f"Stopped at step {event.step} without saving.",
                    "Resume goes on from there." if saved else _goes_on(self.checkpoints),
                )
            case e.Paused(step=step, cause=cause, hint=hint):
                self.status = Status.PAUSED
                where = "Resume goes on from there." if step else "No step was done yet: resume begins again."
                self.ending = Ending(f"Paused at step {step}. The card is free.", where)
                if cause:
                    message = f"Paused at step {self.step}. {cause}"
                    self.ending = Ending(message, f"{hint} Resume goes on from step {step}.", cause)
            case e.Failed(kind=kind, message=message, hint=hint):
                self.status, self.ending = Status.FAILED, Ending(message, hint, kind=kind)
            case e.Died():
                self.status, self.ending = Status.INTERRUPTED, _death(event, self.checkpoints)
            case _:
                return
        self.ended, self.phase, self.progress, self.pid = event.time, "", None, None


def _death(event: e.Died, checkpoints: list[e.CheckpointSaved]) -> Ending:
    told = death(event.exit_code, event.signal, event.evidence, event.last_lines)
    return Ending(told.message, f"{told.hint} {_goes_on(checkpoints)}".strip())


def _goes_on(checkpoints: list[e.CheckpointSaved]) -> str:
    if not checkpoints:
        return "There was no checkpoint yet: resume begins again."
    return f"Resume goes on from step {checkpoints[-1].step}: nothing before it is lost."


def without_curves(state: RunState) -> RunState:
    """The same state with empty curves, for lists of many runs."""
    return replace(
        state,
        steps=state.steps[-1:],
        evaluations=state.evaluations[-1:],
        memories=state.memories[-1:],
        samples=[],
        judgements=[],
    )
