import pytest
from hypothesis import given

from studio.recipe.check import check
from studio.recipe.fields import replaced
from studio.recipe.presets import PRESETS, balanced, for_style, matching, quick, thorough
from studio.recipe.recipe import Recipe
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
