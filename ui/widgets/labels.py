"""Text on the screen. Foreign text (names, answers, file contents) is never markup: it always shows as it is."""

from __future__ import annotations

import html

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint

MAX_LINE = 4000  # longer lines make Qt's text layout crawl
# After these the style sheet may have put back the font and the palette that a widget had when it was first polished.
_RESETS = (
    QEvent.Type.FontChange,
    QEvent.Type.PaletteChange,
    QEvent.Type.StyleChange,
    QEvent.Type.ParentChange,
    QEvent.Type.Polish,
)


def hard_broken(text: str, limit: int = MAX_LINE) -> str:
    """`text` with every line longer than `limit` characters broken, whatever stands there."""
    if len(text) <= limit:
        return text
    lines = text.split("\n")
    return "\n".join("\n".join(line[i : i + limit] for i in range(0, max(len(line), 1), limit)) for line in lines)


def plain_tip(text: str) -> str:
    """`text` for `setToolTip`, which would otherwise read foreign text as markup."""
    return "<qt>" + html.escape(text).replace("\n", "<br>") + "</qt>" if text else ""


class PlainLabel(QLabel):
    """A label in one step of the type scale and one colour role; it never interprets markup.

    `elide` cuts a long text with an ellipsis and tells the whole of it in a tooltip; `wrap` breaks lines instead.
    """

    def __init__(
        self,
        text: str = "",
        kind: str = "body",
        role: str = "text",
        *,
        wrap: bool = False,
        elide: bool = False,
        selectable: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        self._kind, self._role, self._elide = kind, role, elide
        self._restyling = True
        super().__init__(parent)
        super().setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(wrap)
        if wrap:
            self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        if elide:
            self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        if selectable:
            self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._restyling = False
        self.setText(text)
        self._restyle()
        theme.changed.connect(self._restyle)

    def setText(self, text: str) -> None:
        """Show `text` literally; lines over 4,000 characters are broken."""
        super().setText(hard_broken(text))
        self._set_font()
        if self._elide:
            self.setToolTip(plain_tip(text))

    def setTextFormat(self, _format: Qt.TextFormat) -> None:
        """Stay plain, whatever is asked for."""

    def set_role(self, role: str) -> None:
        """Change the colour role."""
        self._role = role
        self._restyle()

    def set_kind(self, kind: str) -> None:
        """Change the step of the type scale."""
        self._kind = kind
        self._restyle()

    def _set_font(self) -> None:
        font = theme.font(self._kind, self.text())
        if font != self.font():
            self.setFont(font)

    def _restyle(self) -> None:
        self._restyling = True
        self._set_font()
        look = QPalette(self.palette())
        look.setColor(QPalette.ColorRole.WindowText, theme.current().colour(self._role))
        self.setPalette(look)
        self._restyling = False

    def event(self, event: QEvent) -> bool:
        """Keep font and colour where the style sheet would take them away."""
        result = super().event(event)
        if event.type() in _RESETS and not self._restyling:
            self._restyle()
        return result

    def minimumSizeHint(self) -> QSize:
        """An elided label may shrink to a few letters."""
        hint = super().minimumSizeHint()
        return QSize(min(hint.width(), theme.px(24)), hint.height()) if self._elide else hint

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the text, cut at the right end if it is to be elided."""
        if not self._elide:
            super().paintEvent(event)
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        text = QFontMetrics(self.font()).elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width())
        painter.drawText(self.rect(), int(self.alignment()), text)
        painter.end()


class IconLabel(QWidget):
    """An icon that only decorates or judges; `name` for a screen reader where it says something of its own."""

    def __init__(
        self,
        icon: str,
        role: str = "text2",
        size: int = 16,
        *,
        filled: bool = False,
        name: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._icon, self._role, self._size, self._filled = icon, role, size, filled
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def set_icon(self, icon: str, role: str, *, filled: bool = False) -> None:
        """Show another icon."""
        self._icon, self._role, self._filled = icon, role, filled
        self.update()

    def sizeHint(self) -> QSize:
        """A square."""
        return QSize(theme.px(self._size), theme.px(self._size))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the icon in the present theme."""
        painter = QPainter(self)
        size = theme.px(self._size)
        rect = QRectF((self.width() - size) / 2, (self.height() - size) / 2, size, size)
        theme.draw_icon(painter, rect, self._icon, self._role, self._filled)
        painter.end()


class Divider(QFrame):
    """A 1 px line, horizontal unless `vertical`."""

    def __init__(self, *, vertical: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        policy = QSizePolicy.Policy
        self._vertical = vertical
        self.setSizePolicy(
            policy.Fixed if vertical else policy.Expanding, policy.Expanding if vertical else policy.Fixed
        )

    def sizeHint(self) -> QSize:
        """One pixel thick."""
        return QSize(1, theme.px(16)) if self._vertical else QSize(theme.px(16), 1)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the line."""
        painter = QPainter(self)
        painter.fillRect(QRect(self.rect()), theme.current().colour("line"))
        painter.end()


class Tag(QWidget):
    """A small grey pill with a foreign word in it, such as a user's tag."""

    def __init__(self, text: str, *, fill: str = "sunken", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text, self._fill = text, fill
        self.setAccessibleName(text)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """The text and 8 px at each side."""
        width = QFontMetrics(theme.font("pill")).horizontalAdvance(self._text)
        return QSize(width + theme.px(16), theme.px(20))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the pill."""
        look = theme.current()
        painter = paint.start(self)
        edge = look.colour("outline") if look.name == "contrast" else None
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_PILL), look.colour(self._fill), edge)
        painter.setFont(theme.font("pill"))
        painter.setPen(look.colour("text2"))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, self._text)
        painter.end()
