"""What has happened, in the past tense. An event file is the truth about a run, an import, a merge or an engine.

Times are seconds since 1970, durations seconds, sizes bytes. "Step" always means optimizer step, counted from 1.
Paths are relative to the run's folder unless they leave it.
"""

from __future__ import annotations

import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.runs.lines import Mailbox, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at `time`."""

    time: float = field(default_factory=clock.time)


# --- a run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A process took the run up, from the beginning or after step `from_step`."""

    pid: int
    process_started: float
    device: str
    from_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Prepared(Event):
    """Base and data are ready: now the length of the run is known."""

    num_steps: int
    num_rows: int
    num_held_out: int
    tokens_per_epoch: int
    supervised_tokens_per_epoch: int
    num_cut: int
    num_dropped: int
    num_trainable: int
    num_parameters: int


@dataclass(frozen=True, kw_only=True)
class PhaseEntered(Event):
    """What the process is busy with: loading, tokenising, training, evaluating, sampling, saving."""

    name: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class StepTaken(Event):
    """One optimizer step.

    `loss` is the mean over the step's supervised tokens, `grad_norm` the norm before clipping, `delta_norm` the Frobenius norm
    of the whole overlay, sqrt(sum ||s B A||^2), after the step (None: not measured at this step).
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    num_supervised: int
    seconds: float
    delta_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Mean loss over the supervised tokens of the held-out rows."""

    step: int
    loss: float
    num_supervised: int


@dataclass(frozen=True, kw_only=True)
class SampleWritten(Event):
    """What the model in training answers to a fixed prompt."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class MemoryMeasured(Event):
    """Peaks since the process began. Without a GPU the process's resident memory is all there is."""

    step: int
    process_bytes: int
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A state from which the run can go on exactly."""

    step: int
    path: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the user should know and may ignore."""

    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """The user wants the card for something else; the run goes on from `step`."""

    step: int


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The user ended the run. With `saved`, the adapter of `step` is in the library and the run can go on."""

    step: int
    saved: bool
    adapter: str = ""


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """Done. `run` and `adapter` are names; `result` is what else the job has to show."""

    run: str = ""
    adapter: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """It could not go on, and knows why."""

    kind: str
    message: str
    hint: str = ""
    step: int | None = None


@dataclass(frozen=True, kw_only=True)
class Died(Event):
    """The last word that an engine without a last word is given. Exit code and signal are None when nobody saw them."""

    exit_code: int | None
    signal: str | None
    last_lines: list[str]


# --- imports, merges -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Progressed(Event):
    """`done` of `total` units of `what`."""

    what: str
    done: int
    total: int


# --- an engine -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EngineReady(Event):
    """The engine holds its lease and reads wishes."""

    pid: int
    process_started: float
    device: str


@dataclass(frozen=True, kw_only=True)
class BaseLoaded(Event):
    """A base is in memory, in `seconds`. The fewer of these in a session, the better."""

    base: str
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """The engine has let go of a run; its own event file says how it ended."""

    run: str


@dataclass(frozen=True, kw_only=True)
class TextStreamed(Event):
    """The next piece of an answer."""

    ask: str
    lane: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Answered(Event):
    """One lane's whole answer. `adapter` is the fingerprint of the overlay that gave it, "" for the base alone."""

    ask: str
    lane: int
    text: str
    adapter: str
    num_tokens: int
    seconds: float
    swap_seconds: float = 0.0
    stopped: bool = False


@dataclass(frozen=True, kw_only=True)
class AskFailed(Event):
    """A question that could not be answered."""

    ask: str
    message: str
    hint: str = ""


EVENTS: Vocabulary[Event] = Vocabulary("event", Event.__subclasses__())
ENDINGS = (Finished, Stopped, Paused, Failed, Died)


def event_file(path: Path) -> Mailbox[Event]:
    """The event file at `path`, to be written or followed."""
    return Mailbox(path, EVENTS)
