"""The one door off the window's thread: short disk work in a pool, its answer back on the window's thread.

`func` is a free function of plain values, made from a snapshot: it never touches a widget. What it raises is told in the
user's words; this is the window's boundary for errors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QRunnable, Qt, QThreadPool, QTimer, Signal, Slot

from studio.errors import StudioError

_log = logging.getLogger(__name__)
UNFORESEEN = "This is our fault. Nothing that was saved is lost; try again, or restart the program."


class _Answer(QObject):
    """Carries the result to the thread it was made on. Bound slots of a QObject are what Qt can disconnect by itself."""

    arrived = Signal(object)
    refused = Signal(object)

    def __init__(self, then: Callable[[Any], None], failed: Callable[[StudioError], None]) -> None:
        super().__init__()
        self._then, self._failed = then, failed
        self.arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)
        self.refused.connect(self._on_refused, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _on_arrived(self, value: object) -> None:
        _pending.discard(self)
        self._then(value)

    @Slot(object)
    def _on_refused(self, error: StudioError) -> None:
        _pending.discard(self)
        self._failed(error)


# An answer on its way is held here, and only here: no worker thread ever drops the last reference to a QObject.
_pending: set[_Answer] = set()


class _Task(QRunnable):
    def __init__(self, func: Callable[[], Any], answer: _Answer) -> None:
        super().__init__()
        self._func, self._answer = func, answer

    def run(self) -> None:
        """Called by the pool, on one of its threads."""
        try:
            value = self._func()
        except StudioError as error:
            self._answer.refused.emit(error)
        except Exception as error:  # noqa: BLE001
            # The window's boundary: a traceback in a terminal nobody sees helps nobody.
            _log.exception("unforeseen")
            self._answer.refused.emit(StudioError(f"Something went wrong: {error}", UNFORESEEN))
        else:
            self._answer.arrived.emit(value)


def in_background(func: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[StudioError], None]) -> None:
    """Run `func` in the pool; call `then(value)` or `failed(error)` on this thread, which must be the window's."""
    answer = _Answer(then, failed)
    _pending.add(answer)
    QThreadPool.globalInstance().start(_Task(func, answer))


def every(parent: QObject, milliseconds: int, func: Callable[[], None]) -> QTimer:
    """Call `func` again and again while `parent` lives; started."""
    timer = QTimer(parent)
    timer.setInterval(milliseconds)
    timer.timeout.connect(func)
    timer.start()
    return timer


def soon(parent: QObject, func: Callable[[], None], milliseconds: int = 0) -> None:
    """Call `func` once, after the event loop has had its turn, if `parent` still lives."""
    QTimer.singleShot(milliseconds, parent, func)
