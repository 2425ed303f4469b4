"""The inputs of a form. Each has `value()`, `set_value()` and `value_changed`, which only the user's own hand triggers.

None of them answers the mouse wheel while it has no focus: scrolling a page must never change a setting.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPalette, QWheelEvent
from PySide6.QtWidgets import QComboBox, QLineEdit, QListView, QSizePolicy, QStyledItemDelegate, QWidget

from ui import theme
from ui.widgets import numbers, paint

INSET = 12
ICON = 16


class TextField(QLineEdit):
    """One line of text, with an optional icon at its left."""

    value_changed = Signal(str)

    def __init__(
        self,
        text: str = "",
        placeholder: str = "",
        icon: str = "",
        *,
        name: str = "",
        mono: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._icon, self._invalid, self._unit, self._mono = icon, False, "", mono
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(name or placeholder)
        self.setFrame(False)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.textEdited.connect(self._edited)
        theme.changed.connect(self._restyle)
        self._restyle()

    def value(self) -> object:
        """The text."""
        return self.text()

    def set_value(self, value: object) -> None:
        """Show `value` without telling anybody."""
        self.setText(str(value))

    def set_invalid(self, invalid: bool) -> None:
        """Draw the edge in red, or no longer."""
        self._invalid = invalid
        self.update()

    def set_unit(self, unit: str) -> None:
        """Write a unit inside the field, at its right."""
        self._unit = unit
        self._restyle()

    def _edited(self, text: str) -> None:
        self.value_changed.emit(text)

    def _right_inset(self) -> int:
        width = QFontMetrics(theme.font("body")).horizontalAdvance(self._unit) + theme.px(8) if self._unit else 0
        return theme.px(INSET) + width

    def _restyle(self) -> None:
        """Give the text its font, and room beside the icon and the unit."""
        self.setFont(theme.font("mono" if self._mono else "body", "-"))
        left = theme.px(INSET) + (theme.px(ICON + 8) if self._icon else 0)
        self.setTextMargins(left - 2, 0, self._right_inset() - 2, 0)
        look = QPalette(self.palette())
        look.setColor(QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        look.setColor(QPalette.ColorRole.Text, theme.current().colour("text"))
        look.setColor(QPalette.ColorRole.PlaceholderText, theme.current().colour("text3"))
        look.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text, theme.current().colour("text3"))
        look.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        self.setPalette(look)
        self.update()

    def sizeHint(self) -> QSize:
        """A control's height."""
        return QSize(theme.px(160), theme.px(theme.CONTROL))

    def minimumSizeHint(self) -> QSize:
        """Room for a few figures beside the unit."""
        return QSize(theme.px(48) + self._right_inset(), theme.px(theme.CONTROL))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the frame, the text by Qt itself, then icon and unit."""
        painter = paint.start(self)
        paint.field_box(painter, self, focused=self.hasFocus(), invalid=self._invalid)
        painter.end()
        super().paintEvent(event)
        painter = paint.start(self)
        if self._icon:
            size = theme.px(ICON)
            rect = QRectF(theme.px(INSET), (self.height() - size) / 2, size, size)
            theme.draw_icon(painter, rect, self._icon, "text3")
        self._paint_right(painter)
        painter.end()

    def _paint_right(self, painter: QPainter) -> None:
        """Draw what stands at the right: the unit."""
        if self._unit:
            painter.setFont(theme.font("body"))
            painter.setPen(theme.current().colour("text3"))
            rect = self.rect().adjusted(0, 0, -(self._right_inset() - self._unit_width()), 0)
            painter.drawText(rect, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, self._unit)

    def _unit_width(self) -> int:
        return QFontMetrics(theme.font("body")).horizontalAdvance(self._unit) + theme.px(8) if self._unit else 0


class NumberField(TextField):
    """A number with its range: whole ones with small arrows, others written as `2e-4` or `0,05`.

    `value()` is the last number that could be read and lay in the range. What cannot be read, or lies outside, is told
    by `problem_changed` (empty: all is well) and marked in red; `value_changed` then stays silent. Up and Down step.
    """

    value_changed = Signal(object)
    problem_changed = Signal(str)
    ARROWS = 20

    def __init__(
        self,
        value: float = 0,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        step: int = 1,
        whole: bool = True,
        unit: str = "",
        name: str = "",
        parent: QWidget | None = None,
    ) -> None:
        self._minimum, self._maximum, self._step, self._whole = minimum, maximum, step, whole
        self._value: float = value
        self._problem = ""
        super().__init__(name=name, parent=parent)
        self.set_unit(unit)
        self.set_value(value)
        self.editingFinished.connect(self._tidy)

    def value(self) -> float:
        """The last good number; an int where the field is whole."""
        return self._value

    def set_value(self, value: object) -> None:
        """Show a number without telling anybody."""
        assert isinstance(value, (int, float))
        self._value = value
        self.setText(self._written(value))
        self._judge("")

    def set_range(self, minimum: float | None, maximum: float | None) -> None:
        """Change the range and judge again what stands in the field."""
        self._minimum, self._maximum = minimum, maximum
        self._judge(self._problem_of(self._parsed(self.text())))

    def problem(self) -> str:
        """Why the text is no good, or nothing."""
        return self._problem

    def _written(self, value: float) -> str:
        return numbers.format_int(int(value)) if self._whole else numbers.format_float(value)

    def _parsed(self, text: str) -> float | None:
        return numbers.parse_int(text) if self._whole else numbers.parse_float(text)

    def _problem_of(self, value: float | None) -> str:
        if value is None:
            return self.tr("Write a whole number") if self._whole else self.tr("Write a number such as 2e-4 or 0.05")
        low = self._minimum is not None and value < self._minimum
        high = self._maximum is not None and value > self._maximum
        if not (low or high):
            return ""
        ends = [None if end is None else self._written(end) for end in (self._minimum, self._maximum)]
        if ends[0] is None:
            return self.tr("At most {0}").format(ends[1])
        return self.tr("At least {0}").format(ends[0]) if ends[1] is None else self.tr("From {0} to {1}").format(*ends)

    def _judge(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self.set_invalid(bool(problem))
            self.problem_changed.emit(problem)

    def _edited(self, text: str) -> None:
        value = self._parsed(text)
        self._judge(self._problem_of(value))
        if value is not None and not self._problem and value != self._value:
            self._value = value
            self.value_changed.emit(value)

    def _tidy(self) -> None:
        """Write a good number the usual way once the user has left it."""
        if not self._problem:
            self.setText(self._written(self._value))

    def step_by(self, steps: int) -> None:
        """Go up or down, as far as the range allows; the user's hand, so it tells."""
        if self._whole:
            value: float = int(self._value) + steps * self._step
        else:
            value = numbers.step_float(self._value, 1 if steps > 0 else -1)
        value = value if self._minimum is None else max(value, self._minimum)
        value = value if self._maximum is None else min(value, self._maximum)
        self.setText(self._written(value))
        self._edited(self.text())

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and Down step by one, Page Up and Page Down by ten."""
        steps = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1, Qt.Key.Key_PageUp: 10, Qt.Key.Key_PageDown: -10}
        if event.key() in steps and not self.isReadOnly():
            self.step_by(steps[Qt.Key(event.key())])
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Step only while focused; else the page scrolls."""
        if self.hasFocus() and event.angleDelta().y():
            self.step_by(1 if event.angleDelta().y() > 0 else -1)
            event.accept()
        else:
            event.ignore()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """The arrows at the right step."""
        if self._whole and self.isEnabled() and event.position().x() > self.width() - theme.px(self.ARROWS + 6):
            self.setFocus(Qt.FocusReason.MouseFocusReason)
            self.step_by(1 if event.position().y() < self.height() / 2 else -1)
        else:
            super().mousePressEvent(event)

    def _right_inset(self) -> int:
        return super()._right_inset() + (theme.px(self.ARROWS) if self._whole else 0)

    def _paint_right(self, painter: QPainter) -> None:
        super()._paint_right(painter)
        if self._whole and self.isEnabled():
            centre = QPointF(self.width() - theme.px(16), self.height() / 2)
            colour = theme.current().colour("text3")
            paint.caret(painter, centre - QPointF(0, theme.px(6)), colour, up=True, size=theme.px(7))
            paint.caret(painter, centre + QPointF(0, theme.px(6)), colour, size=theme.px(7))


class Choice(QComboBox):
    """One of many, from a list that opens. `options` are (value, label); labels are never markup."""

    value_changed = Signal(object)

    def __init__(
        self,
        options: Sequence[tuple[object, str]] = (),
        value: object = None,
        icon: str = "",
        *,
        name: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._icon, self._invalid = icon, False
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMaxVisibleItems(14)
        self.setView(QListView(self))
        self.setItemDelegate(QStyledItemDelegate(self))  # the default one of a combo box ignores the style sheet
        self.set_options(options, value)
        self.activated.connect(self._chosen)

    def set_options(self, options: Sequence[tuple[object, str]], value: object = None) -> None:
        """Offer other options, keeping the present value where it is among them; tells nobody."""
        wanted = self.value() if value is None else value
        self.blockSignals(True)
        self.clear()
        for each, label in options:
            self.addItem(label, each)
        self.blockSignals(False)
        self.set_value(wanted)
        self.updateGeometry()

    def value(self) -> object:
        """The value of the option taken, or None where there is none."""
        return self.currentData()

    def set_value(self, value: object) -> None:
        """Take an option without telling anybody; an unknown value takes the first."""
        values = [self.itemData(index) for index in range(self.count())]
        self._told = value if value in values else (values[0] if values else None)
        self.setCurrentIndex(values.index(self._told) if values else -1)
        self.update()

    def set_invalid(self, invalid: bool) -> None:
        """Draw the edge in red, or no longer."""
        self._invalid = invalid
        self.update()

    def _chosen(self, _index: int) -> None:
        if self.value() != self._told:
            self._told = self.value()
            self.value_changed.emit(self._told)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Answer only while focused; else the page scrolls."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def sizeHint(self) -> QSize:
        """The widest label, up to a limit."""
        metrics = QFontMetrics(theme.font("body"))
        widest = max((metrics.horizontalAdvance(self.itemText(i)) for i in range(self.count())), default=0)
        extra = theme.px(INSET + 32 + (ICON + 8 if self._icon else 0))
        return QSize(min(widest + extra, theme.px(320)), theme.px(theme.CONTROL))

    def minimumSizeHint(self) -> QSize:
        """A few letters."""
        return QSize(min(self.sizeHint().width(), theme.px(96)), theme.px(theme.CONTROL))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw frame, icon, the label cut to fit, and the caret."""
        look = theme.current()
        painter = paint.start(self)
        paint.field_box(painter, self, focused=self.hasFocus(), invalid=self._invalid)
        x = theme.px(INSET)
        if self._icon:
            size = theme.px(ICON)
            theme.draw_icon(painter, QRectF(x, (self.height() - size) / 2, size, size), self._icon, "text2")
            x += size + theme.px(8)
        font = theme.font("body", self.currentText())
        painter.setFont(font)
        painter.setPen(look.colour("text" if self.isEnabled() else "text3"))
        rect = QRectF(x, 0, self.width() - x - theme.px(30), self.height())
        text = QFontMetrics(font).elidedText(self.currentText(), Qt.TextElideMode.ElideRight, int(rect.width()))
        painter.drawText(rect, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
        paint.caret(painter, QPointF(self.width() - theme.px(16), self.height() / 2), look.colour("text3"))
        painter.end()
