"""The legend of a plot: what it names can be shown and hidden with it."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing


class LegendEntry(QAbstractButton):
    """A legend entry that shows or hides what it names; hidden, it is struck through."""

    def __init__(self, mark: str, text: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mark = mark
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setAccessibleName(text)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        FocusRing(self, 2)

    def sizeHint(self) -> QSize:
        """Mark and text."""
        width = QFontMetrics(theme.font("small")).horizontalAdvance(self.text())
        return QSize(width + theme.px(20), theme.px(20))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw mark and text."""
        look = theme.current()
        painter = paint.start(self)
        font = theme.font("small")
        font.setStrikeOut(not self.isChecked())
        middle, unit = self.height() / 2, theme.px(12) / 12
        corner = QPointF(0, middle - 6 * unit)

        def at(*points: tuple[float, float]) -> QPolygonF:
            return QPolygonF([corner + QPointF(x * unit, y * unit) for x, y in points])

        painter.setBrush(Qt.BrushStyle.NoBrush)
        if self._mark == "raw":
            painter.setPen(QPen(look.colour("raw"), 1.2))
            painter.drawPolyline(at((0, 9), (3, 3), (6, 9), (9, 3), (12, 8)))
        elif self._mark == "line":
            painter.setPen(QPen(look.colour("atext"), 2))
            painter.drawPolyline(at((0, 6), (12, 6)))
        elif self._mark == "diamond":
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(look.colour("text"))
            painter.drawPolygon(at((6, 1.5), (10.5, 6), (6, 10.5), (1.5, 6)))
        else:
            painter.setPen(QPen(look.colour("text2"), 1.3))
            painter.drawPolygon(at((1.5, 2.5), (10.5, 2.5), (6, 10.5)))
        painter.setFont(font)
        painter.setPen(look.colour("text2" if self.isChecked() else "text3"))
        text = QRectF(theme.px(17), 0, self.width() - theme.px(17), self.height())
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())
        painter.end()
