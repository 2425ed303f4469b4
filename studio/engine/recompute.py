"""What a block knows that keeps nothing but its input: whether it runs for the second time, and what it may keep then.

The second run, in the backward pass, has to make only what the gradient needs. Where a block ends with its MLP, the last product
of that MLP is not among it: its value goes to the next block alone, which has long run. That product is a quarter of a block's
multiplications.

The 4-bit weights that the second run unpacks are wanted again right after it. Where there is memory for those of one block
(`studio.memory.auto`), they are saved with all else that the second run makes, and go with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple


class _Run(NamedTuple):
    is_forgotten: bool = False
    is_second: bool = False
    reuses_weights: bool = False


# Backward passes run on threads of their own on a card.
_here = threading.local()


def contexts(reuse_weights: bool = False) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What `torch.utils.checkpoint` asks for as `context_fn`: around the first forward pass, and around the second."""
    first = _Run(is_forgotten=True, reuses_weights=reuse_weights)
    return _running(first), _running(first._replace(is_second=True))


def contexts_around(
    first: AbstractContextManager[Any], second: AbstractContextManager[Any], reuse_weights: bool = False
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The same around `first` and `second`, which keep some of what the first forward pass makes."""
    run = _Run(reuses_weights=reuse_weights)
    return _running(run, first), _running(run._replace(is_second=True), second)


def is_forgotten() -> bool:
    """Whether what the code that asks saves for the gradient is forgotten at once, and made again when its block's turn comes.

    Saving more than is needed then costs memory in one block at a time, and may spare the backward pass some work.
    """
    return _run().is_forgotten


def is_second_time() -> bool:
    """Whether the code that asks is being run again for the sake of a gradient."""
    return _run().is_second


def reuses_weights() -> bool:
    """Whether the code that asks belongs to a block whose second run saves the weights that it unpacks.

    Both runs must do the same and save the same shapes, so the first one, of which nothing stays, has to be told as well.
    """
    return _run().reuses_weights


def _run() -> _Run:
    found: _Run = getattr(_here, "run", _Run())
    return found


@contextmanager
def _running(run: _Run, inner: AbstractContextManager[Any] | None = None) -> Iterator[None]:
    before = _run()
    _here.run = run
    try:
        with inner or nullcontext():
            yield
    finally:
        _here.run = before
