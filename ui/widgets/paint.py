"""The few shapes that everything is drawn with: boxes on the pixel grid, hatches, and text that fits or is cut."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QLineF, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPainterPath, QPen
from PySide6.QtWidgets import QWidget

from ui import theme


def start(widget: QWidget) -> QPainter:
    """A painter on `widget` with smooth edges; the caller ends it."""
    painter = QPainter(widget)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    return painter


def box(
    painter: QPainter,
    rect: QRect | QRectF,
    radius: float,
    fill: QColor | None = None,
    edge: QColor | None = None,
    width: float = 1.0,
) -> None:
    """A rounded box whose edge of `width` px lies wholly inside `rect`, so that straight sides stay sharp."""
    inset = width / 2 if edge is not None else 0.0
    shape = QRectF(rect).adjusted(inset, inset, -inset, -inset)
    painter.setBrush(QBrush(fill) if fill is not None else Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(edge, width) if edge is not None else Qt.PenStyle.NoPen)
    painter.drawRoundedRect(shape, radius - inset, radius - inset)


def field_box(painter: QPainter, widget: QWidget, *, focused: bool, invalid: bool) -> None:
    """The frame of an input: the focus ring and the error edge replace the border, 2 px wide."""
    look = theme.current()
    radius = theme.px(theme.RADIUS_CONTROL)
    if not widget.isEnabled():
        box(painter, widget.rect(), radius, look.colour("sunken"), look.colour("line"))
    elif invalid or focused:
        edge = look.colour("bad" if invalid else "focus")
        box(painter, widget.rect(), radius, look.colour("surface"), edge, 2.0)
    else:
        box(painter, widget.rect(), radius, look.colour("surface"), look.colour("outline"))


def caret(painter: QPainter, centre: QPointF, colour: QColor, *, up: bool = False, size: float = 8.0) -> None:
    """A thin arrow head, down unless `up`."""
    rise = -size / 4 if up else size / 4
    painter.setPen(QPen(colour, 1.1, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    points = [centre + QPointF(-size / 2, -rise), centre + QPointF(0, rise), centre + QPointF(size / 2, -rise)]
    painter.drawPolyline(points)


def _slanted(rect: QRectF, step: float, rising: bool) -> Iterator[QLineF]:
    """Lines at 45 degrees that cover `rect`, `step` px apart along the horizontal."""
    start_x = rect.left() - rect.height()
    for index in range(int((rect.width() + rect.height()) / step) + 2):
        x = start_x + index * step
        if rising:
            yield QLineF(x, rect.bottom(), x + rect.height(), rect.top())
        else:
            yield QLineF(x, rect.top(), x + rect.height(), rect.bottom())


def _vertical(rect: QRectF, step: float) -> Iterator[QLineF]:
    for index in range(1, int(rect.width() / step) + 1):
        x = rect.left() + index * step
        yield QLineF(x, rect.top(), x, rect.bottom())


HATCH_STEP = {"cross": 7.0, "rising": 6.0, "falling": 6.0, "vertical": 5.0, "dots": 5.0}


def hatch(painter: QPainter, rect: QRectF, pattern: str, colour: QColor, step: float = 0.0) -> None:
    """Fill `rect` with one of the hatches of the memory bar; `solid` draws nothing."""
    if pattern == "solid" or rect.isEmpty():
        return
    step = step or HATCH_STEP[pattern]
    painter.save()
    painter.setClipRect(rect, Qt.ClipOperation.IntersectClip)
    if pattern == "dots":
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        for row in range(int(rect.height() / step) + 1):
            for column in range(int(rect.width() / step) + 1):
                offset = QPointF(step / 2 + column * step, step / 2 + row * step)
                painter.drawEllipse(rect.topLeft() + offset, 1.2, 1.2)
    else:
        painter.setPen(QPen(colour, 1.4))
        lines: list[QLineF] = []
        if pattern in ("cross", "rising"):
            lines += _slanted(rect, step, True)
        if pattern in ("cross", "falling"):
            lines += _slanted(rect, step, False)
        if pattern == "vertical":
            lines += _vertical(rect, step)
        painter.drawLines(lines)
    painter.restore()


def swatch(painter: QPainter, rect: QRectF, look: theme.PartLook, radius: float) -> None:
    """One part of the memory bar: fill, hatch and a 1 px edge, cut to a rounded box."""
    edge = QColor(look.edge)
    path = QPainterPath()
    path.addRoundedRect(rect, radius, radius)
    painter.save()
    painter.setClipPath(path, Qt.ClipOperation.IntersectClip)
    painter.fillRect(rect, QColor(look.fill))
    small = rect.height() < 16
    hatch(painter, rect, look.pattern, edge, HATCH_STEP.get(look.pattern, 0.0) * (0.8 if small else 1.0))
    painter.restore()
    if look.pattern != "solid":
        box(painter, rect, radius, None, edge)
