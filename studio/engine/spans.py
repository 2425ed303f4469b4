"""Where in a rendered conversation the assistant speaks, found from the chat template itself and from no list of markers.

Three ways, the first that answers wins. A template may say it itself, with `{% generation %}`. Else prefixes are rendered: what
stands between "the turns so far, now the assistant speaks" and "the turns so far, with its answer" is the answer. Else, for
templates that write earlier turns otherwise than the last one (Phi closes the conversation, Qwen drops earlier thoughts), the
answer is exchanged for another text, and what changes is where it stands; that is taken only if the same words open the turn
as when the assistant is asked to speak. A template under which none of these holds is refused, never trained "somehow".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from studio.errors import DataError

# What a template can raise on a conversation that it does not like.
REFUSALS = (jinja2.TemplateError, TypeError, KeyError, ValueError)
Turn = dict[str, Any]
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
# Replaces an answer to see where it stands. Two, so that a template that looks at its first letter is found out.
_PROBES = ("Qzx7 probe kvw9", "7zq Probe 9wvk")


@dataclass(frozen=True)
class Answer:
    """Characters `first` to `last` are what the assistant adds. Its turn ends with the first special token from `speech_end` on,
    or, if that is None, with the last one before `last`. If `is_bare`, nothing but white space may come between."""

    first: int
    last: int
    speech_end: int | None
    is_bare: bool = False


def refusal(error: Exception) -> DataError:
    """What a template raised, as a problem of the row."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"The base's chat template refuses this conversation: {reason}", "Change the row's roles or their order."
    )


class Template:
    """A chat template with the special tokens that it may name."""

    def __init__(self, text: str, special_tokens: dict[str, Any]) -> None:
        self._text = text
        self._special_tokens = special_tokens
        self.has_marks = bool(_MARK.search(text))

    def render(self, turns: Sequence[Turn], tools: list[Any] | None, *, answer_next: bool) -> str:
        """The turns as text. Raises `DataError` if the template refuses them."""
        return self._rendered(turns, tools, answer_next=answer_next)[0]

    def answers(self, turns: Sequence[Turn], tools: list[Any] | None, text: str, wanted: Sequence[int]) -> list[Answer]:
        """Where the turns `wanted` (places of assistant turns) stand in `text`, the whole conversation rendered.

        Raises `DataError` with the reason if that cannot be established.
        """
        if self.has_marks:
            return self._marked(turns, tools, wanted)
        return [self._by_prefix(turns, tools, i, text) or self._by_probe(turns, tools, i, text) for i in wanted]

    def _rendered(
        self, turns: Sequence[Turn], tools: list[Any] | None, *, answer_next: bool = False, marks: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        try:
            (text,), marked = render_jinja_template(
                [list(turns)],
                tools=tools,
                chat_template=self._text,
                add_generation_prompt=answer_next,
                return_assistant_tokens_mask=marks,
                **self._special_tokens,
            )
        except REFUSALS as error:
            raise refusal(error) from error
        return str(text), list(marked[0]) if marks else []

    def _marked(self, turns: Sequence[Turn], tools: list[Any] | None, wanted: Sequence[int]) -> list[Answer]:
        places = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
        _, marked = self._rendered(turns, tools, marks=True)
        if len(marked) != len(places):
            raise DataError(
                f"The base's chat template marks {len(marked)} answers in a conversation of {len(places)}.",
                "Choose a base whose template marks each answer, or none.",
            )
        return [Answer(*marked[places.index(i)], marked[places.index(i)][1], is_bare=True) for i in wanted]

    def _by_prefix(self, turns: Sequence[Turn], tools: list[Any] | None, i: int, text: str) -> Answer | None:
        before = self.render(turns[:i], tools, answer_next=True)
        through = text if i == len(turns) - 1 else self.render(turns[: i + 1], tools, answer_next=False)
        if not (text.startswith(through) and through.startswith(before)):
            return None
        first, last = len(before), len(through)
        return Answer(first, last, self._speech_end(turns, tools, i, text, (first, last)))

    def _speech_end(
        self, turns: Sequence[Turn], tools: list[Any] | None, i: int, text: str, span: tuple[int, int]
    ) -> int | None:
        """Where what is said in an answer ends, before the markers of the template; None if nothing is said to go by."""
        speech = turns[i]["content"].strip()
        if not speech or turns[i].get("tool_calls"):
            return None
        found = text.find(speech, *span)
        if found != text.rfind(speech, *span):  # a short word may stand in the markers, too
            return (self._differing(turns, tools, i, text, _PROBES[0]) or (0, None))[1]
        return found + len(speech) if found >= 0 else None

    def _by_probe(self, turns: Sequence[Turn], tools: list[Any] | None, i: int, text: str) -> Answer:
        speech = turns[i]["content"].strip()
        before = self.render(turns[:i], tools, answer_next=True)
        spans = {self._differing(turns, tools, i, text, probe) for probe in _PROBES}
        span = spans.pop()
        # The speech as it stands, or what the template leaves of it: never words that are not in it.
        is_found = not spans and span is not None and text[slice(*span)].strip() in speech
        if span is None or not is_found or turns[i].get("tool_calls"):
            raise _rewritten()
        first, last = span
        if text.startswith(before) and len(before) <= first:
            return Answer(len(before), len(text), last, is_bare=True)
        closed = self.render(turns[:i], tools, answer_next=False)
        opening = before[_num_common(closed, before) :]
        if not text[:first].endswith(opening):
            raise _rewritten()
        return Answer(first, len(text), last, is_bare=True)

    def _differing(
        self, turns: Sequence[Turn], tools: list[Any] | None, i: int, text: str, probe: str
    ) -> tuple[int, int] | None:
        """The characters of `text` in whose place the probe stands if it is said instead; None if more than that changes."""
        probed = self.render([*turns[:i], {**turns[i], "content": probe}, *turns[i + 1 :]], tools, answer_next=False)
        if probed.count(probe) != 1:
            return None
        first = probed.index(probe)
        last = len(text) - (len(probed) - first - len(probe))
        same = text[:first] == probed[:first] and text[last:] == probed[first + len(probe) :]
        return (first, last) if same and first < last else None


def _num_common(one: str, other: str) -> int:
    """Characters with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _rewritten() -> DataError:
    return DataError(
        "The base's chat template rewrites earlier turns, so the answers cannot be told from the rest.",
        'Set train_on = "last_answer", or use conversations of one question and one answer.',
    )
