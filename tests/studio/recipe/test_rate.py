"""The planned learning rate, as it is drawn before it happens."""

from __future__ import annotations

import pytest

from studio.recipe.rate import planned_rate, planned_rates
from studio.recipe.recipe import Recipe
from studio.recipe.run_sections import Training


def training(**changes: object) -> Training:
    return Recipe().training.model_copy(update={"learning_rate": 2e-4, "warmup_fraction": 0.1, **changes})


@pytest.mark.parametrize(("schedule", "middle", "last"), [("constant", 2e-4, 2e-4), ("linear", 1e-4, 2e-4 / 90)])
def test_a_rate_climbs_from_zero_and_follows_its_curve(schedule: str, middle: float, last: float) -> None:
    plan = training(schedule=schedule)
    assert planned_rate(plan, 100, 1) == 0
    assert planned_rate(plan, 100, 6) == pytest.approx(1e-4)
    assert planned_rate(plan, 100, 11) == pytest.approx(2e-4)
    assert planned_rate(plan, 100, 56) == pytest.approx(middle)
    assert planned_rate(plan, 100, 100) == pytest.approx(last)


def test_a_long_plan_is_drawn_with_few_points_and_keeps_its_corner() -> None:
    steps, rates = planned_rates(training(schedule="linear"), 12_345)
    assert len(steps) < 410
    assert steps[0] == 1
    assert steps[-1] == 12_345
    assert max(rates) == pytest.approx(2e-4)
    assert steps == sorted(set(steps))
    assert planned_rates(training(), 0) == ([], [])
