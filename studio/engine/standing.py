"""How the evaluations of a run stand: which was best, whether there is still hope, and which checkpoint is kept for it.

It is a part of the run's state like the optimizer: each checkpoint holds it, so that a run which goes on ends at the same step
and keeps the same adapter as one that was never interrupted.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio import files
from studio.recipe.recipe import Keep


@dataclass(frozen=True)
class Standing:
    """After the evaluation at `step` (-1: there was none yet).

    `best_step` is 0 for as long as no step was evaluated; the base's own evaluation at step 0 is no candidate, for it has no
    adapter. `num_worse` counts the evaluations due since that did not better the best. `kept_step` is the checkpoint of the best
    step that has one, 0 if none has.
    """

    step: int = -1
    best_step: int = 0
    best_loss: float = math.inf
    num_worse: int = 0
    kept_step: int = 0

    @classmethod
    def at(cls, checkpoint: Path) -> Standing:
        """As the checkpoint has it; one from before there was a standing has none."""
        return cls.from_dict(files.read_json(checkpoint / "state.json").get("standing", {}))

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Standing:
        """What `to_dict` made."""
        return cls(**{**told, "best_loss": told.get("best_loss") or math.inf})

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no infinity."""
        return {**asdict(self), "best_loss": self.best_loss if self.best_step else None}

    def after(self, step: int, loss: float | None, *, is_due: bool) -> Standing:
        """With an evaluation more; `loss` is None if it could not be finished, and changes nothing then.

        One that was asked for in between may be the best, but does not count among the worse ones.
        """
        if loss is None:
            return self
        if step == 0:
            return replace(self, step=0)
        if loss < self.best_loss:
            return replace(self, step=step, best_step=step, best_loss=loss, num_worse=0)
        return replace(self, step=step, num_worse=self.num_worse + is_due)

    def saved(self, step: int) -> Standing:
        """With a checkpoint at `step`."""
        return replace(self, kept_step=step) if self.is_best(step) else self

    def is_best(self, step: int) -> bool:
        """Whether the evaluation at `step` is the best so far."""
        return step > 0 and self.best_step == step

    def wants_saving(self, step: int, keep: Keep) -> bool:
        """Whether this step must be saved because the adapter may be taken from it."""
        return keep.adapter_from == "best" and self.is_best(step)

    def misses(self, step: int, keep: Keep) -> bool:
        """Whether the evaluation of `step` is still to be done: that of the base, or one that was broken off."""
        return self.step < step and (
            step == 0 or (keep.evaluate_every_steps > 0 and step % keep.evaluate_every_steps == 0)
        )

    def is_over(self, keep: Keep) -> bool:
        """Whether the recipe has the run end here."""
        return 0 < keep.stop_after_worse_evaluations <= self.num_worse


NOBODY = Standing()
