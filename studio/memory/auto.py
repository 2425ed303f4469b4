"""What the recipe's `auto` comes to on one card: the fastest with which the run fits. None of it changes a number.

`memory.checkpointing`: each layer that keeps its activations saves its share of a second forward pass. Where not even all layers
make it fit, `auto` is all of them. `memory.reuse_weights`: a recomputed layer that keeps its weights unpacked until its gradients
are made saves one unpacking in three. That is worth less than a layer's second pass, so it gets what memory is left. Wherever no
card is named, `auto` counts as the least that a recipe takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from studio.memory.budget import Budget, budget_of, verdict
from studio.memory.search import first
from studio.memory.setup import Setup, reuses_weights
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
    setup = Setup.of(facts, recipe)

    def found(**changes: Any) -> Budget:
        return budget_of(facts, replace(setup, **changes), correction_bytes)

    def fits(count: int) -> bool:
        return verdict(found(checkpointed_layers=count), card_bytes, other_bytes) == "fits"

    if recipe.memory.checkpointing == "auto":
        # More layers never take more memory, save where there are one or two of them.
        count = 0 if fits(0) else first(range(facts.num_layers + 1), fits)
        setup = replace(setup, checkpointed_layers=count)
        recipe = replaced(recipe, "memory.checkpointing", {0: "none", facts.num_layers: "all"}.get(count, count))
    if recipe.memory.reuse_weights == "auto":
        always = replaced(recipe, "memory.reuse_weights", "always")
        taken = found(reuse_weights=reuses_weights(always))
        # Where another moment decides, it costs nothing.
        has_room = verdict(taken, card_bytes, other_bytes) == "fits" or taken.process_bytes <= found().process_bytes
        recipe = always if has_room else replaced(recipe, "memory.reuse_weights", "never")
    return recipe


def words(recipe: Recipe, found: Budget) -> str:
    """What became of `auto`: `auto: 18 of 32 layers recomputed`; "" for a recipe that says itself how many."""
    if recipe.memory.checkpointing != "auto":
        return ""
    return f"auto: {found.num_checkpointed} of {found.num_layers} layers recomputed"
