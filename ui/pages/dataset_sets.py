"""Sets that are made here: written by hand, gone on with, or gathered from votes. What the Datasets page needs to offer them."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QMenu, QWidget

from ui.pages.dataset_words import tr
from ui.pages.dataset_writer import SetWriter
from ui.state import AppState

MOST_OFFERED = 6


class OwnSets(QObject):
    """The `writer`, and whether it is shown (`is_writing`, told by `turned`)."""

    turned = Signal()

    def __init__(self, state: AppState, page: QWidget) -> None:
        super().__init__(page)
        self._state = state
        self.writer = SetWriter(state)
        self.is_writing = False
        self.writer.left.connect(self.leave)
        state.writing_changed.connect(self._take_facts)

    def add_actions(self, menu: QMenu) -> None:
        """Offer them in a menu."""
        menu.addAction(tr("New set\u2026"), self.begin)
        sets = self._state.writing.sets[:MOST_OFFERED]
        if sets:
            more = menu.addMenu(tr("Go on writing"))
            for path in sets:
                # An ampersand in a name would underline the letter after it.
                act = partial(self._state.writing_requested.emit, "continue", path)
                more.addAction(path.stem.replace("&", "&&"), act)
        menu.addAction(tr("Votes from Chat"), self._open_votes)

    def begin(self) -> None:
        """Write a new set."""
        self._state.writing_requested.emit("new", None)

    def leave(self) -> None:
        """Show what is open again; what is written stays."""
        self._turn(False)

    def _open_votes(self) -> None:
        self.leave()
        self._state.writing_requested.emit("votes", None)

    def _take_facts(self) -> None:
        if self._state.writing.opened is not None:
            self._turn(True)
            self.writer.focus()

    def _turn(self, is_writing: bool) -> None:
        self.is_writing = is_writing
        self.turned.emit()
