"""One chat as the page keeps it: the questions, each lane's replies, and which ask fills which reply. No widgets."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from studio.chat.sampling import MAX_SEED, Sampling
from studio.chat.session import Lane, Session, Turn
from studio.data.preferences import Vote
from studio.models.bases import Base
from studio.runs.events import Answered, AskFailed, TextStreamed
from ui.state import Ask

Status = Literal["unasked", "waiting", "answering", "done", "stopped", "failed"]
Place = tuple[int, int]
"""(turn, lane), both counted from 0."""

# Beside the control characters: what Qt's text documents use for their own frames and objects.
_QT_OWN = {0xFDD0: None, 0xFDD1: None, 0xFFFC: None, 0x2028: "\n", 0x2029: "\n"}
_CONTROL = {code: None for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\n\t"}
_STRIPPED = {**_QT_OWN, **_CONTROL}


def visible(text: str) -> str:
    """`text` as it may be shown: without control characters but for line breaks and tabs."""
    return text.translate(_STRIPPED)


@dataclass
class Reply:
    """What one lane said to one question. `adapter` is who was asked ("" for the base alone), `key` the last ask."""

    adapter: str = ""
    text: str = ""
    seed: int = 0
    key: str = ""
    num_tokens: int = 0
    seconds: float = 0.0
    status: Status = "unasked"
    error: str = ""

    @property
    def is_open(self) -> bool:
        """Whether an answer is still to come."""
        return self.status in ("waiting", "answering")

    @property
    def tokens_per_second(self) -> float:
        """The speed of the whole answer; 0 where it was not measured."""
        return self.num_tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass
class Exchange:
    """One question to all lanes, and their replies by lane. `vote` is the lane that was thought the better one, and its rows."""

    prompt: str
    replies: list[Reply]
    vote: tuple[int, tuple[Vote, ...]] | None = None


@dataclass
class Conversation:
    """A chat on one base. A lane is the name of its adapter, or "" for the base alone."""

    base: Base
    lanes: list[str]
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    same_seed: bool = True
    exchanges: list[Exchange] = field(default_factory=list)
    _places: dict[str, list[Place]] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether any answer is still to come."""
        return any(reply.is_open for _, reply in self._all())

    def reply(self, place: Place) -> Reply:
        """The reply of a lane in a turn."""
        return self.exchanges[place[0]].replies[place[1]]

    def set_lanes(self, lanes: Sequence[str]) -> None:
        """Go on with these lanes: replies of lanes that remain stay, new lanes have not been asked yet."""
        self.lanes = list(lanes)
        for exchange in self.exchanges:
            kept = exchange.replies[: len(lanes)]
            exchange.replies = kept + [Reply() for _ in range(len(lanes) - len(kept))]
            exchange.vote = None

    def cut(self, num_turns: int) -> None:
        """Forget the turns from number `num_turns` on."""
        del self.exchanges[num_turns:]

    # --- asking ----------------------------------------------------------------------------------------------------

    def ask(self, prompt: str) -> list[Ask]:
        """Put a new question to all lanes; what the engine is to be asked."""
        self.exchanges.append(Exchange(prompt, [Reply() for _ in self.lanes]))
        turn = len(self.exchanges) - 1
        seed = self.sampling.seed
        if self.same_seed:
            return [self._asked(turn, range(len(self.lanes)), seed)]
        # An ask has one seed: lanes that draw differently are asked one by one. The base stays where it is.
        return [self._asked(turn, [lane], min(seed + lane, MAX_SEED)) for lane in range(len(self.lanes))]

    def ask_again(self, place: Place) -> Ask:
        """Put the question of a turn to one lane again, with another seed than the last one."""
        old = self.reply(place)
        seed = self.sampling.seed if old.status == "unasked" else (old.seed + 1) % MAX_SEED
        return self._asked(place[0], [place[1]], seed)

    def _asked(self, turn: int, lanes: Iterable[int], seed: int) -> Ask:
        places = [(turn, lane) for lane in lanes]
        key = uuid4().hex
        for _, lane in places:
            self.exchanges[turn].replies[lane] = Reply(self.lanes[lane], seed=seed, key=key, status="waiting")
        self._places[key] = places
        return Ask(
            key=key,
            base=self.base,
            lanes=tuple(self.lanes[lane] for _, lane in places),
            turns=tuple(tuple(self.messages(place)) for place in places),
            max_tokens=self.sampling.max_tokens,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            seed=seed,
        )

    def messages(self, place: Place) -> list[dict[str, str]]:
        """What the lane is to read: the system prompt, what it said before, and the question of that turn."""
        turn, lane = place
        session = Session(self.base.id, (Lane(self.lanes[lane]),), self.system)
        for exchange in self.exchanges[:turn]:
            session = session.asked(exchange.prompt)
            if exchange.replies[lane].text:
                session = session.answered(0, exchange.replies[lane].text)
        return session.asked(self.exchanges[turn].prompt).messages(0)

    # --- answers ---------------------------------------------------------------------------------------------------

    def take_text(self, event: TextStreamed) -> Place | None:
        """Add a piece of a stream; tells whose it is, None if nobody waits for it."""
        place = self._place(event.ask, event.lane)
        if place is None or not self.reply(place).is_open:
            return None
        reply = self.reply(place)
        reply.text += event.text
        reply.status = "answering"
        return place

    def take_answer(self, event: Answered) -> Place | None:
        """Take a lane's whole answer in; also one that was stopped a moment ago, for its figures."""
        place = self._place(event.ask, event.lane)
        if place is None or self.reply(place).status in ("failed", "done"):
            return None
        reply = self.reply(place)
        was_stopped = reply.status == "stopped" or event.stopped
        reply.text, reply.num_tokens, reply.seconds = event.text, event.num_tokens, event.seconds
        reply.status = "stopped" if was_stopped else "done"
        return place

    def take_failure(self, event: AskFailed) -> list[Place]:
        """Note why the lanes of an ask that are still open will not answer."""
        return self._end(lambda reply: reply.key == event.ask, "failed", event.message)

    def fail_all(self, message: str) -> list[Place]:
        """Nobody is there to answer any more."""
        return self._end(lambda _: True, "failed", message)

    def stop(self, key: str = "") -> tuple[list[str], list[Place]]:
        """Wait no longer, for one ask or for all; the asks to be hushed, and the replies that changed."""
        keys = list(dict.fromkeys(r.key for _, r in self._all() if r.is_open and key in ("", r.key)))
        return keys, self._end(lambda reply: reply.key in keys, "stopped", "")

    def stop_lane(self, place: Place) -> tuple[list[str], list[Ask]]:
        """Wait no longer for one lane: the asks to be hushed, and what must be asked anew for the others in them."""
        ended = self.reply(place)
        others = [p for p in self._places[ended.key] if p != place and self.reply(p).status == "waiting"]
        keys, _ = self.stop(ended.key)
        return keys, [self._asked(place[0], [lane for _, lane in others], ended.seed)] if others else []

    def queue(self) -> list[Place]:
        """The open replies, in the order in which they will be answered."""
        order = {key: number for number, key in enumerate(self._places)}
        waiting = [(order[reply.key], place) for place, reply in self._all() if reply.is_open]
        return [place for _, place in sorted(waiting)]

    def session(self, base_alone: str) -> Session:
        """The chat as plain data, for export; `base_alone` is the name of a lane without an adapter."""
        lanes = []
        for index, adapter in enumerate(self.lanes):
            turns: list[Turn] = []
            for exchange in self.exchanges:
                turns += [Turn("user", exchange.prompt), Turn("assistant", exchange.replies[index].text)]
            lanes.append(Lane(adapter or base_alone, None, tuple(turns)))
        return Session(self.base.id, tuple(lanes), self.system, self.sampling)

    def _all(self) -> Iterable[tuple[Place, Reply]]:
        for turn, exchange in enumerate(self.exchanges):
            for lane, reply in enumerate(exchange.replies):
                yield (turn, lane), reply

    def _place(self, key: str, lane: int) -> Place | None:
        """Where lane `lane` of an ask has its reply; None if the ask is not of this chat, or is out of date."""
        places = self._places.get(key, [])
        if not 0 <= lane < len(places):
            return None
        turn, position = places[lane]
        if turn >= len(self.exchanges) or position >= len(self.exchanges[turn].replies):
            return None
        return places[lane] if self.reply(places[lane]).key == key else None

    def _end(self, chosen: Callable[[Reply], bool], status: Status, error: str) -> list[Place]:
        ended = [(place, reply) for place, reply in self._all() if reply.is_open and chosen(reply)]
        for _, reply in ended:
            reply.status, reply.error = status, error
        return [place for place, _ in ended]
