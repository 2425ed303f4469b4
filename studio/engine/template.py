"""From a conversation to tokens, each marked as trained or not.

The assistant's words are found by rendering prefixes with the base's own chat template: what stands between "the turns so far,
now the assistant speaks" and "the turns so far, with its answer" is the answer, whatever the template's markers look like. Of
that, the trained part ends with the token that ends the turn, so that the model learns to stop. A template that rewrites
earlier turns cannot be split so; such a row is refused, never trained "somehow".

Nothing here needs torch: a worker that only encodes starts in a second and holds little memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from studio.data.conversation import Conversation
from studio.errors import BaseModelError, DataError

# What a template can raise on a conversation that it does not like.
_REFUSALS = (jinja2.TemplateError, TypeError, KeyError, ValueError)
Turns = list[dict[str, str]]
# Characters from and to, the second not included.
Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation as the model sees it: token ids (int32), whether each is to be predicted, and its row in the file."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    row: int

    def __post_init__(self) -> None:
        # Any sequence will do; an array of the right type is taken as it is, be it a piece of a mapped file.
        object.__setattr__(self, "ids", np.asarray(self.ids, dtype=np.int32))
        object.__setattr__(self, "trained", np.asarray(self.trained, dtype=np.bool_))

    @property
    def num_supervised(self) -> int:
        """Tokens that will be predicted. The first of a row has nothing before it."""
        return int(np.count_nonzero(self.trained[1:]))

    def cut(self, max_tokens: int) -> Example:
        """The first `max_tokens` tokens."""
        return Example(self.ids[:max_tokens], self.trained[:max_tokens], self.row)


def render(tokenizer: Any, turns: Sequence[dict[str, str]], answer_next: bool) -> str:
    """The turns as text, through the template's sandbox; with `answer_next` the assistant's turn is opened."""
    try:
        text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=answer_next)
    except _REFUSALS as error:
        raise _refusal(error) from error
    return str(text)


def _refusal(error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"The base's chat template refuses this conversation: {reason}", "Change the row's roles or their order."
    )


def need_template(tokenizer: Any) -> None:
    """Raise `BaseModelError` if the base cannot render chats."""
    if not tokenizer.chat_template:
        raise BaseModelError("This base has no chat template.", "Choose an instruction-tuned base.")


class Coder:
    """How the tokenizer and the chat template of one base turn conversations into tokens.

    `told` is all there is to it, as one text: a worker is told it, and encoded rows that are kept are known by it.
    `train_on`: `assistant` trains every answer with its end token, `last_answer` the last one, `everything` all tokens.
    """

    def __init__(self, told: str) -> None:
        self.told = told
        words = json.loads(told)
        self._train_on = words["train_on"]
        self._template: str = words["template"]
        self._special_tokens: dict[str, Any] = words["special_tokens"]
        self._special_ids: list[int] = words["special_ids"]
        self._splits_special_tokens: bool = words["split_special_tokens"]
        self._tokenizer_told: str = words["tokenizer"]

    @classmethod
    def of(cls, tokenizer: Any, train_on: str) -> Coder:
        """From a fast tokenizer of transformers with a chat template. Truncation and padding are not taken over."""
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        return cls(
            json.dumps(
                {
                    "train_on": train_on,
                    "template": tokenizer.get_chat_template(),
                    "special_tokens": tokenizer.special_tokens_map,
                    "special_ids": sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}),
                    "split_special_tokens": tokenizer.split_special_tokens,
                    "tokenizer": tokenizer.backend_tokenizer.to_str(),
                }
            )
        )

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        # Only when it is needed: rows that are kept need none, and a large vocabulary takes a second.
        tokenizer: Tokenizer = Tokenizer.from_str(self._tokenizer_told)
        tokenizer.encode_special_tokens = self._splits_special_tokens
        return tokenizer

    @cached_property
    def _is_special(self) -> NDArray[np.bool_]:
        """By token id."""
        found = np.zeros(max(self._tokenizer.get_vocab_size(), *self._special_ids, 0) + 1, dtype=np.bool_)
        found[self._special_ids] = True
        return found

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | DataError]:
        """Tokens and label mask of each conversation, or why the answers in it cannot be told from the rest.

        Raises `BaseModelError` for a template under which no answer ever ends.
        """
        drafts = [self._draft(conversation) for conversation in conversations]
        texts = [draft[0] for draft in drafts if not isinstance(draft, DataError)]
        codes = iter(self._tokenizer.encode_batch(texts, add_special_tokens=False))
        return [
            draft if isinstance(draft, DataError) else self._example(next(codes), draft[1], conversation.row)
            for draft, conversation in zip(drafts, conversations, strict=True)
        ]

    def _draft(self, conversation: Conversation) -> tuple[str, list[Span] | None] | DataError:
        """The conversation as text, and which of its characters are answers, None for all of them."""
        turns = [{"role": message.role, "content": message.content} for message in conversation.messages]
        try:
            text = self._render(turns, answer_next=False)
            if self._train_on == "everything":
                return text, None
            answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
            wanted = answers[-1:] if self._train_on == "last_answer" else answers
            return text, [self._answer_span(turns, i, text) for i in wanted]
        except DataError as error:
            return error

    def _render(self, turns: Turns, answer_next: bool) -> str:
        """As `render`, without a tokenizer of transformers."""
        try:
            (text,), _ = render_jinja_template(
                [turns], chat_template=self._template, add_generation_prompt=answer_next, **self._special_tokens
            )
        except _REFUSALS as error:
            raise _refusal(error) from error
        return str(text)

    def _answer_span(self, turns: Turns, i: int, text: str) -> Span:
        """Characters of `text` that turn `i`, an answer, occupies, its end marker included."""
        before = self._render(turns[:i], answer_next=True)
        through = text if i == len(turns) - 1 else self._render(turns[: i + 1], answer_next=False)
        if not (text.startswith(through) and through.startswith(before)):
            raise DataError(
                "The base's chat template rewrites earlier turns, so the answers cannot be told from the rest.",
                'Set train_on = "last_answer", or use conversations of one question and one answer.',
            )
        return len(before), len(through)

    def _example(self, code: Encoding, answers: list[Span] | None, row: int) -> Example:
        """Mark the tokens inside each answer up to the last special one: it ends the turn; line breaks after it are layout."""
        ids = np.array(code.ids, dtype=np.int32)
        if answers is None:
            return Example(ids, np.ones(len(ids), dtype=np.bool_), row)
        trained = np.zeros(len(ids), dtype=np.bool_)
        starts, ends = np.array(code.offsets, dtype=np.int64).reshape(-1, 2).T
        is_special = self._is_special[ids] & (starts < ends)
        for first, last in answers:
            inside = (starts >= first) & (ends <= last) & (starts < ends)
            closing = np.flatnonzero(inside & is_special)
            if not len(closing):
                raise BaseModelError(
                    "The base's chat template does not end an answer with a special token: "
                    "the model would never learn to stop.",
                    "Choose another base.",
                )
            trained[: closing[-1] + 1] |= inside[: closing[-1] + 1]
        return Example(ids, trained, row)
