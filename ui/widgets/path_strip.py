"""The way from a base model to a file for other programs, as numbered steps; done ones are ticked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint


@dataclass(frozen=True)
class Step:
    """One step: its name, a sentence, and whether it is done."""

    name: str
    sentence: str
    is_done: bool = False


class PathStrip(QWidget):
    """Steps in a row, joined by a line. The first that is not done is the next one, and is blue."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._steps: list[Step] = []
        self.setAccessibleName(self.tr("The way"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_steps(self, steps: Sequence[Step]) -> None:
        """Show these steps."""
        self._steps = list(steps)
        words = [f"{step.name}: {self.tr('done') if step.is_done else self.tr('to do')}" for step in steps]
        self.setAccessibleDescription(", ".join(words))
        self.update()

    def sizeHint(self) -> QSize:
        """Circle, name and sentence."""
        return QSize(theme.px(700), theme.px(62))

    def minimumSizeHint(self) -> QSize:
        """Sentences are cut where they do not fit."""
        return QSize(theme.px(300), theme.px(62))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw all steps."""
        painter = paint.start(self)
        following = next((index for index, step in enumerate(self._steps) if not step.is_done), -1)
        width = self.width() / max(1, len(self._steps))
        for index, step in enumerate(self._steps):
            left = index * width
            if index + 1 < len(self._steps):
                painter.setPen(QPen(theme.current().colour("outline"), 1))
                y = theme.px(12) + 0.5
                painter.drawLine(QPointF(left + theme.px(32), y), QPointF(left + width - theme.px(8), y))
            self._paint_circle(painter, QRectF(left, 0, theme.px(24), theme.px(24)), index, following)
            self._paint_words(painter, step, left, width)
        painter.end()

    def _paint_circle(self, painter: QPainter, circle: QRectF, index: int, following: int) -> None:
        look = theme.current()
        is_done = self._steps[index].is_done
        role = "ok" if is_done else "atext" if index == following else "outline"
        painter.setPen(QPen(look.colour(role), 1.6 if role != "outline" else 1))
        painter.setBrush(look.colour("ok_soft" if is_done else "soft" if index == following else "surface"))
        painter.drawEllipse(circle.adjusted(1, 1, -1, -1))
        if is_done:
            inner = circle.adjusted(*(theme.px(n) for n in (6, 6, -6, -6)))
            theme.draw_icon(painter, inner, "check-bold", "ok")
            return
        painter.setFont(theme.font("bar"))
        painter.setPen(look.colour("atext" if index == following else "text"))
        painter.drawText(circle, Qt.AlignmentFlag.AlignCenter, str(index + 1))

    def _paint_words(self, painter: QPainter, step: Step, left: float, width: float) -> None:
        look = theme.current()
        for text, kind, role, top in ((step.name, "strong", "text", 27), (step.sentence, "small", "text2", 43)):
            font = theme.font(kind)
            painter.setFont(font)
            painter.setPen(look.colour(role))
            room = QRectF(left, theme.px(top), width - theme.px(12), theme.px(18))
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, int(room.width()))
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
