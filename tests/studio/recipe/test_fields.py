import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.recipe.fields import FIELDS, Field, field, from_dict, get, replaced, to_dict
from studio.recipe.recipe import Adapter, Recipe
from tests.studio.recipe.strategies import recipes, values_of

PURE_NUMBERS = ("rank", "alpha", "learning_rate", "weight_decay", "seed")


@pytest.mark.parametrize("entry", FIELDS, ids=lambda entry: entry.path)
def test_every_setting_can_be_shown(entry: Field) -> None:
    assert entry.label
    assert entry.group
    assert entry.raw_name
    assert entry.help.count(".") >= 3
    assert entry.level in ("basic", "expert")
    if entry.kind in ("int", "float") and entry.key not in PURE_NUMBERS:
        assert entry.unit
    if entry.kind in ("int", "float"):
        assert entry.minimum is not None
        assert entry.maximum is not None


def test_help_speaks_of_memory() -> None:
    assert [entry.path for entry in FIELDS if "memory" not in entry.help and "bytes" not in entry.help] == []


def test_the_table_holds_what_a_recipe_holds() -> None:
    def paths(values: dict[str, object], prefix: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            found |= paths(value, f"{key}.") if isinstance(value, dict) else {prefix + key}
        return found

    there = paths(Recipe().model_dump(exclude={"schema_version"}))
    assert {entry.path for entry in FIELDS} == there


def test_labels_and_raw_names_are_told_apart() -> None:
    assert len({entry.label for entry in FIELDS}) == len(FIELDS)
    assert len({entry.raw_name for entry in FIELDS}) == len(FIELDS)


def test_a_newcomer_sees_few_settings() -> None:
    basic = [entry.path for entry in FIELDS if entry.level == "basic" and entry.group == "Training"]
    assert sorted(basic) == sorted(
        [
            "training.epochs",
            "training.learning_rate",
            "data.max_tokens",
            "training.batch_rows",
            "adapter.rank",
            "training.seed",
        ]
    )


def test_kinds_and_bounds_come_from_the_declaration() -> None:
    rate, layers, targets = field("training.learning_rate"), field("memory.checkpointing"), field("adapter.targets")
    assert (rate.kind, rate.minimum, rate.maximum, rate.default) == ("float", 1e-8, 0.1, 2e-4)
    assert (layers.kind, layers.choices, layers.other, layers.minimum) == ("choice", ("auto", "all", "none"), "int", 1)
    assert (targets.kind, targets.choices, targets.other) == ("choice", ("all-linear", "attention"), "list")
    assert field("training.epochs").optional
    assert field("keep.sample_prompts").kind == "list"
    assert field("data.packing").kind == "bool"


@given(recipe=recipes(), data=st.data())
def test_what_is_put_in_comes_out(recipe: Recipe, data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(FIELDS))
    value = data.draw(values_of(entry))
    got = get(replaced(recipe, entry.path, value), entry.path)
    assert got == (tuple(value) if isinstance(value, list) else value)


@given(recipe=recipes())
def test_a_recipe_survives_a_dictionary(recipe: Recipe) -> None:
    assert Recipe.model_validate(to_dict(recipe)) == recipe


def test_replacing_one_of_a_pair_clears_the_other_and_back() -> None:
    stepped = replaced(Recipe(), "training.steps", 200)
    assert (stepped.training.epochs, stepped.training.steps) == (None, 200)
    assert replaced(stepped, "training.steps", None) == Recipe()
    assert replaced(stepped, "training.epochs", 3) == Recipe()


def test_alpha_follows_the_rank_until_it_is_untied() -> None:
    assert replaced(Recipe(), "adapter.rank", 8).adapter.alpha == 16
    untied = Recipe(adapter=Adapter(rank=16, alpha=16))
    assert replaced(untied, "adapter.rank", 8).adapter.alpha == 16


def test_a_value_out_of_range_is_refused_in_plain_words() -> None:
    with pytest.raises(RecipeError) as caught:
        replaced(Recipe(), "adapter.rank", 0)
    (problem,) = caught.value.problems
    assert problem.field == "adapter.rank"
    assert "0 is not a whole number from 1 to 1024" in problem.message
    assert "16" in problem.fix


def test_replacing_leaves_contradictions_to_the_check() -> None:
    assert replaced(Recipe(), "data.max_tokens", 8192).data.max_tokens == 8192


def test_a_dictionary_with_mistakes_is_refused() -> None:
    with pytest.raises(RecipeError):
        from_dict({**to_dict(Recipe()), "colour": "red"})
