"""Starting points: three amounts of effort, a first recipe for a style, and a tour on the small base of the studio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from studio.recipe.fields import from_dict, replaced
from studio.recipe.recipe import Base, Data, Recipe

STARTER = "starter"
"""The small base that comes with the studio (SmolLM2-135M-Instruct)."""
EXAMPLES = ("pirate", "json", "laconic")
"""The datasets that come with the studio, each a style or a format."""
TOUR_STEPS = 48  # four times through an example: about three minutes on two slow cores


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


def tour(example: str = EXAMPLES[0], steps: int = TOUR_STEPS) -> Recipe:
    """A recipe that shows an effect within minutes, on a processor too: one of `EXAMPLES` on the starter.

    The rate is three times that of `balanced`, which suits bases of some thousand channels. The best rate of Adam falls as a
    model grows wider (Yang et al. 2022, Tensor Programs V), and the starter has 576 channels: at 2e-4 its answers hardly
    change in so few steps.
    """
    return from_dict(
        {
            "schema": 1,
            "name": example,
            "base": {"id": STARTER},
            "data": {"path": f"examples/{example}.jsonl", "validation_fraction": 0.05, "max_tokens": 512},
            "adapter": {"rank": 16},
            "training": {"steps": steps, "batch_rows": 8, "learning_rate": 6e-4},
            "keep": {"sample_prompts": ["Why is the sky blue?"], "sample_every_steps": 20},
        }
    )


def _with_effort(recipe: Recipe, *, epochs: int, rank: int, learning_rate: float) -> Recipe:
    recipe = replaced(recipe, "training.epochs", epochs)
    recipe = replaced(recipe, "adapter.rank", rank)
    recipe = replaced(recipe, "adapter.alpha", 2 * rank)
    return replaced(recipe, "training.learning_rate", learning_rate)
