"""The way between pages: 200 px of names, or a rail of icons where the window is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing

WIDE, RAIL = 200, 64
LEFT = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft


@dataclass(frozen=True)
class NavItem:
    """One page: its name in the code, its text and icon, and the shortcut that its tooltip tells."""

    name: str
    text: str
    icon: str
    shortcut: str = ""


class _NavRow(QAbstractButton):
    """One row of the sidebar: icon, text, a badge, and a 3 px bar at the left while it is chosen."""

    def __init__(self, item: NavItem, parent: QWidget) -> None:
        super().__init__(parent)
        self.item = item
        self.badge = ""
        self.narrow = False
        self.setText(item.text)
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        FocusRing(self)
        self.describe()

    def describe(self) -> None:
        """Bring name and tooltip up to date."""
        self.setAccessibleName(f"{self.item.text}, {self.badge}" if self.badge else self.item.text)
        shortcut = f" ({self.item.shortcut})" if self.item.shortcut else ""
        self.setToolTip(self.accessibleName() + shortcut if self.narrow or shortcut else "")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Leave the arrows and Enter to the sidebar: walking over a page must not open it."""
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            event.ignore()
        else:
            super().keyPressEvent(event)

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(theme.px(40), theme.px(theme.CONTROL))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the row."""
        look = theme.current()
        painter = paint.start(self)
        radius = theme.px(theme.RADIUS_CONTROL)
        if self.isChecked():
            paint.box(painter, self.rect(), radius, look.colour("soft"))
            bar = QRectF(0, (self.height() - theme.px(16)) / 2, 3, theme.px(16))
            paint.box(painter, bar, 1.5, look.colour("atext"))
        elif self.underMouse():
            paint.box(painter, self.rect(), radius, look.colour("soft" if look.name == "contrast" else "line"))
        role = "atext" if self.isChecked() else "text2"
        size = theme.px(18)
        x = (self.width() - size) / 2 if self.narrow else theme.px(12)
        theme.draw_icon(
            painter, QRectF(x, (self.height() - size) / 2, size, size), self.item.icon, role, self.isChecked()
        )
        if self.narrow:
            if self.badge:
                paint.box(painter, QRectF(self.width() - theme.px(13), theme.px(5), 7, 7), 3.5, look.colour("ok"))
        else:
            self._paint_text(painter, role)
        painter.end()

    def _paint_text(self, painter: QPainter, role: str) -> None:
        look = theme.current()
        painter.setFont(theme.font("strong" if self.isChecked() else "medium"))
        painter.setPen(look.colour(role))
        painter.drawText(QRectF(theme.px(40), 0, self.width() - theme.px(40), self.height()), LEFT, self.text())
        if self.badge:
            font = theme.font("pill")
            width = QFontMetrics(font).horizontalAdvance(self.badge)
            left = self.width() - theme.px(10) - width
            painter.setFont(font)
            painter.setPen(look.colour("ok"))
            painter.drawText(QRectF(left, 0, width + 2, self.height()), LEFT, self.badge)
            paint.box(painter, QRectF(left - theme.px(12), self.height() / 2 - 3.5, 7, 7), 3.5, look.colour("ok"))


class Sidebar(QWidget):
    """The pages in groups, and below them what stands at the bottom. Up and Down walk, Enter and Space choose.

    `page_requested(name)` is told when the user chose; the window answers with `set_current`.
    """

    page_requested = Signal(str)

    def __init__(
        self,
        groups: Sequence[Sequence[NavItem]],
        bottom: Sequence[NavItem] = (),
        *,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Pages"))
        self._rows: dict[str, _NavRow] = {}
        self._buttons = QButtonGroup(self)
        self._column = QVBoxLayout(self)
        self._column.setSpacing(2)
        for index, group in enumerate(groups):
            if index:
                self._column.addSpacing(theme.px(12))
            self._add(group)
        self._column.addStretch(1)
        self._add(bottom)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)
        self.set_narrow(False)

    def _add(self, items: Sequence[NavItem]) -> None:
        for item in items:
            row = _NavRow(item, self)
            row.clicked.connect(self._clicked)
            self._rows[item.name] = row
            self._buttons.addButton(row)
            self._column.addWidget(row)

    def current(self) -> str:
        """The name of the page chosen, or nothing."""
        return next((name for name, row in self._rows.items() if row.isChecked()), "")

    def set_current(self, name: str) -> None:
        """Mark a page as the one shown; tells nobody."""
        self._rows[name].setChecked(True)

    def set_badge(self, name: str, text: str = "") -> None:
        """Write a few letters at the right of a row ("34 %"); none takes them away."""
        row = self._rows[name]
        if row.badge != text:
            row.badge = text
            row.describe()
            row.update()

    def set_narrow(self, narrow: bool) -> None:
        """Become a rail of icons with tooltips, or wide again."""
        self.setFixedWidth(theme.px(RAIL if narrow else WIDE))
        side = theme.px(12)
        self._column.setContentsMargins(side, theme.px(16), side, theme.px(12))
        for row in self._rows.values():
            row.narrow = narrow
            row.describe()
            row.update()

    def _clicked(self) -> None:
        row = self.sender()
        assert isinstance(row, _NavRow)
        self.page_requested.emit(row.item.name)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Walk with Up and Down; Enter chooses."""
        rows = list(self._rows.values())
        focused = self.focusWidget()
        here = rows.index(focused) if isinstance(focused, _NavRow) else -1
        step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()), 0)
        if step and here >= 0:
            rows[(here + step) % len(rows)].setFocus(Qt.FocusReason.TabFocusReason)
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and here >= 0:
            rows[here].click()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the ground and the line at its right."""
        look = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), look.colour("sunken"))
        painter.fillRect(self.width() - 1, 0, 1, self.height(), look.colour("line"))
        painter.end()
