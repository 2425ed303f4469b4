"""The search behind `studio.memory.fit`: down a ladder of settings until the estimate meets a wish, and back up again.

It rests on the estimate never rising from one choice of a rung to the next, so that each rung is searched by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.files import readable_bytes
from studio.memory.budget import Budget, budget, verdict
from studio.memory.ladder import LADDER, Change, Rung, applied
from studio.memory.prices import price
from studio.models.facts import ModelFacts
from studio.recipe.check import check
from studio.recipe.fields import get
from studio.recipe.recipe import Recipe

Meets = Callable[[Recipe], bool]
Values = dict[str, Any]


@dataclass(frozen=True)
class Room:
    """One recipe, one model and the memory there is for them. What was reckoned once is remembered."""

    facts: ModelFacts
    recipe: Recipe
    card_bytes: int
    other_bytes: int
    correction_bytes: int
    _budgets: dict[Recipe, Budget] = field(default_factory=dict)
    _variants: dict[tuple[Recipe, str, Any], Recipe] = field(default_factory=dict)

    def with_values(self, values: Mapping[str, Any], until: str = "") -> Recipe:
        """The recipe with these settings changed in the order of the ladder, those from the field `until` on left out."""
        recipe = self.recipe
        for rung in LADDER:
            if rung.field == until:
                break
            if rung.field in values:
                key = (recipe, rung.field, values[rung.field])
                if key not in self._variants:
                    self._variants[key] = applied(*key)
                recipe = self._variants[key]
        return recipe

    def budget(self, recipe: Recipe) -> Budget:
        """The estimate for a variant of the recipe."""
        if recipe not in self._budgets:
            self._budgets[recipe] = budget(self.facts, recipe, self.correction_bytes)
        return self._budgets[recipe]

    def verdict(self, recipe: Recipe) -> str:
        """Its verdict on this card."""
        return verdict(self.budget(recipe), self.card_bytes, self.other_bytes)

    def roomy(self, recipe: Recipe) -> bool:
        """Whether it fits well."""
        return self.verdict(recipe) == "fits" and self._sound(recipe)

    def bearable(self, recipe: Recipe) -> bool:
        """Whether it fits, be it tightly."""
        return self.verdict(recipe) != "over" and self._sound(recipe)

    def _sound(self, recipe: Recipe) -> bool:
        """No change may bring a contradiction into the recipe."""
        return len(check(recipe, self.facts)) <= len(check(self.recipe, self.facts))

    def trial(self, path: str, meets: Meets) -> Callable[[Any], bool]:
        """Whether the recipe with that value in this setting meets."""
        return lambda value: meets(applied(self.recipe, path, value))

    def change(self, recipe: Recipe, path: str, value: Any, row_tokens: Sequence[int] | None) -> Change:
        """One change of `recipe`, with its saving and its price."""
        after = applied(recipe, path, value)
        saves = self.budget(recipe).process_bytes - self.budget(after).process_bytes
        return Change(path, get(recipe, path), value, saves, price(self.facts, recipe, after, path, row_tokens))

    def changes(self, values: Mapping[str, Any], row_tokens: Sequence[int] | None) -> tuple[Change, ...]:
        """The changes that lead from the recipe to these values, each reckoned on the ones before it."""
        recipe, made = self.recipe, []
        for rung in LADDER:
            if rung.field in values:
                made.append(self.change(recipe, rung.field, values[rung.field], row_tokens))
                recipe = made[-1].applied_to(recipe)
        return tuple(made)

    def advice(self, fitted: Recipe) -> str:
        """What to do besides, once it fits."""
        if self.verdict(fitted) == "fits":
            return ""
        return "It will be tight: close other programs that use the card while it runs."

    def smaller_base(self, smallest: Recipe) -> str:
        """What to do when not even the smallest variant fits."""
        least = readable_bytes(self.budget(smallest).process_bytes)
        return f"Choose a smaller base: with every setting at its smallest this one still takes {least}."


def never(_recipe: Recipe) -> bool:
    """Asks for all that a ladder can give."""
    return False


def lowered(room: Room, values: Mapping[str, Any], rungs: Sequence[Rung], meets: Meets) -> Values:
    """`values` and what is set on these rungs, in order, until `meets`: on the last one the mildest that does.

    What saves nothing by itself may do so once something else is no longer the bottleneck, so that a rung without effect
    is come back to.
    """
    found, last_pass = dict(values), None
    while last_pass != found:
        last_pass = dict(found)
        for rung in rungs:
            if meets(room.with_values(found)):
                return found
            found = _down(room, found, rung, meets)
    return found


def _down(room: Room, values: Values, rung: Rung, meets: Meets) -> Values:
    """`values` with the rung's mildest choice that meets, else its strongest; unchanged if that saves nothing."""
    choices = () if rung.field in values else choices_of(room, values, rung)
    if not choices:
        return values
    lowest = {**values, rung.field: choices[-1]}
    after = room.with_values(lowest)
    if room.budget(after).process_bytes >= room.budget(room.with_values(values)).process_bytes:
        return values
    return mildest(room, lowest, rung, choices, meets) if meets(after) else lowest


def relaxed(room: Room, values: Values, rungs: Sequence[Rung], meets: Meets) -> Values:
    """`values` with each of these rungs as mild as `meets` allows, the last one relaxed first."""
    for rung in reversed(rungs):
        if rung.field not in values:
            continue
        without = {field: value for field, value in values.items() if field != rung.field}
        if meets(room.with_values(without)):
            values = without
            continue
        choices = choices_of(room, values, rung)
        milder = choices[: choices.index(values[rung.field])]
        if milder and meets(room.with_values({**values, rung.field: milder[-1]})):
            values = mildest(room, values, rung, milder, meets)
    return values


def choices_of(room: Room, values: Mapping[str, Any], rung: Rung) -> Sequence[Any]:
    """The rung's choices on the recipe as it is when its turn comes."""
    return rung.choices(room.facts, room.with_values(values, until=rung.field))


def mildest(room: Room, values: Values, rung: Rung, choices: Sequence[Any], meets: Meets) -> Values:
    """`values` with the first of the choices that meets; the last one is known to."""
    index = first(choices, lambda value: meets(room.with_values({**values, rung.field: value})))
    return {**values, rung.field: choices[index]}


def first(choices: Sequence[Any], passes: Callable[[Any], bool]) -> int:
    """Index of the first choice that passes, by halving; the last one is known to, and so are all behind the first."""
    low, high = 0, len(choices) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(choices[middle]) else (middle + 1, high)
    return high


def last(choices: Sequence[Any], passes: Callable[[Any], bool]) -> Any:
    """The last choice that passes, by halving; None if not even the first does."""
    if not choices or not (passes(choices[0]) or passes(choices[-1])):
        return None
    if passes(choices[-1]):
        return choices[-1]
    return choices[first(choices, lambda value: not passes(value)) - 1]
