"""From a conversation to tokens, each marked as trained or not.

The conversation is rendered with the base's own chat template; where the assistant speaks in it is found as
`studio.engine.spans` says. Of each answer, the trained part ends with the token that ends the turn, so that the model learns to
stop. Control tokens that somebody typed into a message are text (`studio.engine.control`). A text that is no conversation is
learnt as it stands, with the token that ends a text behind it.

Nothing here needs torch: a worker that only encodes starts in a second and holds little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from studio.data.conversation import Conversation
from studio.engine.control import Coded, Control
from studio.engine.shapes import Shapes
from studio.engine.spans import REFUSALS, Answer, Template, refusal
from studio.engine.words import Words
from studio.errors import BaseModelError, DataError


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
    except REFUSALS as error:
        raise refusal(error) from error
    return str(text)


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
        self._template = Template(words["template"], words["special_tokens"])
        self._shapes = Shapes(self._template)
        self._eos_token: str = words["special_tokens"].get("eos_token") or ""
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

    @cached_property
    def _control(self) -> Control:
        return Control(self._tokenizer, self._tokenizer_told)

    @cached_property
    def _words(self) -> Words:
        return Words(self._tokenizer, self._tokenizer_told)

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | DataError]:
        """Tokens and label mask of each conversation, or why the answers in it cannot be told from the rest.

        Raises `BaseModelError` for a template under which no answer ever ends.
        """
        drafts = [self._draft(conversation) for conversation in conversations]
        texts = [draft.text for draft in drafts if isinstance(draft, _Draft) and not draft.is_odd]
        codes = iter(self._words.encode(texts))
        return [self._finished(draft, one.row, codes) for draft, one in zip(drafts, conversations, strict=True)]

    def rendered(self, conversation: Conversation) -> str:
        """The conversation as the model sees it, as text. Raises `DataError` if the template refuses it."""
        draft = self._draft(conversation)
        if isinstance(draft, DataError):
            raise draft
        return self._control.let_go(draft.text)

    def _finished(self, draft: _Draft | DataError, row: int, codes: Iterator[Coded]) -> Example | DataError:
        if isinstance(draft, DataError):
            return draft
        try:
            coded = self._control.encode(draft.text) if draft.is_odd else next(codes)
        except DataError as error:
            return error
        if draft.is_prose:
            return self._prose(coded, row)
        return self._example(coded, draft.answers, row)

    def _draft(self, conversation: Conversation) -> _Draft | DataError:
        """The conversation as text, and which of its characters are answers, None for all of them."""
        turns = [message.turn for message in conversation.messages]
        tools = json.loads(conversation.tools) if conversation.tools else None
        is_odd = any(
            self._control.is_typed(message.content + message.more, message.role) for message in conversation.messages
        )
        is_odd = is_odd or self._control.is_typed(conversation.tools, "system")
        try:
            if is_odd:
                turns = [self._control.held_back(turn, turn["role"]) for turn in turns]
                tools = self._control.held_back(tools, "system")
            if conversation.is_text:
                return _Draft(turns[0]["content"], None, is_odd, is_prose=True)
            text = self._template.render(turns, tools, answer_next=False)
            if self._train_on == "everything":
                return _Draft(text, None, is_odd)
            answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
            wanted = answers[-1:] if self._train_on == "last_answer" else answers
            return _Draft(text, self._shapes.answers(turns, tools, text, wanted), is_odd)
        except DataError as error:
            return error

    def _prose(self, coded: Coded, row: int) -> Example:
        """All of a text, behind what this tokenizer puts before one, with the token that ends a text after it."""
        eos_id = self._tokenizer.token_to_id(self._eos_token) if self._eos_token else None
        before = [one for one in self._tokenizer.encode("").ids if one != eos_id]
        ids = np.array([*before, *coded.ids, *([] if eos_id is None else [eos_id])], dtype=np.int32)
        return Example(ids, np.ones(len(ids), dtype=np.bool_), row)

    def _example(self, coded: Coded, answers: list[Answer] | None, row: int) -> Example:
        """Mark the tokens of each answer up to the one that ends the turn; line breaks after it are layout."""
        ids = coded.ids
        if answers is None:
            return Example(ids, np.ones(len(ids), dtype=np.bool_), row)
        trained = np.zeros(len(ids), dtype=np.bool_)
        starts, ends = coded.offsets.T
        is_special = self._is_special[ids] & (starts < ends)
        for answer in answers:
            inside, end = _turn(coded, answer, is_special)
            if end is None:
                raise BaseModelError(
                    "The base's chat template does not end an answer with a special token: "
                    "the model would never learn to stop.",
                    "Choose another base.",
                )
            trained[: end + 1] |= inside[: end + 1]
        return Example(ids, trained, row)


@dataclass(frozen=True)
class _Draft:
    """A rendered conversation and its answers, None if all of it is to be learnt. `is_odd`: control tokens were typed in it."""

    text: str
    answers: list[Answer] | None
    is_odd: bool = False
    is_prose: bool = False


def _turn(coded: Coded, answer: Answer, is_special: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int | None]:
    """Which tokens lie in the answer, and which of them ends the turn, None if there is no such token."""
    starts, ends = coded.offsets.T
    first, last = coded.place(answer.first), coded.place(answer.last)
    speech_end = None if answer.speech_end is None else coded.place(answer.speech_end)
    inside = (starts >= first) & (starts < ends) & (ends <= last)
    if answer.is_bare:
        assert speech_end is not None
        end = _bare_end(coded, is_special & (starts >= first), speech_end)
        return (inside if end is None else (starts >= first) & (starts < ends) & (ends <= ends[end])), end
    closing = np.flatnonzero(inside & is_special)
    after = closing if speech_end is None else closing[starts[closing] >= speech_end]
    if len(after) and speech_end is not None:
        return inside, int(after[0])
    return inside, int(closing[-1]) if len(closing) else None


def _bare_end(coded: Coded, is_special: NDArray[np.bool_], speech_end: int) -> int | None:
    """The special token with which the speech ends, or which follows it; white space may come between."""
    starts, ends = coded.offsets.T
    own = np.flatnonzero(is_special & (ends <= speech_end))
    if len(own) and not coded.text[ends[own[-1]] : speech_end].strip():
        return int(own[-1])
    after = np.flatnonzero(is_special & (starts >= speech_end))
    if len(after) and not coded.text[speech_end : starts[after[0]]].strip():
        return int(after[0])
    return None
