"""Keeps the votes of the Chat page, one change after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from PySide6.QtCore import QObject

from studio.data.preferences import Vote, add, withdraw
from studio.errors import StudioError
from studio.places import Workspace
from ui.bridge import in_background
from ui.state import AppState


class Voting(QObject):
    """Answers `vote_requested`: `add` and `withdraw`, with votes."""

    def __init__(self, workspace: Workspace, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._state = workspace, state
        self._waiting: deque[Callable[[], int]] = deque()
        self._is_busy = False
        state.vote_requested.connect(self._answer)

    def _answer(self, verb: str, votes: Sequence[Vote]) -> None:
        if verb == "add":
            self._waiting.append(partial(add, self._workspace, list(votes)))
        else:
            self._waiting.append(partial(withdraw, self._workspace, [vote.id for vote in votes]))
        self._go_on()

    def _go_on(self) -> None:
        """A vote that is taken back at once must not be added afterwards."""
        if self._waiting and not self._is_busy:
            self._is_busy = True
            in_background(self._waiting.popleft(), lambda _: self._done(), self._failed)

    def _done(self) -> None:
        self._is_busy = False
        self._go_on()

    def _failed(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)
        self._done()
