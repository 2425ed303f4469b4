"""Numbers that must not drift: the losses of a short run, to five digits. A change of them is a change of what is learnt."""

import pytest

from studio.runs.state import RunState
from tests.studio.engine.test_train import recipe, run_it

# Llama of 2 layers, width 64, seed 0; ten rows, two held out; rank 4, rate 1e-2, cosine, batch 3, packed, fp32, no dropout.
LOSSES = [
    6.223058,
    6.284442,
    6.283819,
    5.659018,
    5.359786,
    5.518461,
    5.052227,
    5.024297,
    4.647130,
    4.558621,
    4.707476,
    4.655647,
]
EVALUATIONS = [6.277618, 6.207889, 6.061310, 5.884714, 5.737197, 5.671328, 5.656865]


def test_the_losses_of_a_short_run_are_what_they_always_were(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file, base__quantisation="none", adapter__dropout=0.0, training__epochs=4)
    run, _, _ = run_it(workspace, made)
    state: RunState = run.state()
    assert [loss for _, loss in state.losses] == pytest.approx(LOSSES, rel=3e-5)
    assert [found.loss for found in state.evaluations] == pytest.approx(EVALUATIONS, rel=3e-5)
