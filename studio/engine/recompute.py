"""Whether a forward pass runs for the second time, in the backward pass, because its block kept nothing but its input.

Then only what the gradient needs has to be made. Where a block ends with its MLP, the last product of that MLP is not among it:
its value goes to the next block alone, which has long run. That product is a quarter of a block's multiplications.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

# Backward passes run on threads of their own on a card.
_here = threading.local()


def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What `torch.utils.checkpoint` asks for as `context_fn`: around the first forward pass, and around the second."""
    return _forgetful(), second_time(_forgetful())


def is_forgotten() -> bool:
    """Whether what the code that asks saves for the gradient is forgotten at once, and made again when its block's turn comes.

    Saving more than is needed then costs memory in one block at a time, and may spare the backward pass some work.
    """
    return getattr(_here, "is_forgotten", False)


@contextmanager
def _forgetful() -> Iterator[None]:
    before = is_forgotten()
    _here.is_forgotten = True
    try:
        yield
    finally:
        _here.is_forgotten = before


def is_second_time() -> bool:
    """Whether the code that asks is being run again for the sake of a gradient."""
    return getattr(_here, "is_second_time", False)


@contextmanager
def second_time(inner: AbstractContextManager[Any] | None = None) -> Iterator[None]:
    """What stands around the second forward pass, and around `inner`."""
    before = is_second_time()
    _here.is_second_time = True
    try:
        with inner or nullcontext():
            yield
    finally:
        _here.is_second_time = before
