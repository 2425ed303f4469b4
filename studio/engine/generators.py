"""Where the generators of random numbers stand: Python's, NumPy's and torch's, on the processor and on every card."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Generators:
    """What puts them back, fit for safetensors (`torch`: one tensor of bytes each) and for JSON (the others)."""

    torch: dict[str, Tensor]
    python: list[Any]
    numpy: list[Any]

    @classmethod
    def now(cls) -> Generators:
        """As they stand. A tenth of a millisecond: no card is waited for."""
        return cls(_torch_generators(), _python_generator(), _numpy_generator())

    def put_back(self) -> None:
        """Have them go on from where they stood."""
        torch.set_rng_state(self.torch["cpu"])
        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                if f"cuda-{i}" in self.torch:
                    torch.cuda.set_rng_state(self.torch[f"cuda-{i}"], i)
        version, numbers, gauss = self.python
        random.setstate((version, tuple(numbers), gauss))
        name, keys, *others = self.numpy
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *others))


def _torch_generators() -> dict[str, Tensor]:
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators |= {f"cuda-{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return generators


def _python_generator() -> list[Any]:
    version, numbers, gauss = random.getstate()
    return [version, list(numbers), gauss]


def _numpy_generator() -> list[Any]:
    # The legacy global generator is the one that libraries draw from.
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)]
