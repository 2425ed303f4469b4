"""Rows edited by hand on the Datasets page: a row opens beside the table, and what is applied becomes a version."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QStackedWidget, QWidget

from studio.data.conversation import RawRow, RowProblem
from studio.data.edits import REMOVE, Edit
from studio.errors import StudioError
from ui.bridge import in_background
from ui.dataset_view import DatasetView
from ui.pages.dataset_edit_bar import may_edit
from ui.pages.dataset_row_editor import EditedRow, RowEditor, row_to_add, row_to_edit
from ui.pages.dataset_rows import RowsPanel
from ui.state import AppState


class RowsEditing(QObject):
    """Joins the table, the `editor` and the wishes. `right` shows the editor while a row is edited, and else what is given."""

    def __init__(self, state: AppState, rows: RowsPanel, else_shown: QWidget, page: QWidget) -> None:
        super().__init__(page)
        self._state, self._rows = state, rows
        self.editor = RowEditor()
        self.right = QStackedWidget()
        self.right.addWidget(else_shown)
        self.right.addWidget(self.editor)
        rows.edit_requested.connect(self._open)
        rows.add_requested.connect(self._add)
        rows.remove_requested.connect(self._remove)
        rows.bar.undo_requested.connect(partial(self._turn, "undo"))
        rows.bar.redo_requested.connect(partial(self._turn, "redo"))
        self.editor.applied.connect(self._apply)
        self.editor.closed.connect(self._closed)
        for keys, verb in (("Ctrl+Z", "undo"), ("Ctrl+Shift+Z", "redo")):
            shortcut = QShortcut(QKeySequence(keys), page)
            shortcut.activated.connect(partial(self._turn, verb))

    def show_view(self, view: DatasetView) -> None:
        """Follow the dataset."""
        self.editor.show_view(view)

    def _open(self, number: int) -> None:
        view = self._state.dataset
        if view is not None and view.rows is not None and may_edit(view):
            read = partial(view.rows.written, number)
            in_background(read, partial(self._opened, view), self._refused)

    def _opened(self, view: DatasetView, found: tuple[RawRow | RowProblem, str]) -> None:
        if self._state.dataset is view and may_edit(view):
            self._edit(row_to_edit(view, *found))

    def _add(self, before: int) -> None:
        view = self._state.dataset
        if view is not None and may_edit(view):
            self._edit(row_to_add(view, before))

    def _edit(self, row: EditedRow) -> None:
        self.right.setCurrentWidget(self.editor)
        refused = self.editor.edit(row)
        if refused:
            self._state.noticed.emit("info", refused, "")
        if not self.editor.is_editing():
            self._closed()

    def _remove(self, numbers: list[int]) -> None:
        view = self._state.dataset
        if view is not None and numbers and may_edit(view):
            # What stood behind the first of them is what one looks at next.
            view.wanted_row = numbers[0]
            self._request([Edit(REMOVE, number) for number in numbers])

    def _apply(self, edit: Edit) -> None:
        view = self._state.dataset
        if view is not None and may_edit(view):
            view.wanted_row = edit.row
            self._request([edit])

    def _request(self, edits: list[Edit]) -> None:
        self._state.dataset_requested.emit("edit", edits)

    def _turn(self, verb: str) -> None:
        view = self._state.dataset
        if view is None or view.version is None or not may_edit(view):
            return
        if view.can_redo if verb == "redo" else view.version.number:
            self._state.dataset_requested.emit(verb, None)

    def _closed(self) -> None:
        self.right.setCurrentIndex(0)
        self._rows.table.setFocus()

    def _refused(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)
