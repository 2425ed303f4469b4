import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.hints import HintKind, hints
from studio.runs.state import RunState
from tests.studio.runs.test_lines import any_event
from tests.studio.runs.test_state import STARTED

CARD = e.Estimated(
    total_bytes=1, process_bytes=1, context_bytes=0, terms={}, card="RTX 3090", card_bytes=24_000_000_000
)


def step(number, loss, *, rate=2e-4, norm=0.5, seconds=1.0):
    return e.StepTaken(
        step=number,
        epoch=0.0,
        loss=loss,
        learning_rate=rate,
        grad_norm=norm,
        num_tokens=1000,
        num_supervised=500,
        seconds=seconds,
    )


def run_of(losses, evaluations=(), **changes):
    """A run with these training losses, `evaluations` as (step, loss), and for each name of `changes` a value per step."""
    rows = [{name: values[i] for name, values in changes.items()} for i in range(len(losses))]
    steps = [step(i + 1, loss, **row) for i, (loss, row) in enumerate(zip(losses, rows, strict=True))]
    found = [e.Evaluated(step=number, loss=loss, num_supervised=9) for number, loss in evaluations]
    return RunState.replay([STARTED, *steps, *found])


def falling(count, start=3.0, end=1.0):
    return [start + (end - start) * i / (count - 1) for i in range(count)]


def noise(count, size):
    """The same odd-looking numbers between -size and size on each call."""
    return [size * math.sin(12.9898 * i * i) for i in range(count)]


def kinds(state):
    return [hint.kind for hint in hints(state)]


@given(
    count=st.integers(0, 300),
    start=st.floats(1.5, 12),
    share=st.floats(0.2, 0.7),
    rate=st.floats(1e-6, 1e-2),
    norm=st.floats(1e-3, 100),
)
def test_a_good_run_gets_no_hint(count, start, share, rate, norm):
    losses = [start * share ** (i / 100) for i in range(count)]
    state = run_of([max(loss, 0.25) for loss in losses if loss > 0.25], rate=[rate] * count, norm=[norm] * count)
    for number in range(0, count, 50):
        state.advance(e.Evaluated(step=number, loss=start - number / 1000, num_supervised=9))
    state.advance(CARD)
    state.advance(e.MemoryMeasured(step=1, process_bytes=20_000_000_000))
    assert hints(state) == []


@given(st.lists(any_event, max_size=60))
def test_any_events_leave_the_hints_standing(events):
    hints(RunState.replay(events))


@given(
    st.lists(st.floats(width=64), min_size=30, max_size=160),
    st.lists(st.floats(width=64), max_size=6),
    st.floats(width=64),
)
def test_numbers_that_are_none_never_stop_them(losses, evaluations, odd):
    state = run_of(losses, list(enumerate(evaluations)), norm=losses, rate=[odd] * len(losses))
    assert all("nan" not in hint.message + hint.reason for hint in hints(state))


def test_a_nan_amid_a_good_curve_says_nothing_and_hides_nothing():
    losses = falling(100)
    losses[60] = math.nan
    assert kinds(run_of(losses)) == []
    climbed = falling(100) + [math.inf] + [4.0] * 20
    assert kinds(run_of(climbed)) == [HintKind.DIVERGING]


# --- each on its own curve, and not on its neighbour ---------------------------------------------------------------


def test_a_loss_far_above_its_best_for_long_is_diverging():
    state = run_of(falling(80) + [3.5] * 20)
    (hint,) = hints(state)
    assert hint.kind is HintKind.DIVERGING
    assert "1.1" in hint.reason
    assert "3.50 for 20 steps" in hint.reason
    assert "6.7e-05" in hint.advice
    assert kinds(run_of(falling(80) + [3.5] * 14)) == []
    assert kinds(run_of(falling(80) + [1.4] * 20)) == []


def test_noise_is_not_divergence_and_does_not_hide_it():
    quiet = [loss + wobble for loss, wobble in zip(falling(300), noise(300, 0.8), strict=True)]
    assert HintKind.DIVERGING not in kinds(run_of(quiet))
    assert HintKind.DIVERGING in kinds(run_of(quiet + [9.0 + wobble for wobble in noise(20, 0.8)]))


def test_a_run_that_only_ever_climbs_is_diverging():
    assert kinds(run_of([2.0 + 0.2 * i for i in range(40)])) == [HintKind.DIVERGING]


RISEN = [(10, 1.5), (20, 1.3), (30, 1.35), (40, 1.4), (50, 1.5)]


def test_an_evaluation_that_rises_thrice_while_the_loss_falls_is_memorising():
    state = run_of(falling(50), RISEN)
    state.advance(e.CheckpointSaved(step=20, path="checkpoints/step-000020", bytes=9, is_best=True))
    (hint,) = hints(state)
    assert (hint.kind, hint.checkpoint) == (HintKind.MEMORISING, 20)
    assert "Best was step 20" in hint.message
    assert "1.300 at step 20 to 1.500 at step 50" in hint.reason


@pytest.mark.parametrize(
    ("losses", "evaluations"),
    [
        (falling(50), RISEN[:-1]),
        (falling(50), [*RISEN[:-1], (50, 1.4)]),
        (falling(50, 1.0, 1.2), RISEN),
        (falling(50), [(step, 1.3 + number / 1e4) for number, (step, _) in enumerate(RISEN)]),
    ],
)
def test_two_rises_or_a_level_or_rising_loss_or_a_trifle_are_not(losses, evaluations):
    assert kinds(run_of(losses, evaluations)) == []


def test_a_loss_without_gain_for_a_hundred_steps_is_a_plateau():
    recipe = Recipe.model_validate({"adapter": {"rank": 24}})
    state = run_of(falling(50) + [1.2 + wobble for wobble in noise(100, 0.01)])
    (hint,) = hints(state, recipe)
    assert hint.kind is HintKind.PLATEAU
    assert "(24 now)" in hint.advice
    assert "add targets" in hint.advice
    assert "1.200" in hint.reason
    assert "51 to 100" in hint.reason


@pytest.mark.parametrize(
    ("losses", "rates"),
    [
        (falling(50) + [1.2] * 49, [2e-4] * 99),
        (falling(50) + falling(100, 1.2, 1.17), [2e-4] * 150),
        (falling(50) + [1.2] * 100, [2e-4] * 100 + [0.9e-4] * 50),
    ],
)
def test_a_short_one_a_slow_gain_or_a_lowered_rate_are_none(losses, rates):
    assert kinds(run_of(losses, rate=rates)) == []


def test_a_loss_that_stays_high_after_it_climbed_is_no_plateau():
    assert kinds(run_of(falling(50) + [6.0] * 120)) == [HintKind.DIVERGING]


def test_three_jumps_of_the_gradient_are_told_and_two_are_not():
    norms = [0.5] * 100
    for number in (40, 60, 80):
        norms[number] = 6.0
    (hint,) = hints(run_of(falling(100), norm=norms))
    assert hint.kind is HintKind.SPIKES
    assert "3 of the last 80 steps" in hint.reason
    assert "usual 0.5" in hint.reason
    norms[80] = 4.9
    assert kinds(run_of(falling(100), norm=norms)) == []
    warming_up = [50.0] * 20 + [0.5] * 80
    assert kinds(run_of(falling(100), norm=warming_up)) == []


@pytest.mark.parametrize(("held", "found"), [(23_280_000_000, [HintKind.MEMORY]), (23_279_000_000, [])])
def test_a_card_within_three_hundredths_of_its_limit(held, found):
    state = run_of(falling(10))
    state.advance(CARD)
    state.advance(e.MemoryMeasured(step=10, process_bytes=held))
    assert kinds(state) == found
    assert not found or "23.3 GB of 24.0 GB, 97.0%" in hints(state)[0].reason


def test_a_run_that_lost_two_fifths_of_its_speed():
    slow = [9.0] + [1.0] * 40 + [1.7] * 20
    (hint,) = hints(run_of(falling(61), seconds=slow))
    assert hint.kind is HintKind.THROUGHPUT
    assert "41% slower" in hint.message
    assert "1,000 tokens a second at first and 588" in hint.reason
    assert kinds(run_of(falling(61), seconds=[9.0] + [1.0] * 40 + [1.6] * 20)) == []
    hiccups = [30.0 if number % 7 == 0 else 1.0 for number in range(61)]
    assert kinds(run_of(falling(61), seconds=hiccups)) == []


@pytest.mark.parametrize(("loss", "found"), [(0.19, [HintKind.LOW_LOSS]), (0.2, [])])
def test_a_training_loss_that_is_very_low(loss, found):
    assert kinds(run_of(falling(60) + [loss] * 20)) == found
    assert kinds(run_of(falling(60) + [loss] * 10)) == []


# --- dismissing ----------------------------------------------------------------------------------------------------


def test_a_suspicion_keeps_its_id_for_as_long_as_it_lasts_and_a_new_one_has_another():
    state = run_of(falling(60), RISEN)
    (first,) = hints(state)
    state.advance(e.Evaluated(step=60, loss=1.6, num_supervised=9))
    (same,) = hints(state)
    assert same.id == first.id
    assert same.reason != first.reason
    for number, loss in ((70, 1.2), (80, 1.25), (90, 1.3), (100, 1.35)):
        state.advance(e.Evaluated(step=number, loss=loss, num_supervised=9))
    for number, loss in enumerate(falling(40, 1.0, 0.5), start=61):
        state.advance(step(number, loss))
    (other,) = hints(state)
    assert other.id != first.id
