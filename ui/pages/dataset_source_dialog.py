"""What the dialogs have in common that bring rows which are no file yet."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QVBoxLayout, QWidget

from ui import theme
from ui.state import AppState
from ui.widgets.labels import PlainLabel


class SourceDialog(QDialog):
    """Says what it wants by `source_requested`, and calls `then` with the path of the rows once they are a file."""

    def __init__(
        self, title: str, state: AppState, then: Callable[[str], object], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._state, self._then = state, then
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(*(theme.px(24),) * 4)
        self._column.setSpacing(theme.px(12))
        self._column.addWidget(PlainLabel(title, "heading"))

    def _begin(self, first: QWidget) -> None:
        """Everything is built: begin anew, with the keyboard in `first`."""
        self._state.source_changed.connect(self._take_source)
        self.finished.connect(self._finished)
        self._request("new")
        self.open()
        first.setFocus()

    def _request(self, verb: str, value: object = None) -> None:
        self._state.source_requested.emit(verb, value)

    def _take_source(self) -> None:
        """Show what is known now."""
        raise NotImplementedError

    def _finished(self, _code: int) -> None:
        self._state.source_changed.disconnect(self._take_source)
        path = self._state.source.path
        self._request("new")
        self.deleteLater()
        if path:
            self._then(path)
