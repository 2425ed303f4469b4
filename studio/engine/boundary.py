"""The engine's one boundary: whatever goes wrong inside a job becomes one honest sentence, and its traceback a log entry."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable
from typing import Any

from studio.errors import EngineError, OutOfMemoryError, StudioError
from studio.runs.create import explain
from studio.runs.endings import card_trouble
from studio.runs.events import Failed

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "bad_alloc")
# By these words too little of the computer's own memory is meant, even where there is a card.
_OF_THE_COMPUTER = ("can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
_log = logging.getLogger(__name__)


def guarded(action: Callable[[], None], failed: Callable[[Failed], object]) -> bool:
    """Run `action`; on an error call `failed` with its event. Returns whether the process may go on being used."""
    try:
        action()
    except StudioError as error:
        _log.info("refused: %s", error, exc_info=True)
        failed(_event(error))
    except Exception as error:  # noqa: BLE001
        # The boundary: behind it nobody would hear of the failure at all.
        if is_out_of_memory(error):
            _log.exception("out of memory")
            failed(_event(_out_of_memory(error)))
            return True
        _log.exception("unforeseen")
        failed(_event(_card_lost(error) or error))
        # A CUDA error may leave the context unusable; a fresh process costs seconds, a poisoned one hours.
        torch = _torch()
        return torch is None or not torch.cuda.is_available()
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, by the error's kind or, for libraries that know one kind only, by its words."""
    torch = _torch()
    if isinstance(error, MemoryError | OutOfMemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):  # a file that cannot be mapped, a process that cannot be started
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def _torch() -> Any:
    """PyTorch, if this process has imported it: a worker that has not starts the sooner, and cannot meet its errors."""
    return sys.modules.get("torch")


def _event(error: Exception) -> Failed:
    kind, message, hint = explain(error)
    return Failed(kind=kind, message=message, hint=hint)


def _out_of_memory(error: Exception) -> OutOfMemoryError:
    words = str(error)
    is_of_computer = isinstance(error, MemoryError) or any(word in words.lower() for word in _OF_THE_COMPUTER)
    what = "computer" if is_of_computer else "card"
    first = f": {words.splitlines()[0]}" if words else "."
    return OutOfMemoryError(
        f"The {what} ran out of memory{first}",
        "Halve the micro-batch (the result stays the same), or shorten the rows.",
    )


def _card_lost(error: Exception) -> EngineError | None:
    trouble = card_trouble(str(error)) if isinstance(error, RuntimeError) else None
    return EngineError(trouble.message, trouble.hint) if trouble else None
