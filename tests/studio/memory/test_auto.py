"""Checkpointing left to us: no layer more is recomputed than the card asks for."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.memory.auto import settled, words
from studio.memory.budget import budget, verdict
from studio.memory.fit import fit, spare
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
    assert replaced(found, "memory.checkpointing", "auto") == left_to_us
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
    stated = recipe(memory={"checkpointing": kind})
    assert settled(model(), stated, 24 * GIB) == stated
    assert words(stated, budget(model(), stated)) == ""


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
