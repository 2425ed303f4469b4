import pydantic
import pytest

from studio.recipe.recipe import Adapter, Data, Keep, Recipe, Training


def test_a_recipe_cannot_be_changed_in_place() -> None:
    recipe = Recipe()
    with pytest.raises(pydantic.ValidationError):
        recipe.training.epochs = 5  # type: ignore[misc]
    assert hash(recipe) == hash(Recipe())


def test_steps_replace_epochs() -> None:
    assert (Training(steps=200).epochs, Training(steps=200).steps) == (None, 200)
    assert (Training().epochs, Training().steps) == (3, None)


def test_rows_replace_tokens_in_the_micro_batch() -> None:
    assert Training(micro_batch_rows=2).micro_batch_tokens is None
    assert Training().micro_batch_tokens == 4096


@pytest.mark.parametrize("values", [{"epochs": 3, "steps": 5}, {"epochs": None}, {"micro_batch_tokens": None}])
def test_both_or_neither_of_a_pair_is_refused(values: dict[str, int | None]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Training(**values)  # type: ignore[arg-type]


def test_alpha_is_twice_the_rank_unless_it_is_said() -> None:
    assert Adapter(rank=8).alpha == 16
    assert Adapter(rank=8, alpha=32).alpha == 32


def test_a_micro_batch_holds_at_least_one_long_row() -> None:
    assert Recipe(data=Data(max_tokens=8192)).training.micro_batch_tokens == 8192
    assert Recipe(data=Data(max_tokens=512)).training.micro_batch_tokens == 4096


def test_nothing_is_evaluated_or_sampled_without_material() -> None:
    recipe = Recipe(data=Data(validation_fraction=0.0), keep=Keep(sample_prompts=()))
    assert recipe.keep.evaluate_every_steps == 0
    assert recipe.keep.sample_every_steps == 0


def test_what_follows_keeps_what_was_said_beside_it() -> None:
    recipe = Recipe(data=Data(max_tokens=8192), training=Training(steps=7, seed=3))
    assert (recipe.training.steps, recipe.training.epochs, recipe.training.seed) == (7, None, 3)
