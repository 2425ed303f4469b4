"""The bare surface of a plot, and what mouse and keyboard can do on it: point, choose a stretch, ask for a menu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPoint, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QRubberBand, QSizePolicy

from ui import theme
from ui.widgets.focus import FocusRing
from ui.widgets.series import logarithmic_ticks, nice_ticks, tick_texts

LEAST_DRAG = 8  # px: less is a click
# What a key does to the cursor: how far it goes, in steps.
STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_PageUp: -50, Qt.Key.Key_PageDown: 50}
WORDS = {
    Qt.Key.Key_Home: "first",
    Qt.Key.Key_End: "last",
    Qt.Key.Key_Escape: "none",
    Qt.Key.Key_Plus: "in",
    Qt.Key.Key_Equal: "in",
    Qt.Key.Key_Minus: "out",
    Qt.Key.Key_0: "all",
}


class Axis(pg.AxisItem):  # type: ignore[misc]
    """An axis with one level of round ticks; as many as there is room for. The lower one counts whole steps, if it is told so.

    A logarithmic one gets its places as log10 of what it says.
    """

    whole = True
    logarithmic = False

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        """The ticks, one level."""
        below = self.orientation == "bottom"
        room = theme.px(76 if below else 22)
        most = max(2, min(10 if below else 5, int(size / room) + 1))
        if self.logarithmic:
            return [(1.0, logarithmic_ticks(minVal, maxVal, most))]
        ticks = nice_ticks(minVal, maxVal, most, whole=below and self.whole)
        return [(ticks[1] - ticks[0] if len(ticks) > 1 else 1.0, ticks)]

    def tickStrings(self, values: Sequence[float], _scale: float, _spacing: float) -> list[str]:
        """Their labels."""
        return [f"{10**value:.4g}" for value in values] if self.logarithmic else tick_texts(list(values))

    def boundingRect(self) -> QRectF:
        """Room for half a label beyond the ends, or pyqtgraph leaves out the first and the last."""
        rect: QRectF = super().boundingRect()
        return rect.adjusted(-20, -10, 20, 10)


class Canvas(pg.PlotWidget):  # type: ignore[misc]
    """A bare plot in the present theme, without pyqtgraph's menus, buttons or zoom; the wheel scrolls the page.

    Places that its signals carry are in the units of the lower axis.
    """

    hovered = Signal(object)
    """float: the mouse points there; None: no longer."""
    dragged = Signal(float, float)
    """A stretch was chosen with the mouse, from left to right."""
    stepped = Signal(int)
    """A key moves the cursor by so many steps."""
    told = Signal(str)
    """A key means first, last, none, in, out or all."""
    menu_wanted = Signal(QPoint)
    """At this place of the screen."""

    def __init__(self, name: str) -> None:
        axes = {side: Axis(side) for side in ("left", "bottom")}
        super().__init__(background=None, axisItems=axes)
        self._pressed: QPoint | None = None
        self._band = QRubberBand(QRubberBand.Shape.Rectangle, self)
        self.setAccessibleName(name)
        self.setFrameShape(self.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(theme.px(80))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMouseEnabled(x=False, y=False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.getPlotItem().layout.setContentsMargins(0, theme.px(4), theme.px(18), 0)
        self.getViewBox().setDefaultPadding(0)
        self.restyle()

    def let_keys_in(self) -> None:
        """Take the focus, so that the cursor can be moved without a mouse."""
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        FocusRing(self)

    def restyle(self) -> None:
        """Take axis colours and fonts from the theme."""
        look = theme.current()
        self.setBackground(look.colour("surface"))
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setZValue(-1000)
            axis.setTextPen(look.colour("text2"))
            axis.setStyle(
                tickFont=theme.font("caption"),
                tickTextOffset=theme.px(6),
                tickLength=0,
                hideOverlappingLabels=False,
                tickAlpha=255,
                autoExpandTextSpace=True,
            )
            axis.setPen(pg.mkPen(look.colour("outline")) if side == "bottom" else pg.mkPen(None))
        left = self.getAxis("left")
        left.setGrid(255)
        left.setZValue(-1000)
        left.setTickPen(pg.mkPen(look.colour("line")))
        left.setWidth(theme.px(48))
        bottom = self.getAxis("bottom")
        bottom.setTickPen(pg.mkPen(look.colour("outline")))
        bottom.setStyle(tickLength=theme.px(4), tickTextOffset=theme.px(4))
        bottom.setHeight(theme.px(24))

    def set_whole(self, whole: bool) -> None:
        """Whether the lower axis counts in whole numbers only."""
        self.getAxis("bottom").whole = whole

    def set_logarithmic(self, logarithmic: bool) -> None:
        """Whether what is drawn stands as high as its log10."""
        left = self.getAxis("left")
        left.logarithmic = logarithmic
        left.picture = None  # or pyqtgraph goes on with the labels that it has
        left.update()

    def place_of(self, x: int) -> float:
        """What stands on the lower axis at `x` pixels."""
        return float(self.getViewBox().mapSceneToView(self.mapToScene(QPoint(x, 0))).x())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell where it points; draw the stretch that is being chosen."""
        super().mouseMoveEvent(event)
        at = event.position().toPoint()
        if self._pressed is not None and abs(at.x() - self._pressed.x()) >= LEAST_DRAG:
            box = self._box()
            left, right = sorted(min(max(each.x(), box.left()), box.right()) for each in (self._pressed, at))
            self._band.setGeometry(QRect(QPoint(left, box.top()), QPoint(right, box.bottom())))
            self._band.show()
        self.hovered.emit(self.place_of(at.x()) if self._box().contains(at) else None)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to choose a stretch."""
        super().mousePressEvent(event)
        if event.button() == Qt.MouseButton.LeftButton:
            self._pressed = event.position().toPoint()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End it, if there was one."""
        super().mouseReleaseEvent(event)
        pressed, self._pressed = self._pressed, None
        if pressed is None or self._band.isHidden():
            return
        self._band.hide()
        first, last = sorted((self.place_of(pressed.x()), self.place_of(event.position().toPoint().x())))
        self.dragged.emit(first, last)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show everything again."""
        super().mouseDoubleClickEvent(event)
        self.told.emit("all")

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is pointed at any more."""
        super().leaveEvent(event)
        self.hovered.emit(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the cursor, or zoom; Shift goes ten times as far."""
        key = Qt.Key(event.key())
        if key in STEPS:
            far = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.stepped.emit(STEPS[key] * (10 if far else 1))
        elif key in WORDS:
            self.told.emit(WORDS[key])
        else:
            event.ignore()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Ask for the menu, by mouse or by key."""
        self.menu_wanted.emit(event.globalPos())

    def _box(self) -> QRect:
        """Where the curves are, in this widget's pixels."""
        view = self.getViewBox()
        box: QRect = self.mapFromScene(view.mapRectToScene(view.boundingRect())).boundingRect()
        return box

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the wheel to the page."""
        event.ignore()

    def sizeHint(self) -> QSize:
        """A modest size; the layout gives more."""
        return QSize(theme.px(280), theme.px(120))


def plain_pen(role: str, width: float = 1.0, style: Qt.PenStyle | None = None) -> Any:
    """A pen in a colour role; solid unless `style`."""
    return pg.mkPen(theme.current().colour(role), width=width, style=style or Qt.PenStyle.SolidLine)
