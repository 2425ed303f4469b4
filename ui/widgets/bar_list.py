"""Shares as bars, one below the other: a label, a bar, a figure. Each can be pressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import hover_fill
from ui.widgets.focus import FocusRing
from ui.widgets.labels import plain_tip

ROW, THICK, INSET = 32, 12, 6
_MOST_LABEL = 0.45  # of the width


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, its label, its share of the longest possible bar (0 to 1), the figure, and whether it is of
    the quiet kind (what is not known)."""

    key: str
    label: str
    share: float
    figure: str
    is_quiet: bool = False


class _BarButton(QAbstractButton):
    """A bar that can be pressed. `label_width` and `figure_width` are those of the whole list, so that bars begin together."""

    def __init__(self, bar: Bar, label_width: int, figure_width: int, tip: str) -> None:
        super().__init__()
        self._bar, self._label_width, self._figure_width = bar, label_width, figure_width
        self.setAccessibleName(f"{bar.label}: {bar.figure}")
        self.setAccessibleDescription(tip)
        self.setToolTip(plain_tip(tip))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        FocusRing(self)

    def sizeHint(self) -> QSize:
        """One row of the list."""
        return QSize(theme.px(220), theme.px(ROW))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw label, track, bar and figure."""
        look, bar = theme.current(), self._bar
        painter = paint.start(self)
        if self.underMouse() or self.isDown():
            paint.box(painter, self.rect(), theme.px(theme.RADIUS_CONTROL), look.colour(hover_fill(self)))
        inset, gap = theme.px(INSET), theme.px(12)
        label_width = min(self._label_width, round(self.width() * _MOST_LABEL))
        font = theme.font("body", bar.label)
        painter.setFont(font)
        painter.setPen(look.colour("text2" if bar.is_quiet else "text"))
        label = QRect(inset, 0, label_width, self.height())
        shown = QFontMetrics(font).elidedText(bar.label, Qt.TextElideMode.ElideRight, label_width)
        painter.drawText(label, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), shown)
        figure = QRect(self.width() - inset - self._figure_width, 0, self._figure_width, self.height())
        painter.setFont(theme.font("small"))
        painter.setPen(look.colour("text2"))
        painter.drawText(figure, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), bar.figure)
        left, thick = label.right() + gap, theme.px(THICK)
        track = QRectF(left, (self.height() - thick) / 2, max(figure.left() - gap - left, 0), thick)
        radius = theme.px(3)
        paint.box(painter, track, radius, look.colour("sunken"))
        filled = QRectF(track.left(), track.top(), max(track.width() * bar.share, min(3.0, track.width())), thick)
        role = "outline" if bar.is_quiet else "accent" if look.name != "dark" else "raw"
        paint.box(painter, filled, min(radius, filled.width() / 2), look.colour(role))
        painter.end()


class BarList(QWidget):
    """Bars from the top; `chosen` carries the key of the one that was pressed."""

    chosen = Signal(str)

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self._bars: list[Bar] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(2))
        self._column.addStretch(1)
        theme.changed.connect(self._rebuild)

    def bars(self) -> list[Bar]:
        """What is shown."""
        return list(self._bars)

    def set_bars(self, bars: Sequence[Bar], tip: str = "") -> None:
        """Show others; `tip` says what pressing one does."""
        if list(bars) != self._bars:
            self._bars, self._tip = list(bars), tip
            self._rebuild()

    def _rebuild(self) -> None:
        while self._column.count() > 1:
            item = self._column.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        body, small = QFontMetrics(theme.font("body")), QFontMetrics(theme.font("small"))
        label_width = max((body.horizontalAdvance(bar.label) for bar in self._bars), default=0) + 1
        figure_width = max((small.horizontalAdvance(bar.figure) for bar in self._bars), default=0) + 1
        for place, bar in enumerate(self._bars):
            button = _BarButton(bar, label_width, figure_width, self._tip)
            button.clicked.connect(lambda _=False, key=bar.key: self.chosen.emit(key))
            self._column.insertWidget(place, button)
