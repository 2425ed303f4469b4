"""The demo's recipes can be run: the journey itself is a slow test."""

import pytest

from studio.cli.commands_demo import demo_recipe
from studio.recipe.check import check
from studio.recipe.presets import EXAMPLES, tour


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_demo_and_the_tour_have_nothing_to_mend(example):
    assert check(demo_recipe(example, 8)) == []
    assert check(tour(example)) == []
    assert demo_recipe(example, 8).training.steps == 8
    assert demo_recipe(example, 8).keep.sample_prompts == ()
