"""Reading and changing a recipe by the path of a setting, with the table of all settings beside it."""

from __future__ import annotations

from typing import Any

from studio.recipe.recipe import ALTERNATIVES, Recipe
from studio.recipe.table import FIELDS, Field, field
from studio.recipe.validate import expected, recipe_from

__all__ = ["FIELDS", "Field", "expected", "field", "from_dict", "get", "replaced", "to_dict"]

_ALTERNATIVE = {f"training.{one}": other for pair in ALTERNATIVES for one, other in (pair, (pair[1], pair[0]))}


def get(recipe: Recipe, path: str) -> Any:
    """The value of the setting at `path`, such as `training.epochs`."""
    value: Any = recipe
    for part in field(path).path.split("."):
        value = getattr(value, part)
    return value


def replaced(recipe: Recipe, path: str, value: Any) -> Recipe:
    """The recipe with one setting changed, and with it what follows that setting.

    Setting `steps` clears `epochs` and the reverse, likewise the micro-batch in tokens or rows; None takes such a
    setting back. `alpha` follows `rank` for as long as it is twice the rank. Raises `RecipeError` if the value is of
    the wrong kind or size; contradictions with other settings are left to `check`.
    """
    entry = field(path)
    values = to_dict(recipe)
    section = values[entry.section] if entry.section else values
    if entry.optional:
        section.pop(entry.key, None)
        if value is not None:
            section.pop(_ALTERNATIVE[path], None)
    if path == "adapter.rank" and recipe.adapter.alpha == 2 * recipe.adapter.rank:
        del section["alpha"]
    if value is not None or not entry.optional:
        section[entry.key] = value
    return recipe_from(values, whole=False)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, keyed like the file; what is not set is left out."""
    return recipe.model_dump(mode="json", by_alias=True, exclude_none=True)


def from_dict(values: dict[str, Any], source: str = "the recipe") -> Recipe:
    """What `to_dict` gave. Raises `RecipeError` with all that is wrong with it."""
    return recipe_from(values, source)
