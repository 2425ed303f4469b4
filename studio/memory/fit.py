"""Settings that make a recipe fit a card, changing what costs least quality first. Pure and fast: no torch, no disk.

The rule. Settings that cost no quality (`ladder.FREE`) are changed until the verdict is "fits". If all of them together
cannot reach that, "tight" is good enough. Only if even that is out of reach is quality given up (`ladder.QUALITY`), and
then no more of it than "tight" needs. Of each setting the smallest sufficient step is taken, and whatever a later
change has made unnecessary is undone, the dearest first: no change of the result can be taken back, nor made any
smaller, without missing the verdict. The rows of an optimizer step are never touched.

Checkpointing that is `auto` counts as all layers here: it gives way to whatever else needs the card, and a recipe that says
`auto` is over only where not even that helps. Some dozens of estimates are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from studio.errors import RecipeError
from studio.memory.auto import settled
from studio.memory.budget import Budget, budget, verdict
from studio.memory.ladder import FREE, LADDER, QUALITY, SPARE, Change, Rung, applied
from studio.memory.search import Room, Values, first, last, lowered, never, relaxed
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe

__all__ = ["BaseFit", "Change", "Fit", "bases_that_fit", "fit", "fixes", "spare"]

Need = Literal["nothing", "time", "quality", "smaller base"]
"""What a base asks of a recipe: that nothing changes, that it takes longer, that it learns less, or it is too large."""


@dataclass(frozen=True)
class Fit:
    """A recipe that fits, and what was changed for it, in the order of the ladder.

    `budget` is the estimate for `recipe`. If nothing makes it fit, `fits` is False, the recipe is the one that was given
    and `changes` is empty. `advice` is a sentence on what else to do, "" if nothing.
    """

    recipe: Recipe
    changes: tuple[Change, ...]
    budget: Budget
    fits: bool
    advice: str


@dataclass(frozen=True)
class BaseFit:
    """How a base would do with a recipe: its estimate as it would be run on the card, its verdict, and what has to be given."""

    name: str
    facts: ModelFacts
    budget: Budget
    verdict: str
    needs: Need
    changes: tuple[Change, ...]


def fixes(
    facts: ModelFacts,
    recipe: Recipe,
    card_bytes: int,
    other_bytes: int = 0,
    correction_bytes: int = 0,
    row_tokens: Sequence[int] | None = None,
) -> tuple[Change, ...]:
    """Every single change that saves memory now, what costs least quality first: one per setting.

    Each is the mildest that makes the recipe fit by itself, else the strongest there is; of what costs quality a small
    step only. Raises `RecipeError` if a target is no module of this model.
    """
    room = Room(facts, recipe, card_bytes, other_bytes, correction_bytes)
    found = []
    for rung in LADDER:
        choices = rung.choices(facts, recipe)
        if choices:
            change = room.change(recipe, rung.field, _offered(room, rung, choices), row_tokens)
            found += [change] if change.saves_bytes > 0 else []
    return tuple(found)


def fit(
    facts: ModelFacts,
    recipe: Recipe,
    card_bytes: int,
    other_bytes: int = 0,
    correction_bytes: int = 0,
    row_tokens: Sequence[int] | None = None,
) -> Fit:
    """What must change for the recipe to fit, by the rule above.

    Applying `changes` one after the other gives the fitted recipe; each saving is that of its own step. Raises
    `RecipeError` if a target is no module of this model.
    """
    room = Room(facts, recipe, card_bytes, other_bytes, correction_bytes)
    if room.roomy(recipe):
        return Fit(recipe, (), room.budget(recipe), fits=True, advice="")
    floor = lowered(room, {}, FREE, never)
    given_up: Values = {}
    if not room.bearable(room.with_values(floor)):
        floor = lowered(room, floor, QUALITY, room.bearable)
        if not room.bearable(room.with_values(floor)):
            return Fit(recipe, (), room.budget(recipe), fits=False, advice=room.smaller_base(room.with_values(floor)))
        floor = relaxed(room, floor, QUALITY, room.bearable)
        given_up = {rung.field: floor[rung.field] for rung in QUALITY if rung.field in floor}
    meets = room.roomy if room.roomy(room.with_values(floor)) else room.bearable
    values = lowered(room, given_up, FREE, meets)
    values = relaxed(room, values if meets(room.with_values(values)) else floor, FREE, meets)
    fitted = room.with_values(values)
    return Fit(fitted, room.changes(values, row_tokens), room.budget(fitted), fits=True, advice=room.advice(fitted))


def spare(
    facts: ModelFacts,
    recipe: Recipe,
    card_bytes: int,
    other_bytes: int = 0,
    correction_bytes: int = 0,
    row_tokens: Sequence[int] | None = None,
) -> tuple[Change, ...]:
    """What the memory to spare can buy, one change per setting, each alone and each with the verdict still "fits".

    The longest rows (a multiple of 256 tokens, no longer than the base reads nor, if `row_tokens` is known, than the
    longest row needs), the largest micro-batch, the fewest checkpointed layers. Empty if nothing is to spare.
    """
    room = Room(facts, recipe, card_bytes, other_bytes, correction_bytes)
    if not room.roomy(recipe):
        return ()
    found = []
    for rung in SPARE:
        choices = rung.choices(facts, recipe)
        if rung.field == "data.max_tokens" and row_tokens:
            choices = _useful(choices, recipe.data.max_tokens, max(row_tokens))
        most = last(choices, room.trial(rung.field, room.roomy))
        if most is not None:
            found.append(room.change(recipe, rung.field, most, row_tokens))
    return tuple(found)


def bases_that_fit(
    entries: Iterable[tuple[str, ModelFacts]],
    recipe: Recipe,
    card_bytes: int,
    other_bytes: int = 0,
    correction_bytes: int = 0,
) -> tuple[BaseFit, ...]:
    """Each base with this recipe: what it takes, and what has to change for it to fit.

    A base that reads shorter texts than the recipe's rows is reckoned with rows of that length, and one without the
    recipe's target modules with all of its linear layers.
    """
    found = []
    for name, facts in entries:
        suited = _suited(facts, recipe)
        as_run = settled(facts, suited, card_bytes, other_bytes, correction_bytes)
        needed = budget(facts, as_run, correction_bytes)
        fitted = fit(facts, suited, card_bytes, other_bytes, correction_bytes)
        judged = verdict(needed, card_bytes, other_bytes)
        changes = fitted.changes if judged == "over" else ()
        found.append(BaseFit(name, facts, needed, judged, _need(judged, fitted), changes))
    return tuple(found)


def _offered(room: Room, rung: Rung, choices: Sequence[Any]) -> Any:
    """What a button for this rung does; see `fixes`."""
    costs_quality = rung in QUALITY
    meets = room.bearable if costs_quality else room.roomy
    if not meets(room.recipe) and meets(applied(room.recipe, rung.field, choices[-1])):
        return choices[first(choices, room.trial(rung.field, meets))]
    if not costs_quality:
        return choices[-1]
    if rung.field == "data.max_tokens":
        return next((value for value in choices if value <= room.recipe.data.max_tokens * 3 / 4), choices[-1])
    return choices[0]


def _useful(choices: Sequence[int], now: int, longest: int) -> Sequence[int]:
    """Lengths up to the first that keeps the longest row whole; none if it is whole already."""
    if now >= longest:
        return ()
    enough = next((i for i, value in enumerate(choices) if value >= longest), len(choices) - 1)
    return choices[: enough + 1]


def _suited(facts: ModelFacts, recipe: Recipe) -> Recipe:
    if 0 < facts.context_tokens < recipe.data.max_tokens:
        recipe = applied(recipe, "data.max_tokens", facts.context_tokens)
    try:
        budget(facts, recipe)
    except RecipeError:
        return replaced(recipe, "adapter.targets", "all-linear")
    return recipe


def _need(judged: str, fitted: Fit) -> Need:
    if judged != "over":
        return "nothing"
    if not fitted.fits:
        return "smaller base"
    return "quality" if any(change.costs_quality for change in fitted.changes) else "time"
