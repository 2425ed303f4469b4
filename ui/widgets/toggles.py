"""One of a few, or yes and no: segmented choices, check boxes and radio buttons."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QCheckBox, QHBoxLayout, QRadioButton, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import PADDING, TEXT_FLAGS, hover_fill
from ui.widgets.focus import FocusRing


class _Segment(QRadioButton):
    """One choice of a `Segmented`."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(text, parent)
        self.setAccessibleName(text)
        FocusRing(self)

    def sizeHint(self) -> QSize:
        """The text at its widest, which is when it is chosen."""
        width = QFontMetrics(theme.font("strong")).horizontalAdvance(self.text())
        return QSize(max(width + 2 * theme.px(PADDING), theme.px(36)), theme.px(theme.CONTROL))

    def hitButton(self, _position: object) -> bool:
        """All of the segment can be pressed."""
        return True

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the segment; the common outline is the parent's."""
        look = theme.current()
        painter = paint.start(self)
        radius = theme.px(theme.RADIUS_CONTROL)
        role = "text2" if self.isEnabled() else "text3"
        if self.isChecked():
            role = "atext" if self.isEnabled() else "text3"
            paint.box(painter, self.rect(), radius, look.colour("soft"), look.colour(role))
        elif self.underMouse() and self.isEnabled():
            paint.box(painter, self.rect().adjusted(2, 2, -2, -2), radius - 2, look.colour(hover_fill(self)))
        painter.setFont(theme.font("strong" if self.isChecked() else "medium"))
        painter.setPen(look.colour(role))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self.text())
        painter.end()


class Segmented(QWidget):
    """A few choices side by side, one of them taken: to a keyboard and a screen reader, radio buttons.

    `options` are (key, label). `value_changed` carries the key and is only emitted when the user chose.
    """

    value_changed = Signal(str)

    def __init__(
        self, options: Sequence[tuple[str, str]], value: str = "", *, name: str = "", parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._group = QButtonGroup(self)
        self._segments: dict[str, _Segment] = {}
        for key, label in options:
            segment = _Segment(label, self)
            self._segments[key] = segment
            self._group.addButton(segment)
            row.addWidget(segment)
        self._told = value or options[0][0]
        self._segments[self._told].setChecked(True)
        self._group.buttonToggled.connect(self._tell)

    def value(self) -> str:
        """The key of the choice taken."""
        return next(key for key, segment in self._segments.items() if segment.isChecked())

    def set_value(self, key: str) -> None:
        """Take a choice without telling anybody."""
        self._told = key
        self._segments[key].setChecked(True)

    def set_option_enabled(self, key: str, enabled: bool, why: str = "") -> None:
        """Close one choice; `why` is told in its tooltip."""
        self._segments[key].setEnabled(enabled)
        self._segments[key].setToolTip(why)

    def _tell(self, _button: QAbstractButton, checked: bool) -> None:
        if checked and self.value() != self._told:
            self._told = self.value()
            self.value_changed.emit(self._told)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the common outline."""
        look = theme.current()
        painter = paint.start(self)
        edge = look.colour("outline" if self.isEnabled() else "line")
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_CONTROL), look.colour("surface"), edge)
        painter.end()


MARK, MARK_GAP = 16, 8


def _mark_size(button: QAbstractButton) -> QSize:
    width = QFontMetrics(theme.font("body")).size(Qt.TextFlag.TextShowMnemonic, button.text()).width()
    return QSize(theme.px(MARK) + (theme.px(MARK_GAP) + width if button.text() else 0) + 1, theme.px(24))


def _mark_edge(button: QAbstractButton) -> QColor:
    return theme.current().colour("outline" if button.isEnabled() else "line")


class CheckBox(QCheckBox):
    """A check box with its label; the ring of the focus lies around both.

    `value_changed` is only emitted when the user pressed it; `toggled` tells every change.
    """

    value_changed = Signal(bool)

    def __init__(self, text: str = "", *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setAccessibleName(name or text.replace("&", ""))
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        FocusRing(self, theme.RADIUS_CHECK)
        self.clicked.connect(self.value_changed)

    def value(self) -> bool:
        """Whether it is ticked."""
        return self.isChecked()

    def set_value(self, value: bool) -> None:
        """Tick or clear it; `value_changed` stays silent."""
        self.setChecked(value)

    def sizeHint(self) -> QSize:
        """Box and label."""
        return _mark_size(self)

    def hitButton(self, _position: object) -> bool:
        """The label can be pressed too."""
        return True

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw box, tick and label."""
        look = theme.current()
        painter = paint.start(self)
        size = theme.px(MARK)
        rect = QRect(0, (self.height() - size) // 2, size, size)
        if self.isChecked():
            fill = look.colour("accent" if self.isEnabled() else "text3")
            paint.box(painter, rect, theme.px(theme.RADIUS_CHECK), fill)
            painter.setPen(
                QPen(
                    look.colour("on_accent"),
                    2.0,
                    Qt.PenStyle.SolidLine,
                    Qt.PenCapStyle.RoundCap,
                    Qt.PenJoinStyle.RoundJoin,
                )
            )
            unit = size / 16
            corner = QPointF(rect.topLeft())
            steps = ((4, 8.4), (6.8, 11.2), (12, 5.4))
            painter.drawPolyline([corner + QPointF(x * unit, y * unit) for x, y in steps])
        else:
            fill = look.colour("surface" if self.isEnabled() else "sunken")
            paint.box(painter, rect, theme.px(theme.RADIUS_CHECK), fill, _mark_edge(self))
        painter.setFont(theme.font("body"))
        painter.setPen(look.colour("text" if self.isEnabled() else "text3"))
        label = self.rect().adjusted(size + theme.px(MARK_GAP), 0, 0, 0)
        painter.drawText(label, int(TEXT_FLAGS), self.text())
        painter.end()


class RadioButton(QRadioButton):
    """A radio button with its label."""

    def __init__(self, text: str, *, parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setAccessibleName(text.replace("&", ""))
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        FocusRing(self, theme.RADIUS_CHECK)

    def sizeHint(self) -> QSize:
        """Circle and label."""
        return _mark_size(self)

    def hitButton(self, _position: object) -> bool:
        """The label can be pressed too."""
        return True

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw circle, dot and label."""
        look = theme.current()
        painter = paint.start(self)
        size = theme.px(MARK)
        rect = QRectF(0, (self.height() - size) / 2, size, size)
        chosen = self.isChecked() and self.isEnabled()
        edge = look.colour("atext") if chosen else _mark_edge(self)
        paint.box(painter, rect, size / 2, look.colour("surface"), edge, 1.6 if chosen else 1.0)
        if self.isChecked():
            inset = size * 0.27
            paint.box(painter, rect.adjusted(inset, inset, -inset, -inset), size / 2, edge)
        painter.setFont(theme.font("body"))
        painter.setPen(look.colour("text" if self.isEnabled() else "text3"))
        label = self.rect().adjusted(size + theme.px(MARK_GAP), 0, 0, 0)
        painter.drawText(label, int(TEXT_FLAGS), self.text())
        painter.end()
