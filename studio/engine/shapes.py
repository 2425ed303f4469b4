"""Conversations of the same roles are rendered alike: where the answers stand in one is known from another.

`studio.engine.spans` renders each conversation several times to find its answers. When roles in that order come a second time,
it does so once more with words of ours in the place of all that is said; what the template puts between them and where it has the
answers begin and end, is the shape. A row that is put together of the same pieces and its own words, to the last character, has
its answers at the same places. Any other row (a template that shortens a thought, say) is rendered as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from studio.engine.spans import Answer, Template, Turn
from studio.errors import DataError

MOST_SHAPES = 1000
_Key = tuple[tuple[str, ...], tuple[int, ...]]
# A position in any text of a shape: so many characters behind the end of that content, -1 for the beginning of the text.
_Place = tuple[int, int]


@dataclass(frozen=True)
class _Span:
    """Where the answer of the turn `turn` stands. `answer` is the one found among our words."""

    turn: int
    answer: Answer
    first: _Place
    last: _Place


@dataclass(frozen=True)
class _Shape:
    """`order` has the turns as they come in the text, `pieces` what stands before, between and after what they say; whether white
    space around that is kept says `is_whole`, by turn."""

    order: Sequence[int]
    pieces: Sequence[str]
    is_whole: Sequence[bool]
    spans: Sequence[_Span]

    def answers(self, turns: Sequence[Turn], text: str) -> list[Answer] | None:
        """The answers in `text`; None if it is not the `turns` in this shape."""
        said = [
            turn["content"] if whole else turn["content"].strip()
            for turn, whole in zip(turns, self.is_whole, strict=True)
        ]
        parts = [self.pieces[0]]
        for turn, piece in zip(self.order, self.pieces[1:], strict=True):
            parts += said[turn], piece
        if not all(said) or "".join(parts) != text:
            return None
        ends = [0, *list(accumulate(map(len, parts)))[1::2]]
        return [_answer(span, turns, text, ends, self.order) for span in self.spans]


def _answer(span: _Span, turns: Sequence[Turn], text: str, ends: Sequence[int], order: Sequence[int]) -> Answer:
    first, last = (ends[content + 1] + more for content, more in (span.first, span.last))
    speech_end: int | None = ends[order.index(span.turn) + 1]
    if span.answer.speech_end is None:
        speech_end = None
    elif not span.answer.is_bare:
        # Of what is said, white space at its end is not part.
        speech = turns[span.turn]["content"].strip()
        found = text.find(speech, first, last)
        speech_end = found + len(speech) if found == text.rfind(speech, first, last) else speech_end
    return Answer(first, last, speech_end, span.answer.is_bare)


class Shapes:
    """The shapes in which one template has been seen to render conversations."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._shapes: dict[_Key, _Shape | None] = {}
        self._seen: set[_Key] = set()

    def answers(self, turns: Sequence[Turn], tools: list[Any] | None, text: str, wanted: Sequence[int]) -> list[Answer]:
        """As `Template.answers`, which see."""
        shape = None if tools or self._template.has_marks else self._shape(turns, wanted)
        found = shape.answers(turns, text) if shape else None
        return self._template.answers(turns, tools, text, wanted) if found is None else found

    def _shape(self, turns: Sequence[Turn], wanted: Sequence[int]) -> _Shape | None:
        if any(len(turn) > 2 for turn in turns):  # what is called or thought besides
            return None
        key = tuple(turn["role"] for turn in turns), tuple(wanted)
        if key in self._seen and key not in self._shapes:
            try:
                self._shapes[key] = self._learnt(*key)
            except DataError:  # the row itself will have the reason
                self._shapes[key] = None
        elif len(self._seen) < MOST_SHAPES:
            self._seen.add(key)
        return self._shapes.get(key)

    def _learnt(self, roles: Sequence[str], wanted: Sequence[int]) -> _Shape | None:
        """None if our words do not come out as they were said, each once. Raises `DataError` as the template does."""
        words = [f"Qzx{number} probe kvw{number}" for number in range(len(roles))]
        turns = [{"role": role, "content": said} for role, said in zip(roles, words, strict=True)]
        text = self._template.render(turns, None, answer_next=False)
        if any(text.count(said) != 1 for said in words):
            return None
        order = sorted(range(len(words)), key=lambda turn: text.index(words[turn]))
        starts = [text.index(words[turn]) for turn in order]
        ends = [0, *(start + len(words[turn]) for start, turn in zip(starts, order, strict=True))]
        pieces = [text[end:start] for end, start in zip(ends, [*starts, len(text)], strict=True)]
        spans = []
        for turn, answer in zip(wanted, self._template.answers(turns, None, text, wanted), strict=True):
            first, last = _place(answer.first, ends, pieces), _place(answer.last, ends, pieces)
            if first is None or last is None or answer.speech_end not in (None, ends[order.index(turn) + 1]):
                return None
            spans.append(_Span(turn, answer, first, last))
        spaced = [{**turn, "content": f" \n{turn['content']} \n"} for turn in turns]
        spaced_text = self._template.render(spaced, None, answer_next=False)
        is_whole = [turn["content"] in spaced_text for turn in spaced]
        shape = _Shape(order, pieces, is_whole, spans)
        return shape if shape.answers(spaced, spaced_text) is not None else None


def _place(position: int, ends: Sequence[int], pieces: Sequence[str]) -> _Place | None:
    """None for a position within what is said."""
    content = max(number for number, end in enumerate(ends) if end <= position)
    return (content - 1, position - ends[content]) if position - ends[content] <= len(pieces[content]) else None
