"""Things to press: buttons with a text, and icon buttons."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QPushButton, QSizePolicy, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.focus import FocusRing

Kind = Literal["primary", "default", "quiet", "link", "danger"]
Size = Literal["control", "action", "lane"]
HEIGHTS: dict[str, int] = {"control": theme.CONTROL, "action": theme.ACTION, "lane": theme.LANE_CONTROL}
ICON, GAP, PADDING = 16, 6, 13
TEXT_FLAGS = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextShowMnemonic


def hover_fill(button: QAbstractButton) -> str:
    """The fill one step on from rest: hover, then pressed."""
    name = theme.current().name
    if name == "contrast":
        return "soft"
    if button.isDown():
        return "line"
    return "sunken" if name == "light" else "raised"


class Button(QPushButton):
    """A push button. `primary` once per page; `danger` is red text, never a red fill; `link` is text alone.

    `icon` names an icon of `resources/icons`. A checkable button that is checked shows the soft fill and a filled icon.
    """

    def __init__(
        self,
        text: str,
        kind: Kind = "default",
        icon: str = "",
        *,
        size: Size = "control",
        filled: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self._label, self._kind, self._icon, self._filled, self._size = text, kind, icon, filled, size
        self.setCursor(Qt.CursorShape.PointingHandCursor if kind == "link" else Qt.CursorShape.ArrowCursor)
        self.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(text.replace("&", ""))
        self.setAutoDefault(False)
        FocusRing(self)
        theme.changed.connect(self.updateGeometry)

    def set_label(self, text: str) -> None:
        """Change what the button says when it can be pressed."""
        self._label = text
        self.setAccessibleName(text.replace("&", ""))
        if self.isEnabled():
            self.setText(text)

    def set_kind(self, kind: Kind) -> None:
        """Change the kind, for example when another button becomes the primary one."""
        self._kind = kind
        self.updateGeometry()
        self.update()

    def set_icon(self, icon: str, *, filled: bool = False) -> None:
        """Change the icon; an empty name takes it away."""
        self._icon, self._filled = icon, filled
        self.updateGeometry()
        self.update()

    def set_reason(self, reason: str | None) -> None:
        """Disable the button and let its label say why; None gives it back."""
        self.setEnabled(reason is None)
        self.setText(self._label if reason is None else reason)
        self.setAccessibleDescription("" if reason is None else reason)

    def _font_kind(self) -> str:
        return "strong" if self.isEnabled() and (self._kind == "primary" or self.isChecked()) else "medium"

    def _content_width(self) -> int:
        metrics = QFontMetrics(theme.font(self._font_kind(), self.text()))
        width = metrics.size(Qt.TextFlag.TextShowMnemonic, self.text()).width()
        width += theme.px(ICON + GAP if self.text() else ICON) if self._icon else 0
        return width + (theme.px(ICON + GAP) if self.menu() is not None else 0)

    def sizeHint(self) -> QSize:
        """The text, the icon, the caret of a menu, and the padding."""
        padding = 0 if self._kind == "link" else theme.px(PADDING)
        height = theme.px(20) if self._kind == "link" else theme.px(HEIGHTS[self._size])
        return QSize(self._content_width() + 2 * padding, height)

    def minimumSizeHint(self) -> QSize:
        """A button does not shrink below its label."""
        return self.sizeHint()

    def _look(self) -> tuple[str | None, str | None, str]:
        """Roles of fill, edge and text in the present state."""
        active = self.underMouse() or self.isDown()
        if not self.isEnabled():
            return (None, None, "text3") if self._kind in ("quiet", "link") else ("sunken", "line", "text3")
        if self.isCheckable() and self.isChecked():
            return "soft", "atext", "atext"
        if self._kind == "primary":
            return ("accent_hover" if active else "accent"), None, "on_accent"
        if self._kind == "link":
            return None, None, "atext"
        if self._kind == "quiet":
            return (hover_fill(self) if active else None), None, "text2"
        fill = hover_fill(self) if active else "surface"
        return fill, "outline", "bad" if self._kind == "danger" else "text"

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw fill, edge, icon, text and caret."""
        look = theme.current()
        fill, edge, text = self._look()
        painter = paint.start(self)
        if fill or edge:
            paint.box(
                painter,
                self.rect(),
                theme.px(theme.RADIUS_CONTROL),
                look.colour(fill) if fill else None,
                look.colour(edge) if edge else None,
            )
        font = theme.font(self._font_kind(), self.text())
        font.setUnderline(self._kind == "link" and self.isEnabled() and self.underMouse())
        painter.setFont(font)
        x = (self.width() - self._content_width()) / 2
        if self._icon:
            size = theme.px(ICON)
            role = "text2" if text == "text" else text
            filled = self._filled or (self.isCheckable() and self.isChecked())
            theme.draw_icon(painter, QRectF(x, (self.height() - size) / 2, size, size), self._icon, role, filled)
            x += size + theme.px(GAP)
        painter.setPen(look.colour(text))
        painter.drawText(QRectF(x, 0, self.width() - x, self.height()), int(TEXT_FLAGS), self.text())
        if self.menu() is not None:
            centre = QPointF((self.width() + self._content_width()) / 2 - theme.px(5), self.height() / 2)
            paint.caret(painter, centre, look.colour("text3"), size=theme.px(7))
        painter.end()


class IconButton(QAbstractButton):
    """A quiet square button that shows an icon alone; `name` is its tooltip and its name for a screen reader."""

    def __init__(
        self,
        icon: str,
        name: str,
        *,
        role: str = "text2",
        side: int = theme.CONTROL,
        icon_size: int = 18,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._icon, self._role, self._side, self._icon_size = icon, role, side, icon_size
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        FocusRing(self)

    def set_icon(self, icon: str) -> None:
        """Show another icon."""
        self._icon = icon
        self.update()

    def sizeHint(self) -> QSize:
        """A square."""
        return QSize(theme.px(self._side), theme.px(self._side))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the icon, on a fill while the mouse is over it."""
        look = theme.current()
        painter = paint.start(self)
        if self.isEnabled() and (self.underMouse() or self.isDown()):
            paint.box(painter, self.rect(), theme.px(theme.RADIUS_CONTROL), look.colour(hover_fill(self)))
        size = theme.px(self._icon_size)
        rect = QRectF((self.width() - size) / 2, (self.height() - size) / 2, size, size)
        checked = self.isCheckable() and self.isChecked()
        role = "atext" if checked else self._role if self.isEnabled() else "text3"
        theme.draw_icon(painter, rect, self._icon, role, checked)
        painter.end()
