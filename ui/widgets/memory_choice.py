"""The memory bar where something is chosen: small, with its word, beside each option of a list that opens and on its own."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QSizePolicy,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from ui import theme
from ui.widgets import paint
from ui.widgets.labels import IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_bar import MemoryBar, paint_small
from ui.widgets.memory_layout import Part, gb_text
from ui.widgets.memory_list import JUDGEMENTS, LEFT, RIGHT, Judgement

FIT_ROLE = Qt.ItemDataRole.UserRole + 1
HEADING_ROLE = Qt.ItemDataRole.UserRole + 2
LIST_WIDTH = 480
_BAR, _SIZE, _WORD, _INSET = 84, 66, 62, 12
Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True)
class Fit:
    """What something would need of the card, part by part, and whether it fits; `note` says more, for the tooltip."""

    parts: tuple[Part, ...]
    limit_bytes: int
    judgement: Judgement
    word: str
    note: str = ""

    @property
    def num_bytes(self) -> int:
        """All parts together."""
        return sum(part.num_bytes for part in self.parts)

    @property
    def text(self) -> str:
        """`\u2248 7.4 GB`."""
        return f"\u2248 {gb_text(self.num_bytes)} GB"


def set_fit(choice: QComboBox, index: int, fit: Fit | None) -> None:
    """Give an option its fit: for the eye, as a tooltip, and for a screen reader."""
    choice.setItemData(index, fit, FIT_ROLE)
    choice.setItemData(index, plain_tip(fit.note) if fit else None, Qt.ItemDataRole.ToolTipRole)
    spoken = f"{choice.itemText(index)}, {fit.text}, {fit.word}" if fit else None
    choice.setItemData(index, spoken, Qt.ItemDataRole.AccessibleTextRole)


class FitDelegate(QStyledItemDelegate):
    """Options with a `Fit` under `FIT_ROLE` get size, bar and word at the right; those with `HEADING_ROLE` part the list."""

    def sizeHint(self, _option: QStyleOptionViewItem, index: Index) -> QSize:
        """One row; lower for a heading."""
        return QSize(theme.px(LIST_WIDTH), theme.px(28 if index.data(HEADING_ROLE) else 34))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw a row."""
        look = theme.current()
        rect = QRectF(option.rect)
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        heading, fit = bool(index.data(HEADING_ROLE)), index.data(FIT_ROLE)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if chosen and not heading:
            paint.box(painter, rect, theme.px(theme.RADIUS_PILL), look.colour("soft"))
        inner = rect.adjusted(theme.px(_INSET), 0, -theme.px(_INSET), 0)
        if isinstance(fit, Fit):
            inner.setRight(_paint_fit(painter, inner, fit) - theme.px(8))
        text = str(index.data(Qt.ItemDataRole.DisplayRole) or "")
        font = theme.font("label" if heading else "body", text)
        painter.setFont(font)
        painter.setPen(look.colour("text2" if heading else "text"))
        shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideMiddle, int(inner.width()))
        painter.drawText(inner, LEFT, shown)
        painter.restore()


def _paint_fit(painter: QPainter, rect: QRectF, fit: Fit) -> float:
    """Size, bar and word at the right end of `rect`; returns where they begin."""
    look = theme.current()
    icon, role = JUDGEMENTS[fit.judgement]
    size, middle = theme.px(14), rect.center().y()
    word = rect.right() - theme.px(_WORD)
    theme.draw_icon(painter, QRectF(word + theme.px(8), middle - size / 2, size, size), icon, role, True)
    painter.setFont(theme.font("small"))
    painter.setPen(look.colour(role))
    left = word + theme.px(8) + size + theme.px(4)
    painter.drawText(QRectF(left, rect.top(), rect.right() - left + theme.px(8), rect.height()), LEFT, fit.word)
    bar = QRectF(word - theme.px(_BAR), middle - theme.px(5), theme.px(_BAR), theme.px(10))
    paint_small(painter, bar, fit.parts, fit.limit_bytes)
    painter.setFont(theme.font("small"))
    painter.setPen(look.colour("text2"))
    text = QRectF(bar.left() - theme.px(_SIZE + 8), rect.top(), theme.px(_SIZE), rect.height())
    painter.drawText(text, RIGHT, fit.text)
    return text.left()


class FitNote(QWidget):
    """A small bar with its word and number, beside something that is chosen."""

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = MemoryBar("small", name=name)
        self._bar.setFixedWidth(theme.px(_BAR))
        self._icon = IconLabel("check-circle", "ok", 14, filled=True)
        self._text = PlainLabel("", "small", "text2")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(6))
        row.addWidget(self._bar)
        row.addWidget(self._icon)
        row.addWidget(self._text)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.show_fit(None)

    def show_fit(self, fit: Fit | None, *, brief: bool = False) -> None:
        """Show what is needed; None hides everything, `brief` leaves number and word to the tooltip."""
        self.setVisible(fit is not None)
        if fit is None:
            return
        self._bar.set_limit(fit.limit_bytes)
        self._bar.set_budget([(part.name, part.label, part.num_bytes, part.tip) for part in fit.parts])
        icon, role = JUDGEMENTS[fit.judgement]
        self._icon.set_icon(icon, role, filled=True)
        self._text.setText(f"{fit.text}, {fit.word}")
        self._text.setVisible(not brief)
        self.setAccessibleName(f"{self._bar.accessibleName()}: {fit.text}, {fit.word}")
        self.setToolTip(plain_tip("\n".join(filter(None, (self.accessibleName(), fit.note)))))
