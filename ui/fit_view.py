"""What a fit test has shown so far, and whether it still says anything about the recipe. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from studio.recipe.fields import FIELDS, get
from studio.recipe.recipe import Recipe
from studio.runs import events as e

# How long a run is, not how large or slow its steps are.
LENGTH = ("training.epochs", "training.steps", "data.validation_fraction")
# Settings that neither the memory nor the time of a step depends on.
_IMMATERIAL = {
    "name",
    "adapter.alpha",
    "adapter.rslora",
    "training.learning_rate",
    "training.schedule",
    "training.warmup_fraction",
    "training.weight_decay",
    "training.max_grad_norm",
    "training.seed",
    "keep.checkpoint_every_steps",
    "keep.checkpoints_kept",
    "keep.evaluate_every_steps",
    "keep.sample_every_steps",
    "keep.sample_prompts",
    *LENGTH,
}
MATERIAL = tuple(entry.path for entry in FIELDS if entry.path not in _IMMATERIAL)


@dataclass(frozen=True)
class FitTestView:
    """One fit test: of which recipe, on how many good rows (0: not known), how far it is, and how it ended.

    `phase` is `waiting` until the engine has taken it up, then as in `FitTestProgressed`. `result` and `error` are its ends;
    one that was stopped leaves no view behind.
    """

    recipe: Recipe
    num_good: int = 0
    phase: str = "waiting"
    step: int = 0
    num_steps: int = 3
    is_stopping: bool = False
    result: e.FitTested | None = None
    error: str = ""
    hint: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.result is not None or bool(self.error)

    def holds_for(self, recipe: Recipe, num_good: int) -> bool:
        """Whether steps by `recipe` on data of `num_good` rows would be those that were tested."""
        known = self.num_good and num_good
        same_data = not known or self.num_good == num_good
        return same_data and all(get(recipe, path) == get(self.recipe, path) for path in MATERIAL)

    def same_length(self, recipe: Recipe) -> bool:
        """Whether a run by `recipe` would take as many steps as the tested one."""
        return all(get(recipe, path) == get(self.recipe, path) for path in LENGTH)

    def peak_on(self, card: str, recipe: Recipe, num_good: int) -> int | None:
        """The measured peak of the process on `card` (bytes), if the test held there and still says something."""
        result = self.result
        if result is None or not result.fits or result.card != card or result.process_bytes <= 0:
            return None
        return result.process_bytes if self.holds_for(recipe, num_good) else None
