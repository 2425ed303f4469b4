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
    """A process took the run up, from the beginning or after step `from_step`; the first of `num_processes` that share it.

    `memory_kills` is how many processes the kernel had killed for lack of memory by then, where it counts them.
    """

    pid: int
    process_started: float
    device: str
    from_step: int = 0
    num_processes: int = 1
    memory_kills: int | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared(Event):
    """Base and data are ready: now the length of the run is known. `longest_row` is in tokens."""

    num_steps: int
    num_rows: int
    num_held_out: int
    tokens_per_epoch: int
    supervised_tokens_per_epoch: int
    num_cut: int
    num_dropped: int
    num_trainable: int
    num_parameters: int
    longest_row: int = 0


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
class PromptAdded(Event):
    """The user wants to see this prompt answered too, from the next sample on."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class FirstBatchWritten(Event):
    """What the first step learns from lies in `path`: its rows, token by token, and which tokens are trained."""

    path: str
    num_rows: int
    num_tokens: int
    num_supervised: int


@dataclass(frozen=True, kw_only=True)
class RowsJudged(Event):
    """The rows that were hardest to predict of late, worst first. Each is `{"row", "loss", "num_supervised", "step", "held_out",
    "prompt", "answer"}`: its place in the dataset from 0, the mean loss over its supervised tokens when last read, at `step`;
    texts are cut short.
    """

    step: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class EndedEarly(Event):
    """The steps left are not taken, as the recipe had it: the evaluation has not bettered that of `best_step` since."""

    step: int
    best_step: int
    best_loss: float


@dataclass(frozen=True, kw_only=True)
class Estimated(Event):
    """What was estimated for the run before its base was loaded, to be held against `MemoryMeasured`.

    `total_bytes` is the sum of `terms`, the peak of the tensors; `process_bytes` has `context_bytes` and what earlier runs on
    this card have taught (`correction_bytes`) in addition. Without a GPU there is no `card`. `num_checkpointed` of
    `num_layers` layers recompute their activations; `is_auto` if the recipe left that to the memory there was.
    """

    total_bytes: int
    process_bytes: int
    context_bytes: int
    terms: dict[str, int]
    correction_bytes: int = 0
    card: str = ""
    card_bytes: int | None = None
    num_layers: int = 0
    num_checkpointed: int = 0
    is_auto: bool = False


@dataclass(frozen=True, kw_only=True)
class MemoryMeasured(Event):
    """Peaks since the training began: of the tensors, of what the allocator took for them, and of the whole process.

    On a card `process_bytes` is what this process holds of it, other programs not counted. Without one the process's resident
    memory is all there is.
    """

    step: int
    process_bytes: int
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A state from which the run can go on exactly. `is_best` if no evaluation before was as good as the one at this step."""

    step: int
    path: str
    bytes: int
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class MicroBatchHalved(Event):
    """Memory ran out in `step`, as `cause` says, and the process ends; the next one goes on from the last checkpoint with `now`
    tokens (or rows, as `unit` has it) at a time where they were `was`. The batch stays the same."""

    step: int
    cause: str
    unit: str
    was: int
    now: int


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the user should know and may ignore."""

    message: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """The user wants the card for something else, or the disk is full; the run goes on from `step`.

    For a full disk `cause` says so, `hint` what to do, and `needs_bytes` (0: unknown) are wanted in `folder`.
    """

    step: int
    cause: str = ""
    hint: str = ""
    folder: str = ""
    needs_bytes: int = 0


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
    """The last word that an engine without a last word is given. Exit code and signal are None when nobody saw them.

    `evidence` is what else speaks for a cause: `memory` if the kernel has killed for lack of it meanwhile, `restart` if the
    computer has been started since.
    """

    exit_code: int | None
    signal: str | None
    last_lines: list[str]
    evidence: str = ""


# --- imports, merges, the tokenising of a run -----------------------------------------------------------------------


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


@dataclass(frozen=True, kw_only=True)
class FitTestProgressed(Event):
    """Where a fit test stands: checking, loading, tokenising, or training with `step` of `num_steps` taken."""

    test: str
    phase: str
    step: int = 0
    num_steps: int = 3


@dataclass(frozen=True, kw_only=True)
class FitTested(Event):
    """What three real steps held, beside the estimate. Running out of memory is an answer too: `fits` is False then, and
    `message` says of how much.

    `base` is its fingerprint. Measured bytes are peaks, as in `MemoryMeasured`; estimates are None for a model that none can
    be made for. The tested steps, `step_seconds`, are the largest that the recipe allows, `micro_batch_tokens` at a time;
    `seconds_per_step` is for an average step of the run, and `seconds_expected` for all its `num_steps` without what is done
    between steps.
    """

    test: str
    fits: bool
    device: str
    base: str
    micro_batch_tokens: int
    process_bytes: int
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    estimated_total_bytes: int | None = None
    estimated_process_bytes: int | None = None
    correction_bytes: int = 0
    card: str = ""
    card_bytes: int | None = None
    num_steps: int = 0
    step_seconds: list[float] = field(default_factory=list)
    seconds_per_step: float | None = None
    seconds_expected: float | None = None
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class FitTestStopped(Event):
    """The user ended a fit test before it had an answer."""

    test: str


@dataclass(frozen=True, kw_only=True)
class FitTestFailed(Event):
    """A fit test that could not be done, for another reason than memory."""

    test: str
    kind: str
    message: str
    hint: str = ""


EVENTS: Vocabulary[Event] = Vocabulary("event", Event.__subclasses__())
ENDINGS = (Finished, Stopped, Paused, Failed, Died)
LAST_WORDS = (*ENDINGS, MicroBatchHalved)  # of a process, where a run may go on with the next one


def event_file(path: Path) -> Mailbox[Event]:
    """The event file at `path`, to be written or followed."""
    return Mailbox(path, EVENTS)
