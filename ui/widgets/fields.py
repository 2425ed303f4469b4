"""A form's field: label above, control, hint below, and where an error stands. Nothing jumps when one appears."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import IconButton
from ui.widgets.controls import Choice, NumberField, TextField
from ui.widgets.labels import IconLabel, PlainLabel


class _Dot(QWidget):
    """The blue dot of a value that differs from its default."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("changed"))
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Six pixels, and air."""
        return QSize(theme.px(8), theme.px(16))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the dot."""
        painter = paint.start(self)
        size = theme.px(6)
        middle = (self.height() - size) / 2
        paint.box(painter, QRectF(1, middle, size, size), size / 2, theme.current().colour("atext"))
        painter.end()


class Field(QWidget):
    """A labelled control with its hint.

    The label is the control's buddy and gives it its accessible name. `set_changed` shows the dot and the reset icon,
    which emits `reset_requested`. `set_error` puts an error in the hint's place; a `NumberField` does so by itself.
    """

    reset_requested = Signal()

    def __init__(
        self, label: str, control: QWidget, unit: str = "", hint: str = "", *, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.control = control
        self._hint, self._error = hint, ""
        self._label = PlainLabel(label, "label", "text2", elide=True)
        self._label.setBuddy(control)
        self._dot = _Dot(self)
        self._reset = IconButton("arrow-counter-clockwise", self.tr("Reset {0}").format(label), side=16, icon_size=14)
        self._reset.clicked.connect(self.reset_requested)
        if unit and isinstance(control, TextField):
            control.set_unit(unit)
        target = control.focusProxy() or control
        if not target.accessibleName() or target.accessibleName() == getattr(target, "placeholderText", str)():
            target.setAccessibleName(label)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(5))
        column.addLayout(self._head())
        column.addWidget(control)
        column.addLayout(self._foot())
        column.addStretch(1)
        self.set_changed(False)
        self._show_hint()
        if isinstance(control, NumberField):
            control.problem_changed.connect(self.set_error)

    def _head(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(6))
        row.addWidget(self._label)
        row.addWidget(self._dot)
        row.addStretch(1)
        row.addWidget(self._reset)
        return row

    def _foot(self) -> QHBoxLayout:
        self._error_icon = IconLabel("x-circle", "bad", 14, filled=True, name=self.tr("Error"))
        self._hint_label = PlainLabel("", "small", "text3", elide=True)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(4))
        row.addWidget(self._error_icon)
        row.addWidget(self._hint_label, 1)
        return row

    def set_hint(self, hint: str) -> None:
        """Change the hint; an error that stands in its place stays."""
        self._hint = hint
        self._show_hint()

    def set_error(self, error: str | None) -> None:
        """Show an error in the hint's place and the control's edge in red; None or "" takes both away."""
        self._error = error or ""
        if isinstance(self.control, (TextField, Choice)):
            self.control.set_invalid(bool(self._error))
        self._show_hint()

    def error(self) -> str:
        """The error shown, or nothing."""
        return self._error

    def set_changed(self, changed: bool) -> None:
        """Mark that the value differs from its default."""
        self._dot.setVisible(changed)
        self._reset.setVisible(changed)

    def _show_hint(self) -> None:
        target = self.control.focusProxy() or self.control
        self._error_icon.setVisible(bool(self._error))
        self._hint_label.set_role("bad" if self._error else "text3")
        self._hint_label.setText(self._error or self._hint)
        target.setAccessibleDescription(self._error or self._hint)


class FieldGrid(QWidget):
    """Fields in up to `columns` columns, fewer where there is little room; 24 px between columns, 16 between rows."""

    def __init__(
        self,
        fields: Sequence[QWidget],
        columns: int = 3,
        *,
        minimum_width: int = 168,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._fields, self._most, self._minimum = list(fields), columns, minimum_width
        self._columns = 0
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(theme.px(theme.GUTTER))
        self._grid.setVerticalSpacing(theme.px(16))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._arrange(columns)

    def minimumSizeHint(self) -> QSize:
        """One column."""
        return QSize(theme.px(self._minimum), super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the number of columns."""
        super().resizeEvent(event)
        gap = theme.px(theme.GUTTER)
        room = (event.size().width() + gap) // (theme.px(self._minimum) + gap)
        self._arrange(max(1, min(self._most, room)))

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        for column in range(self._most):
            self._grid.setColumnStretch(column, 1 if column < columns else 0)
        for index, field in enumerate(self._fields):
            self._grid.removeWidget(field)
            self._grid.addWidget(field, index // columns, index % columns, Qt.AlignmentFlag.AlignTop)
        self._columns = columns
