"""A row as a model sees it: every token in its place, those that are learnt marked, and a line where the rest is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QWidget

from ui import theme
from ui.widgets import paint

LINE, PADDING, CUT_BAND = 24, 12, 28
GAP = 2  # px between tokens: enough to see where one ends
MOST_TOKENS = 20_000
# What has no shape of its own is shown by a sign.
_SIGNS = {"\n": "\u21b5", "\t": "\u21e5", "\r": "\u240d", "\u00a0": "\u237d"}


@dataclass(frozen=True)
class Token:
    """A token's number in the vocabulary, what it stands for, and whether it is learnt."""

    id: int
    text: str
    is_trained: bool


def visible_text(text: str) -> str:
    """A token's text on one line, its white space made visible where it is all there is."""
    shown = "".join(
        _SIGNS.get(letter, letter if letter.isprintable() or letter == "\u200d" else "\ufffd") for letter in text
    )
    return shown if shown.strip() else shown.replace(" ", "\u00b7") or "\u2205"


class TokenView(QAbstractScrollArea):
    """Tokens that wrap like words. `token_chosen` tells the index of the one that was clicked or walked to.

    Learnt tokens stand on a tint, in bold and underlined: no colour is needed to tell them. Arrow keys walk, Home and End jump.
    """

    token_chosen = Signal(int)

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tokens: list[Token] = []
        self._boxes: list[QRect] = []
        self._limit, self._current, self._cut_y = 0, -1, -1
        self._cut_label = ""
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setCursor(Qt.CursorShape.PointingHandCursor)
        theme.changed.connect(self._lay_out)

    def set_tokens(self, tokens: Sequence[Token], limit: int, cut_label: str) -> None:
        """Show tokens, at most `MOST_TOKENS`; those from the place `limit` on are cut, which `cut_label` says on the line."""
        is_other = list(tokens[:MOST_TOKENS]) != self._tokens
        self._tokens, self._limit, self._cut_label = list(tokens[:MOST_TOKENS]), limit, cut_label
        if is_other:
            self._current = -1
            self.verticalScrollBar().setValue(0)
        self._lay_out()

    def tokens(self) -> list[Token]:
        """What is shown."""
        return list(self._tokens)

    def current(self) -> int:
        """The index of the chosen token, -1 if there is none."""
        return self._current

    def box(self, index: int) -> QRect:
        """Where a token lies in the viewport."""
        return self._boxes[index].translated(0, -self.verticalScrollBar().value())

    def choose(self, index: int) -> None:
        """Choose a token, and scroll to it."""
        if not 0 <= index < len(self._tokens):
            return
        self._current = index
        bar, box = self.verticalScrollBar(), self._boxes[index]
        if box.top() < bar.value():
            bar.setValue(box.top() - theme.px(PADDING))
        elif box.bottom() > bar.value() + self.viewport().height():
            bar.setValue(box.bottom() - self.viewport().height() + theme.px(PADDING))
        self.setAccessibleDescription(visible_text(self._tokens[index].text))
        self.viewport().update()
        self.token_chosen.emit(index)

    # --- layout ------------------------------------------------------------------------------------------------------

    def _font(self, token: Token) -> QFont:
        return theme.font("strong" if token.is_trained else "body", token.text)

    def _lay_out(self) -> None:
        edge, height = theme.px(PADDING), theme.px(LINE)
        right = self.viewport().width() - edge
        widths = {trained: QFontMetrics(theme.font("strong" if trained else "body")) for trained in (True, False)}
        x, y = edge, edge
        self._boxes, self._cut_y = [], -1
        for place, token in enumerate(self._tokens):
            if place == self._limit and place:
                y += height if x > edge else 0
                self._cut_y, x = y, edge
                y += theme.px(CUT_BAND)
            width = widths[token.is_trained].horizontalAdvance(visible_text(token.text)) + GAP
            width = min(width, right - edge)
            if x + width > right and x > edge:
                x, y = edge, y + height
            self._boxes.append(QRect(x, y, width, height))
            x += width
            if token.text.endswith("\n"):
                x, y = edge, y + height
        bottom = y + height + edge
        bar = self.verticalScrollBar()
        bar.setPageStep(self.viewport().height())
        bar.setSingleStep(height)
        bar.setRange(0, max(0, bottom - self.viewport().height()))
        self.viewport().update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Wrap anew."""
        super().resizeEvent(event)
        self._lay_out()

    def scrollContentsBy(self, _dx: int, _dy: int) -> None:
        """Draw what is visible now."""
        self.viewport().update()

    def minimumSizeHint(self) -> QSize:
        """Some lines."""
        return QSize(theme.px(200), theme.px(96))

    # --- choosing ----------------------------------------------------------------------------------------------------

    def token_at(self, place: QPoint) -> int:
        """The index of the token at a place in the viewport, or -1."""
        inside = place + QPoint(0, self.verticalScrollBar().value())
        return next((index for index, box in enumerate(self._boxes) if box.contains(inside)), -1)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose what was clicked."""
        self.choose(self.token_at(event.position().toPoint()))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Walk from token to token."""
        last = len(self._tokens) - 1
        target = {
            Qt.Key.Key_Right: min(self._current + 1, last),
            Qt.Key.Key_Left: max(self._current - 1, 0),
            Qt.Key.Key_Down: self._beyond(1),
            Qt.Key.Key_Up: self._beyond(-1),
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: last,
        }.get(Qt.Key(event.key()))
        if target is None:
            super().keyPressEvent(event)
        else:
            self.choose(target)

    def _beyond(self, direction: int) -> int:
        """The nearest token on the line below or above."""
        if self._current < 0:
            return 0
        here = self._boxes[self._current]
        others = [index for index, box in enumerate(self._boxes) if (box.top() - here.top()) * direction > 0]
        if not others:
            return self._current
        line = self._boxes[others[0] if direction > 0 else others[-1]].top()
        return min(
            (index for index in others if self._boxes[index].top() == line),
            key=lambda index: abs(self._boxes[index].center().x() - here.center().x()),
        )

    # --- drawing -----------------------------------------------------------------------------------------------------

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the tokens that can be seen, and the line of the cut."""
        look = theme.current()
        painter = QPainter(self.viewport())
        painter.fillRect(self.viewport().rect(), look.colour("surface"))
        top = self.verticalScrollBar().value()
        seen = QRect(0, top, self.viewport().width(), self.viewport().height())
        painter.translate(0, -top)
        for place, box in enumerate(self._boxes):
            if box.intersects(seen):
                self._draw_token(painter, place, box)
        if self._cut_y >= 0:
            self._draw_cut(painter)
        painter.end()

    def _draw_token(self, painter: QPainter, place: int, box: QRect) -> None:
        look, token = theme.current(), self._tokens[place]
        is_cut = self._limit > 0 and place >= self._limit
        body = box.adjusted(0, 3, -1, -3)
        if token.is_trained:
            fill, line = ("sunken", "text3") if is_cut else ("a_tint10", "atext")
            painter.fillRect(body, look.colour(fill))
            painter.fillRect(body.left(), body.bottom() - 1, body.width(), 2, look.colour(line))
        painter.setFont(self._font(token))
        painter.setPen(look.colour("text" if token.is_trained and not is_cut else "text3"))
        painter.drawText(body.adjusted(0, 0, 2, 0), int(Qt.AlignmentFlag.AlignVCenter), visible_text(token.text))
        if place == self._current:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            paint.box(painter, box.adjusted(-1, 1, 0, -1), theme.px(3), None, look.colour("focus"), 2.0)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _draw_cut(self, painter: QPainter) -> None:
        look = theme.current()
        edge, middle = theme.px(PADDING), self._cut_y + theme.px(CUT_BAND) // 2
        font = theme.font("caption")
        width = QFontMetrics(font).horizontalAdvance(self._cut_label)
        painter.setPen(QPen(look.colour("bad"), 2, Qt.PenStyle.DashLine))
        painter.drawLine(edge + width + theme.px(8), middle, self.viewport().width() - edge, middle)
        painter.setPen(look.colour("bad"))
        painter.setFont(font)
        room = QRect(edge, self._cut_y, width + 2, theme.px(CUT_BAND))
        painter.drawText(room, int(Qt.AlignmentFlag.AlignVCenter), self._cut_label)
