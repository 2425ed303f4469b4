"""How an answer is drawn, checked before an engine sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from studio.errors import StudioError

MAX_TOKENS = 32_768
MAX_TEMPERATURE = 5.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """At most `max_tokens` tokens, each drawn at `temperature` (0: always the likeliest) from the smallest set of tokens
    that holds `top_p` of the probability. The same seed draws the same answer. Raises `StudioError` if out of range."""

    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        _need("max_tokens", self.max_tokens, 1, MAX_TOKENS)
        _need("temperature", self.temperature, 0, MAX_TEMPERATURE)
        _need("top_p", self.top_p, 0, 1)
        _need("seed", self.seed, 0, MAX_SEED)
        if self.top_p == 0:
            raise StudioError("top_p is 0: no token would be left to choose.", "Use 1 for all tokens, or 0.95.")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time, so that chance has no part in the answer."""
        return self.temperature == 0

    def to_dict(self) -> dict[str, Any]:
        """As an engine is told, and as a transcript keeps it."""
        return dict(vars(self))


def _need(name: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise StudioError(f"{name} is {value}, which is not from {low} to {high}.", f"Choose {name} in that range.")
