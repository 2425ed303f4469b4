from dataclasses import replace

import pytest

from studio.recipe.fields import replaced
from studio.recipe.presets import tour
from studio.runs import events as e
from studio.runs.rescue import MOST_HALVINGS, halved, in_force
from studio.runs.state import RunState, Status
from tests.studio.runs.test_state import PREPARED, STARTED, step

FAILED = e.Failed(kind="outofmemory", message="The card ran out of memory: CUDA out of memory.", hint="Halve it.")
SAVED = e.CheckpointSaved(step=4, path="checkpoints/step-000004", bytes=9)
TRAINING = e.PhaseEntered(name="training")


def recipe(tokens=4096, rows=None, batch_rows=16, max_tokens=1024):
    made = replaced(tour(), "data.max_tokens", max_tokens)
    made = replaced(made, "training.batch_rows", batch_rows)
    made = replaced(made, "training.micro_batch_rows", rows)
    return replaced(made, "training.micro_batch_tokens", None if rows else tokens)


def state(*events, longest=1000):
    return RunState.replay([STARTED, replace(PREPARED, longest_row=longest), TRAINING, *events])


@pytest.mark.parametrize(
    ("made", "longest", "unit", "was", "now"),
    [
        (recipe(4096), 1000, "tokens", 4096, 2048),
        (recipe(1500), 1000, "tokens", 1500, 1000),  # never less than one full row
        (recipe(8192, batch_rows=4), 1000, "tokens", 4000, 2000),  # more than a whole step never lay in memory
        (recipe(8192, batch_rows=4), 0, "tokens", 4096, 2048),  # an older run did not say how long its rows are
        (recipe(rows=5), 1000, "rows", 5, 2),
        (recipe(rows=64, batch_rows=8), 1000, "rows", 8, 4),
    ],
)
def test_half_as_much_is_computed_at_a_time(made, longest, unit, was, now):
    found = halved(state(step(7), longest=longest), made, FAILED)
    assert isinstance(found, e.MicroBatchHalved)
    assert (found.step, found.cause, found.unit) == (8, "The card ran out of memory", unit)
    assert (found.was, found.now) == (was, now)


@pytest.mark.parametrize("made", [recipe(1000), recipe(64), recipe(rows=1), recipe(4096, batch_rows=1)])
def test_one_full_row_is_not_halved_and_the_user_is_told_so(made):
    found = halved(state(step(7)), made, FAILED)
    assert isinstance(found, e.Failed)
    assert FAILED.message in found.message
    assert "nothing is left to halve" in found.message
    assert "max_tokens" in found.hint


def test_it_is_halved_three_times_and_no_more():
    now, made, seen = state(step(7)), recipe(16_384, batch_rows=64), []
    while isinstance(found := halved(now, made, FAILED), e.MicroBatchHalved):
        seen.append((found.was, found.now))
        for event in (found, STARTED, TRAINING):
            now.advance(event)
    assert seen == [(16_384, 8_192), (8_192, 4_096), (4_096, 2_048)]
    assert len(seen) == MOST_HALVINGS
    assert "halved 3 times" in found.message


@pytest.mark.parametrize("phase", ["checking", "loading", "tokenising", "saving"])
def test_what_the_micro_batch_does_not_weigh_on_is_not_mended_by_halving_it(phase):
    assert halved(state(step(7), e.PhaseEntered(name=phase)), recipe(), FAILED) == FAILED


def test_the_recipe_in_force_is_the_users_but_for_the_micro_batch():
    made = recipe(4096)
    assert in_force(made, state(step(7))) == made
    found = halved(state(step(7)), made, FAILED)
    assert in_force(made, state(step(7), found)) == replaced(made, "training.micro_batch_tokens", 2048)


def test_the_user_is_told_while_it_stands_still_and_afterwards():
    found = halved(state(step(4), SAVED, step(7)), recipe(4096), FAILED)
    now = state(step(4), SAVED, step(7), found)
    assert now.status is Status.INTERRUPTED
    assert "ran out of memory at step 8. The micro-batch is halved, from 4,096 to 2,048 tokens" in now.ending.message
    assert "from step 4" in now.ending.hint
    now.advance(e.Started(pid=8, process_started=2.0, device="cpu", from_step=4))
    assert (now.status, now.ending) == (Status.LOADING, None)
    assert "halved" in now.warnings[-1].message
    assert "from the beginning" in state(step(1), found).ending.hint
