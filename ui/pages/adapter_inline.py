"""Texts that are changed where they stand: a name, a note, tags."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets.buttons import Button, IconButton
from ui.widgets.controls import TextField
from ui.widgets.labels import PlainLabel, Tag


class _EscapeField(TextField):
    """A field that can be left without a change, by Escape or by going elsewhere."""

    given_up = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape gives up."""
        if event.key() == Qt.Key.Key_Escape:
            self.given_up.emit()
        else:
            super().keyPressEvent(event)


class InlineText(QWidget):
    """A text with a pencil. Pressing it shows a field: Return keeps what was written (`edited`), Escape does not.

    `label` names it for a screen reader; `empty` is what the link says while there is no text.
    """

    edited = Signal(str)

    def __init__(self, label: str, kind: str, *, empty: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._value, self._kind = "", kind
        is_title = kind == "title"
        self._text = PlainLabel("", kind, "text" if is_title else "text2", wrap=not is_title, elide=is_title)
        self._pencil = IconButton("pencil-simple", self.tr("Change: {0}").format(label), side=24, icon_size=16)
        self._link = Button(empty, "link")
        self._field = _EscapeField(name=label)
        self._field.returnPressed.connect(self._keep)
        self._field.given_up.connect(self._leave)
        self._field.installEventFilter(self)
        self._pencil.clicked.connect(self.edit)
        self._link.clicked.connect(self.edit)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(6))
        row.addWidget(self._text, 0 if is_title else 1)
        row.addWidget(self._pencil, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self._link)
        row.addWidget(self._field, 1)
        row.addStretch(1 if is_title else 0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._leave()

    def set_text(self, text: str) -> None:
        """Show another text; what was being written is dropped."""
        self._value = text
        self._leave()

    def edit(self) -> None:
        """Begin to write."""
        self._show(editing=True)
        self._field.set_value(self._value)
        self._field.selectAll()
        self._field.setFocus(Qt.FocusReason.OtherFocusReason)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """Who goes elsewhere has not said yes."""
        if event.type() == QEvent.Type.FocusOut and not self._field.isHidden() and self.window().isActiveWindow():
            self._leave()
        return False

    def _keep(self) -> None:
        text = self._field.text().strip()
        changed = text != self._value
        self._leave()
        if changed and (text or self._kind != "title"):
            self.edited.emit(text)

    def _leave(self) -> None:
        self._text.setText(self._value)
        self._show(editing=False)

    def _show(self, *, editing: bool) -> None:
        has_text = bool(self._value)
        self._field.setVisible(editing)
        self._text.setVisible(not editing and has_text)
        self._pencil.setVisible(not editing and has_text)
        self._link.setVisible(not editing and not has_text)


class TagRow(QWidget):
    """Tags, each with a cross, and a field for one more."""

    added = Signal(str)
    removed = Signal(str)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._add = Button(self.tr("Add a tag"), "link")
        self._add.clicked.connect(self.edit)
        self._field = _EscapeField(placeholder=self.tr("New tag"), name=self.tr("New tag"))
        self._field.setMaximumWidth(theme.px(160))
        self._field.returnPressed.connect(self._keep)
        self._field.given_up.connect(self._leave)
        self._lines: list[QWidget] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(4))
        self._column.addWidget(self._add, 0, Qt.AlignmentFlag.AlignLeft)
        self._column.addWidget(self._field)
        self._field.hide()

    def set_tags(self, tags: Sequence[str]) -> None:
        """Show these tags, in as many lines as they need."""
        for line in self._lines:
            line.hide()
            line.deleteLater()
        self._lines = []
        room = 0
        for tag in tags:
            chip = self._chip(tag)
            width = chip.sizeHint().width() + theme.px(8)
            if width > room:
                self._lines.append(self._line())
                room = theme.px(330)
            row = self._lines[-1].layout()
            assert isinstance(row, QHBoxLayout)
            row.insertWidget(row.count() - 1, chip)
            room -= width
        self._leave()

    def edit(self) -> None:
        """Begin to write a tag."""
        self._add.hide()
        self._field.clear()
        self._field.show()
        self._field.setFocus(Qt.FocusReason.OtherFocusReason)

    def _line(self) -> QWidget:
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        row.addStretch(1)
        self._column.insertWidget(len(self._lines), line)
        return line

    def _chip(self, tag: str) -> QWidget:
        chip = QWidget()
        row = QHBoxLayout(chip)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(2))
        row.addWidget(Tag(tag))
        cross = IconButton("x", self.tr("Remove the tag {0}").format(tag), side=20, icon_size=12)
        cross.clicked.connect(lambda: self.removed.emit(tag))
        row.addWidget(cross)
        return chip

    def _keep(self) -> None:
        tag = self._field.text().strip()
        self._leave()
        if tag:
            self.added.emit(tag)

    def _leave(self) -> None:
        self._field.hide()
        self._add.show()
