"""What the window draws as planned is what the engine's schedule then does."""

from __future__ import annotations

import pytest
import torch

from studio.engine.train import make_rate
from studio.recipe.fields import replaced
from studio.recipe.rate import planned_rate
from studio.recipe.recipe import Recipe


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.5])
def test_each_planned_rate_is_the_one_that_is_taken(schedule: str, warmup: float) -> None:
    recipe = replaced(replaced(Recipe(), "training.schedule", schedule), "training.warmup_fraction", warmup)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=recipe.training.learning_rate)
    rate = make_rate(recipe, optimizer, 37)
    for step in range(1, 38):
        assert planned_rate(recipe.training, 37, step) == pytest.approx(rate.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        rate.step()
