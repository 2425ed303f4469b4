"""A field for text of several lines. What the user did not touch comes back from it to the last character."""

from __future__ import annotations

import re

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPaintEvent, QPalette, QResizeEvent
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint

PADDING = 10
_PARAGRAPH = "\u2029"  # how a document of Qt's writes a line break
# Halves of letters and control characters, and what Qt's documents use for their own breaks, frames and objects.
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufdd0\ufdd1\ufffc]|[\ud800-\udfff]")


def can_show(text: str) -> bool:
    """Whether a field can show this text and give it back."""
    return not _UNSHOWN.search(text)


def _is_submit(event: QEvent) -> bool:
    return (
        isinstance(event, QKeyEvent)
        and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        and bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
    )


class _Edit(QPlainTextEdit):
    """The text itself; the frame around it is the field's."""

    submitted = Signal()
    resized = Signal()

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)

    def event(self, event: QEvent) -> bool:
        """Ctrl+Return is this field's own while one writes in it, whatever a menu makes of it."""
        if event.type() == QEvent.Type.ShortcutOverride and _is_submit(event):
            event.accept()
            return True
        return super().event(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """In another width the lines break elsewhere."""
        super().resizeEvent(event)
        self.resized.emit()

    def num_lines(self, most: int) -> int:
        """How many lines the text takes as they break now, as far as `most`; each at least one."""
        line, number, block = QFontMetrics(self.font()).lineSpacing(), 0, self.document().firstBlock()
        while block.isValid() and number <= most:
            # Blocks are laid out when they are asked for: what the document says of itself may be old.
            number += max(1, round(self.blockBoundingRect(block).height() / line))
            block = block.next()
        return max(1, number)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ctrl+Return submits; Return alone begins a new line."""
        if _is_submit(event):
            self.submitted.emit()
        else:
            super().keyPressEvent(event)


class TextArea(QFrame):
    """A text field that grows from `min_lines` to `max_lines`. `submitted` is told on Ctrl+Return, `changed` on each edit,
    `reached` when one comes to write in it."""

    submitted = Signal()
    changed = Signal()
    reached = Signal()

    def __init__(
        self, name: str, min_lines: int = 1, max_lines: int = 6, *, mono: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._min_lines, self._max_lines, self._mono = min_lines, max_lines, mono
        self._given, self._shown = "", ""
        self._edit = _Edit(name, self)
        self._edit.submitted.connect(self.submitted)
        self._edit.textChanged.connect(self.changed)
        self._edit.installEventFilter(self)
        self._edit.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._edit.resized.connect(self._fit)
        self.setFocusProxy(self._edit)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.px(12), theme.px(PADDING), theme.px(8), theme.px(PADDING))
        column.addWidget(self._edit)
        theme.changed.connect(self._restyle)
        self._restyle()

    def text(self) -> str:
        """What is written: the very text that was set, as long as it is what is shown."""
        # Qt's plain text would give blanks for no-break spaces.
        shown = self._edit.document().toRawText().replace(_PARAGRAPH, "\n")
        return self._given if shown == self._shown else shown

    def set_text(self, text: str) -> None:
        """Write something else, with the cursor at its end."""
        self._edit.setPlainText(text)
        self._given, self._shown = text, self._edit.document().toRawText().replace(_PARAGRAPH, "\n")
        self._edit.moveCursor(self._edit.textCursor().MoveOperation.End)

    def set_placeholder(self, text: str) -> None:
        """What stands in the empty field."""
        self._edit.setPlaceholderText(text)

    def set_name(self, name: str) -> None:
        """What a screen reader calls it."""
        self._edit.setAccessibleName(name)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """The frame shows the focus of the text in it."""
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.update()
        if event.type() == QEvent.Type.FocusIn:
            self.reached.emit()
        return False

    def _restyle(self) -> None:
        self._edit.setFont(theme.font("mono" if self._mono else "body", "-"))
        look = QPalette(self._edit.palette())
        look.setColor(QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        look.setColor(QPalette.ColorRole.Text, theme.current().colour("text"))
        look.setColor(QPalette.ColorRole.PlaceholderText, theme.current().colour("text3"))
        self._edit.setPalette(look)
        self._fit()

    def _fit(self) -> None:
        num_lines = self._edit.num_lines(self._max_lines)
        line = QFontMetrics(self._edit.font()).lineSpacing()
        height = min(max(num_lines, self._min_lines), self._max_lines) * line + 2 * theme.px(PADDING) + 2
        self.setFixedHeight(max(theme.px(theme.ACTION), height))
        policy = Qt.ScrollBarPolicy
        self._edit.setVerticalScrollBarPolicy(
            policy.ScrollBarAsNeeded if num_lines > self._max_lines else policy.ScrollBarAlwaysOff
        )

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the frame."""
        painter = paint.start(self)
        paint.field_box(painter, self, focused=self._edit.hasFocus(), invalid=False)
        painter.end()
