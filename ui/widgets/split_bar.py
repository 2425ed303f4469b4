"""Two sides of a whole as one bar: what is learnt, and what is held out."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint

HEIGHT, NARROWEST, GAP = 48, 4, 2


class SplitBar(QWidget):
    """The two parts lie in proportion to their numbers; a part too narrow for its label has none."""

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self._sides: tuple[tuple[str, int], tuple[str, int]] = (("", 0), ("", 0))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(name)

    def set_sides(self, first: tuple[str, int], second: tuple[str, int]) -> None:
        """Show two sides, each with its label and its number."""
        self._sides = first, second
        self.setAccessibleDescription(", ".join(label for label, _ in self._sides))
        self.update()

    def sizeHint(self) -> QSize:
        """As high as the bar of memory."""
        return QSize(theme.px(320), theme.px(HEIGHT))

    def _boxes(self) -> list[QRectF]:
        """Where the sides lie; a side with nothing has no width, one with something is never lost."""
        numbers = [number for _, number in self._sides]
        total, rect = sum(numbers), QRectF(self.rect())
        if not total:
            return [QRectF(), QRectF()]
        second = rect.width() * numbers[1] / total
        if all(numbers):
            second = min(max(second, NARROWEST), rect.width() - NARROWEST)
        gap = GAP if all(numbers) else 0
        return [rect.adjusted(0, 0, -second - gap, 0), rect.adjusted(rect.width() - second, 0, 0, 0)]

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw track, sides and labels."""
        look = theme.current()
        painter = paint.start(self)
        radius = theme.px(5)
        paint.box(painter, self.rect(), radius, look.colour("sunken"))
        path = QPainterPath()
        path.addRoundedRect(QRectF(self.rect()), radius, radius)
        painter.setClipPath(path)
        learnt, held = self._boxes()
        accent, soft = look.parts["adapter"], look.parts["gradients"]
        painter.fillRect(learnt, QColor(accent.fill))
        if not held.isEmpty():
            paint.swatch(painter, held, soft, 0)
        on_accent = look.colour("canvas" if look.dark else "surface")
        self._label(painter, learnt, self._sides[0][0], on_accent, None)
        self._label(painter, held, self._sides[1][0], look.colour("text"), QColor(soft.fill))
        painter.end()

    @staticmethod
    def _label(painter: QPainter, box: QRectF, text: str, colour: QColor, patch: QColor | None) -> None:
        font = theme.font("bar")
        width = QFontMetrics(font).horizontalAdvance(text) + theme.px(12)
        if width > box.width():
            return
        if patch is not None:
            plain = QRectF(0, 0, width, theme.px(20))
            plain.moveCenter(box.center())
            paint.box(painter, plain, 2, patch)
        painter.setFont(font)
        painter.setPen(colour)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
