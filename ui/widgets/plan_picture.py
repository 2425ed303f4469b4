"""The picture of the one idea: a frozen plan, and a transparent sheet laid over it on which the user draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint

# Half height over half width of a sheet, and how far the overlay floats above the base, in half widths.
FLATNESS, LIFT = 0.525, 0.725
GRID = 10
# Walls of the plan: from (u, v) to (u, v), both 0 to 1 along the sheet's two edges; gaps between them are doors.
WALLS = (
    (0.1, 0.1, 0.9, 0.1),
    (0.9, 0.1, 0.9, 0.9),
    (0.9, 0.9, 0.1, 0.9),
    (0.1, 0.9, 0.1, 0.1),
    (0.1, 0.5, 0.3, 0.5),
    (0.4, 0.5, 0.6, 0.5),
    (0.5, 0.1, 0.5, 0.3),
    (0.5, 0.44, 0.5, 0.56),
    (0.5, 0.7, 0.5, 0.9),
    (0.6, 0.5, 0.7, 0.5),
    (0.7, 0.5, 0.7, 0.62),
    (0.7, 0.78, 0.7, 0.9),
)
# Hinge (u, v), and how far the leaf reaches along u when open and along v when shut.
DOORS = ((0.5, 0.3, 0.14, 0.14), (0.5, 0.7, 0.14, -0.14), (0.7, 0.78, -0.16, -0.16))
LABEL_ROOM = 196


class PlanPicture(QWidget):
    """Two sheets in parallel projection; `set_notes` writes a few words beside each. It only decorates."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._notes = ("", "")
        self.setAccessibleName(self.tr("Your overlay lies on the frozen base model"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def set_notes(self, overlay: str, base: str) -> None:
        """What stands under "Your overlay" and under "Base model"."""
        self._notes = (overlay, base)
        self.setAccessibleDescription(f"{overlay}; {base}")
        self.update()

    def sizeHint(self) -> QSize:
        """Half a page."""
        return QSize(theme.px(568), theme.px(400))

    def minimumSizeHint(self) -> QSize:
        """Small, it scales."""
        return QSize(theme.px(200), theme.px(160))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw base, lines between the sheets, overlay, labels."""
        look = theme.current()
        painter = paint.start(self)
        has_labels = self.width() >= theme.px(380)
        room = self.width() - (theme.px(LABEL_ROOM) if has_labels else theme.px(16))
        tall = 2 * FLATNESS + LIFT
        half = min(room / 2, (self.height() - 8) / tall, theme.px(190))
        top = QPointF(half + 4, (self.height() - half * tall) / 2)
        over = _Sheet(painter, top, half)
        base = _Sheet(painter, top + QPointF(0, LIFT * half), half)
        self._draw_base(base)
        dashes = QPen(look.colour("text3"), 1.2, Qt.PenStyle.DashLine)
        for u, v in ((0, 1), (1, 0), (1, 1)):
            painter.setPen(dashes)
            painter.drawLine(over.at(u, v), base.at(u, v))
        self._draw_overlay(over)
        if has_labels:
            titles = (self.tr("Your overlay"), self.tr("Base model"))
            for sheet, role, title, note in zip((over, base), ("atext", "text2"), titles, self._notes, strict=True):
                self._draw_label(painter, sheet.at(1, 0), role, title, note)
        painter.end()

    def _draw_base(self, sheet: _Sheet) -> None:
        look = theme.current()
        sheet.fill(look.colour("surface"), look.colour("text3"), 1.3)
        pen = QPen(look.colour("line"), 1.0)
        for step in range(1, GRID):
            share = step / GRID
            sheet.line(pen, (share, 0), (share, 1))
            sheet.line(pen, (0, share), (1, share))
        wall = QPen(look.colour("lane_base"), 1.7, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
        for u1, v1, u2, v2 in WALLS:
            sheet.line(wall, (u1, v1), (u2, v2))
        for u, v, across, along in DOORS:
            angles = [math.pi / 2 * share for share in _shares(12)]
            quarter = [(u + across * math.sin(angle), v + along * math.cos(angle)) for angle in angles]
            sheet.curve(QPen(wall.color(), 1.3), quarter)

    def _draw_overlay(self, sheet: _Sheet) -> None:
        look = theme.current()
        ground = QColor(look.colour("soft" if look.dark else "atext"))
        ground.setAlphaF(0.86 if look.dark else 0.13)
        sheet.fill(ground, look.colour("atext"), 1.8)
        ink = QPen(look.colour("atext"), 2.4, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap)
        low, high, reach = (0.10, 0.10), (0.50, 0.54), 0.06
        for u in (low[0], high[0]):
            sheet.line(ink, (u, low[1] - reach), (u, high[1] + reach))
        for v in (low[1], high[1]):
            sheet.line(ink, (low[0] - reach, v), (high[0] + reach, v))
        thin = QPen(ink.color(), 1.6)
        for index in range(5):
            share = (index + 1) / 6
            u = low[0] + share * (high[0] - low[0])
            sheet.line(thin, (u - 0.03, high[1] - 0.05), (u + 0.05, low[1] + 0.05 + 0.06 * (index % 2)))
        sheet.ring(ink, (0.24, 0.77), 0.10)
        sheet.ring(ink, (0.24, 0.77), 0.042)
        sheet.arrow(ink)

    def _draw_label(self, painter: QPainter, point: QPointF, role: str, title: str, note: str) -> None:
        look = theme.current()
        painter.setPen(QPen(look.colour("outline"), 1))
        painter.drawLine(point, point + QPointF(theme.px(28), 0))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(look.colour(role))
        painter.drawEllipse(point, 3, 3)
        x = point.x() + theme.px(36)
        for text, kind, colour, dy in ((title, "strong", "text", -18), (note, "small", "text2", 1)):
            font = theme.font(kind)
            painter.setFont(font)
            painter.setPen(look.colour(colour))
            room = QRectF(x, point.y() + theme.px(dy), self.width() - x, theme.px(18))
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, int(room.width()))
            painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)


def _shares(count: int) -> list[float]:
    return [index / count for index in range(count + 1)]


class _Sheet:
    """A square sheet seen from above at an angle: (u, v) from 0 to 1, u to the right and down, v to the left and down."""

    def __init__(self, painter: QPainter, top: QPointF, half: float) -> None:
        self._painter, self._top, self._half = painter, top, half

    def at(self, u: float, v: float) -> QPointF:
        """The point (u, v) on the screen."""
        return self._top + QPointF((u - v) * self._half, (u + v) * self._half * FLATNESS)

    def fill(self, ground: QColor, edge: QColor, width: float) -> None:
        """The sheet itself."""
        self._painter.setBrush(ground)
        self._painter.setPen(
            QPen(edge, width, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
        )
        self._painter.drawPolygon(QPolygonF([self.at(0, 0), self.at(1, 0), self.at(1, 1), self.at(0, 1)]))
        self._painter.setBrush(Qt.BrushStyle.NoBrush)

    def line(self, pen: QPen, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A straight line on it."""
        self._painter.setPen(pen)
        self._painter.drawLine(self.at(*start), self.at(*end))

    def curve(self, pen: QPen, points: Sequence[tuple[float, float]]) -> None:
        """A line through many points on it."""
        self._painter.setPen(pen)
        self._painter.drawPolyline(QPolygonF([self.at(u, v) for u, v in points]))

    def arrow(self, pen: QPen) -> None:
        """A sweeping arrow in the right half, drawn upright: a hand's stroke, not a line of the plan."""

        def on(x: float, y: float) -> QPointF:
            return self.at(0.5, 0.5) + QPointF(x, y) * self._half

        stroke = QPainterPath(on(0.30, -0.10))
        stroke.cubicTo(on(0.50, -0.04), on(0.33, 0.08), on(0.485, 0.14))
        stroke.moveTo(on(0.39, 0.135))
        stroke.lineTo(on(0.485, 0.14))
        stroke.lineTo(on(0.445, 0.05))
        self._painter.setPen(pen)
        self._painter.drawPath(stroke)

    def ring(self, pen: QPen, centre: tuple[float, float], radius: float) -> None:
        """A circle that lies on it, seen as an ellipse."""
        self._painter.setPen(pen)
        wide = radius * self._half * 2**0.5
        self._painter.drawEllipse(self.at(*centre), wide, wide * FLATNESS)
