"""The lanes of a chat on the screen: a conversation drawn into the transcript, and what is pressed in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui import theme
from ui.pages.chat_record import Conversation, Place, visible
from ui.pages.chat_votes import Votes
from ui.widgets import numbers
from ui.widgets.answer import AnswerView
from ui.widgets.controls import Choice
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.transcript import Lane, Transcript

MAX_LANES = 3


def looks(lanes: Sequence[str]) -> list[str]:
    """The look of each lane: graphite for the base alone, then A, then B. At most two lanes have an overlay."""
    free = iter(("a", "b"))
    return [next(free) if adapter else "base" for adapter in lanes]


class LanesView(QWidget):
    """Shows a `Conversation`. It is told what changed and reads the rest from it."""

    lane_changed = Signal(int, str)
    """(lane, adapter's name, or "" for the base alone)."""
    again_requested = Signal(int, int)
    """(turn, lane)."""
    stop_requested = Signal(int, int)
    edit_requested = Signal(int)
    voted = Signal(str, object)
    """(`add` or `withdraw`, votes)."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._talk: Conversation | None = None
        self._adapters: list[str] = []
        self._choices: list[Choice] = []
        self._num_heads = 0
        self._busy_text = ""
        self.transcript = Transcript()
        self._votes = Votes(self.transcript, self)
        self._votes.changed.connect(self.voted)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.transcript)
        self._empty = EmptyState("chats-circle", "", "")
        inner = QVBoxLayout(self.transcript.scroll_area.viewport())
        inner.addWidget(self._empty)
        self.transcript.regenerate_requested.connect(lambda turn, key: self.again_requested.emit(turn, int(key)))
        self.transcript.stop_requested.connect(lambda turn, key: self.stop_requested.emit(turn, int(key)))
        self.transcript.edit_requested.connect(self.edit_requested)

    # --- the whole -------------------------------------------------------------------------------------------------

    def show_conversation(self, talk: Conversation, adapters: Sequence[str]) -> None:
        """Draw everything anew; `adapters` are the names that the lanes may choose from."""
        for index in range(self._num_heads):
            self.transcript.head(str(index)).hide()  # it lives on until the event loop has its turn
        self._talk, self._adapters, self._num_heads = talk, list(adapters), len(talk.lanes)
        self.transcript.set_lanes([self._lane(index) for index in range(len(talk.lanes))])
        self._choices = []
        for index in range(len(talk.lanes)):
            self.transcript.head(str(index)).set_slot(self._slot(index))
        for turn in range(len(talk.exchanges)):
            self._add(turn)
        self._show_empty()
        self.show_queue()

    def add_turn(self, turn: int) -> None:
        """Draw the newest turn."""
        self._add(turn)
        self._show_empty()
        self.show_queue()

    def set_choosable(self, choosable: bool) -> None:
        """Whether the lanes may be given to somebody else now: not while they answer."""
        for choice in self._choices:
            choice.setEnabled(choosable)
            choice.setToolTip("" if choosable else self.tr("Stop the answers first"))

    def focus_lane(self, lane: int) -> None:
        """Put the keyboard on the choice of a lane."""
        if lane < len(self._choices):
            self._choices[lane].setFocus(Qt.FocusReason.OtherFocusReason)

    def set_busy_text(self, text: str) -> None:
        """What the first lane that waits is told ("Loading starter..."); empty: it is answering."""
        self._busy_text = text
        self.show_queue()

    # --- replies ---------------------------------------------------------------------------------------------------

    def stream(self, place: Place, text: str) -> None:
        """Add a piece of an answer."""
        view = self._view(place)
        begins = not view.text.streaming
        view.append(visible(text))
        if begins:
            view.set_stats(self.tr("Answering\u2026"))
            self.show_queue()

    def refresh(self, places: Iterable[Place]) -> None:
        """Draw replies that have ended, or have been asked again."""
        assert self._talk is not None
        turns = set()
        for place in places:
            self._draw(place)
            turns.add(place[0])
        for turn in turns:
            self._votes.show_turn(self._talk, turn)
        self.show_queue()

    def show_queue(self) -> None:
        """Tell each lane that waits what it waits for."""
        if self._talk is None:
            return
        queue = self._talk.queue()
        for number, place in enumerate(queue):
            if self._talk.reply(place).status == "waiting":
                self._view(place).set_waiting(self._waiting_text(number, place[1]))

    def _waiting_text(self, number: int, lane: int) -> str:
        assert self._talk is not None
        if number == 0:
            return self._busy_text or self.tr("Reading the question\u2026")
        if number > 1:
            return self.tr("Waiting")
        look = looks(self._talk.lanes)[lane]
        return self.tr("The base is next") if look == "base" else self.tr("{0} is next").format(look.upper())

    # --- parts -----------------------------------------------------------------------------------------------------

    def _lane(self, index: int) -> Lane:
        assert self._talk is not None
        adapter = self._talk.lanes[index]
        look = looks(self._talk.lanes)[index]
        name = self.tr("{0}, {1}").format(look.upper(), adapter) if adapter else self.tr("Base alone")
        return Lane(str(index), look, name)

    def _slot(self, index: int) -> QWidget:
        assert self._talk is not None
        if len(self._talk.lanes) == MAX_LANES and index == 0:
            # Two overlays are what can be told apart: the third lane is what both are measured by.
            return PlainLabel(self.tr("Base alone"), "medium", elide=True)
        options = [("", self.tr("Base alone")), *((name, name) for name in self._adapters)]
        choice = Choice(options, self._talk.lanes[index], name=self.tr("Who answers in lane {0}").format(index + 1))
        choice.setMaximumWidth(theme.px(280))
        choice.value_changed.connect(lambda adapter: self.lane_changed.emit(index, adapter))
        self._choices.append(choice)
        return choice

    def _add(self, turn: int) -> None:
        assert self._talk is not None
        exchange = self._talk.exchanges[turn]
        self.transcript.add_turn(visible(exchange.prompt))
        for lane in range(len(exchange.replies)):
            self._draw((turn, lane))
        self._votes.show_turn(self._talk, turn)

    def _view(self, place: Place) -> AnswerView:
        return self.transcript.answer(place[0], str(place[1]))

    def _draw(self, place: Place) -> None:
        assert self._talk is not None
        reply, view = self._talk.reply(place), self._view(place)
        if reply.status == "waiting":
            view.set_text("")
            view.set_waiting("")
            return
        text = visible(reply.text)
        view.flush()
        if view.text.raw_text() != text:
            view.set_text("")
            view.append(text)
        if reply.status == "answering":
            view.set_stats(self.tr("Answering\u2026"))
            return
        view.finish(reply.num_tokens, reply.tokens_per_second)
        view.set_stats(self._footer(place))

    def _footer(self, place: Place) -> str:
        assert self._talk is not None
        reply = self._talk.reply(place)
        if reply.status == "unasked":
            return self.tr("Not asked yet")
        if reply.status == "failed":
            return self.tr("No answer: {0}").format(reply.error)
        figures = ""
        if reply.num_tokens:
            words = self.tr("{0:,} tokens") if reply.num_tokens > 1 else self.tr("{0} token")
            figures = words.format(reply.num_tokens)
        if figures and reply.seconds > 0:
            speed = reply.tokens_per_second
            written = f"{speed:.0f}" if speed >= 10 else numbers.format_float(round(speed, 1))
            figures = self.tr("{0}, {1} tok/s").format(figures, written)
        parts = [figures] if figures else []
        if reply.status == "stopped":
            parts.append(self.tr("stopped") if parts else self.tr("Stopped"))
        if reply.adapter != self._talk.lanes[place[1]]:
            parts.append(self.tr("by {0}").format(reply.adapter or self.tr("the base alone")))
        return ", ".join(parts)

    def _show_empty(self) -> None:
        assert self._talk is not None
        if len(self._talk.lanes) > 1:
            sentence = self.tr("One question goes down every lane. The base is loaded once; only the overlay changes.")
        else:
            sentence = self.tr("The first question loads the base. Add a lane to compare.")
        self._empty.set_text(self.tr("Ask something"), sentence)
        self._empty.setVisible(not self._talk.exchanges)
