"""Turns of a conversation to be written and put in order: who speaks, and what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from studio.data.conversation import ROLES, TEXT
from studio.data.rewriting import EditedTurn
from ui import theme
from ui.bridge import soon
from ui.widgets.buttons import Button, IconButton
from ui.widgets.controls import Choice
from ui.widgets.labels import PlainLabel
from ui.widgets.text_area import TextArea

MOST_LINES = 14


class TurnBox(QWidget):
    """One turn. `origin` is its place in the row that it came from, -1 for a new one."""

    def __init__(self, turn: EditedTurn, min_lines: int = 1, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._origin = turn.origin
        known = ROLES if turn.role in ROLES else (turn.role, *ROLES)
        self.role = Choice([(role, self._role_text(role)) for role in known], turn.role, name=self.tr("Who speaks"))
        self.role.setFixedWidth(theme.px(136))
        self.text = TextArea("", min_lines, MOST_LINES)
        self.text.set_text(turn.content)
        self.up = IconButton("caret-up", self.tr("Move this turn up"), side=24, icon_size=14)
        self.down = IconButton("caret-down", self.tr("Move this turn down"), side=24, icon_size=14)
        self.remove = IconButton("trash", self.tr("Remove this turn"), side=24, icon_size=16)
        head = QHBoxLayout()
        head.setSpacing(theme.px(4))
        head.addWidget(PlainLabel(self.tr("Text"), "label", "text2") if turn.role == TEXT else self.role)
        head.addStretch(1)
        for button in (self.up, self.down, self.remove):
            head.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(4))
        column.addLayout(head)
        column.addWidget(self.text)
        self.name()

    def _role_text(self, role: str) -> str:
        names = {
            "system": self.tr("System"),
            "user": self.tr("User"),
            "assistant": self.tr("Assistant"),
            "tool": self.tr("Tool"),
        }
        return names.get(role, role)

    def name(self) -> None:
        """Call the text after who says it."""
        role = str(self.role.value())
        self.text.set_name(self.tr("Text of {0}").format(self._role_text(role)))
        hints = {"user": self.tr("What is asked"), "assistant": self.tr("What is to be answered")}
        self.text.set_placeholder(hints.get(role, ""))

    def turn(self) -> EditedTurn:
        """As it stands."""
        return EditedTurn(str(self.role.value()), self.text.text(), self._origin)


class TurnEditor(QWidget):
    """Turns one below the other. Tab goes from text to text; `changed` tells of any edit, `submitted` of Ctrl+Return."""

    changed = Signal()
    submitted = Signal()

    def __init__(self, min_lines: int = 1, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._min_lines = min_lines
        self.boxes: list[TurnBox] = []
        self._list = QVBoxLayout()
        self._list.setSpacing(theme.px(12))
        self.add = Button(self.tr("Add a turn"), "link")
        self.add_system = Button(self.tr("Add a system prompt"), "link")
        self.add.clicked.connect(self._add_turn)
        self.add_system.clicked.connect(lambda: self._put(0, EditedTurn("system", "")))
        row = QHBoxLayout()
        row.setSpacing(theme.px(16))
        row.addWidget(self.add)
        row.addWidget(self.add_system)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addLayout(self._list)
        column.addLayout(row)
        column.addStretch(1)

    def set_turns(self, turns: Sequence[EditedTurn]) -> None:
        """Show these turns, and tell nobody."""
        for box in self.boxes:
            self._drop(box)
        self.boxes = []
        for turn in turns:
            self._insert(len(self.boxes), turn)
        self._arrange()

    def turns(self) -> list[EditedTurn]:
        """The turns as they stand."""
        return [box.turn() for box in self.boxes]

    def focus_first(self) -> None:
        """Go to the first text that is empty, else to the first that is not the system's."""
        spoken = [box for box in self.boxes if box.role.value() != "system"] or self.boxes
        empty = [box for box in spoken if not box.text.text()]
        for box in (empty or spoken)[:1]:
            box.text.setFocus(Qt.FocusReason.OtherFocusReason)

    # --- turns come, go and move -------------------------------------------------------------------------------------

    def _add_turn(self) -> None:
        last = self.boxes[-1].role.value() if self.boxes else "assistant"
        self._put(len(self.boxes), EditedTurn("assistant" if last in ("user", "tool") else "user", ""))

    def _put(self, place: int, turn: EditedTurn) -> None:
        box = self._insert(place, turn)
        self._arrange()
        box.text.setFocus(Qt.FocusReason.OtherFocusReason)
        self.changed.emit()

    def _insert(self, place: int, turn: EditedTurn) -> TurnBox:
        box = TurnBox(turn, self._min_lines, parent=self)
        self.boxes.insert(place, box)
        self._list.insertWidget(place, box)
        box.show()  # now, and not when the event loop has its turn: the next key may be Tab
        box.text.changed.connect(self.changed)
        box.text.submitted.connect(self.submitted)
        # A turn that has just come has its place only when the event loop has had its turn.
        box.text.reached.connect(lambda: soon(self, lambda: self._scroll_to(box)))
        box.role.value_changed.connect(lambda _value: self._role_changed(box))
        box.up.clicked.connect(self._then(lambda: self._move(box, -1)))
        box.down.clicked.connect(self._then(lambda: self._move(box, 1)))
        box.remove.clicked.connect(self._then(lambda: self._remove(box)))
        return box

    def _then(self, act: Callable[[], None]) -> Callable[[], None]:
        def do() -> None:
            act()
            self._arrange()
            self.changed.emit()

        return do

    def _move(self, box: TurnBox, by: int) -> None:
        place = self.boxes.index(box) + by
        self.boxes.remove(box)
        self.boxes.insert(place, box)
        self._list.insertWidget(place, box)

    def _remove(self, box: TurnBox) -> None:
        place = self.boxes.index(box)
        self.boxes.remove(box)
        self._drop(box)
        for neighbour in self.boxes[max(0, place - 1) :][:1]:
            neighbour.text.setFocus(Qt.FocusReason.OtherFocusReason)

    def _drop(self, box: TurnBox) -> None:
        box.hide()  # it lives on until the event loop has its turn
        self._list.removeWidget(box)
        box.deleteLater()

    def _scroll_to(self, box: TurnBox) -> None:
        """Bring the turn in which one writes into sight, where this lies in something that scrolls."""
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if isinstance(area, QScrollArea) and box in self.boxes:
            area.ensureWidgetVisible(box, 0, theme.px(8))

    def _role_changed(self, box: TurnBox) -> None:
        box.name()
        self._arrange()
        self.changed.emit()

    def _arrange(self) -> None:
        """What can move where, and what can be added."""
        last = len(self.boxes) - 1
        for place, box in enumerate(self.boxes):
            box.up.setEnabled(place > 0)
            box.down.setEnabled(place < last)
            box.remove.setEnabled(last > 0)
        is_text = bool(self.boxes) and self.boxes[0].role.value() == TEXT
        has_system = any(box.role.value() == "system" for box in self.boxes)
        self.add_system.setVisible(not has_system and not is_text)
        self.add.setVisible(not is_text)

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Tab goes from text to text, then to what adds one; Shift+Tab finds what stands between them too."""
        for place, box in enumerate(self.boxes):
            edit = box.text.focusProxy()
            if forward and edit is not None and edit.hasFocus():
                texts = [other.text for other in self.boxes[place + 1 :]]
                after = [part for part in (*texts, self.add) if part.isVisibleTo(self)]
                if after:
                    after[0].setFocus(Qt.FocusReason.TabFocusReason)
                    return True
        return super().focusNextPrevChild(forward)
