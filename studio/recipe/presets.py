"""Starting points: three amounts of effort, and a first recipe for a style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from studio.recipe.fields import replaced
from studio.recipe.recipe import Base, Data, Recipe


def quick(recipe: Recipe) -> Recipe:
    """One pass with a small overlay: shows in minutes whether the data teaches what it should."""
    return _with_effort(recipe, epochs=1, rank=8, learning_rate=3e-4)


def balanced(recipe: Recipe) -> Recipe:
    """What suits most styles and formats."""
    return _with_effort(recipe, epochs=3, rank=16, learning_rate=2e-4)


def thorough(recipe: Recipe) -> Recipe:
    """More room and smaller corrections, for a skill rather than a tone; takes longest."""
    return _with_effort(recipe, epochs=5, rank=64, learning_rate=1e-4)


PRESETS: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {"quick": quick, "balanced": balanced, "thorough": thorough}
)


def matching(recipe: Recipe) -> str | None:
    """The name of the preset that would change nothing, None if the settings are the user's own."""
    return next((name for name, preset in PRESETS.items() if preset(recipe) == recipe), None)


def for_style(base_id: str, data_path: str, name: str) -> Recipe:
    """The recipe a newcomer starts from: a style or format, balanced."""
    return balanced(Recipe(name=name, base=Base(id=base_id), data=Data(path=data_path)))


def _with_effort(recipe: Recipe, *, epochs: int, rank: int, learning_rate: float) -> Recipe:
    recipe = replaced(recipe, "training.epochs", epochs)
    recipe = replaced(recipe, "adapter.rank", rank)
    recipe = replaced(recipe, "adapter.alpha", 2 * rank)
    return replaced(recipe, "training.learning_rate", learning_rate)
