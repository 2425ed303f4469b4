"""What the studio says: message bars, status pills, empty states and numbers with a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QCoreApplication, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import Button
from ui.widgets.labels import IconLabel, PlainLabel

MessageKind = Literal["info", "ok", "warn", "bad"]
# icon, colour, fill
MESSAGES: dict[str, tuple[str, str, str]] = {
    "info": ("info", "atext", "soft"),
    "ok": ("check-circle", "ok", "ok_soft"),
    "warn": ("warning", "warn", "warn_soft"),
    "bad": ("x-circle", "bad", "bad_soft"),
}
# icon, filled, colour, fill
STATUS: dict[str, tuple[str, bool, str, str]] = {
    "Ready": ("", False, "text2", "sunken"),
    "Queued": ("", False, "text2", "sunken"),
    "Loading...": ("spinner", False, "atext", "soft"),
    "Running": ("circle", True, "ok", "ok_soft"),
    "Training": ("circle", True, "ok", "ok_soft"),
    "Paused": ("pause", True, "warn", "warn_soft"),
    "Stopping...": ("stop", True, "warn", "warn_soft"),
    "Done": ("check", False, "ok", "ok_soft"),
    "Stopped": ("stop", True, "text2", "sunken"),
    "Failed": ("x", False, "bad", "bad_soft"),
    "Interrupted": ("link-break", False, "warn", "warn_soft"),
}


class MessageBar(QFrame):
    """One sentence with its icon on a soft fill, and at most one link. It stands inside the panel it speaks of."""

    action_triggered = Signal()

    def __init__(
        self, kind: MessageKind, text: str, action: str = "", *, icon: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._icon = IconLabel("info", "atext", 16, filled=not icon)
        self._given_icon = icon
        self._text = PlainLabel("", "body", "text", wrap=True)
        self._link = Button(action, "link")
        self._link.clicked.connect(self.action_triggered)
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(14), theme.px(8), theme.px(16), theme.px(8))
        row.setSpacing(theme.px(8))
        row.addWidget(self._icon)
        row.addWidget(self._text, 1)
        row.addWidget(self._link)
        self.setMinimumHeight(theme.px(theme.ROW))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.show_message(kind, text, action)

    def show_message(self, kind: MessageKind, text: str, action: str = "") -> None:
        """Say something else."""
        self._kind: MessageKind = kind
        icon, colour, _ = MESSAGES[kind]
        self._icon.set_icon(self._given_icon or icon, colour, filled=not self._given_icon)
        self._text.setText(text)
        self._link.set_label(action)
        self._link.setVisible(bool(action))
        self.setAccessibleName(text)
        self.update()

    def kind(self) -> MessageKind:
        """How grave what it says is."""
        return self._kind

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the soft fill; on black the judging kinds have an edge instead."""
        look = theme.current()
        _, colour, fill = MESSAGES[self._kind]
        edge = look.colour(colour) if look.name == "contrast" and self._kind != "info" else None
        painter = paint.start(self)
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_CONTROL), look.colour(fill), edge)
        painter.end()


class StatusPill(QWidget):
    """The state of a run or a task: always a word, with its icon and colour. `text` replaces the word shown."""

    def __init__(self, word: str, text: str = "", *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.set_word(word, text)
        theme.changed.connect(self.updateGeometry)

    def set_word(self, word: str, text: str = "") -> None:
        """Show another state; a word outside the table is neutral."""
        self._look = STATUS.get(word, STATUS["Ready"])
        self._text = text or QCoreApplication.translate("StatusPill", word).replace("...", "\u2026")
        self.setAccessibleName(self._text)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Icon, word and padding."""
        width = QFontMetrics(theme.font("pill")).horizontalAdvance(self._text)
        return QSize(width + theme.px(16) + (theme.px(16) if self._look[0] else 0), theme.px(20))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the pill."""
        look = theme.current()
        icon, filled, colour, fill = self._look
        painter = paint.start(self)
        edge = look.colour(colour) if look.name == "contrast" else None
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_PILL), look.colour(fill), edge)
        x = theme.px(8)
        if icon:
            size = theme.px(10 if icon == "circle" else 12)
            box = QRectF(x + (theme.px(12) - size) / 2, (self.height() - size) / 2, size, size)
            theme.draw_icon(painter, box, icon, colour, filled)
            x += theme.px(16)
        painter.setFont(theme.font("pill"))
        painter.setPen(look.colour(colour))
        painter.drawText(
            QRectF(x, 0, self.width() - x, self.height()),
            Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft,
            self._text,
        )
        painter.end()


class EmptyState(QWidget):
    """What an empty list says: an icon, a heading, a sentence and at most two buttons."""

    def __init__(
        self,
        icon: str,
        heading: str,
        sentence: str,
        buttons: Sequence[QWidget] = (),
        *,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        assert len(buttons) <= 2
        self.setAccessibleName(heading)
        middle = Qt.AlignmentFlag.AlignHCenter
        column = QVBoxLayout(self)
        column.setContentsMargins(0, theme.px(16), 0, theme.px(16))
        column.setSpacing(theme.px(8))
        column.addStretch(1)
        column.addWidget(IconLabel(icon, "text3", 28), 0, middle)
        column.addSpacing(theme.px(4))
        self._heading = PlainLabel(heading, "heading")
        self._sentence = PlainLabel(sentence, "body", "text2", wrap=True)
        for label in (self._heading, self._sentence):
            label.setAlignment(middle)
            column.addWidget(label)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addStretch(1)
        for button in buttons:
            row.addWidget(button)
        row.addStretch(1)
        column.addSpacing(theme.px(4))
        column.addLayout(row)
        column.addStretch(1)

    def set_text(self, heading: str, sentence: str) -> None:
        """Change what is said."""
        self._heading.setText(heading)
        self._sentence.setText(sentence)
        self.setAccessibleName(heading)


class StatTile(QWidget):
    """A number that speaks: label above, note below. `large` for the one number of a panel."""

    def __init__(
        self, label: str, value: str = "", note: str = "", *, large: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._label = PlainLabel(label, "label", "text2", elide=True)
        self._value = PlainLabel(value, "number" if large else "heading", elide=True)
        self._note = PlainLabel(note, "small", "text2", elide=True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(2))
        for each in (self._label, self._value, self._note):
            column.addWidget(each)
        column.addStretch(1)  # beside a tile with a note, numbers stay on one line
        self.set_value(value, note)

    def set_value(self, value: str, note: str | None = None, role: str = "text") -> None:
        """Show another number; `note` None keeps the note."""
        self._value.setText(value)
        self._value.set_role(role)
        if note is not None:
            self._note.setText(note)
            self._note.setVisible(bool(note))
        self.setAccessibleName(f"{self._label.text()}: {value} {self._note.text()}".strip())
