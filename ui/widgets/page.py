"""The scaffold of a page: margins, a header in one row, cards, and two columns of which only the left scrolls."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.labels import PlainLabel

RIGHT_WIDTH, RIGHT_WIDTH_NARROW = 496, 400
MARGIN_NARROW, GUTTER_NARROW = 24, 16


class Card(QFrame):
    """A white sheet with a 1 px line. No card lies in a card. `body` is its column; `add` puts something into it."""

    def __init__(
        self, title: str = "", note: str = "", *, compact: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        padding = theme.px(16 if compact else 24)
        column = QVBoxLayout(self)
        column.setContentsMargins(padding, padding - theme.px(4 if title else 0), padding, padding)
        column.setSpacing(theme.px(10 if compact else 16))
        self._title = PlainLabel(title, "heading" if not compact else "strong")
        self._note = PlainLabel(note, "small", "text2", elide=True)
        self.head = QHBoxLayout()
        self.head.setSpacing(theme.px(8))
        self.head.addWidget(self._title)
        self.head.addWidget(self._note)
        self.head.addStretch(1)
        self.body = QVBoxLayout()
        self.body.setSpacing(theme.px(16))
        if title:
            self.setAccessibleName(title)
            self._title.setMinimumHeight(theme.px(20))
            column.addLayout(self.head)
        self._note.setVisible(bool(note))
        column.addLayout(self.body, 1)

    def add(self, item: QWidget | QLayout, stretch: int = 0) -> None:
        """Add a widget or a layout below what is there."""
        if isinstance(item, QWidget):
            self.body.addWidget(item, stretch)
        else:
            self.body.addLayout(item, stretch)

    def add_head(self, widget: QWidget) -> None:
        """Add a widget at the right of the title row."""
        self.head.addWidget(widget)

    def set_title(self, title: str) -> None:
        """Change the title of a card that was made with one."""
        self._title.setText(title)
        self.setAccessibleName(title)

    def set_note(self, note: str) -> None:
        """Change the small text beside the title."""
        self._note.setText(note)
        self._note.setVisible(bool(note))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the sheet."""
        look = theme.current()
        painter = paint.start(self)
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_CARD), look.colour("surface"), look.colour("line"))
        painter.end()


class PageHeader(QWidget):
    """Title, purpose and actions in one row; in a narrow window the purpose is hidden."""

    def __init__(
        self, title: str, purpose: str = "", actions: Sequence[QWidget] = (), *, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._title = PlainLabel(title, "title")
        self._purpose = PlainLabel(purpose, "body", "text2", elide=True)
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(0, 0, 0, 0)
        self.row.setSpacing(theme.px(12))
        self.row.addWidget(self._title)
        self.row.addWidget(self._purpose, 0, Qt.AlignmentFlag.AlignVCenter)
        self.row.addStretch(1)
        for action in actions:
            self.row.addWidget(action)
        self.setMinimumHeight(theme.px(theme.CONTROL))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def insert(self, widget: QWidget) -> None:
        """Put a widget right behind the title, such as a status pill."""
        self.row.insertWidget(1, widget)

    def set_title(self, title: str) -> None:
        """Change the title."""
        self._title.setText(title)

    def set_purpose(self, purpose: str) -> None:
        """Change the sentence behind the title."""
        self._purpose.setText(purpose)

    def set_narrow(self, narrow: bool) -> None:
        """Hide the purpose, or show it."""
        self._purpose.setVisible(not narrow)


class ScrollColumn(QScrollArea):
    """A column that scrolls by itself; its bar lies in the gutter beside it."""

    def __init__(self, content: QWidget, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content.setAutoFillBackground(False)
        self.viewport().setAutoFillBackground(False)

    def minimumSizeHint(self) -> QSize:
        """Small: what lies in it adapts to the width, and scrolls where it is too high."""
        return QSize(theme.px(240), theme.px(64))


def column(items: Sequence[QWidget | QLayout], spacing: int = theme.CARD_GAP, *, stretch_last: bool = False) -> QWidget:
    """Cards one under the other, as one widget; the rest of the height stays empty unless the last one takes it."""
    result = QWidget()
    layout = QVBoxLayout(result)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(theme.px(spacing))
    for index, item in enumerate(items):
        share = 1 if stretch_last and index == len(items) - 1 else 0
        if isinstance(item, QWidget):
            layout.addWidget(item, share)
        else:
            layout.addLayout(item, share)
    if not stretch_last:
        layout.addStretch(1)
    return result


class Columns(QWidget):
    """Two columns. The right one has a fixed width; if `sticky`, only the left one scrolls."""

    def __init__(
        self,
        left: QWidget,
        right: QWidget,
        right_width: int = RIGHT_WIDTH,
        *,
        sticky: bool = True,
        gutter: int = theme.GUTTER,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._right, self._right_width, self._gutter = right, right_width, gutter
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.addWidget(ScrollColumn(left) if sticky else left, 1)
        self._row.addWidget(right)
        self.set_narrow(False)

    def set_narrow(self, narrow: bool) -> None:
        """Take the narrow widths, or the wide ones."""
        width = min(self._right_width, RIGHT_WIDTH_NARROW) if narrow else self._right_width
        self._right.setFixedWidth(theme.px(width))
        self._row.setSpacing(theme.px(min(self._gutter, GUTTER_NARROW) if narrow else self._gutter))


class Page(QWidget):
    """A page: a header, then `body`, inside the margins. It tells `narrow_changed` when the window crosses 1,100 px."""

    narrow_changed = Signal(bool)

    def __init__(
        self, title: str, purpose: str = "", actions: Sequence[QWidget] = (), *, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.header = PageHeader(title, purpose, actions)
        self.setAccessibleName(title)
        self.narrow = False
        self._outer = QVBoxLayout(self)
        self._outer.setSpacing(theme.px(16))
        self._outer.addWidget(self.header)
        self.body = QVBoxLayout()
        self.body.setSpacing(theme.px(16))
        self._outer.addLayout(self.body, 1)
        self._columns: list[Columns] = []
        self._set_narrow(False)

    def add(self, item: QWidget | QLayout, stretch: int = 0) -> None:
        """Add a widget or a layout below what is there."""
        if isinstance(item, QWidget):
            self.body.addWidget(item, stretch)
        else:
            self.body.addLayout(item, stretch)

    def columns(
        self,
        left: QWidget,
        right: QWidget,
        right_width: int = RIGHT_WIDTH,
        *,
        sticky: bool = True,
        gutter: int = theme.GUTTER,
    ) -> Columns:
        """Fill the rest of the page with two columns; the right one narrows with the window."""
        result = Columns(left, right, right_width, sticky=sticky, gutter=gutter)
        self._columns.append(result)
        result.set_narrow(self.narrow)
        self.body.addWidget(result, 1)
        return result

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the arrangement by the width of the window."""
        super().resizeEvent(event)
        narrow = self.window().width() < theme.px(theme.NARROW_BELOW)
        if narrow != self.narrow:
            self._set_narrow(narrow)
            self.narrow_changed.emit(narrow)

    def _set_narrow(self, narrow: bool) -> None:
        self.narrow = narrow
        side = theme.px(MARGIN_NARROW if narrow else theme.MARGIN)
        self._outer.setContentsMargins(side, theme.px(16), side, theme.px(16))
        self.header.set_narrow(narrow)
        for columns in self._columns:
            columns.set_narrow(narrow)
