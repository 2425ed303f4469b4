"""Three real steps before a run: does it fit, how far off is the estimate, how long will it take?

The steps are those of `train`, on the largest micro-batches that the recipe allows: the ones that the estimate speaks of. They
are laid out of the longest rows, all of whose tokens are learnt. A run itself never begins with its longest rows: that would
change the order in which it learns, and so the result. Nothing is kept but the base in memory, for the run that follows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import torch

from studio import files
from studio.data.formats import Mapping
from studio.engine.batches import MicroBatch, Schedule, micro_batches
from studio.engine.boundary import is_out_of_memory
from studio.engine.comparison import Comparison
from studio.engine.desk import Desk
from studio.engine.measure import memory, reset_peaks
from studio.engine.run import begin_overlay, prepare
from studio.engine.template import Example
from studio.engine.train import Emit, Material, Orders, train
from studio.errors import OutOfMemoryError
from studio.memory.correction import LEAST_STEPS
from studio.memory.setup import micro_batch_tokens
from studio.models.bases import Base, find_base
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.fields import from_dict, replaced
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import TrainJob
from studio.runs.folder import RunFolder

NUM_STEPS = LEAST_STEPS
_SAMPLED_STEPS = 16
_CPU = torch.device("cpu")


class ThreeSteps(Orders):
    """Ends the loop after the last step of the test, or when the test is no longer wanted; saves nothing either way."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self.was_stopped = False
        self._is_wanted = is_wanted
        self._left = NUM_STEPS

    def update(self, model: object) -> None:  # noqa: ARG002
        """Count the step just taken."""
        self._left -= 1
        if not (self.is_in_a_hurry() or self._left):
            self.ending = "discard"

    def is_in_a_hurry(self) -> bool:
        """Look whether the test is still wanted; within a step as well."""
        if not self._is_wanted():
            self.was_stopped, self.ending = True, "discard"
        return self.was_stopped


@dataclass
class FitTest:
    """One fit test at work. `step_seconds` are those of the steps taken so far."""

    wish: w.TestFit
    workspace: Workspace
    desk: Desk
    is_wanted: Callable[[], bool]
    emit: Emit
    step_seconds: list[float] = field(default_factory=list)

    def perform(self) -> None:
        """Do it; the last event is its answer. Errors other than a lack of memory are left to the boundary."""
        recipe = from_dict(self.wish.recipe)
        wish, mapping = self.wish, Mapping(**self.wish.mapping) if self.wish.mapping else None
        job = TrainJob(recipe, Path(wish.base), Path(wish.data), self.desk.device.type, wish.data_sha256, mapping)
        self._tell("checking")
        base = find_base(self.workspace, self.wish.base)
        comparison = Comparison.of(self.workspace, base, recipe, self.desk)
        try:
            answer: e.Event | None = self._steps(job, base, comparison)
        except (RuntimeError, MemoryError, OutOfMemoryError) as error:
            if not is_out_of_memory(error):
                raise
            answer = self._too_large(comparison, base)
        finally:
            self.desk.drop_overlay()
        # The error held the steps' tensors until here.
        reset_peaks(self.desk.device)
        self.emit(answer or e.FitTestStopped(test=self.wish.test))

    def _steps(self, job: TrainJob, base: Base, comparison: Comparison) -> e.FitTested | None:
        """The answer of three steps that went well; None if they were stopped."""
        self._tell("loading")
        loaded, is_new = self.desk.lay_base(base, job.recipe.base)
        if is_new:
            self.emit(e.BaseLoaded(base=base.path.name, bytes=loaded.num_bytes, seconds=loaded.seconds))
        loaded = self.desk.speak_by(job.recipe.data.chat_template)
        self._tell("tokenising")
        material, _ = prepare(job, self.workspace, loaded, _nothing)
        if not self.is_wanted():
            return None
        self._tell("training")
        trial, largest = worst_case(material, job.recipe)
        orders = ThreeSteps(self.is_wanted)
        nowhere = RunFolder(self.workspace.jobs / f"fit-test-{self.wish.test}")
        overlaid = begin_overlay(self.desk, comparison.as_run)
        train(nowhere, quietly(job.recipe), overlaid, trial, _no_sample, orders, comparison.heard(self._listen))
        if orders.was_stopped:
            return None
        comparison.keep(self.workspace, f"fit-test-{self.wish.test}")
        return self._fitted(comparison, base, Run(material, ModelFacts.from_folder(base.path)), largest)

    def _fitted(self, comparison: Comparison, base: Base, run: Run, largest: list[MicroBatch]) -> e.FitTested:
        assert comparison.measured is not None
        seconds = statistics.median(self.step_seconds[1:]) * run.share(largest)
        answer = replace(
            self._answer(comparison, base, comparison.measured),
            num_steps=run.num_steps,
            seconds_per_step=seconds,
            seconds_expected=seconds * run.num_steps,
        )
        # Windows lends a full card some of the computer's memory, at a tenth of the speed: that is no fit either.
        reserved, card = answer.reserved_bytes or 0, answer.card_bytes
        return answer if card is None or reserved <= card else _refused(answer, reserved)

    def _too_large(self, comparison: Comparison, base: Base) -> e.FitTested:
        measured = memory(len(self.step_seconds), self.desk.device)
        return _refused(self._answer(comparison, base, measured), measured.process_bytes)

    def _answer(self, comparison: Comparison, base: Base, measured: e.MemoryMeasured) -> e.FitTested:
        card, expected = comparison.card, comparison.budget
        return e.FitTested(
            test=self.wish.test,
            fits=True,
            device="cpu" if self.desk.device.type == "cpu" else f"cuda-{self.desk.device.index or 0}",
            base=base.fingerprint,
            micro_batch_tokens=micro_batch_tokens(comparison.as_run),
            process_bytes=measured.process_bytes,
            allocated_bytes=measured.allocated_bytes,
            reserved_bytes=measured.reserved_bytes,
            estimated_total_bytes=comparison.total_bytes,
            estimated_process_bytes=comparison.process_bytes,
            correction_bytes=expected.correction_bytes if expected else 0,
            card=card.name if card else "",
            card_bytes=card.total_bytes if card else None,
            step_seconds=list(self.step_seconds),
        )

    def _listen(self, event: e.Event) -> None:
        if isinstance(event, e.StepTaken):
            self.step_seconds.append(event.seconds)
            self._tell("training", event.step)

    def _tell(self, phase: str, step: int = 0) -> None:
        self.emit(e.FitTestProgressed(test=self.wish.test, phase=phase, step=step, num_steps=NUM_STEPS))


@dataclass(frozen=True)
class Run:
    """The run that would follow, as far as its length goes."""

    material: Material
    facts: ModelFacts

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
        return self.material.schedule.num_steps

    def share(self, largest: list[MicroBatch]) -> float:
        """Work of a step of the run, as a share of that of a step of these micro-batches; by some steps spread over it."""
        count = min(_SAMPLED_STEPS, self.num_steps)
        steps = {1 + round(i * (self.num_steps - 1) / max(1, count - 1)) for i in range(count)}
        sampled = [self._work(self.material.lay_out(step, _CPU)[1]) for step in steps]
        return statistics.fmean(sampled) / self._work(largest)

    def _work(self, batches: list[MicroBatch]) -> float:
        """Multiplications, up to a factor: all tokens pass the layers, padding included; supervised ones the head as well."""
        layers = self.facts.num_linear_parameters
        head = self.facts.vocab_size * self.facts.hidden_size
        return sum(batch.ids_BT.numel() * layers + batch.num_supervised * head for batch in batches)


def worst_case(material: Material, recipe: Recipe) -> tuple[Material, list[MicroBatch]]:
    """What the test's steps work on, and one of those steps as it will be laid out."""
    rows = longest_rows(material.rows, recipe)
    # A run of three steps would end with a checkpoint: this one is broken off before its end.
    schedule = Schedule(len(rows), len(rows), max(NUM_STEPS + 1, material.schedule.num_steps), material.schedule.seed)
    return Material(rows, [], schedule, material.layout), micro_batches(rows, material.layout)


def longest_rows(rows: Sequence[Example], recipe: Recipe) -> list[Example]:
    """Rows for two micro-batches of exactly `micro_batch_tokens` each (less what does not divide evenly).

    Two, since the gradients of the first lie beside the activations of the second. The rows are the longest there are, one
    filled up by the next where they are shorter than the recipe allows. Packed, one of the second half is cut in two, so that
    a micro-batch with several conversations is among them even where one row fills it.
    """
    tokens = micro_batch_tokens(recipe)
    count = math.ceil(tokens / recipe.data.max_tokens)
    lengths = [tokens // count] * (2 * count)
    if recipe.data.packing:
        whole = lengths.pop()
        lengths += [whole - whole // 2, whole // 2]
    # Their places, not the rows: there may be more of those than fit into memory.
    longest_first = sorted(range(len(rows)), key=lambda i: len(rows[i].ids), reverse=True)
    return [_filled(rows, longest_first, i, length) for i, length in enumerate(lengths)]


def _filled(rows: Sequence[Example], longest_first: list[int], first: int, length: int) -> Example:
    """The tokens of the `first` row and of those after it, all of them to be learnt."""
    following = (rows[i] for i in islice(cycle(longest_first), first, None))
    ids = list(islice(chain.from_iterable(row.ids for row in following), length))
    return Example(np.array(ids), np.ones(length, dtype=np.bool_), rows[longest_first[first % len(longest_first)]].row)


def quietly(recipe: Recipe) -> Recipe:
    """The recipe without what leaves something behind between two steps."""
    for path in ("keep.checkpoint_every_steps", "keep.evaluate_every_steps", "keep.sample_every_steps"):
        recipe = replaced(recipe, path, 0)
    return recipe


def _refused(answer: e.FitTested, held_bytes: int) -> e.FitTested:
    where = f"the card's {files.readable_bytes(answer.card_bytes)}" if answer.card_bytes else "this computer's memory"
    return replace(
        answer,
        fits=False,
        message=f"It does not fit: it needed more than {files.readable_bytes(held_bytes)} of {where}.",
        hint="Halve the micro-batch (the result stays the same), shorten the rows, or close other programs.",
    )


def _no_sample(_model: object, _step: int) -> None:
    """A test has no prompts to answer."""


def _nothing(_what: str, _done: int, _total: int) -> None:
    """A test tells of its phases alone."""
