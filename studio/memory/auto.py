"""What `memory.checkpointing = "auto"` comes to on one card: the fewest recomputed layers with which the run fits.

Each layer that keeps its activations saves its share of a second forward pass, and none of them changes a number. Where not
even all layers make it fit, `auto` is all of them; so it counts wherever no card is named: as the least that a recipe takes.
"""

from __future__ import annotations

from dataclasses import replace

from studio.memory.budget import Budget, budget_of, verdict
from studio.memory.search import first
from studio.memory.setup import Setup
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe


def settled(
    facts: ModelFacts, recipe: Recipe, card_bytes: int, other_bytes: int = 0, correction_bytes: int = 0
) -> Recipe:
    """The recipe with what `auto` comes to on a card of `card_bytes` in its place; any other recipe as it is.

    `other_bytes` are held by other programs, `correction_bytes` is what earlier runs on the card have taught. Some seven
    estimates are made, which share their rehearsal. Raises `RecipeError` if a target is no module of this model.
    """
    if recipe.memory.checkpointing != "auto":
        return recipe
    setup = Setup.of(facts, recipe)

    def fits(count: int) -> bool:
        found = budget_of(facts, replace(setup, checkpointed_layers=count), correction_bytes)
        return verdict(found, card_bytes, other_bytes) == "fits"

    # More layers never take more memory, save where there are one or two of them.
    count = 0 if fits(0) else first(range(facts.num_layers + 1), fits)
    return replaced(recipe, "memory.checkpointing", {0: "none", facts.num_layers: "all"}.get(count, count))


def words(recipe: Recipe, found: Budget) -> str:
    """What became of `auto`: `auto: 18 of 32 layers recomputed`; "" for a recipe that says itself how many."""
    if recipe.memory.checkpointing != "auto":
        return ""
    return f"auto: {found.num_checkpointed} of {found.num_layers} layers recomputed"
