"""Sliders: a plain one, and one with a few named stops. Like all inputs they leave the wheel alone unless focused."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QMouseEvent, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing
from ui.widgets.labels import PlainLabel


class Slider(QSlider):
    """A horizontal slider. With `dots` the ends of its track are marked, as for named stops."""

    value_changed = Signal(int)

    def __init__(
        self,
        minimum: int,
        maximum: int,
        value: int,
        *,
        name: str = "",
        dots: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._dots = dots
        self.setRange(minimum, maximum)
        self.setPageStep(max(1, (maximum - minimum) // 10))
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.set_value(value)
        FocusRing(self)
        self.valueChanged.connect(self._tell)

    def set_value(self, value: int) -> None:
        """Move the handle without telling anybody."""
        self._told = value
        self.setValue(value)

    def _tell(self, value: int) -> None:
        if value != self._told:
            self._told = value
            self.value_changed.emit(value)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Answer only while focused; else the page scrolls."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Jump to where the mouse is, then drag from there."""
        self._to_mouse(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._to_mouse(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Nothing is left to do: `_to_mouse` has done it."""
        event.accept()

    def _to_mouse(self, event: QMouseEvent) -> None:
        radius = self._radius()
        share = (event.position().x() - radius) / max(1.0, self.width() - 2 * radius)
        self.setValue(round(self.minimum() + min(1.0, max(0.0, share)) * (self.maximum() - self.minimum())))
        event.accept()

    def _radius(self) -> float:
        return theme.px(8)

    def sizeHint(self) -> QSize:
        """Room for the handle."""
        return QSize(theme.px(120), theme.px(24))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the track, its part up to the handle, and the handle."""
        look = theme.current()
        painter = paint.start(self)
        middle, radius = self.height() / 2, self._radius()
        share = (self.value() - self.minimum()) / max(1, self.maximum() - self.minimum())
        left, right = radius / 2, self.width() - radius / 2
        x = radius + share * (self.width() - 2 * radius)
        rest, done = look.colour("outline"), look.colour("accent" if self.isEnabled() else "text3")
        painter.fillRect(QRectF(left, middle - 1, right - left, 2), rest)
        painter.fillRect(QRectF(left, middle - 1.5, x - left, 3), done)
        if self._dots:
            paint.box(painter, QRectF(left - 3, middle - 3, 6, 6), 3, done)
            paint.box(painter, QRectF(right - 3, middle - 3, 6, 6), 3, rest)
        handle = QRectF(x - radius, middle - radius, 2 * radius, 2 * radius)
        paint.box(painter, handle, radius, look.colour("surface"), done, 2.0)
        painter.end()


class SliderField(QWidget):
    """A slider with a few named stops, given as (value, label); the label of the stop taken is set in bold."""

    value_changed = Signal(object)

    def __init__(
        self,
        stops: Sequence[tuple[object, str]],
        value: object = None,
        *,
        name: str = "",
        labels: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._stops = list(stops)
        self.slider = Slider(0, len(stops) - 1, 0, name=name, dots=True, parent=self)
        self.slider.setPageStep(1)
        self.setFocusProxy(self.slider)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(2))
        column.addWidget(self.slider)
        self._labels: list[PlainLabel] = []
        if labels:
            row = QHBoxLayout()
            for index, (_, label) in enumerate(stops):
                text = PlainLabel(label, "small", "text2")
                last = index == len(stops) - 1
                side = Qt.AlignmentFlag.AlignLeft if index == 0 else Qt.AlignmentFlag.AlignRight
                text.setAlignment(side if index == 0 or last else Qt.AlignmentFlag.AlignHCenter)
                row.addWidget(text, 1)
                self._labels.append(text)
            column.addLayout(row)
        self.set_value(stops[0][0] if value is None else value)
        self.slider.valueChanged.connect(self._show)
        self.slider.value_changed.connect(self._tell)

    def value(self) -> object:
        """The value of the stop taken."""
        return self._stops[self.slider.value()][0]

    def set_value(self, value: object) -> None:
        """Go to a stop without telling anybody."""
        self.slider.set_value([stop for stop, _ in self._stops].index(value))
        self._show()

    def _tell(self, _index: int) -> None:
        self.value_changed.emit(self.value())

    def _show(self) -> None:
        label = self._stops[self.slider.value()][1]
        self.slider.setAccessibleDescription(label)
        for index, text in enumerate(self._labels):
            here = index == self.slider.value()
            text.set_kind("strong" if here else "small")
            text.set_role("text" if here else "text2")
