"""A dataset at a glance: how long its conversations are, who speaks in them, and in which languages it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from studio.data.conversation import TEXT, Conversation
from studio.data.languages import MOST_CHARACTERS, language_of

# Languages are told from this many rows, spread evenly over the dataset: enough for a share to be right within 3 %.
MOST_SAMPLED = 2048
_ALONE = 4  # numbers of turns that have a bar of their own


@dataclass(frozen=True)
class Glance:
    """Counts of good rows: by their turns, by each role that speaks in them, and, of the `num_sampled` rows that were looked at
    for it, by the language of their answers (`studio.data.languages`, empty if that is not known)."""

    turns: dict[int, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    num_sampled: int = 0

    @property
    def num_rows(self) -> int:
        """All good rows."""
        return sum(self.turns.values())

    @property
    def is_sampled(self) -> bool:
        """Whether the languages are those of some rows only."""
        return self.num_sampled < self.num_rows


@dataclass
class Glancing:
    """Gathers a glance, row by row. Every `_stride`-th row is in the sample; when that is full, every second one leaves it."""

    _turns: Counter[int] = field(default_factory=Counter)
    _roles: Counter[str] = field(default_factory=Counter)
    _sample: list[str] = field(default_factory=list)
    _stride: int = 1
    _num_rows: int = 0

    def add(self, one: Conversation) -> None:
        """The next row."""
        self._turns[len(one.messages)] += 1
        self._roles.update({message.role for message in one.messages})
        if self._num_rows % self._stride == 0:
            self._sample.append(answer_language(one))
            if len(self._sample) > MOST_SAMPLED:
                del self._sample[1::2]
                self._stride *= 2
        self._num_rows += 1

    def glance(self) -> Glance:
        """What was gathered; the most frequent first, turns in their order."""
        languages = Counter(self._sample)
        return Glance(
            dict(sorted(self._turns.items())),
            dict(self._roles.most_common()),
            dict(languages.most_common()),
            len(self._sample),
        )


def answer_language(one: Conversation) -> str:
    """The language of what is learnt of a row: its answers, or the text that nobody says."""
    spoken: list[str] = []
    room = MOST_CHARACTERS
    for message in one.messages:
        if message.role in ("assistant", TEXT) and room > 0:
            spoken.append(message.content[:room])
            room -= len(spoken[-1])
    return language_of(" ".join(spoken))


def turn_bins(turns: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """(fewest turns, most turns, rows) of bins that cover all rows: 1, 2, 3, 4, then 5 to 8, 9 to 16 and so on, without empty
    ones at the ends."""
    bins: dict[tuple[int, int], int] = {}
    for number in range(1, min(max(turns, default=0), _ALONE) + 1):
        bins[number, number] = 0
    most = _ALONE
    while most < max(turns, default=0):
        bins[most + 1, 2 * most] = 0
        most *= 2
    for number, count in turns.items():
        place = next(place for place in bins if place[0] <= number <= place[1])
        bins[place] += count
    found = [(*place, count) for place, count in bins.items()]
    while found and not found[0][2]:
        found.pop(0)
    return found
