"""The bar that shows what a run will need of the card: the studio's signature.

Fixed order, colours and hatches (`theme.PARTS`), so that a glance is enough the second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetrics,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QProgressBar, QSizePolicy, QToolTip, QWidget

from ui import theme
from ui.widgets import memory_layout, paint
from ui.widgets.focus import FocusRing
from ui.widgets.labels import plain_tip
from ui.widgets.memory_layout import BYTES_PER_GB, Part, Span, gb_text

BarSize = Literal["full", "compact", "small"]
HEIGHTS = {"full": 48, "compact": 40, "small": 10}
ABOVE, BELOW = 24, 24
SMALL = (
    0,
    1,
)  # gap and narrowest part of the small bar: there a part may be a hair, but the picture keeps its proportions
OVERLAY = ("adapter", "gradients", "optimizer")


def _on(fill: str) -> QColor:
    """Black or white, whichever reads better on `fill`."""
    colour = QColor(fill)
    shares = (colour.redF(), colour.greenF(), colour.blueF())
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return QColor("#FFFFFF" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000")


def paint_small(painter: QPainter, rect: QRectF, parts: Sequence[Part], limit_bytes: int) -> None:
    """The smallest form of the bar, for lists: flat colours, and what lies beyond the limit hatched."""
    look = theme.current()
    total = sum(part.num_bytes for part in parts)
    scale, radius = max(limit_bytes, total, 1), 3.0
    paint.box(painter, rect, radius, look.colour("surface"), look.colour("outline"))
    path = QPainterPath()
    path.addRoundedRect(rect, radius, radius)
    painter.save()
    painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
    for span in memory_layout.spans(parts, scale, int(rect.width()), *SMALL):
        box = QRectF(rect.left() + span.left, rect.top(), span.width, rect.height())
        painter.fillRect(box, QColor(look.parts[span.part.name].edge))
    if 0 < limit_bytes < total:
        beyond = QRectF(rect)
        beyond.setLeft(rect.left() + limit_bytes / scale * rect.width())
        painter.fillRect(beyond, look.colour("bad_soft"))
        paint.hatch(painter, beyond, "rising", look.colour("bad"))
    painter.restore()
    paint.box(painter, rect, radius, None, look.colour("bad" if 0 < limit_bytes < total else "outline"))


class MemoryBar(QProgressBar):
    """A stacked bar of named parts against a limit.

    `full` and `compact` carry a bracket over what is the overlay, a tick for the last measured peak, and a scale in GB;
    `small` is the bar alone, for lists and the status bar. A click, or Enter after Left and Right, tells
    `part_clicked(name)`. To a screen reader it is a progress bar with a sentence as its text.
    """

    part_clicked = Signal(str)

    def __init__(self, size: BarSize = "full", *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._size = size
        self._parts: list[Part] = []
        self._limit = 0
        self._measured: int | None = None
        self._measured_in = ""
        self._chosen = -1
        self.setTextVisible(False)
        self.setMouseTracking(True)
        self.setAccessibleName(name or self.tr("Graphics memory"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        if size != "small":
            self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            FocusRing(self)
        self._tell()

    def set_budget(self, parts: Sequence[tuple[str, str, int, str]]) -> None:
        """Show parts given as (name, label, bytes, tooltip), in this order; the name is a key of `theme.PARTS`."""
        self._parts = [Part(*each) for each in parts]
        assert all(part.name in theme.PARTS for part in self._parts)
        self._chosen = -1
        self._tell()

    def set_limit(self, num_bytes: int) -> None:
        """Set what the card has."""
        self._limit = num_bytes
        self._tell()

    def set_measured(self, num_bytes: int | None, run: str = "") -> None:
        """Mark the peak that the last run like this one reached, and name that run, "" for a test; None: there was none."""
        self._measured, self._measured_in = num_bytes, run
        self._tell()

    def set_size(self, size: BarSize) -> None:
        """Change the height."""
        self._size = size
        self.updateGeometry()
        self.update()

    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(part.num_bytes for part in self._parts)

    def is_over(self) -> bool:
        """Whether the parts need more than there is."""
        return 0 < self._limit < self.total()

    def text(self) -> str:
        """The bar in one sentence."""
        words = self.tr("{0} of {1} GB").format(gb_text(self.total()), gb_text(self._limit))
        if self.is_over():
            words += self.tr(", over by {0} GB").format(gb_text(self.total() - self._limit))
        return words

    def _tell(self) -> None:
        """Bring the value interface of the progress bar up to date, and repaint."""
        self.setRange(0, max(1, self._limit >> 20))
        self.setValue(min(self.total() >> 20, self.maximum()))
        listed = ", ".join(f"{part.label} {gb_text(part.num_bytes)} GB" for part in self._parts)
        told = [f"{self.text()}. {listed}", *([self._past()] if self._measured is not None else [])]
        self.setAccessibleDescription(". ".join(told))
        self.update()

    def sizeHint(self) -> QSize:
        """The bar, and the rows above and below it."""
        frame = 0 if self._size == "small" else ABOVE + BELOW
        return QSize(theme.px(128 if self._size == "small" else 320), theme.px(HEIGHTS[self._size] + frame))

    def minimumSizeHint(self) -> QSize:
        """It may become narrow, never low."""
        return QSize(theme.px(64), self.sizeHint().height())

    def bar_rect(self) -> QRect:
        """The bar itself, in the widget's coordinates."""
        top = 0 if self._size == "small" else theme.px(ABOVE)
        return QRect(0, top, self.width(), theme.px(HEIGHTS[self._size]))

    def _scale(self) -> int:
        return max(self._limit, self.total(), 1)

    def spans(self) -> list[Span]:
        """The pixels of each part that has a size."""
        room = SMALL if self._size == "small" else (2, memory_layout.MIN_PART)
        return memory_layout.spans(self._parts, self._scale(), self.width(), *room)

    def part_at(self, x: float) -> Part | None:
        """The part drawn at `x`, if any."""
        return next((span.part for span in self.spans() if span.left <= x < span.right + 2), None)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Make the tooltip that of what is under the mouse: the mark of the measured peak, a part, or what is free."""
        x = event.position().x()
        part = self.part_at(x)
        if self._measured is not None and self._size != "small" and abs(x - self._x(self._measured)) <= theme.px(4):
            self.setToolTip(plain_tip(self._past()))
        elif part is not None:
            self.setToolTip(self._tip(part))
        else:
            self.setToolTip(plain_tip(self.tr("Free: {0} GB").format(gb_text(max(self._limit - self.total(), 0)))))

    def _past(self) -> str:
        """The measured peak as a sentence."""
        assert self._measured is not None
        words = self.tr("Measured: {0} GB at the peak of {1}") if self._measured_in else self.tr("Measured: {0} GB")
        return words.format(gb_text(self._measured), self._measured_in)

    def _tip(self, part: Part) -> str:
        head = f"{part.label}: {gb_text(part.num_bytes)} GB"
        return plain_tip("\n".join(filter(None, (head, part.tip))))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Tell which part was clicked."""
        part = self.part_at(event.position().x())
        if part is not None and event.button() == Qt.MouseButton.LeftButton:
            self.part_clicked.emit(part.name)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Left and Right walk over the parts, Enter or Space clicks the one reached."""
        drawn = self.spans()
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()), 0)
        if step and drawn:
            self._chosen = min(max(self._chosen + step, 0), len(drawn) - 1)
            span = drawn[self._chosen]
            place = self.mapToGlobal(self.bar_rect().bottomLeft() + QRect(span.left, 0, 1, 1).topLeft())
            QToolTip.showText(place, self._tip(span.part), self)
            self.update()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Space) and 0 <= self._chosen < len(drawn):
            self.part_clicked.emit(drawn[self._chosen].part.name)
        else:
            super().keyPressEvent(event)

    def _x(self, num_bytes: float) -> float:
        """Where a size stands, kept on the bar: numbers that Qt's integers cannot hold end a paint event badly."""
        return min(num_bytes / self._scale(), 1.0) * self.width()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw track, parts, what lies over the limit, and the rows above and below."""
        painter = paint.start(self)
        if self._size == "small":
            paint_small(painter, QRectF(self.bar_rect()), self._parts, self._limit)
        else:
            drawn = self.spans()
            self._paint_bar(painter, drawn)
            self._paint_ticks(painter)
            self._paint_above(painter, drawn)
        painter.end()

    def _paint_bar(self, painter: QPainter, drawn: Sequence[Span]) -> None:
        look = theme.current()
        rect, radius = QRectF(self.bar_rect()), 5.0
        paint.box(painter, rect, radius, look.colour("sunken"), look.colour("outline"))
        path = QPainterPath()
        path.addRoundedRect(rect, radius, radius)
        painter.save()
        painter.setClipPath(path)
        if drawn:
            painter.fillRect(QRectF(0, rect.top(), drawn[-1].right + 2, rect.height()), look.colour("surface"))
        for span in drawn:
            self._paint_part(painter, QRectF(span.left, rect.top(), span.width, rect.height()), span.part)
        if self.is_over():
            beyond = QRectF(self._x(self._limit), rect.top(), rect.width(), rect.height()).intersected(rect)
            painter.fillRect(beyond, look.colour("bad_soft"))
            paint.hatch(painter, beyond, "rising", look.colour("bad"))
        painter.restore()
        if self.is_over():
            paint.box(painter, rect, radius, None, look.colour("bad"), 2.0)

    def _paint_part(self, painter: QPainter, box: QRectF, part: Part) -> None:
        look = theme.current().parts[part.name]
        paint.swatch(painter, box, look, 0)
        visible = min(box.right(), self._x(self._limit)) if self.is_over() else box.right()
        box.setRight(max(box.left(), visible))
        font = theme.font("bar")
        painter.setFont(font)
        metrics = QFontMetrics(font)
        number = gb_text(part.num_bytes)
        for text in (f"{part.label} {number}", number):
            width = metrics.horizontalAdvance(text)
            if width + theme.px(6) <= box.width():
                if look.pattern != "solid":
                    patch = QRectF(0, 0, width + theme.px(6), theme.px(18))
                    patch.moveCenter(box.center())
                    paint.box(painter, patch, 2, QColor(look.fill))
                painter.setPen(_on(look.fill))
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
                return

    def _paint_ticks(self, painter: QPainter) -> None:
        look = theme.current()
        painter.setFont(theme.font("caption"))
        metrics = QFontMetrics(theme.font("caption"))
        bottom = self.bar_rect().bottom() + 1
        for num_bytes, text in memory_layout.ticks(self._limit):
            x = min(round(self._x(num_bytes)), self.width() - 1)
            painter.fillRect(QRect(x, bottom + 3, 1, theme.px(4)), look.colour("outline"))
            width = metrics.horizontalAdvance(text) + 2
            left = min(max(x - width / 2, 0), self.width() - width)
            painter.setPen(look.colour("text2"))
            rect = QRectF(left, bottom + theme.px(8), width, theme.px(15))
            painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_above(self, painter: QPainter, drawn: Sequence[Span]) -> None:
        """The bracket over the overlay, the limit, and the measured peak: in this order they may claim the room."""
        taken: list[QRectF] = []
        blue = [span for span in drawn if span.part.name in OVERLAY]
        if blue:
            self._paint_bracket(painter, blue, taken)
        if self.is_over():
            colour = theme.current().colour("bad")
            x = self._x(self._limit)
            bar = self.bar_rect()
            painter.fillRect(QRectF(x - 1, bar.top() - theme.px(20), 2, bar.height() + theme.px(28)), colour)
            self._paint_note(painter, self.tr("limit"), x + theme.px(6), "pill", "bad", taken, centred=False)
        if self._measured is not None:
            look = theme.current()
            x = round(self._x(self._measured))
            bar = self.bar_rect()
            texts = (self.tr("last run measured {0}"), self.tr("measured {0}"))
            for text in texts[0 if self._measured_in else 1 :]:
                if self._paint_note(painter, text.format(gb_text(self._measured)), x, "caption", "text2", taken):
                    break
            painter.fillRect(QRect(x - 1, bar.top() - theme.px(5), 2, bar.height() + theme.px(9)), look.colour("text"))

    def _paint_bracket(self, painter: QPainter, blue: Sequence[Span], taken: list[QRectF]) -> None:
        colour = theme.current().colour("atext")
        left, right = blue[0].left + 0.5, max(blue[-1].right - 0.5, blue[0].left + 6.5)
        top = self.bar_rect().top() - theme.px(6) + 0.5
        painter.setPen(QPen(colour, 1.5, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap, Qt.PenJoinStyle.MiterJoin))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        foot = top + theme.px(4)
        painter.drawPolyline([QPointF(left, foot), QPointF(left, top), QPointF(right, top), QPointF(right, foot)])
        size = sum(span.part.num_bytes for span in blue)
        text = self.tr("overlay {0}").format(gb_text(size) if size >= 0.05 * BYTES_PER_GB else "< 0.1")
        self._paint_note(painter, text, (left + right) / 2, "pill", "atext", taken)

    def _paint_note(
        self,
        painter: QPainter,
        text: str,
        x: float,
        kind: str,
        role: str,
        taken: list[QRectF],
        *,
        centred: bool = True,
    ) -> bool:
        """Write a note at `x`, kept inside the widget; False if its place is taken already."""
        width = QFontMetrics(theme.font(kind)).horizontalAdvance(text) + 2
        left = min(max(x - width / 2 if centred else x, 0), self.width() - width)
        rect = QRectF(left, 0, width, theme.px(16))
        clear = [other.right() + 8 for other in taken if other.adjusted(-8, 0, 8, 0).intersects(rect)]
        if clear:
            rect.moveLeft(max(clear))
            if not rect.left() - 4 <= x <= rect.right() + 4 or rect.right() > self.width():
                return False
            if any(other.intersects(rect) for other in taken):
                return False
        taken.append(rect)
        painter.setFont(theme.font(kind))
        painter.setPen(theme.current().colour(role))
        painter.drawText(rect, Qt.AlignmentFlag.AlignCenter, text)
        return True
