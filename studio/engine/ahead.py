"""What a step needs is made while the step before it computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Makes one thing for each step up to `last_step`, one step ahead of who takes it.

    Which thing it is must follow from the step alone: then nobody can tell that it was made early. Each is made in a thread of
    its own that ends with it, so that nothing is left to be ended however the loop is left; what it raises, `take` raises.
    """

    def __init__(self, make: Callable[[int], Made], last_step: int) -> None:
        self._make = make
        self._last_step = last_step
        self._next_step = 0
        self._next: Future[Made] | None = None

    def take(self, step: int) -> Made:
        """What `step` needs. The next step's is begun when this one's is done."""
        waiting = self._next if self._next_step == step else None
        made = self._make(step) if waiting is None else waiting.result()
        self._next = None
        if step < self._last_step:
            self._begin(step + 1)
        return made

    def _begin(self, step: int) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._next_step, self._next = step, thread.submit(self._make, step)
        # What was submitted is still done; the thread ends after it.
        thread.shutdown(wait=False)
