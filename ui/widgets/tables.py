"""Tables: rows of 40 px, a caption header, figures at the right, 1 px lines, and no stripes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QStaticText
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from ui import theme
from ui.widgets.labels import plain_tip

Index = QModelIndex | QPersistentModelIndex
ROLE_ROLE = Qt.ItemDataRole.UserRole + 20  # the colour role of a cell's text
KEY_ROLE = Qt.ItemDataRole.UserRole + 21  # what a row stands for
ICON_ROLE = Qt.ItemDataRole.UserRole + 22  # (icon name, colour role, filled)

MOST_LAID_OUT = 2048  # texts whose letters are remembered


@dataclass(frozen=True)
class Column:
    """A column: its title, whether it holds figures (set at the right), and whether it takes what room is left."""

    title: str
    numeric: bool = False
    stretch: bool = False


class Rows(QAbstractTableModel):
    """Rows of plain texts under a few columns. Each row has a key; texts are never markup."""

    def __init__(self, columns: Sequence[Column], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.columns = list(columns)
        self._keys: list[object] = []
        self._cells: list[Sequence[str]] = []
        self._icons: list[tuple[str, str, bool] | None] = []
        self._alignments = [_alignment(column) for column in self.columns]

    def set_rows(
        self,
        rows: Sequence[tuple[object, Sequence[str]]],
        icons: Sequence[tuple[str, str, bool] | None] | None = None,
    ) -> None:
        """Show rows given as (key, cells); `icons` are (name, colour role, filled) for the first column."""
        self.beginResetModel()
        self._keys = [key for key, _ in rows]
        self._cells = [cells for _, cells in rows]
        self._icons = list(icons) if icons is not None else [None] * len(rows)
        self.endResetModel()

    def set_row(self, row: int, cells: Sequence[str], icon: tuple[str, str, bool] | None = None) -> None:
        """Show other texts in one row; what is selected stays so."""
        self._cells[row], self._icons[row] = cells, icon
        self.dataChanged.emit(self.index(row, 0), self.index(row, self.columnCount() - 1))

    def key(self, row: int) -> object:
        """What a row stands for."""
        return self._keys[row]

    def row_of(self, key: object) -> int:
        """The row of a key, or -1."""
        return self._keys.index(key) if key in self._keys else -1

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """How many rows there are."""
        return 0 if parent.isValid() else len(self._cells)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """How many columns there are."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, tooltip, alignment, icon and key of a cell."""
        row, column = index.row(), index.column()
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self._cells[row][column]
        if role == Qt.ItemDataRole.ToolTipRole:
            return plain_tip(self._cells[row][column])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self.alignment(column)
        if role == KEY_ROLE:
            return self._keys[row]
        return self._icons[row] if role == ICON_ROLE and column == 0 else None

    def headerData(self, section: int, way: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Titles, and figures' titles at the right too."""
        if way != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section].title
        return self.alignment(section) if role == Qt.ItemDataRole.TextAlignmentRole else None

    def alignment(self, column: int) -> Qt.AlignmentFlag:
        """Where the text of a column stands."""
        return self._alignments[column]


def _alignment(column: Column) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column.numeric else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


class RowDelegate(QStyledItemDelegate):
    """Draws a cell: soft fill and a 3 px bar where selected, a line below, the text cut to fit."""

    def sizeHint(self, _option: QStyleOptionViewItem, index: Index) -> QSize:
        """The text's width and the padding."""
        width = QFontMetrics(theme.font("body")).horizontalAdvance(str(index.data() or ""))
        icon = theme.px(26) if index.data(ICON_ROLE) else 0
        return QSize(width + icon + theme.px(28), theme.px(theme.ROW))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw the cell."""
        look = theme.current()
        rect: QRect = option.rect
        state = option.state
        data = index.model().data  # asked past Qt: its detour takes longer than the answer
        painter.save()
        first = index.column() == 0
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, look.colour("soft"))
            if first:
                painter.fillRect(rect.left(), rect.top(), 3, rect.height(), look.colour("atext"))
        painter.fillRect(rect.left(), rect.bottom(), rect.width(), 1, look.colour("line"))
        view = self.parent()
        if isinstance(view, TableView) and view.shows_focus() and view.currentIndex().row() == index.row():
            for y in (rect.top(), rect.bottom() - 1):
                painter.fillRect(rect.left(), y, rect.width(), 2, look.colour("focus"))
        left = rect.left() + theme.px(16 if first else 8)
        icon = data(index, ICON_ROLE)
        if icon:
            size = theme.px(16)
            box = QRectF(left, rect.center().y() - size / 2 + 0.5, size, size)
            theme.draw_icon(painter, box, icon[0], icon[1], icon[2])
            left += theme.px(26)
        self._text(painter, rect, left, index, first)
        painter.restore()

    @staticmethod
    def _text(painter: QPainter, rect: QRect, left: int, index: Index, first: bool) -> None:
        data = index.model().data
        text = str(data(index, Qt.ItemDataRole.DisplayRole) or "")
        if not text:
            return
        font = theme.font("medium" if first else "body", text if first else "")
        right = rect.right() - theme.px(8)
        painter.setFont(font)
        painter.setPen(theme.current().colour(data(index, ROLE_ROLE) or ("text" if first else "text2")))
        align = data(index, Qt.ItemDataRole.TextAlignmentRole) or Qt.AlignmentFlag.AlignVCenter
        shown = _laid_out(text, font, max(0, right - left))
        size = shown.size()
        x = right - size.width() if align & Qt.AlignmentFlag.AlignRight else left
        painter.drawStaticText(QPointF(x, rect.top() + (rect.height() - size.height()) / 2), shown)


_laid: OrderedDict[tuple[str, str, int], QStaticText] = OrderedDict()


def _laid_out(text: str, font: QFont, width: int) -> QStaticText:
    """`text` cut to fit, its letters in place. What was drawn last is remembered: a table that scrolls shows the same texts again
    and again."""
    place = text, font.key(), width
    if place in _laid:
        _laid.move_to_end(place)
        return _laid[place]
    shown = QStaticText(elided(text, QFontMetrics(font), width))
    shown.setTextFormat(Qt.TextFormat.PlainText)
    shown.prepare(font=font)
    _laid[place] = shown
    if len(_laid) > MOST_LAID_OUT:
        _laid.popitem(last=False)
    return shown


def elided(text: str, metrics: QFontMetrics, width: int) -> str:
    """`text` cut to `width` px. Qt measures every letter of a long text, of which few fit: hardly any is under 2 px wide."""
    head = text[: width // 2 + 1]
    shown = metrics.elidedText(head, Qt.TextElideMode.ElideRight, width)
    is_cut = len(head) == len(text) or shown != head
    return shown if is_cut else metrics.elidedText(text, Qt.TextElideMode.ElideRight, width)


class TableView(QTableView):
    """A table of whole rows; a row reached by keyboard is framed in the colour of the focus."""

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._by_keyboard = False
        self.setAccessibleName(name)
        self.setItemDelegate(RowDelegate(self))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        # Every pixel is filled below: what stays in sight while it scrolls is then moved, not painted anew.
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        theme.changed.connect(self._restyle)
        self._restyle()

    def shows_focus(self) -> bool:
        """Whether the current row is to be framed."""
        return self._by_keyboard and self.hasFocus()

    def setModel(self, model: Any) -> None:
        """Show a model; a `Rows` also sets how its columns share the width."""
        super().setModel(model)
        if isinstance(model, Rows):
            for section, column in enumerate(model.columns):
                mode = QHeaderView.ResizeMode
                kind = mode.Stretch if column.stretch else mode.ResizeToContents
                self.horizontalHeader().setSectionResizeMode(section, kind)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the ground, then the cells."""
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), theme.current().colour("surface"))
        painter.end()
        super().paintEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Remember that the keyboard is in use."""
        self._by_keyboard = True
        super().keyPressEvent(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Remember that the mouse is in use."""
        self._by_keyboard = False
        super().mousePressEvent(event)

    def _restyle(self) -> None:
        self.verticalHeader().setDefaultSectionSize(theme.px(theme.ROW))
        self.horizontalHeader().setFixedHeight(theme.px(32))
        self.horizontalHeader().setFont(theme.font("caption"))
        self.viewport().update()


def table_view(name: str) -> TableView:
    """An empty table in the studio's look; `name` is what a screen reader calls it. Give it a `Rows`."""
    return TableView(name)
