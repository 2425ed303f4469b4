"""The list of remedies beside the memory bar: what each one changes, what it costs, what it saves and what is then needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import Button
from ui.widgets.labels import plain_tip
from ui.widgets.memory_layout import gb_text, signed_gb_text
from ui.widgets.memory_list import JUDGEMENTS, LEFT, RIGHT, Judgement

ROW, HEAD = 46, 28
_NUMBER, _SAVES, _TOTAL, _WORD, _GAP = 16, 66, 66, 50, 8
_SAVES_NARROW = 44


@dataclass(frozen=True)
class FixRow:
    """One remedy in words. `total_bytes`, `judgement` and its `word` tell what is needed once it is applied."""

    what: str
    price: str
    saves_bytes: int
    total_bytes: int
    judgement: Judgement
    word: str


class _Columns:
    """Where the columns of head and rows lie. Narrow: units in the head alone, and of what is then needed the word alone."""

    def __init__(self, width: int, right: int, narrow: bool) -> None:
        self.text = theme.px(_NUMBER)
        self.right = width - right - theme.px(_GAP)
        self.word = self.right - theme.px(_WORD)
        self.total = self.word - (0 if narrow else theme.px(_TOTAL))
        self.saves = self.total - theme.px(_SAVES_NARROW if narrow else _SAVES)


class _Line(QWidget):
    """One remedy: painted, with a real button at its right end."""

    def __init__(self, index: int, parent: QWidget) -> None:
        super().__init__(parent)
        self.index, self.row, self.narrow = index, FixRow("", "", 0, 0, "over", ""), False
        self.apply = Button(self.tr("Apply"), "link")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, theme.px(4), 0, 0)
        layout.addStretch(1)
        layout.addWidget(self.apply, 0, Qt.AlignmentFlag.AlignTop)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_row(self, row: FixRow) -> None:
        """Take new values."""
        self.row = row
        saves = signed_gb_text(-row.saves_bytes)
        then = self.tr("then {0} GB, {1}").format(gb_text(row.total_bytes), row.word)
        self.setAccessibleName(f"{row.what}: {saves} GB, {row.price}, {then}")
        self.apply.setAccessibleName(self.tr("Apply: {0}").format(row.what))
        self.setToolTip(plain_tip(f"{row.what}\n{row.price}"))
        self.update()

    def sizeHint(self) -> QSize:
        """Two lines of text."""
        return QSize(theme.px(320), theme.px(ROW))

    def minimumSizeHint(self) -> QSize:
        """It may be cut."""
        return QSize(theme.px(240), theme.px(ROW))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the row and the line above it."""
        look, row = theme.current(), self.row
        painter = paint.start(self)
        painter.fillRect(0, 0, self.width(), 1, look.colour("line"))
        columns = _Columns(self.width(), self.apply.width(), self.narrow)
        top, line = theme.px(4), theme.px(20)
        painter.setFont(theme.font("small"))
        painter.setPen(look.colour("text3"))
        painter.drawText(QRectF(0, top, columns.text, line), LEFT, str(self.index + 1))
        what = QRectF(columns.text, top, columns.saves - columns.text, line)
        self._paint_text(painter, "medium", "text", row.what, what)
        price = QRectF(columns.text, theme.px(23), self.width() - columns.text, theme.px(18))
        self._paint_text(painter, "small", "text2", row.price, price)
        painter.setFont(theme.font("medium"))
        painter.setPen(look.colour("text"))
        saves = QRectF(columns.saves, top, columns.total - columns.saves, line)
        saved = signed_gb_text(-row.saves_bytes)
        painter.drawText(saves, RIGHT, saved if self.narrow else self.tr("{0} GB").format(saved))
        if not self.narrow:
            total = QRectF(columns.total, top, columns.word - columns.total, line)
            painter.drawText(total, RIGHT, self.tr("{0} GB").format(gb_text(row.total_bytes)))
        self._paint_word(painter, QRectF(columns.word, top, columns.right - columns.word, line))
        painter.end()

    def _paint_text(self, painter: QPainter, kind: str, role: str, text: str, rect: QRectF) -> None:
        font = theme.font(kind, text)
        painter.setFont(font)
        painter.setPen(theme.current().colour(role))
        shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, int(rect.width()))
        painter.drawText(rect, LEFT, shown)

    def _paint_word(self, painter: QPainter, rect: QRectF) -> None:
        icon, role = JUDGEMENTS[self.row.judgement]
        size = theme.px(14)
        left = rect.left() + theme.px(6)
        theme.draw_icon(painter, QRectF(left, rect.center().y() - size / 2, size, size), icon, role, True)
        painter.setFont(theme.font("small"))
        painter.setPen(theme.current().colour(role))
        left += size + theme.px(4)
        painter.drawText(
            QRectF(left, rect.top(), rect.right() - left + theme.px(6), rect.height()), LEFT, self.row.word
        )


class _Head(QWidget):
    """The captions above the columns."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.title, self.narrow, self.button = "", False, 0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(theme.px(240), theme.px(HEAD))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the captions."""
        columns = _Columns(self.width(), self.button, self.narrow)
        painter = paint.start(self)
        painter.setPen(theme.current().colour("text2"))
        painter.setFont(theme.font("label"))
        painter.drawText(QRectF(0, 0, columns.saves - theme.px(12), self.height()), LEFT, self.title)
        painter.setFont(theme.font("caption"))
        saves = QRectF(columns.saves - theme.px(32), 0, columns.total - columns.saves + theme.px(32), self.height())
        painter.drawText(saves, RIGHT, self.tr("Saves GB") if self.narrow else self.tr("Saves"))
        if not self.narrow:
            total = QRectF(columns.total - theme.px(8), 0, columns.word - columns.total + theme.px(8), self.height())
            painter.drawText(total, RIGHT, self.tr("Then"))
        painter.end()


class FixList(QWidget):
    """Remedies in their order, each with a button; `apply_requested(index)` tells which one was pressed."""

    apply_requested = Signal(int)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._narrow = False
        self._head = _Head(self)
        self._lines: list[_Line] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addWidget(self._head)

    def set_rows(self, title: str, rows: Sequence[FixRow]) -> None:
        """Show these remedies under `title`; the widgets of earlier ones are used again."""
        self._head.title = title
        self.setAccessibleName(title)
        while len(self._lines) < len(rows):
            line = _Line(len(self._lines), self)
            line.narrow = self._narrow
            line.apply.clicked.connect(self._pressed)
            self._lines.append(line)
            self._column.addWidget(line)
        for line, row in zip(self._lines, rows, strict=False):
            line.show_row(row)
        for index, line in enumerate(self._lines):
            line.setVisible(index < len(rows))
        self._head.button = self._lines[0].apply.sizeHint().width() if self._lines else 0
        self._head.setVisible(bool(rows))
        self._head.update()

    def set_narrow(self, narrow: bool) -> None:
        """Leave out what is then needed, or show it."""
        self._narrow = narrow
        parts: list[_Head | _Line] = [self._head, *self._lines]
        for part in parts:
            part.narrow = narrow
            part.update()

    def _pressed(self) -> None:
        line = next(line for line in self._lines if line.apply is self.sender())
        self.apply_requested.emit(line.index)
