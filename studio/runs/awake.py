"""The computer kept from falling asleep while a run is at work. The screen may go dark; the processor and the card may not.

wakepy asks the desktop (D-Bus on Linux, the system's own call on Windows and macOS) for as long as this process lives: a window
or a command that is killed leaves no computer awake for ever.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

ASLEEP = "The computer could not be kept from falling asleep: this system offers no way to ask it."
ASLEEP_HINT = (
    "Switch automatic sleep off in its settings; a run that slept goes on when it wakes, or from its last checkpoint."
)
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def kept_awake() -> Iterator[bool]:
    """Keep the computer awake for as long as the block lasts; yields whether that could be had.

    Enter and leave it on the same thread. Asking takes milliseconds, seconds where a desktop does not answer.
    """
    # Not at the top: it takes longer to import than most commands take to run.
    from wakepy import keep

    mode = keep.running(on_fail="pass")
    mode.__enter__()
    try:
        yield mode.active
    finally:
        try:
            mode.__exit__(None, None, None)
        except RuntimeError as error:
            # The desktop's session has ended meanwhile, and what it was asked for with it.
            _log.info("could not say that the computer may sleep again: %s", error)
