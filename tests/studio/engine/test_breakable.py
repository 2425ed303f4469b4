"""A step that is broken off is as if it had not been begun, wherever in it that happens."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from studio.engine import breakable as breaking
from studio.engine.batches import collate
from studio.engine.breakable import breakable
from studio.engine.checkpointing import blocks
from studio.engine.generators import Generators
from studio.engine.train import Learner, Orders
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.runs.state import RunState, Status
from tests.studio.engine.conftest import ROWS as SAYINGS
from tests.studio.engine.conftest import write_rows
from tests.studio.engine.test_train import ROWS, learner, recipe, run_it, tensors  # noqa: F401 - a fixture

BATCH = collate([[ROWS[1]]], 0)
NUM_MICRO_BATCHES, NUM_BLOCKS, NUM_STEPS = 4, 2, 3
PER_MICRO_BATCH = 2 * NUM_BLOCKS  # looks: each block is passed forwards and backwards
PER_STEP = NUM_MICRO_BATCHES * PER_MICRO_BATCH
BACKWARDS = NUM_BLOCKS + 1


@pytest.fixture(scope="module")
def made(tiny_base, tmp_path_factory):
    """Dropout draws random numbers, each step learns from every row, and nothing but an ending saves."""
    rows_file = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", SAYINGS[:NUM_MICRO_BATCHES])
    changes = {"data__packing": False, "data__validation_fraction": 0.0, "training__micro_batch_tokens": None}
    changes |= {"training__micro_batch_rows": 1, "training__batch_rows": NUM_MICRO_BATCHES, "training__epochs": None}
    changes |= {"keep__sample_every_steps": 0, "keep__sample_prompts": [], "keep__evaluate_every_steps": 0}
    return recipe(tiny_base, rows_file, training__steps=NUM_STEPS, keep__checkpoint_every_steps=0, **changes)


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The run that nobody broke off."""
    run, _, _ = run_it(Workspace(tmp_path_factory.mktemp("whole")), made)
    return run


@pytest.fixture(autouse=True)
def _looks_at_every_block(monkeypatch):
    monkeypatch.setattr(breaking, "LOOK_SECONDS", 0)


class EndWithin(Orders):
    """Ends the run when it has been asked so often within steps."""

    def __init__(self, looks, wanted):
        self.left, self.wanted = looks, wanted

    def is_to_break_off(self):
        self.left -= 1
        if self.left == 0:
            self.ending = self.wanted
        return self.is_ending


@pytest.mark.parametrize(
    ("step", "micro_batch", "look", "checkpointing"),
    [(2, 3, 1, "none"), (2, 3, BACKWARDS, "none"), (1, NUM_MICRO_BATCHES, PER_MICRO_BATCH, "all")],
    ids=["forwards", "backwards", "backwards and recomputing"],
)
def test_who_stops_in_mid_step_keeps_the_last_whole_one_and_goes_on_bit_for_bit(
    workspace, made, whole, monkeypatch, step, micro_batch, look, checkpointing
):
    made = replaced(made, "memory.checkpointing", checkpointing)
    passes, forward = [], Learner.forward
    with monkeypatch.context() as counting:
        counting.setattr(Learner, "forward", lambda *args: passes.append(1) or forward(*args))
        orders = EndWithin(step * PER_STEP + (micro_batch - 1) * PER_MICRO_BATCH + look, "stop")
        run, outcome, desk = run_it(workspace, made, orders)
    assert len(passes) == step * NUM_MICRO_BATCHES + micro_batch, "it did not wait for the end of the step"
    assert (outcome.step, outcome.ending) == (step, "stop")
    assert [saved for saved, _ in run.checkpoints()] == [saved.step for saved in run.state().checkpoints] == [step]
    assert run.state().status is Status.STOPPED
    assert (workspace.adapters / run.state().adapter).is_dir()
    assert all(parameter.grad is None for parameter in desk.model.parameters())

    run_it(workspace, made, run=run)
    assert RunState.replay(run.events.read()).losses == whole.state().losses
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(run)[name]), name


@pytest.mark.parametrize(("ending", "status"), [("stop", Status.STOPPED), ("pause", Status.PAUSED)])
def test_who_ends_a_run_in_its_first_step_begins_again(workspace, made, whole, ending, status):
    run, outcome, _ = run_it(workspace, made, EndWithin(PER_STEP // 2, ending))
    assert (outcome.step, run.state().status, run.checkpoints()) == (0, status, [])
    assert "begins again" in run.state().ending.hint
    run_it(workspace, made, run=run)
    assert run.state().losses == whole.state().losses


def test_a_step_that_is_discarded_leaves_no_checkpoint(workspace, made):
    run, outcome, _ = run_it(workspace, made, EndWithin(PER_STEP + 1, "discard"))
    assert (outcome.step, run.state().status, run.checkpoints()) == (1, Status.STOPPED, [])


class EndInSecondEvaluation(Orders):
    """Ends the run when it is asked for the first time after two steps."""

    num_taken = 0

    def update(self, model):
        self.num_taken += 1

    def is_to_break_off(self):
        self.ending = "pause" if self.num_taken == 2 else ""
        return self.is_ending


def test_an_evaluation_is_left_behind_a_block_and_is_done_by_the_next_process(workspace, made):
    made = replaced(replaced(made, "data.validation_fraction", 0.2), "keep.evaluate_every_steps", 2)
    run, outcome, _ = run_it(workspace, made, EndInSecondEvaluation())
    assert (outcome.step, [found.step for found in run.state().evaluations]) == (2, [0])
    run_it(workspace, made, run=run)
    assert [found.step for found in run.state().evaluations] == [0, 2, NUM_STEPS]


# --- the way out ---------------------------------------------------------------------------------------------------


def drawn():
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_what_was_drawn_in_vain_is_drawn_again(learner):  # noqa: F811
    before = Generators.now()
    expected = drawn()
    before.put_back()
    with breakable(learner, lambda: True) as attempt:
        drawn()
        learner(BATCH)
        raise AssertionError("nobody broke it off")
    assert attempt.was_broken_off
    assert drawn() == expected


def test_nothing_stays_on_the_blocks_however_they_are_left(learner):  # noqa: F811
    for is_wanted in (True, False):
        with breakable(learner, lambda is_wanted=is_wanted: is_wanted) as attempt:
            learner(BATCH)
        assert attempt.was_broken_off is is_wanted
        assert not any(block._forward_hooks for block in blocks(learner))


def test_whoever_may_end_it_is_asked_ten_times_a_second(learner, monkeypatch):  # noqa: F811
    monkeypatch.undo()
    clock, asked = iter(range(1000)), []
    monkeypatch.setattr(breaking.time, "monotonic", lambda: next(clock) * 0.03)
    with breakable(learner, lambda: bool(asked.append(1))):
        for _ in range(10):
            learner(BATCH).backward()
    assert len(asked) == 10 * PER_MICRO_BATCH // 4
