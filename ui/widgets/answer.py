"""One answer of one lane: its text, always plain, streamed in, and the row of figures and buttons below it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QGuiApplication,
    QPainter,
    QPaintEvent,
    QPalette,
    QResizeEvent,
    QTextBlockFormat,
    QTextCharFormat,
    QTextCursor,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QTextEdit, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import Button, IconButton
from ui.widgets.labels import MAX_LINE, PlainLabel

STREAM_MS = 33
LANE_COLOURS = {"base": "lane_base", "a": "lane_a", "b": "lane_b"}
TINTS = {"base": ("sunken", "line"), "a": ("a_tint10", "a_tint1"), "b": ("b_tint10", "b_tint1")}
NEW = 3  # the strength of a mark for words that were not there before


def _utf16(text: str) -> int:
    """How long `text` is to Qt, which counts in UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class AnswerText(QTextEdit):
    """Selectable plain text that is as high as its content. Markup in it shows as it is; long lines are broken."""

    def __init__(self, lane: str = "base", *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lane, self._role = lane, "text"
        self._raw = ""
        self._line_length = 0
        self._breaks: list[int] = []
        self._marks: list[tuple[int, int, int]] = []
        self.streaming = False
        self.setAccessibleName(name)
        self.setReadOnly(True)
        self.setAcceptRichText(False)
        self.setUndoRedoEnabled(False)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        theme.changed.connect(self._restyle)
        self._restyle()

    def set_role(self, role: str) -> None:
        """Write in another colour role than `text`."""
        self._role = role
        self._restyle()

    def raw_text(self) -> str:
        """The text as it came."""
        return self._raw

    def set_text(self, text: str) -> None:
        """Show `text` instead of what is there."""
        self._raw, self._line_length, self._breaks, self._marks = "", 0, [], []
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.removeSelectedText()
        self.add(text)
        self._show_marks()

    def add(self, text: str) -> None:
        """Add to the end; a line of more than 4,000 characters is broken there."""
        shown: list[str] = []
        at = len(self._raw)
        for index, line in enumerate(text.split("\n")):
            if index:
                shown.append("\n")
                at += 1
                self._line_length = 0
            while self._line_length + len(line) > MAX_LINE:
                room = MAX_LINE - self._line_length
                shown.append(line[:room] + "\n")
                at += room
                self._breaks.append(at)
                line, self._line_length = line[room:], 0
            shown.append(line)
            at += len(line)
            self._line_length += len(line)
        self._raw += text
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText("".join(shown))

    def set_marks(self, marks: Sequence[tuple[int, int, int]]) -> None:
        """Tint words given as (start, end, strength) in characters of the text; strength 2 is underlined too, and `NEW` has the
        colour of what is the user's own."""
        self._marks = list(marks)
        self._show_marks()

    def _place(self, index: int) -> int:
        """Where character `index` of the raw text stands in the document."""
        return _utf16(self._raw[:index]) + sum(1 for each in self._breaks if each <= index)

    def _show_marks(self) -> None:
        selections = []
        for start, end, strength in self._marks:
            selection = QTextEdit.ExtraSelection()
            form = QTextCharFormat()
            form.setBackground(theme.current().colour("soft" if strength == NEW else TINTS[self._lane][strength - 1]))
            form.setFontUnderline(strength > 1)
            if strength == NEW:
                form.setForeground(theme.current().colour("atext"))
            cursor = QTextCursor(self.document())
            cursor.setPosition(self._place(start))
            cursor.setPosition(self._place(end), QTextCursor.MoveMode.KeepAnchor)
            selection.cursor, selection.format = cursor, form
            selections.append(selection)
        self.setExtraSelections(selections)

    def _restyle(self) -> None:
        self.document().setDefaultFont(theme.font("body", "-"))
        look = QPalette(self.palette())
        look.setColor(QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        look.setColor(QPalette.ColorRole.Text, theme.current().colour(self._role))
        self.setPalette(look)
        form = QTextBlockFormat()
        form.setLineHeight(theme.px(20), QTextBlockFormat.LineHeightTypes.FixedHeight.value)
        cursor = QTextCursor(self.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.mergeBlockFormat(form)
        self._show_marks()

    def _fit(self) -> None:
        height = max(theme.px(20), math.ceil(self.document().size().height()))
        if height != self.height():
            self.setFixedHeight(height)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Take the height that the new width asks for."""
        super().resizeEvent(event)
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to what this lies in."""
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text, behind it a caret while more is coming; it does not blink."""
        super().paintEvent(event)
        if self.streaming:
            cursor = QTextCursor(self.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            rect = self.cursorRect(cursor)
            painter = QPainter(self.viewport())
            colour = theme.current().colour(LANE_COLOURS[self._lane])
            painter.fillRect(rect.left() + 1, rect.top(), theme.px(3), theme.px(16), colour)
            painter.end()


class _Waiting(QWidget):
    """Two grey bars where an answer will stand."""

    def sizeHint(self) -> QSize:
        """Two lines."""
        return QSize(theme.px(120), theme.px(40))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the bars."""
        painter = paint.start(self)
        look = theme.current()
        edge = look.colour("line") if look.name == "contrast" else None
        for row, share in enumerate((0.92, 0.6)):
            bar = self.rect().adjusted(0, 0, 0, 0)
            bar.setTop(theme.px(5 + 20 * row))
            bar.setHeight(theme.px(10))
            bar.setWidth(int(self.width() * share))
            paint.box(painter, bar, 3, look.colour("sunken"), edge)
        painter.end()


class AnswerView(QWidget):
    """An answer with its footer: tokens and speed, copy, ask again, and a vote.

    `append` may be called for each token: the text on the screen follows at most every 33 ms.
    """

    regenerate_requested = Signal()
    better_changed = Signal(bool)
    stop_requested = Signal()

    def __init__(self, lane: str = "base", *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._offered = True
        self._pending: list[str] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(STREAM_MS)
        self._timer.timeout.connect(self.flush)
        self.text = AnswerText(lane, name=name or self.tr("Answer"))
        self._waiting = _Waiting(self)
        self._stats = PlainLabel("", "small", "text2", elide=True)
        self._copy = IconButton("copy", self.tr("Copy the answer"), side=theme.LANE_CONTROL)
        self._again = IconButton("arrow-clockwise", self.tr("Answer again"), side=theme.LANE_CONTROL)
        self._better = Button(self.tr("Better"), icon="thumbs-up", size="lane")
        self._better.setCheckable(True)
        self._stop = Button(self.tr("Stop"), icon="stop", size="lane")
        self._copy.clicked.connect(self._to_clipboard)
        self._again.clicked.connect(self.regenerate_requested)
        self._better.clicked.connect(self.better_changed)
        self._stop.clicked.connect(self.stop_requested)
        column = QVBoxLayout(self)
        column.setContentsMargins(*[theme.px(16)] * 4)
        column.setSpacing(theme.px(12))
        column.addWidget(self._waiting)
        column.addWidget(self.text)
        column.addStretch(1)
        row = QHBoxLayout()
        row.setSpacing(theme.px(4))
        row.addWidget(self._stats, 1)
        for widget in (self._copy, self._again, self._better, self._stop):
            row.addWidget(widget)
        column.addLayout(row)
        self.set_waiting("")

    def set_waiting(self, why: str) -> None:
        """Show that nothing has come yet; `why` ("B is next") stands in the footer."""
        self._show(waiting=True, done=False)
        self._stop.hide()
        self._stats.setText(why)

    def append(self, text: str) -> None:
        """Add a piece of a stream."""
        self._pending.append(text)
        if self.text.isHidden() or not self.text.streaming:
            self._show(waiting=False, done=False)
        if not self._timer.isActive():
            self._timer.start()

    def flush(self) -> None:
        """Bring what is pending onto the screen at once."""
        self._timer.stop()
        if self._pending:
            self.text.add("".join(self._pending))
            self._pending.clear()

    def set_text(self, text: str) -> None:
        """Show a whole answer."""
        self._pending.clear()
        self._timer.stop()
        self._show(waiting=False, done=True)
        self.text.set_text(text)

    def set_marks(self, marks: Sequence[tuple[int, int, int]]) -> None:
        """Tint words given as (start, end, strength 1 or 2); see `AnswerText.set_marks`."""
        self.flush()
        self.text.set_marks(marks)

    def set_progress(self, num_tokens: int, tokens_per_second: float) -> None:
        """Tell tokens and speed in the footer."""
        self._stats.setText(self.tr("{0:,} tokens, {1:.0f} tok/s").format(num_tokens, tokens_per_second))

    def set_stats(self, text: str) -> None:
        """Write something else into the footer."""
        self._stats.setText(text)

    def finish(self, num_tokens: int, tokens_per_second: float) -> None:
        """End a stream."""
        self.flush()
        self._show(waiting=False, done=True)
        self.set_progress(num_tokens, tokens_per_second)

    def set_better(self, better: bool) -> None:
        """Show the vote without telling anybody."""
        self._better.setChecked(better)

    def set_votes_offered(self, offered: bool) -> None:
        """Offer the vote, or hide it where there is nothing to compare."""
        self._offered = offered
        self._better.setVisible(offered and not self.text.streaming and self._waiting.isHidden())

    def _show(self, *, waiting: bool, done: bool) -> None:
        self.text.streaming = not waiting and not done
        self._waiting.setVisible(waiting)
        self.text.setVisible(not waiting)
        for widget in (self._copy, self._again):
            widget.setVisible(done)
        self._better.setVisible(done and self._offered)
        self._stop.setVisible(not waiting and not done)
        self.text.viewport().update()

    def _to_clipboard(self) -> None:
        QGuiApplication.clipboard().setText(self.text.raw_text())
