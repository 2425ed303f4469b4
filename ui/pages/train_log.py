"""The log of a run's engine: its end, followed, searched and copied."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QHideEvent, QKeySequence, QPalette, QShortcut, QShowEvent, QTextDocument
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.runs.folder import RunFolder
from studio.runs.log import Tail, read_on
from ui import theme
from ui.bridge import every, in_background
from ui.pages.train_words import tr
from ui.widgets.buttons import Button, IconButton
from ui.widgets.controls import TextField
from ui.widgets.labels import PlainLabel
from ui.widgets.numbers import format_int
from ui.widgets.toggles import CheckBox

LOG_MS = 1000
MOST_LINES = 5000


class LogView(QWidget):
    """At most the last 5,000 lines. It reads while it is looked at; Follow keeps the newest line in sight."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: RunFolder | None = None
        self._offset, self._is_reading, self._is_live = 0, False, True
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName(tr("Log"))
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setMaximumBlockCount(MOST_LINES)
        self.text.setUndoRedoEnabled(False)
        self.text.setPlaceholderText(tr("Nothing has been written yet."))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addLayout(self._tools())
        column.addWidget(self.text, 1)
        find = QShortcut(QKeySequence(QKeySequence.StandardKey.Find), self)
        find.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        find.activated.connect(self.search.setFocus)
        self._timer = every(self, LOG_MS, self.read)
        self._timer.stop()
        theme.changed.connect(self._restyle)
        self._restyle()

    def _tools(self) -> QHBoxLayout:
        self.search = TextField("", tr("Find in the log"), "magnifying-glass", name=tr("Find in the log"))
        self.search.setFixedWidth(theme.px(240))
        self.search.textChanged.connect(self._searched)
        self.search.returnPressed.connect(self.find_next)
        self.back = IconButton("caret-up", tr("The match before"))
        self.forth = IconButton("caret-down", tr("The next match"))
        self.back.clicked.connect(lambda: self.find_next(backwards=True))
        self.forth.clicked.connect(lambda: self.find_next())
        self.found = PlainLabel("", "small", "text2")
        self.follow = CheckBox(tr("Follow"))
        self.follow.setChecked(True)
        self.follow.toggled.connect(self._to_end)
        self.copy = Button(tr("Copy all"), icon="copy")
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text.toPlainText()))
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        for widget in (self.search, self.back, self.forth, self.found):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self.follow)
        row.addSpacing(theme.px(8))
        row.addWidget(self.copy)
        return row

    def show_run(self, folder: RunFolder) -> None:
        """Read another run's log, from its end."""
        self._folder, self._offset = folder, 0
        self.text.clear()
        self.search.clear()
        self.follow.setChecked(True)
        if self.isVisible():
            self.read()

    def set_live(self, is_live: bool) -> None:
        """Whether somebody still writes: a last line that nobody will end is shown as it is."""
        if is_live != self._is_live:
            self._is_live = is_live
            if self.isVisible():
                self.read()

    def toPlainText(self) -> str:
        """What is shown."""
        return self.text.toPlainText()

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the log again."""
        super().showEvent(event)
        self._timer.start()
        self.read()

    def hideEvent(self, event: QHideEvent) -> None:
        """Rest while hidden."""
        super().hideEvent(event)
        self._timer.stop()

    def read(self) -> None:
        """Look what has been written since; one look at a time."""
        if self._folder is None or self._is_reading:
            return
        self._is_reading = True
        run = self._folder.id
        look = partial(read_on, self._folder.log, self._offset, to_the_end=not self._is_live)
        in_background(look, partial(self._take, run), partial(self._failed, run))

    def _take(self, run: str, tail: Tail) -> None:
        self._is_reading = False
        if not isValid(self) or self._folder is None or run != self._folder.id:
            return
        self._offset = tail.offset
        if tail.is_fresh:
            self.text.clear()
        if tail.lines:
            bar = self.text.verticalScrollBar()
            before = bar.value()
            self.text.appendPlainText("\n".join(tail.lines))
            bar.setValue(bar.maximum() if self.follow.isChecked() else before)
            self._count()

    def _failed(self, run: str, error: StudioError) -> None:
        self._is_reading = False
        if isValid(self) and self._folder is not None and run == self._folder.id:
            self.text.setPlainText(f"{error.message}\n{error.hint}".strip())

    def _to_end(self, follow: bool) -> None:
        if follow:
            self.text.verticalScrollBar().setValue(self.text.verticalScrollBar().maximum())

    # --- searching -----------------------------------------------------------------------------------------------------

    def _searched(self) -> None:
        self._count()
        if self.search.text():
            # Who looks for something wants to see it, not the newest line.
            self.follow.setChecked(False)
            cursor = self.text.textCursor()
            cursor.setPosition(cursor.selectionStart())
            self.text.setTextCursor(cursor)
            self.find_next()

    def _count(self) -> None:
        words = self.search.text()
        count = self.text.toPlainText().casefold().count(words.casefold()) if words else 0
        said = tr("1 match") if count == 1 else tr("{0} matches").format(format_int(count))
        self.found.setText(said if words else "")
        for button in (self.back, self.forth):
            button.setEnabled(count > 0)

    def find_next(self, *, backwards: bool = False) -> None:
        """Go to the next match, or the one before; from the end it goes on at the other end."""
        words = self.search.text()
        if not words:
            return
        flag = QTextDocument.FindFlag.FindBackward if backwards else QTextDocument.FindFlag(0)
        if not self.text.find(words, flag):
            cursor = self.text.textCursor()
            cursor.movePosition(cursor.MoveOperation.End if backwards else cursor.MoveOperation.Start)
            self.text.setTextCursor(cursor)
            self.text.find(words, flag)

    def _restyle(self) -> None:
        """Figures under figures; and a match stays marked while the focus is in the field."""
        self.text.setFont(theme.font("mono"))
        look = QPalette(self.text.palette())
        for group in (QPalette.ColorGroup.Inactive, QPalette.ColorGroup.Active):
            look.setColor(group, QPalette.ColorRole.Highlight, theme.current().colour("accent"))
            look.setColor(group, QPalette.ColorRole.HighlightedText, theme.current().colour("on_accent"))
        self.text.setPalette(look)
