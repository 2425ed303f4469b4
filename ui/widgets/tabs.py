"""Tabs: words in a row over a line, the chosen one underlined. Pair them with a `QStackedWidget`."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QFontMetrics, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QTabBar, QWidget

from ui import theme
from ui.widgets import paint

GAP = 24


class Tabs(QTabBar):
    """A row of tabs given as (key, label). `value_changed(key)` is told for every change, by hand or by program."""

    value_changed = Signal(str)

    def __init__(self, tabs: Sequence[tuple[str, str]], *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._keys: list[str] = []
        self._by_mouse = False
        self.setAccessibleName(name or self.tr("Views"))
        self.setDrawBase(False)
        self.setExpanding(False)
        self.setUsesScrollButtons(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for key, label in tabs:
            self._keys.append(key)
            self.addTab(label)
        self.currentChanged.connect(lambda index: self.value_changed.emit(self._keys[index]))

    def value(self) -> str:
        """The key of the chosen tab."""
        return self._keys[self.currentIndex()]

    def set_value(self, key: str) -> None:
        """Choose a tab."""
        self.setCurrentIndex(self._keys.index(key))

    def tabSizeHint(self, index: int) -> QSize:
        """The label at its widest, and the gap to the next."""
        width = QFontMetrics(theme.font("strong")).horizontalAdvance(self.tabText(index))
        return QSize(width + theme.px(GAP), theme.px(36))

    def minimumTabSizeHint(self, index: int) -> QSize:
        """Tabs are not cut."""
        return self.tabSizeHint(index)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Remember who gave the focus: the mouse needs no ring. A window that comes to the front gives back what was there."""
        if event.reason() != Qt.FocusReason.ActiveWindowFocusReason:
            self._by_mouse = event.reason() == Qt.FocusReason.MouseFocusReason
        super().focusInEvent(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw words, underline, line, and the ring of the focus around the chosen word."""
        look = theme.current()
        painter = paint.start(self)
        painter.fillRect(0, self.height() - 1, self.width(), 1, look.colour("line"))
        for index in range(self.count()):
            rect = self.tabRect(index)
            words = QRect(rect.left(), 0, rect.width() - theme.px(GAP), self.height() - 2)
            chosen = index == self.currentIndex()
            painter.setFont(theme.font("strong" if chosen else "medium"))
            painter.setPen(look.colour("atext" if chosen else "text2"))
            painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.tabText(index))
            if chosen:
                painter.fillRect(words.left(), self.height() - 2, words.width(), 2, look.colour("atext"))
                if self.hasFocus() and not self._by_mouse:
                    ring = words.adjusted(-4, 4, 4, -4)
                    ring.setLeft(max(0, ring.left()))
                    paint.box(painter, ring, 4, None, look.colour("focus"), 2.0)
        painter.end()
