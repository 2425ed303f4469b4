"""To break off what cannot be asked to stop: loading a base and encoding rows, which go on inside libraries for minutes.

Nothing of it is worth keeping, and nothing lasting is half-written by it that would not be swept away. Training, evaluating and
sampling are asked instead, and end in good order.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

LOOK_SECONDS, AGAIN_SECONDS = 0.2, 3.0


class Interrupted(BaseException):
    """The run is to end before it has begun to learn. No `Exception`: libraries that try again on those must not keep it."""


@contextlib.contextmanager
def interruptible(is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Raise `Interrupted` in this thread soon after `is_wanted` first says so; it is asked in another thread.

    The block ends between two bytecodes of Python: a single call into C is waited for. What is raised in a callback that Python
    lets nothing out of is lost there, and raised once more after a while.
    """
    here, over = threading.get_ident(), threading.Event()

    def watch() -> None:
        pause = LOOK_SECONDS
        while not over.wait(pause):
            if is_wanted():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(here), ctypes.py_object(Interrupted))
                pause = AGAIN_SECONDS

    watching = threading.Thread(target=watch, name="interrupt", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
