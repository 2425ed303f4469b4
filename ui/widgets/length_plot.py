"""How long the rows are: a histogram with a limit that is dragged, or moved by the arrow keys."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPoint, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing
from ui.widgets.numbers import format_int
from ui.widgets.series import nice_ticks, tick_texts

LEFT, RIGHT, TOP, BOTTOM = 52, 20, 28, 26
NUM_BARS = 48
STEP, LARGE_STEP = 64, 512
GRAB = 8  # px beside the line in which it can be taken
_SHARE_SHOWN = 0.995


class LengthPlot(QWidget):
    """Rows by their tokens. `limit_moved` tells where the user has put the limit."""

    limit_moved = Signal(int)

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._span, self._num_longer, self._longest = 1, 0, 0
        self._limit, self._most, self._is_dragging = 1, 1, False
        self._tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        FocusRing(self)

    def set_lengths(self, tokens: NDArray[np.int64], limit: int, most: int) -> None:
        """Show the lengths of rows, with a limit that can go up to `most`."""
        self._tokens, self._most = tokens, max(most, 1)
        self._longest = int(tokens.max()) if len(tokens) else 0
        self._limit = min(max(limit, 1), self._most)
        self._count()

    def set_limit(self, limit: int) -> None:
        """Put the limit elsewhere without telling anybody."""
        self._limit = min(max(limit, 1), self._most)
        if self._limit > self._span:
            self._count()
        self.setAccessibleDescription(self.tr("Limit: {0} tokens").format(format_int(self._limit)))
        self.update()

    def limit(self) -> int:
        """Where the limit is."""
        return self._limit

    def _count(self) -> None:
        """A few very long rows do not press all others to the left: they are told in words."""
        usual = int(np.quantile(self._tokens, _SHARE_SHOWN)) if len(self._tokens) else 1
        self._span = max(int(max(usual, min(self._limit, 2 * usual)) * 1.15), 32)
        shown = self._tokens[self._tokens <= self._span]
        self._counts = np.histogram(shown, NUM_BARS, (0, self._span))[0].astype(np.int64)
        self._num_longer = len(self._tokens) - len(shown)
        self.setAccessibleDescription(self.tr("Limit: {0} tokens").format(format_int(self._limit)))
        self.update()

    # --- places ------------------------------------------------------------------------------------------------------

    def _room(self) -> QRect:
        sides = [theme.px(side) for side in (LEFT, TOP, RIGHT, BOTTOM)]
        return self.rect().adjusted(sides[0], sides[1], -sides[2], -sides[3])

    def x_of(self, tokens: int) -> int:
        """Where a length lies, in px; the right edge for one beyond it."""
        room = self._room()
        return room.left() + round(room.width() * min(tokens / self._span, 1.0))

    def _tokens_at(self, place: QPoint) -> int:
        room = self._room()
        return round((place.x() - room.left()) / max(room.width(), 1) * self._span)

    # --- moving the limit --------------------------------------------------------------------------------------------

    def _move(self, limit: int) -> None:
        limit = min(max(limit, 1), self._most)
        if limit != self._limit:
            self.set_limit(limit)
            self.limit_moved.emit(limit)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Take the line, wherever the plot was pressed."""
        self._is_dragging = True
        self._move(self._tokens_at(event.position().toPoint()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Drag it."""
        place = event.position().toPoint()
        near = abs(place.x() - self.x_of(self._limit)) <= GRAB
        self.setCursor(Qt.CursorShape.SizeHorCursor if near or self._is_dragging else Qt.CursorShape.ArrowCursor)
        if self._is_dragging:
            self._move(min(self._tokens_at(place), self._span))

    def mouseReleaseEvent(self, _event: QMouseEvent) -> None:
        """Let go of it."""
        self._is_dragging = False

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Arrows move the limit by 64 tokens, Page Up and Page Down by 512."""
        step = {
            Qt.Key.Key_Right: STEP,
            Qt.Key.Key_Left: -STEP,
            Qt.Key.Key_PageUp: LARGE_STEP,
            Qt.Key.Key_PageDown: -LARGE_STEP,
        }.get(Qt.Key(event.key()))
        if step is None:
            super().keyPressEvent(event)
        else:
            # Onto the grid first: limits are chosen round.
            self._move((self._limit // STEP) * STEP + step if abs(step) == STEP else self._limit + step)

    # --- drawing -----------------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """A modest size; the layout gives more."""
        return QSize(theme.px(480), theme.px(280))

    def minimumSizeHint(self) -> QSize:
        """Still legible."""
        return QSize(theme.px(240), theme.px(140))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw grid, bars, axis and limit."""
        painter = paint.start(self)
        room = self._room()
        self._draw_grid(painter, room)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        self._draw_bars(painter, room)
        self._draw_axis(painter, room)
        self._draw_limit(painter, room)
        painter.end()

    def _top(self) -> int:
        return max(int(self._counts.max()) if len(self._counts) else 0, 1)

    def _draw_grid(self, painter: QPainter, room: QRect) -> None:
        look, top = theme.current(), self._top()
        ticks = [tick for tick in nice_ticks(0, top, 4, whole=True) if tick <= top]
        painter.setFont(theme.font("caption"))
        for tick, text in zip(ticks, tick_texts(ticks), strict=True):
            y = room.bottom() - round(room.height() * tick / top)
            painter.fillRect(room.left(), y, room.width(), 1, look.colour("line"))
            painter.setPen(look.colour("text2"))
            box = QRect(0, y - 8, room.left() - theme.px(8), 16)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), text)

    def _draw_bars(self, painter: QPainter, room: QRect) -> None:
        look, top, cut_x = theme.current(), self._top(), self.x_of(self._limit)
        for number, count in enumerate(self._counts.tolist()):
            left = room.left() + room.width() * number // NUM_BARS
            right = room.left() + room.width() * (number + 1) // NUM_BARS - 1
            height = max(round(room.height() * count / top), 1 if count else 0)
            bar = QRectF(left, room.bottom() - height, right - left, height)
            if not count:
                continue
            kept = QRectF(bar.left(), bar.top(), max(0.0, min(right, cut_x) - bar.left()), bar.height())
            painter.fillRect(kept, look.colour("accent" if look.name != "dark" else "raw"))
            rest = bar.adjusted(kept.width(), 0, 0, 0)
            if rest.width() > 0:
                painter.fillRect(rest, look.colour("bad_soft"))
                paint.hatch(painter, rest, "rising", look.colour("bad"))

    def _draw_axis(self, painter: QPainter, room: QRect) -> None:
        look = theme.current()
        painter.fillRect(room.left(), room.bottom(), room.width(), 1, look.colour("outline"))
        painter.setFont(theme.font("caption"))
        painter.setPen(look.colour("text2"))
        ticks = [tick for tick in nice_ticks(0, self._span, 8, whole=True) if tick <= self._span]
        for tick, text in zip(ticks, tick_texts(ticks), strict=True):
            box = QRect(self.x_of(int(tick)) - 40, room.bottom() + theme.px(4), 80, 18)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop), text)
        if self._num_longer:
            words = self.tr("{0} longer, up to {1} \u2192").format(
                format_int(self._num_longer), format_int(self._longest)
            )
            corner = room.adjusted(0, theme.px(6), -theme.px(4), 0)
            painter.drawText(corner, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop), words)

    def _draw_limit(self, painter: QPainter, room: QRect) -> None:
        look, x = theme.current(), self.x_of(self._limit)
        painter.setPen(QPen(look.colour("bad"), 2))
        painter.drawLine(x, room.top() - theme.px(4), x, room.bottom())
        words = self.tr("limit {0}").format(format_int(self._limit))
        font = theme.font("caption")
        width = QFontMetrics(font).horizontalAdvance(words) + theme.px(16)
        left = min(max(x - width // 2, room.left()), self.width() - width - 2)
        handle = QRect(left, 2, width, theme.px(20))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint.box(painter, handle, theme.px(4), look.colour("bad_soft"), look.colour("bad"))
        painter.setFont(font)
        painter.setPen(look.colour("bad"))
        painter.drawText(handle, int(Qt.AlignmentFlag.AlignCenter), words)
