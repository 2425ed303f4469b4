import pytest
from hypothesis import given

from studio.recipe.check import check
from studio.recipe.fields import replaced
from studio.recipe.presets import EXAMPLES, PRESETS, balanced, for_style, matching, quick, thorough, tour
from studio.recipe.recipe import Recipe
from studio.recipe.toml import resolve_data
from tests.studio.recipe.strategies import recipes


def test_balanced_is_where_a_recipe_starts() -> None:
    assert balanced(Recipe()) == Recipe()
    assert list(PRESETS) == ["quick", "balanced", "thorough"]


def test_more_effort_is_more_work_with_smaller_corrections() -> None:
    efforts = [preset(Recipe()) for preset in (quick, balanced, thorough)]
    passes = [recipe.training.epochs or 0 for recipe in efforts]
    assert passes == sorted(set(passes))
    ranks = [recipe.adapter.rank for recipe in efforts]
    assert ranks == sorted(set(ranks))
    rates = [recipe.training.learning_rate for recipe in efforts]
    assert rates == sorted(set(rates), reverse=True)


@pytest.mark.parametrize("name", PRESETS)
@given(recipe=recipes())
def test_a_preset_leaves_base_and_data_alone_and_is_recognised(name: str, recipe: Recipe) -> None:
    result = PRESETS[name](recipe)
    assert (result.name, result.base, result.data, result.keep) == (recipe.name, recipe.base, recipe.data, recipe.keep)
    assert matching(result) == name


def test_a_setting_of_ones_own_matches_no_preset() -> None:
    assert matching(replaced(Recipe(), "training.epochs", 2)) is None


def test_a_first_recipe_can_run() -> None:
    recipe = for_style("starter", "/data/rows.jsonl", "pirate")
    assert (recipe.base.id, recipe.data.path, recipe.name) == ("starter", "/data/rows.jsonl", "pirate")
    assert check(recipe, num_rows=200) == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_tour_can_run_on_each_example_and_shows_answers_before_its_end(example: str) -> None:
    recipe = tour(example)
    data = resolve_data(recipe.data.path, None)
    assert data.stem == example
    assert check(recipe, num_rows=len(data.read_text(encoding="utf-8").splitlines())) == []
    assert recipe.training.steps is not None
    assert 0 < recipe.keep.sample_every_steps < recipe.training.steps
    assert recipe.keep.sample_prompts


def test_the_tour_corrects_more_boldly_than_what_suits_larger_bases() -> None:
    assert tour().training.learning_rate > max(preset(Recipe()).training.learning_rate for preset in PRESETS.values())
