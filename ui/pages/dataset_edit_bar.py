"""What one does to rows by hand, beside the search: edit, add, remove, and back and forth again."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QWidget

from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import tr
from ui.widgets.buttons import Button, IconButton
from ui.widgets.numbers import format_int

MOST_ROWS = 100_000


class EditBar(QWidget):
    """The buttons. Their keys are told in their tooltips, and work wherever the focus is on the page."""

    edit_requested = Signal()
    add_requested = Signal()
    remove_requested = Signal()
    undo_requested = Signal()
    redo_requested = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.edit = Button(tr("Edit"), icon="pencil-simple")
        self.add = Button(tr("Add"), icon="plus")
        self.remove = Button(tr("Remove"), icon="trash")
        self.undo = IconButton("arrow-counter-clockwise", tr("Undo (Ctrl+Z)"))
        self.redo = IconButton("arrow-clockwise", tr("Redo (Ctrl+Shift+Z)"))
        self.edit.setToolTip(tr("Return, or a double click"))
        self.add.setToolTip(tr("A new row after this one"))
        self.remove.setToolTip(tr("Delete; several rows with Shift or Ctrl"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        told = (
            (self.edit, self.edit_requested),
            (self.add, self.add_requested),
            (self.remove, self.remove_requested),
            (self.undo, self.undo_requested),
            (self.redo, self.redo_requested),
        )
        for button, signal in told:
            button.clicked.connect(signal)
            row.addWidget(button)

    def show_view(self, view: DatasetView, num_rows: int) -> None:
        """What can be done now, to so many chosen rows."""
        may = may_edit(view)
        has_before = view.version is not None and view.version.number > 0
        self.edit.setEnabled(may and num_rows == 1)
        self.add.setEnabled(may)
        self.remove.setEnabled(may and 0 < num_rows <= MOST_ROWS)
        self.remove.set_label(tr("Remove {0}").format(format_int(num_rows)) if num_rows > 1 else tr("Remove"))
        self.undo.setEnabled(may and has_before)
        self.redo.setEnabled(may and view.can_redo)


def may_edit(view: DatasetView) -> bool:
    """Whether rows can be edited now: while nothing else writes a version, and what the columns are is settled."""
    is_settled = view.version is not None and view.guess is None and not view.error
    has_all = view.rows is not None and view.rows.is_whole
    return is_settled and has_all and view.busy not in ("mending", "editing", "writing")


def add_key(keys: str, where: QWidget, act: Button | Callable[[], object]) -> None:
    """Let keys press a button, or do something, while the focus is in `where`; a text in which one writes keeps its own."""
    shortcut = QShortcut(QKeySequence(keys), where)
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    shortcut.activated.connect(act.click if isinstance(act, Button) else act)
