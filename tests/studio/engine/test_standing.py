import json
import math

from hypothesis import given
from hypothesis import strategies as st

from studio.engine.standing import NOBODY, Standing
from studio.recipe.recipe import Keep

PATIENT = Keep(stop_after_worse_evaluations=2, adapter_from="best")


def after(*losses, is_due=True):
    standing = NOBODY
    for number, loss in enumerate(losses):
        standing = standing.after(10 * number, loss, is_due=is_due)
    return standing


def test_the_base_is_no_candidate():
    standing = after(0.1)
    assert (standing.step, standing.best_step, standing.num_worse) == (0, 0, 0)
    assert after(0.1, 0.5).best_step == 10


def test_the_run_is_over_after_as_many_worse_ones_in_a_row_as_the_recipe_bears():
    assert not after(9.0, 1.0, 1.1).is_over(PATIENT)
    assert after(9.0, 1.0, 1.1, 1.0).is_over(PATIENT)
    assert not after(9.0, 1.0, 1.1, 0.9, 1.0).is_over(PATIENT)
    assert not after(9.0, *[1.0] * 50).is_over(Keep())


def test_an_evaluation_that_was_asked_for_may_be_the_best_but_not_the_last_straw():
    standing = after(9.0, 1.0, 1.1).after(21, 5.0, is_due=False).after(22, 5.0, is_due=False)
    assert not standing.is_over(PATIENT)
    assert standing.after(23, 0.5, is_due=False).best_step == 23


def test_one_that_was_broken_off_is_missed_and_changes_nothing():
    standing = after(9.0, 1.0)
    keep = Keep(evaluate_every_steps=10)
    assert standing.after(20, None, is_due=True) == standing
    assert standing.misses(20, keep)
    assert not standing.misses(10, keep)
    assert not standing.misses(21, keep)
    assert NOBODY.misses(0, Keep(evaluate_every_steps=0))
    assert not after(9.0).misses(0, keep)


def test_the_checkpoint_that_is_kept_is_that_of_the_best_which_has_one():
    standing = after(9.0, 1.0).saved(10)
    assert standing.kept_step == 10
    better = standing.after(15, 0.5, is_due=True)
    assert better.saved(20).kept_step == 10
    assert better.saved(15).kept_step == 15
    assert better.wants_saving(15, PATIENT)
    assert not better.wants_saving(15, Keep())
    assert not better.wants_saving(16, PATIENT)


@given(st.lists(st.none() | st.floats(0.01, 100), max_size=8))
def test_it_survives_its_checkpoint(losses):
    standing = after(*losses)
    told = json.loads(json.dumps(standing.to_dict(), allow_nan=False))
    assert Standing.from_dict(told) == standing
    assert Standing.from_dict({}) == NOBODY
    assert math.isinf(NOBODY.best_loss)
