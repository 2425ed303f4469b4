"""The engine's one boundary: whatever goes wrong inside a job becomes one honest sentence, and its traceback a log entry."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from studio.errors import OutOfMemoryError, StudioError
from studio.runs.create import explain
from studio.runs.events import Failed

_log = logging.getLogger(__name__)


def guarded(action: Callable[[], None], failed: Callable[[Failed], object]) -> bool:
    """Run `action`; on an error call `failed` with its event. Returns whether the process may go on being used."""
    try:
        action()
    except StudioError as error:
        _log.info("refused: %s", error, exc_info=True)
        failed(_event(error))
    except torch.OutOfMemoryError as error:
        _log.exception("out of memory")
        failed(_event(_out_of_memory(error)))
    except Exception as error:  # noqa: BLE001
        # The boundary: behind it nobody would hear of the failure at all.
        _log.exception("unforeseen")
        failed(_event(error))
        # A CUDA error may leave the context unusable; a fresh process costs seconds, a poisoned one hours.
        return not torch.cuda.is_available()
    return True


def _event(error: Exception) -> Failed:
    kind, message, hint = explain(error)
    return Failed(kind=kind, message=message, hint=hint)


def _out_of_memory(error: torch.OutOfMemoryError) -> OutOfMemoryError:
    first = str(error).splitlines()[0]
    return OutOfMemoryError(
        f"The card ran out of memory: {first}",
        "Halve the micro-batch (the result stays the same), or shorten the rows.",
    )
