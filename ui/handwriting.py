"""Keeps what is written by hand: each time in the background, one after the other, and what was written last is what stays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from PySide6.QtCore import QObject

from studio.data.handwritten import WrittenSet, keep, open_written, written_sets
from studio.data.preferences import votes_path
from studio.errors import StudioError
from studio.places import Workspace
from ui.bridge import in_background
from ui.dataset_view import WritingView
from ui.state import AppState


class _Drawer:
    """Where the set lies that is being written. May be used from any thread: an older state never replaces a newer one."""

    def __init__(self, workspace: Workspace, path: Path | None = None) -> None:
        self._workspace, self._path, self._number, self._lock = workspace, path, 0, Lock()

    def keep(self, number: int, written: WrittenSet) -> tuple[Path | None, list[Path]]:
        """Keep the state of that number; where it is now, and all sets that there are."""
        with self._lock:
            if number > self._number:
                self._number = number
                self._path = keep(self._workspace, written, self._path)
            return self._path, written_sets(self._workspace)


class Handwriting(QObject):
    """Answers `writing_requested`: `new`, `continue` (a path), `keep` (a `WrittenSet`), `votes` (opens those of Chat)."""

    def __init__(self, workspace: Workspace, state: AppState, parent: QObject) -> None:
        super().__init__(parent)
        self._workspace, self._state = workspace, state
        self._drawer, self._number = _Drawer(workspace), 0
        self._pending: WrittenSet | None = None
        self._verbs: dict[str, Callable[[Any], None]] = {
            "new": self._begin,
            "continue": self._continue,
            "keep": self._keep,
            "votes": lambda _: state.dataset_requested.emit("open", str(votes_path(workspace))),
        }
        state.writing_requested.connect(lambda verb, value: self._verbs[verb](value))
        in_background(partial(written_sets, workspace), self._listed, self._failed)

    def close(self) -> None:
        """Keep what is still on its way."""
        if self._pending is not None:
            with suppress(StudioError):  # nobody is there any more who could make room
                self._drawer.keep(self._number, self._pending)

    def _begin(self, _value: object) -> None:
        self._drawer, self._number = _Drawer(self._workspace), 0
        self._show(WritingView(opened=WrittenSet("", "", ()), sets=self._state.writing.sets))

    def _continue(self, path: Path) -> None:
        in_background(partial(open_written, path), partial(self._opened, path), self._failed)

    def _opened(self, path: Path, written: WrittenSet) -> None:
        self._drawer, self._number = _Drawer(self._workspace, path), 0
        self._show(WritingView(path, len(written.rows), written, self._state.writing.sets))

    def _keep(self, written: WrittenSet) -> None:
        self._number += 1
        self._pending = written
        kept = partial(self._kept, self._drawer, self._number, written)
        in_background(partial(self._drawer.keep, self._number, written), kept, self._failed)

    def _kept(self, drawer: _Drawer, number: int, written: WrittenSet, found: tuple[Path | None, list[Path]]) -> None:
        path, sets = found
        if drawer is self._drawer and number == self._number:
            self._pending = None
            self._show(WritingView(path, len(written.values()), sets=tuple(sets)))

    def _listed(self, sets: list[Path]) -> None:
        self._show(WritingView(sets=tuple(sets)))

    def _failed(self, error: StudioError) -> None:
        now = self._state.writing
        self._show(WritingView(now.path, now.num_rows, sets=now.sets, error=f"{error.message} {error.hint}"))

    def _show(self, view: WritingView) -> None:
        self._state.writing = view
        self._state.writing_changed.emit()
