"""To break off what the model computes: an optimizer step with many micro-batches takes minutes, and who ends a run need not wait
for that.

Between two blocks, forwards and backwards, it is asked whether anybody wants the end; if so, an exception leads out of
whatever is computing. It costs a look at the clock per block. What waits longest is then one block, run again and differentiated.
With `torch.compile` the question stays outside of what is compiled; a block that is being compiled is waited for.

The ranks of a shared run are never at the same block, and one that left would have the others wait in a collective. They end at
the boundary of a step, which they reach together (`engine/launched.py`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from studio.engine.checkpointing import blocks
from studio.engine.generators import Generators

LOOK_SECONDS = 0.1


@dataclass
class Attempt:
    """What became of what was to be computed."""

    was_broken_off: bool = False


class _BrokenOff(BaseException):
    """No `Exception`: libraries that try again on those must not keep it."""


@contextlib.contextmanager
def breakable(model: nn.Module, is_wanted: Callable[[], bool]) -> Iterator[Attempt]:
    """Leave the block soon after `is_wanted` first says so, if `model` computes in it; what it yields tells whether that was so.

    Random numbers then are as if it had not been entered. Gradients made until then are the caller's to drop. Outside of the
    model nothing is broken off. `is_wanted` is asked on the thread that computes, which on a card is autograd's in the backward
    pass, while the caller's waits for it.
    """
    attempt, generators, look = Attempt(), Generators.now(), _Look(is_wanted)
    hooks = [block.register_forward_hook(look.behind) for block in blocks(model)]
    try:
        yield attempt
    except _BrokenOff:
        attempt.was_broken_off = True
        generators.put_back()
    finally:
        for hook in hooks:
            hook.remove()


class _Look:
    """Asks behind each block in the forward pass, and before it in the backward pass: not more often than is of use."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._is_wanted = is_wanted
        self._looked = time.monotonic()

    def behind(self, _block: nn.Module, _inputs: Any, output: Any) -> None:
        """Hung on a block; the gradient of what it gave comes by on its way back."""
        self._ask()
        hidden = output[0] if isinstance(output, tuple) else output
        if isinstance(hidden, Tensor) and hidden.requires_grad:
            hidden.register_hook(self._ask)

    def _ask(self, _gradient: Tensor | None = None) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self._is_wanted():
            raise _BrokenOff
