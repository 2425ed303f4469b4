"""From a conversation to tokens, each marked as trained or not.

The assistant's words are found by rendering prefixes with the base's own chat template: what stands between "the turns so far,
now the assistant speaks" and "the turns so far, with its answer" is the answer, whatever the template's markers look like. Of
that, the trained part ends with the token that ends the turn, so that the model learns to stop. A template that rewrites
earlier turns cannot be split so; such a row is refused, never trained "somehow".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from studio.data.conversation import Conversation
from studio.errors import BaseModelError, DataError


@dataclass(frozen=True)
class Example:
    """One conversation as the model sees it: token ids, and whether each is to be predicted."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    row: int

    @property
    def num_supervised(self) -> int:
        """Tokens that will be predicted. The first of a row has nothing before it."""
        return sum(self.trained[1:])

    def cut(self, max_tokens: int) -> Example:
        """The first `max_tokens` tokens."""
        return Example(self.ids[:max_tokens], self.trained[:max_tokens], self.row)


def render(tokenizer: Any, turns: Sequence[dict[str, str]], answer_next: bool) -> str:
    """The turns as text, through the template's sandbox; with `answer_next` the assistant's turn is opened."""
    try:
        text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=answer_next)
    except (jinja2.TemplateError, TypeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"The base's chat template refuses this conversation: {reason}", "Change the row's roles or their order."
        ) from error
    return str(text)


def need_template(tokenizer: Any) -> None:
    """Raise `BaseModelError` if the base cannot render chats."""
    if not tokenizer.chat_template:
        raise BaseModelError("This base has no chat template.", "Choose an instruction-tuned base.")


def encode(tokenizer: Any, conversation: Conversation, train_on: str) -> Example:
    """Tokens and label mask of one conversation. Raises `DataError` if the answers cannot be told from the rest.

    `train_on`: `assistant` trains every answer with its end token, `last_answer` the last one, `everything` all tokens.
    """
    turns = [{"role": message.role, "content": message.content} for message in conversation.messages]
    text = render(tokenizer, turns, answer_next=False)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = coded["input_ids"], coded["offset_mapping"]
    if train_on == "everything":
        trained = [True] * len(ids)
    else:
        trained = [False] * len(ids)
        answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
        for i in answers[-1:] if train_on == "last_answer" else answers:
            span = _answer_span(tokenizer, turns, i, text)
            _mark(tokenizer, ids, offsets, span, trained)
    return Example(tuple(ids), tuple(trained), conversation.row)


def _answer_span(tokenizer: Any, turns: list[dict[str, str]], i: int, text: str) -> tuple[int, int]:
    """Characters of `text` that turn `i`, an answer, occupies, its end marker included."""
    before = render(tokenizer, turns[:i], answer_next=True)
    through = text if i == len(turns) - 1 else render(tokenizer, turns[: i + 1], answer_next=False)
    if not (text.startswith(through) and through.startswith(before)):
        raise DataError(
            "The base's chat template rewrites earlier turns, so the answers cannot be told from the rest.",
            'Set train_on = "last_answer", or use conversations of one question and one answer.',
        )
    return len(before), len(through)


def _mark(
    tokenizer: Any, ids: list[int], offsets: list[tuple[int, int]], span: tuple[int, int], trained: list[bool]
) -> None:
    """Mark the tokens inside `span` up to the last special token: it ends the turn; line breaks after it are layout."""
    inside = [t for t, (start, end) in enumerate(offsets) if start >= span[0] and end <= span[1] and start < end]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ends = [t for t in inside if ids[t] in special]
    if not ends:
        raise BaseModelError(
            "The base's chat template does not end an answer with a special token: the model would never learn to stop.",
            "Choose another base.",
        )
    for t in inside:
        if t <= ends[-1]:
            trained[t] = True
