"""Lanes side by side: one prompt across them, and below it the answer of each, aligned by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.widgets import paint
from ui.widgets.answer import LANE_COLOURS, AnswerView
from ui.widgets.buttons import Button, IconButton
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.page import ScrollColumn


@dataclass(frozen=True)
class Lane:
    """A lane: its key in the code, its look (`base`, `a` or `b`) and the name a screen reader tells."""

    key: str
    look: str
    name: str


class LaneBadge(QWidget):
    """A square with the lane's letter; the base has a snowflake. `blind` shows graphite and a question mark."""

    def __init__(self, look: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._look, self.blind = look, False
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """A square."""
        return QSize(theme.px(24), theme.px(24))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the badge."""
        look = theme.current()
        painter = paint.start(self)
        role = LANE_COLOURS["base" if self.blind else self._look]
        ink = look.colour("on_accent" if not look.dark else "canvas")
        paint.box(painter, self.rect(), 4, look.colour(role))
        if self._look == "base" and not self.blind:
            size = theme.px(14)
            rect = QRectF((self.width() - size) / 2, (self.height() - size) / 2, size, size)
            theme.draw_icon(painter, rect, "snowflake", ink.name())
        else:
            painter.setFont(theme.font("strong"))
            painter.setPen(ink)
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "?" if self.blind else self._look.upper())
        painter.end()


class LaneHead(QWidget):
    """The head of a lane: badge, a slot for what chooses the adapter, a note at the right, and the 3 px rule."""

    def __init__(self, lane: Lane, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lane = lane
        self.setAccessibleName(lane.name)
        self._badge = LaneBadge(lane.look)
        self._note = PlainLabel("", "small", "text2")
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(theme.px(16), theme.px(8), theme.px(16), theme.px(11))
        self._row.setSpacing(theme.px(8))
        self._row.addWidget(self._badge)
        self._slot: QWidget = PlainLabel(lane.name, "strong", elide=True)
        self._row.addWidget(self._slot, 1)
        self._row.addWidget(self._note)
        self.setFixedHeight(theme.px(51))

    def set_slot(self, widget: QWidget) -> None:
        """Put a widget, such as a `Choice` of adapters, in place of the name."""
        self._row.replaceWidget(self._slot, widget)
        self._slot.hide()
        self._slot.deleteLater()
        self._slot = widget
        widget.show()

    def set_note(self, text: str) -> None:
        """Write at the right ("9 votes")."""
        self._note.setText(text)

    def set_blind(self, blind: bool) -> None:
        """Hide which lane this is."""
        self._badge.blind = blind
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the rule."""
        painter = paint.start(self)
        role = LANE_COLOURS["base" if self._badge.blind else self._lane.look]
        painter.fillRect(0, self.height() - 3, self.width(), 3, theme.current().colour(role))
        painter.end()


class PromptRow(QFrame):
    """What was asked, across all lanes, and a pencil to ask it differently."""

    edit_requested = Signal()

    def __init__(self, text: str, *, editable: bool = True, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(18), theme.px(8), theme.px(10), theme.px(8))
        row.setSpacing(theme.px(10))
        person = IconLabel("user-circle", "text2")
        person.setFixedHeight(theme.px(24))
        row.addWidget(person, 0, Qt.AlignmentFlag.AlignTop)
        label = PlainLabel(text, "strong", wrap=True, selectable=True)
        row.addWidget(label, 1)
        if editable:
            edit = IconButton("pencil-simple", self.tr("Change this prompt"), side=24, icon_size=16)
            edit.clicked.connect(self.edit_requested)
            row.addWidget(edit, 0, Qt.AlignmentFlag.AlignTop)
        self.setAccessibleName(text)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the ground, a step away from the answers', and the line below."""
        look = theme.current()
        painter = paint.start(self)
        painter.fillRect(self.rect(), look.colour("canvas"))
        painter.fillRect(0, self.height() - 1, self.width(), 1, look.colour("line"))
        painter.end()


class _Turn(QWidget):
    """A prompt, the answers side by side, and a row for what came of a vote."""

    note_action = Signal()

    def __init__(
        self, lanes: Sequence[Lane], prompt: str | Mapping[str, str], *, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.answers = {
            lane.key: AnswerView(lane.look, name=self.tr("Answer of {0}").format(lane.name)) for lane in lanes
        }
        self.prompt_rows: list[PromptRow] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        if isinstance(prompt, str):
            self.prompt_rows.append(PromptRow(prompt))
            column.addWidget(self.prompt_rows[0])
        row = QHBoxLayout()
        row.setSpacing(0)
        for index, lane in enumerate(lanes):
            if index:
                row.addWidget(Divider(vertical=True))
            cell = QVBoxLayout()
            cell.setSpacing(0)
            if not isinstance(prompt, str):
                self.prompt_rows.append(PromptRow(prompt.get(lane.key, "")))
                cell.addWidget(self.prompt_rows[-1])
            cell.addWidget(self.answers[lane.key], 1)
            row.addLayout(cell, 1)
        column.addLayout(row)
        column.addWidget(Divider())
        self._note = self._build_note()
        column.addWidget(self._note)

    def _build_note(self) -> QWidget:
        note = QWidget()
        rows = QVBoxLayout(note)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        row = QHBoxLayout()
        rows.addLayout(row)
        rows.addWidget(Divider())
        row.setContentsMargins(theme.px(16), theme.px(8), theme.px(16), theme.px(8))
        row.setSpacing(theme.px(8))
        self._note_text = PlainLabel("", "body", "text2", elide=True)
        self._note_link = Button("", "link")
        self._note_link.clicked.connect(self.note_action)
        row.addWidget(IconLabel("check-circle", "ok", filled=True))
        row.addWidget(self._note_text)
        row.addWidget(self._note_link)
        row.addStretch(1)
        note.hide()
        return note

    def set_note(self, text: str, action: str) -> None:
        """Tell what came of a vote; nothing hides the row."""
        self._note_text.setText(text)
        self._note_link.set_label(action)
        self._note_link.setVisible(bool(action))
        self._note.setVisible(bool(text))


class Transcript(QFrame):
    """The whole conversation: heads that stay, turns that scroll.

    Turns count from 0. The signals carry the turn, and the lane's key where it matters.
    """

    regenerate_requested = Signal(int, str)
    stop_requested = Signal(int, str)
    better_changed = Signal(int, str, bool)
    edit_requested = Signal(int)
    note_action = Signal(int)

    def __init__(self, lanes: Sequence[Lane] = (), *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Conversation"))
        self._turns: list[_Turn] = []
        self._lanes: list[Lane] = []
        self._heads: dict[str, LaneHead] = {}
        self._head_row = QHBoxLayout()
        self._head_row.setSpacing(0)
        self._content = QWidget()
        self._column = QVBoxLayout(self._content)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self._column.addStretch(1)
        self.scroll_area = ScrollColumn(self._content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(1, 1, 1, 1)
        outer.setSpacing(0)
        outer.addLayout(self._head_row)
        outer.addWidget(self.scroll_area, 1)
        self._at_end = True
        bar = self.scroll_area.verticalScrollBar()
        bar.rangeChanged.connect(self._follow)
        bar.valueChanged.connect(self._remember)
        self.set_lanes(lanes)

    def set_lanes(self, lanes: Sequence[Lane]) -> None:
        """Begin anew with these lanes."""
        self.clear()
        while (item := self._head_row.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.deleteLater()
        self._lanes = list(lanes)
        self._heads = {lane.key: LaneHead(lane) for lane in lanes}
        for index, head in enumerate(self._heads.values()):
            if index:
                self._head_row.addWidget(Divider(vertical=True))
            self._head_row.addWidget(head, 1)

    def clear(self) -> None:
        """Take all turns away."""
        for turn in self._turns:
            self._column.removeWidget(turn)
            turn.deleteLater()
        self._turns = []

    def head(self, lane: str) -> LaneHead:
        """The head of a lane."""
        return self._heads[lane]

    def num_turns(self) -> int:
        """How many turns there are."""
        return len(self._turns)

    def add_turn(self, prompt: str | Mapping[str, str]) -> int:
        """Add a turn and return its number: one prompt across the lanes, or one for each lane by its key."""
        number = len(self._turns)
        turn = _Turn(self._lanes, prompt)
        for key, answer in turn.answers.items():
            answer.regenerate_requested.connect(lambda k=key: self.regenerate_requested.emit(number, k))
            answer.stop_requested.connect(lambda k=key: self.stop_requested.emit(number, k))
            answer.better_changed.connect(lambda better, k=key: self.better_changed.emit(number, k, better))
        for row in turn.prompt_rows:
            row.edit_requested.connect(lambda: self.edit_requested.emit(number))
        turn.note_action.connect(lambda: self.note_action.emit(number))
        self._turns.append(turn)
        self._column.insertWidget(self._column.count() - 1, turn)
        self._at_end = True
        return number

    def answer(self, turn: int, lane: str) -> AnswerView:
        """The answer of a lane in a turn."""
        return self._turns[turn].answers[lane]

    def set_note(self, turn: int, text: str, action: str = "") -> None:
        """Write a row under a turn ("A is better: saved ..."), with a link that tells `note_action`."""
        self._turns[turn].set_note(text, action)

    def _remember(self, value: int) -> None:
        self._at_end = value >= self.scroll_area.verticalScrollBar().maximum() - theme.px(8)

    def _follow(self, _low: int, high: int) -> None:
        """Stay at the end while an answer grows, unless the user scrolled away from it."""
        if self._at_end:
            self.scroll_area.verticalScrollBar().setValue(high)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the sheet."""
        look = theme.current()
        painter = paint.start(self)
        paint.box(painter, self.rect(), theme.px(theme.RADIUS_CARD), look.colour("surface"), look.colour("line"))
        painter.end()
