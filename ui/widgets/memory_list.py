"""What stands beside the memory bar: the verdict, and the list of parts with what drives each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QHBoxLayout, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing
from ui.widgets.labels import IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_layout import aligned_gb_text

Judgement = Literal["fits", "tight", "over"]
JUDGEMENTS: dict[str, tuple[str, str]] = {
    "fits": ("check-circle", "ok"),
    "tight": ("warning", "warn"),
    "over": ("x-circle", "bad"),
}
LEFT = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
RIGHT = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight


class Verdict(QWidget):
    """Does it fit: icon, word and number, never a colour alone. `large` above a bar, small in a row of a list."""

    def __init__(self, *, large: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon = IconLabel("check-circle", "ok", 24 if large else 20, filled=True)
        self._word = PlainLabel("", "title" if large else "strong")
        self._text = PlainLabel("", "body", "text2", elide=True)
        self._aside = PlainLabel("", "small", "text2")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        for widget in (self._icon, self._word, self._text):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self._aside)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def set_verdict(self, judgement: Judgement, word: str, text: str = "", aside: str = "") -> None:
        """Judge: `word` ("Over by 3.1 GB") in the judging colour, `text` ("27.1 of 24.0 GB") beside it."""
        icon, role = JUDGEMENTS[judgement]
        self._icon.set_icon(icon, role, filled=True)
        self._word.setText(word)
        self._word.set_role(role)
        self._text.setText(text)
        self._aside.setText(aside)
        self.setAccessibleName(f"{word} {text}".strip())


class _PartRow(QAbstractButton):
    """One part in a row of 22 px: swatch, label, what drives it, size. What is not ours cannot be pressed."""

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.name = name
        self.label, self.driver, self.num_bytes, self.short = "", "", 0, False
        self.setEnabled(name != "other")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        FocusRing(self, 4)

    def show_part(self, label: str, driver: str, num_bytes: int, tip: str) -> None:
        """Take new values."""
        self.label, self.driver, self.num_bytes = label, driver, num_bytes
        self.setAccessibleName(f"{label}: {aligned_gb_text(num_bytes).strip()} GB, {driver}")
        self.setAccessibleDescription(tip)
        self.setToolTip(plain_tip(tip or driver))
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter presses it, as Space does."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.click()
        else:
            super().keyPressEvent(event)

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(theme.px(160 if self.short else 320), theme.px(22))

    def minimumSizeHint(self) -> QSize:
        """It may be cut."""
        return QSize(theme.px(140), self.sizeHint().height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the row."""
        look = theme.current()
        painter = paint.start(self)
        height, middle = self.height(), self.height() / 2
        if self.underMouse() and self.isEnabled():
            fill = "soft" if look.name == "contrast" else "canvas"
            paint.box(painter, self.rect(), theme.px(4), look.colour(fill))
        side = theme.px(12)
        paint.swatch(painter, QRectF(0, middle - side / 2, side, side), look.parts[self.name], 2.5)
        unit, number = theme.px(24), theme.px(34)
        x, right = theme.px(24), self.width() - unit - number - theme.px(6)
        column = min(theme.px(168), max(theme.px(150), self.width() * 0.43)) if not self.short else right - theme.px(4)
        font = theme.font("body")
        painter.setFont(font)
        painter.setPen(look.colour("text"))
        label = QFontMetrics(font).elidedText(self.label, Qt.TextElideMode.ElideRight, int(column - x))
        painter.drawText(QRectF(x, 0, column - x, height), LEFT, label)
        painter.setFont(theme.font("medium"))
        painter.drawText(QRectF(right, 0, number + theme.px(4), height), RIGHT, aligned_gb_text(self.num_bytes))
        painter.setFont(theme.font("small"))
        painter.setPen(look.colour("text3"))
        painter.drawText(QRectF(self.width() - unit, 0, unit, height), RIGHT, "GB")
        if not self.short:
            room = int(right - column - theme.px(8))
            font = theme.font("small", self.driver)
            painter.setFont(font)
            driver = QFontMetrics(font).elidedText(self.driver, Qt.TextElideMode.ElideRight, room)
            painter.setPen(look.colour("text2"))
            painter.drawText(QRectF(column, 0, room, height), LEFT, driver)
        painter.end()


class MemoryList(QWidget):
    """The parts of a budget with what drives each. Narrow: two columns without the drivers."""

    part_clicked = Signal(str)

    def __init__(self, *, narrow: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[_PartRow] = []
        self._narrow = narrow
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(theme.px(24))
        self._grid.setVerticalSpacing(0)

    def set_parts(self, parts: Sequence[tuple[str, str, int, str]], tips: Mapping[str, str] | None = None) -> None:
        """Show parts given as (name, label, bytes, what drives it); `tips` says more, by name."""
        if [row.name for row in self._rows] != [part[0] for part in parts]:
            for row in self._rows:
                self._grid.removeWidget(row)
                row.deleteLater()
            self._rows = [_PartRow(part[0], self) for part in parts]
            for row in self._rows:
                row.clicked.connect(self._clicked)
            self.set_narrow(self._narrow)
        for row, (_, label, num_bytes, driver) in zip(self._rows, parts, strict=True):
            row.show_part(label, driver, num_bytes, (tips or {}).get(row.name, ""))

    def set_narrow(self, narrow: bool) -> None:
        """Arrange in two columns, or in one with the drivers."""
        self._narrow = narrow
        half = (len(self._rows) + 1) // 2
        for index, row in enumerate(self._rows):
            row.short = narrow
            row.updateGeometry()
            place = (index % half, index // half) if narrow else (index, 0)
            self._grid.addWidget(row, *place)

    def _clicked(self) -> None:
        row = self.sender()
        assert isinstance(row, _PartRow)
        self.part_clicked.emit(row.name)
