"""The learning rate that a recipe plans: a climb from zero, then a curve. Pure arithmetic, to be drawn before it happens.

The engine itself takes the rates from transformers (`engine/train.py`); a test holds the two together.
"""

from __future__ import annotations

import math

from studio.recipe.run_sections import Training


def planned_rate(training: Training, num_steps: int, step: int) -> float:
    """The learning rate of optimizer step `step` (from 1) of `num_steps`."""
    done, warmup = step - 1, math.ceil(training.warmup_fraction * num_steps)
    if done < warmup:
        return training.learning_rate * done / max(1, warmup)
    left = (num_steps - done) / max(1, num_steps - warmup)
    share = {
        "cosine": (1.0 - math.cos(math.pi * left)) / 2.0,
        "linear": left,
        "constant": 1.0,
    }[training.schedule]
    return training.learning_rate * max(0.0, share)


def planned_rates(training: Training, num_steps: int, most: int = 400) -> tuple[list[int], list[float]]:
    """(steps, rates) of a whole run, at most `most` of them, the first and the last and the end of the climb among them."""
    stride = max(1, math.ceil(num_steps / most))
    corner = math.ceil(training.warmup_fraction * num_steps) + 1
    steps = sorted({*range(1, num_steps + 1, stride), num_steps, min(corner, num_steps)}) if num_steps > 0 else []
    return steps, [planned_rate(training, num_steps, step) for step in steps]
