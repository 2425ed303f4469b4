"""The groups of further settings: each a row with its summary, which opens to the fields."""

from __future__ import annotations

from collections.abc import Collection

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QGridLayout, QSizePolicy, QVBoxLayout, QWidget

from studio.recipe.table import FIELDS
from ui import theme
from ui.form import Form, FormGrid
from ui.pages.train_words import summary, tr
from ui.state import AppState
from ui.widgets import paint
from ui.widgets.buttons import Button
from ui.widgets.focus import FocusRing
from ui.widgets.page import Card

TITLES = {
    "Adapter": "Adapter",
    "Quantisation": "Quantisation",
    "Optimiser": "Optimiser",
    "Schedule": "Schedule",
    "Memory": "Memory",
    "Data": "Data",
    "Evaluate": "Evaluate",
    "Checkpoints": "Checkpoints",
}


def is_offered(path: str) -> bool:
    """Whether a form has a field for this setting: not where there is nothing to choose."""
    entry = next(entry for entry in FIELDS if entry.path == path)
    return not (entry.kind == "choice" and len(entry.choices) < 2 and entry.other is None)


class GroupRow(QAbstractButton):
    """A caret, the group's name and its summary."""

    def __init__(self, title: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._summary = title, ""
        self.is_open = False
        self.setAccessibleName(title)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        FocusRing(self)

    def show_state(self, text: str, is_open: bool) -> None:
        """Take another summary, and whether the fields below can be seen."""
        self._summary, self.is_open = text, is_open
        state = tr("open") if is_open else tr("closed")
        self.setAccessibleDescription(f"{text}, {state}")
        self.update()

    def sizeHint(self) -> QSize:
        """One row of 28 px."""
        return QSize(theme.px(240), theme.px(28))

    def minimumSizeHint(self) -> QSize:
        """It may be cut."""
        return QSize(theme.px(120), theme.px(28))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the row."""
        look = theme.current()
        painter = paint.start(self)
        if self.underMouse():
            fill = "soft" if look.name == "contrast" else "canvas"
            paint.box(painter, self.rect(), theme.px(4), look.colour(fill))
        size = theme.px(12)
        caret = QRectF(theme.px(4), (self.height() - size) / 2, size, size)
        theme.draw_icon(painter, caret, "caret-down" if self.is_open else "caret-right", "text3")
        font = theme.font("medium")
        painter.setFont(font)
        painter.setPen(look.colour("text"))
        x = theme.px(24)
        painter.drawText(QRectF(x, 0, self.width() - x, self.height()), Qt.AlignmentFlag.AlignVCenter, self._title)
        x += max(theme.px(108), QFontMetrics(font).horizontalAdvance(self._title) + theme.px(12))
        font = theme.font("small", self._summary)
        painter.setFont(font)
        painter.setPen(look.colour("text2"))
        room = self.width() - x - theme.px(4)
        text = QFontMetrics(font).elidedText(self._summary, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QRectF(x, 0, room, self.height()), Qt.AlignmentFlag.AlignVCenter, text)
        if self.is_open:
            painter.setPen(QPen(look.colour("line"), 1))
            y = self.height() - 0.5
            painter.drawLine(QPointF(0, y), QPointF(self.width(), y))
        painter.end()


class _Group(QWidget):
    """A row, and its fields while it is open."""

    def __init__(self, name: str, form: Form) -> None:
        super().__init__()
        self.name = name
        self.row = GroupRow(tr(TITLES[name]))
        entries = [entry for entry in FIELDS if entry.group == name and is_offered(entry.path)]
        self.fields = {entry.path: form.bind(entry.path) for entry in entries if entry.kind != "list"}
        self.grid = FormGrid(list(self.fields.values()))
        self.wide = {entry.path: form.bind(entry.path) for entry in entries if entry.kind == "list"}
        self.body = QWidget()
        inner = QVBoxLayout(self.body)
        inner.setContentsMargins(theme.px(24), theme.px(12), 0, theme.px(12))
        inner.setSpacing(theme.px(16))
        inner.addWidget(self.grid)
        for field in self.wide.values():
            inner.addWidget(field)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.row)
        column.addWidget(self.body)

    @property
    def paths(self) -> list[str]:
        """The settings of this group."""
        return [*self.fields, *self.wide]

    def show_only(self, found: Collection[str]) -> None:
        """Keep the fields that were found."""
        self.grid.show_only([field for path, field in self.fields.items() if path in found])
        for path, field in self.wide.items():
            field.setVisible(path in found)


class MoreSettings(Card):
    """All groups. In Basic a summary in two columns, in Expert one under the other, to be opened and closed."""

    expert_wanted = Signal(str)
    """A group was pressed in Basic ("" for all): open it in Expert."""

    def __init__(self, state: AppState, form: Form) -> None:
        super().__init__(tr("More settings"))
        self._state, self._form = state, form
        self._expert = False
        self._found: set[str] | None = None
        self.open_groups: set[str] = set()
        self.groups = {name: _Group(name, form) for name in TITLES}
        self._all = Button(tr("Show all"), "link")
        self._all.clicked.connect(self._show_all)
        self.add_head(self._all)
        self._layout = QGridLayout()
        self._layout.setHorizontalSpacing(theme.px(theme.GUTTER))
        self._layout.setVerticalSpacing(0)
        self.add(self._layout)
        for group in self.groups.values():
            group.row.clicked.connect(self._pressed)
        state.recipe_changed.connect(self.refresh)
        self._arrange()

    @property
    def paths(self) -> list[str]:
        """The settings of all groups."""
        return [path for group in self.groups.values() for path in group.paths]

    def set_expert(self, expert: bool) -> None:
        """Show the groups to be edited, or their summaries."""
        self._expert = expert
        self._arrange()

    def set_found(self, found: set[str] | None) -> None:
        """Show only these settings, each group open; None ends the search."""
        self._found = found
        self._arrange()

    def reveal(self, path: str) -> None:
        """Open the group that holds a setting."""
        for group in self.groups.values():
            if path in group.paths:
                self.open_groups.add(group.name)
        self._arrange()

    def refresh(self) -> None:
        """Bring summaries and the number of changed values up to date."""
        for group in self.groups.values():
            group.row.show_state(summary(group.name, self._state.recipe), group.row.is_open)
        changed = sum(self._form.is_changed(path) for path in self.paths)
        note = tr("{0} groups").format(len(self.groups))
        if changed:
            note += ", " + (tr("1 value changed") if changed == 1 else tr("{0} values changed").format(changed))
        self.set_note(note)

    def _arrange(self) -> None:
        two_columns = not self._expert and self._found is None
        for index, group in enumerate(self.groups.values()):
            found = [path for path in group.paths if self._found is None or path in self._found]
            is_open = bool(found) and (self._found is not None or (self._expert and group.name in self.open_groups))
            self._layout.removeWidget(group)
            place = (index // 2, index % 2, 1, 1) if two_columns else (index, 0, 1, 2)
            self._layout.addWidget(group, *place)
            group.setVisible(bool(found))
            group.body.setVisible(is_open)
            group.row.is_open = is_open
            group.show_only(found)
        for column in (0, 1):
            self._layout.setColumnStretch(column, 1)
        self.setVisible(self._found is None or bool(self._found & set(self.paths)))
        self._all.setVisible(self._found is None)
        everything = self._expert and self.open_groups >= set(self.groups)
        self._all.set_label(tr("Close all") if everything else tr("Show all"))
        self.refresh()

    def _pressed(self) -> None:
        row = self.sender()
        name = next(group.name for group in self.groups.values() if group.row is row)
        if not self._expert and self._found is None:
            self.open_groups.add(name)
            self.expert_wanted.emit(name)
            return
        self.open_groups ^= {name}
        self._arrange()

    def _show_all(self) -> None:
        if not self._expert:
            self.open_groups = set(self.groups)
            self.expert_wanted.emit("")
            return
        self.open_groups = set() if self.open_groups >= set(self.groups) else set(self.groups)
        self._arrange()
