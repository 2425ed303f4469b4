"""What rows are searched for: words, in whatever case, and what a row is (`turns:5-8`, `role:tool`, `language:de`;
`side:evaluation` where the split is known)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from studio.data.conversation import Conversation, RawRow, RowProblem
from studio.data.formats import Mapping
from studio.data.glance import answer_language
from studio.data.languages import UNKNOWN
from studio.data.rows import judge

UNKNOWN_WORD = "unknown"
_TURNS = re.compile(r"turns:(\d{1,9})(?:-(\d{1,9}))?")
EVALUATION, TRAINING = "side:evaluation", "side:training"
_SIDES = {EVALUATION: True, TRAINING: False}
_OTHERS = re.compile(r"(role|language):([a-z]+)")


@dataclass(frozen=True)
class Query:
    """All of it must be true of a row that is found. `turns` are the fewest and the most; a `language` may be `unknown`."""

    words: tuple[str, ...] = ()
    turns: tuple[int, int] | None = None
    roles: tuple[str, ...] = ()
    language: str = ""

    @classmethod
    def of(cls, text: str) -> Query:
        """What the user has typed."""
        words, roles = [], []
        turns, language = None, ""
        for word in text.casefold().split():
            if found := _TURNS.fullmatch(word):
                turns = (int(found[1]), int(found[2] or found[1]))
            elif (found := _OTHERS.fullmatch(word)) and found[1] == "role":
                roles.append(found[2])
            elif found:
                language = found[2]
            else:
                words.append(word)
        return cls(tuple(words), turns, tuple(roles), language)

    def finds(self, raw: RawRow | RowProblem, mapping: Mapping | None) -> bool:
        """Whether this row is meant."""
        if self.words:
            text = json.dumps(raw.value, ensure_ascii=False) if isinstance(raw, RawRow) else raw.message
            text = text.casefold()
            if not all(word in text for word in self.words):
                return False
        if not (self.turns or self.roles or self.language):
            return True
        judged = raw if isinstance(raw, RowProblem) else judge(raw, mapping)
        return not isinstance(judged, RowProblem) and self._is_such(judged[1])

    def _is_such(self, one: Conversation) -> bool:
        if self.turns and not self.turns[0] <= len(one.messages) <= self.turns[1]:
            return False
        if not {message.role for message in one.messages}.issuperset(self.roles):
            return False
        return not self.language or (answer_language(one) or UNKNOWN_WORD) == self.language


def side_in(text: str) -> tuple[str, bool | None]:
    """A search without its `side:evaluation` or `side:training`, and whether it is held-out rows that are meant (None: both)."""
    words = text.split()
    side = next((_SIDES[word.casefold()] for word in reversed(words) if word.casefold() in _SIDES), None)
    return " ".join(word for word in words if word.casefold() not in _SIDES), side


def turns_query(first: int, last: int) -> str:
    """What finds rows with so many turns."""
    return f"turns:{first}" if first == last else f"turns:{first}-{last}"


def language_query(language: str) -> str:
    """What finds rows that answer in a language."""
    return f"language:{UNKNOWN_WORD if language == UNKNOWN else language}"
