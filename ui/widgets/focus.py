"""The focus ring: 2 px wide, 2 px outside the widget, drawn over its surroundings so that nothing moves."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QFocusEvent, QPaintEvent
from PySide6.QtWidgets import QWidget

from ui import theme
from ui.widgets import paint

REACH = 4  # px from the widget's edge to the ring's outer edge


class FocusRing(QWidget):
    """A ring around `target`, shown while it has the focus and the mouse did not give it.

    It lives in the nearest ancestor that has room for it, and follows the widget as layouts move it.
    """

    def __init__(self, target: QWidget, radius: int = theme.RADIUS_CONTROL) -> None:
        super().__init__(target)
        self._target, self._radius = target, radius
        self._watched: list[QWidget] = []
        self._by_mouse = False
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hide()
        target.installEventFilter(self)
        target.destroyed.connect(self.deleteLater)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Follow focus, place and visibility of the target."""
        kind = event.type()
        if watched is self._target and kind == QEvent.Type.FocusIn:
            assert isinstance(event, QFocusEvent)
            if event.reason() != Qt.FocusReason.ActiveWindowFocusReason:
                self._by_mouse = event.reason() == Qt.FocusReason.MouseFocusReason
            if not self._by_mouse:
                self._attach()
        elif watched is self._target and kind in (QEvent.Type.FocusOut, QEvent.Type.Hide):
            self._detach()
        elif self.isVisible() and kind in (QEvent.Type.Move, QEvent.Type.Resize):
            self._place()
        return False

    def _ring_in(self, host: QWidget) -> QRect:
        return QRect(self._target.mapTo(host, QPoint(0, 0)), self._target.size()).adjusted(-REACH, -REACH, REACH, REACH)

    def _attach(self) -> None:
        self._detach()
        host = self._target
        while not host.isWindow() and (host is self._target or not host.rect().contains(self._ring_in(host))):
            parent = host.parentWidget()
            if parent is None:
                break
            if host is not self._target:
                host.installEventFilter(self)
                self._watched.append(host)
            host = parent
        if host is self._target:
            return
        self.setParent(host)
        self._place()
        self.show()
        self.raise_()

    def _detach(self) -> None:
        self.hide()
        for widget in self._watched:
            widget.removeEventFilter(self)
        self._watched.clear()
        self.setParent(self._target)

    def _place(self) -> None:
        host = self.parentWidget()
        if host is not None and host is not self._target:
            self.setGeometry(self._ring_in(host))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the ring."""
        painter = paint.start(self)
        paint.box(painter, self.rect(), theme.px(self._radius) + REACH, None, theme.current().colour("focus"), 2.0)
        painter.end()
