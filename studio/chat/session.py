"""One conversation down several lanes: the same questions, and each lane's own answers.

A session is a value: asking and answering give a new one. The lanes stay aligned, since a question goes to all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from studio.chat.sampling import Sampling
from studio.errors import StudioError
from studio.library.adapter import Adapter

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


@dataclass(frozen=True)
class Turn:
    """What was said: `role` is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Lane:
    """One answerer: the base with `adapter` on it, or the base alone if that is None."""

    name: str
    adapter: Adapter | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def is_waiting(self) -> bool:
        """Whether a question is open here."""
        return bool(self.turns) and self.turns[-1].role == USER


@dataclass(frozen=True)
class Session:
    """The lanes with what all of them share. `base` is the name of the base they lie on."""

    base: str
    lanes: tuple[Lane, ...]
    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not self.lanes:
            raise StudioError("There is no lane to ask.", "Name at least one: `base`, or an adapter.")

    def asked(self, prompt: str) -> Session:
        """The session with one more question in each lane. An open question is replaced: nobody has answered it."""
        if not prompt.strip():
            raise StudioError("There is nothing to answer.", "Write a message first.")
        question = Turn(USER, prompt)
        lanes = (
            replace(lane, turns=(*(lane.turns[:-1] if lane.is_waiting else lane.turns), question))
            for lane in self.lanes
        )
        return replace(self, lanes=tuple(lanes))

    def answered(self, lane: int, text: str) -> Session:
        """The session with the answer of the lane at that place."""
        assert self.lanes[lane].is_waiting
        lanes = list(self.lanes)
        lanes[lane] = replace(lanes[lane], turns=(*lanes[lane].turns, Turn(ASSISTANT, text)))
        return replace(self, lanes=tuple(lanes))

    def messages(self, lane: int) -> list[dict[str, str]]:
        """What the model of that lane is to read: the system prompt, if any, and all turns."""
        spoken = [{"role": turn.role, "content": turn.content} for turn in self.lanes[lane].turns]
        return [{"role": SYSTEM, "content": self.system}, *spoken] if self.system.strip() else spoken
