"""What is left to us: no layer more is recomputed than the card asks for, and unpacked weights stay where there is room left."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.memory.auto import settled, words
from studio.memory.budget import budget, verdict
from studio.memory.fit import fit, spare
from studio.memory.setup import reuses_weights
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from tests.studio.memory.test_fit import GIB, MODELS, model, recipe, recipes


def with_layers(which: Recipe, count: int, facts: ModelFacts) -> Recipe:
    return replaced(which, "memory.checkpointing", {0: "none", facts.num_layers: "all"}.get(count, count))


def judged(facts: ModelFacts, which: Recipe, *limits: int) -> str:
    return verdict(budget(facts, which, limits[2] if len(limits) > 2 else 0), *limits[:2])


@settings(max_examples=150, deadline=None)
@given(MODELS, recipes(), st.integers(1, 100), st.integers(0, 4 * GIB), st.integers(-GIB, GIB))
def test_one_layer_less_would_not_fit(
    facts: ModelFacts, start: Recipe, gib: int, other_bytes: int, correction_bytes: int
) -> None:
    limits = gib * GIB, other_bytes, correction_bytes
    left_to_us = replaced(start, "memory.checkpointing", "auto")
    found = settled(facts, left_to_us, *limits)
    assert found.memory.reuse_weights in ("always", "never")
    assert replaced(replaced(found, "memory.checkpointing", "auto"), "memory.reuse_weights", "auto") == left_to_us
    # The weights take nothing that a layer could have had, nor what the card has not.
    found = replaced(found, "memory.reuse_weights", "never")
    count = budget(facts, found).num_checkpointed
    if count:
        assert judged(facts, with_layers(found, count - 1, facts), *limits) != "fits"
    every = judged(facts, with_layers(found, facts.num_layers, facts), *limits)
    if every == "fits":
        assert judged(facts, found, *limits) == "fits"
    elif count:
        # Nothing helps: as little memory as can be.
        assert count == facts.num_layers
        assert judged(facts, found, *limits) == judged(facts, left_to_us, *limits) == every


@settings(max_examples=50, deadline=None)
@given(MODELS, recipes(), st.integers(1, 60), st.integers(0, 40))
def test_more_memory_never_recomputes_more(facts: ModelFacts, start: Recipe, gib: int, more: int) -> None:
    left_to_us = replaced(start, "memory.checkpointing", "auto")
    small, large = (budget(facts, settled(facts, left_to_us, size * GIB)) for size in (gib, gib + more))
    assert large.num_checkpointed <= small.num_checkpointed


@pytest.mark.parametrize("kind", ["all", "none", 7])
def test_what_the_recipe_says_itself_stays(kind: str | int) -> None:
    stated = recipe(memory={"checkpointing": kind, "reuse_weights": "never"})
    assert settled(model(), stated, 24 * GIB) == stated
    assert words(stated, budget(model(), stated)) == ""


@settings(max_examples=150, deadline=None)
@given(MODELS, recipes(), st.integers(1, 100), st.integers(0, 4 * GIB), st.integers(-GIB, GIB))
def test_unpacked_weights_stay_where_that_fits_or_takes_nothing(
    facts: ModelFacts, start: Recipe, gib: int, other_bytes: int, correction_bytes: int
) -> None:
    limits = gib * GIB, other_bytes, correction_bytes
    found = settled(facts, start, *limits)
    with_them, without = (replaced(found, "memory.reuse_weights", value) for value in ("always", "never"))
    taken, needed = (budget(facts, which, correction_bytes).process_bytes for which in (with_them, without))
    has_room = judged(facts, with_them, *limits) == "fits"
    assert found == (with_them if has_room or taken <= needed else without)
    if judged(facts, without, *limits) != judged(facts, found, *limits):
        assert judged(facts, found, *limits) == "fits"


def test_on_a_card_that_is_just_large_enough_weights_are_unpacked_again() -> None:
    facts, long = model(), {"training": {"micro_batch_tokens": 16_384}}
    needed = [
        budget(facts, recipe(**long, memory={"checkpointing": "all", "reuse_weights": value})).process_bytes
        for value in ("never", "always")
    ]
    assert needed[0] < needed[1]
    found = [settled(facts, recipe(**long), round(size / 0.85) + 1).memory for size in needed]
    assert [memory.reuse_weights for memory in found] == ["never", "always"]
    # Not one layer was given up for them.
    assert found[0].checkpointing == found[1].checkpointing


@pytest.mark.parametrize(
    "sections",
    [
        {"base": {"quantisation": "int8"}},
        {"base": {"quantisation": "none"}},
        {"adapter": {"dora": True}},
        {"adapter": {"dropout": 0.1}},
        {"training": {"compile": True}},
        {"memory": {"reuse_weights": "never"}},
    ],
)
def test_where_no_weight_is_kept_none_is_counted(sections: dict[str, Any]) -> None:
    asked = {"memory": {"checkpointing": "all", "reuse_weights": "always"}}
    merged = {name: asked.get(name, {}) | sections.get(name, {}) for name in asked | sections}
    assert not reuses_weights(recipe(**merged))
    assert reuses_weights(recipe(**asked))


@pytest.mark.parametrize(
    ("size", "gib", "told"),
    [
        ("135M", 6, "auto: 0 of 30 layers recomputed"),
        ("8B", 6, "auto: 32 of 32 layers recomputed"),
        ("70B", 48, "auto: 80 of 80 layers recomputed"),
    ],
)
def test_small_models_on_large_cards_recompute_nothing(size: str, gib: int, told: str) -> None:
    facts = model(size)
    assert words(recipe(), budget(facts, settled(facts, recipe(), gib * GIB))) == told


def test_others_and_what_was_learnt_take_their_share() -> None:
    def count(*more: int) -> int:
        return budget(model(), settled(model(), recipe(), 16 * GIB, *more)).num_checkpointed

    assert count() < count(2 * GIB) < count(2 * GIB, GIB) < 32


def test_fit_gives_nothing_up_as_long_as_all_layers_would_do() -> None:
    start = recipe()
    least = budget(model(), recipe(memory={"checkpointing": "all"})).process_bytes
    card = round(least / 0.84)
    assert budget(model(), settled(model(), start, card)).num_checkpointed in (31, 32)
    assert fit(model(), start, card).changes == ()
    assert fit(model(), start, round(least / 0.99)).changes != ()
    # What is to spare it uses by itself, whatever else could be done with it.
    assert "memory.checkpointing" not in {change.field for change in spare(model(), start, 80 * GIB)}


def test_modules_that_are_not_there_are_refused() -> None:
    wrong: dict[str, Any] = {"targets": ["no_such_proj"]}
    with pytest.raises(RecipeError, match="no_such_proj"):
        settled(model(), recipe(adapter=wrong), 24 * GIB)
