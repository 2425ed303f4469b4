"""Which answer was the better one: what a vote is worth, and how it stands in the transcript."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from studio.data.preferences import Vote
from ui.pages.chat_record import Conversation, Place
from ui.widgets.transcript import Transcript


def votes_for(talk: Conversation, place: Place) -> tuple[Vote, ...]:
    """The rows that a vote for this reply makes: one for each other whole answer to the very same conversation.

    Lanes remember what they said themselves: once they have answered differently, what follows can no longer be compared.
    """
    turn, lane = place
    mine, prompt = talk.reply(place), talk.messages(place)
    if mine.status != "done" or not mine.text.strip():
        return ()
    others = [
        reply
        for other, reply in enumerate(talk.exchanges[turn].replies)
        if other != lane and reply.status == "done" and talk.messages((turn, other)) == prompt
    ]
    return tuple(
        Vote(tuple(prompt), mine.text, reply.text, talk.base.id, mine.adapter, reply.adapter)
        for reply in others
        if reply.text.strip() and reply.text != mine.text
    )


class Votes(QObject):
    """The votes of one transcript. `changed` carries `add` or `withdraw`, and the votes."""

    changed = Signal(str, object)

    def __init__(self, transcript: Transcript, parent: QObject) -> None:
        super().__init__(parent)
        self._transcript = transcript
        self._talk: Conversation | None = None
        transcript.better_changed.connect(self._vote)
        transcript.note_action.connect(self._take_back)

    def show_turn(self, talk: Conversation, turn: int) -> None:
        """Offer votes where they would say something, and show the one that was given."""
        self._talk = talk
        exchange = talk.exchanges[turn]
        if any(reply.is_open for reply in exchange.replies):
            exchange.vote = None  # it was for other answers, and stays with them
        better = exchange.vote[0] if exchange.vote is not None else -1
        for lane in range(len(exchange.replies)):
            view = self._transcript.answer(turn, str(lane))
            view.set_votes_offered(bool(votes_for(talk, (turn, lane))))
            view.set_better(lane == better)
        kept = self.tr("Kept as a preference row, among the votes that Datasets opens.")
        self._transcript.set_note(turn, kept if exchange.vote else "", self.tr("Undo"))

    def _vote(self, turn: int, key: str, better: bool) -> None:
        talk, lane = self._talk, int(key)
        assert talk is not None
        self._withdraw(talk, turn)
        votes = votes_for(talk, (turn, lane))
        if better and votes:
            talk.exchanges[turn].vote = (lane, votes)
            self.changed.emit("add", votes)
        self.show_turn(talk, turn)

    def _take_back(self, turn: int) -> None:
        if self._talk is not None:
            self._withdraw(self._talk, turn)
            self.show_turn(self._talk, turn)

    def _withdraw(self, talk: Conversation, turn: int) -> None:
        before, talk.exchanges[turn].vote = talk.exchanges[turn].vote, None
        if before is not None:
            self.changed.emit("withdraw", before[1])
