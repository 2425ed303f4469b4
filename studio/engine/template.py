"""From a conversation to tokens, each marked as trained or not.

The conversation is rendered with the base's own chat template; where the assistant speaks in it is found as
`studio.engine.spans` says. Of each answer, the trained part ends with the token that ends the turn, so that the model learns to
stop. Control tokens that somebody typed into a message are text (`studio.engine.control`). A text that is no conversation is
learnt as it stands, with the token that ends a text behind it; a piece of one that goes on has no such end.

Nothing here needs torch: a worker that only encodes starts in a second and holds little memory.
"""

from __future__ import annotations

import copy
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
from studio.engine.spans import Answer, Template
from studio.engine.words import Words
from studio.errors import BaseModelError, DataError
from studio.models.templates import OWN, template_text
from studio.models.templates import refusal as refusal_of_choice


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


def prompt(tokenizer: Any, turns: Sequence[dict[str, str]]) -> list[int]:
    """Ids of the turns with the assistant's turn opened; control tokens that somebody typed are text, as in training.

    Raises `BaseModelError` without a template, `DataError` if the template refuses the turns.
    """
    if not tokenizer.chat_template:
        raise no_template()
    template = Template(tokenizer.get_chat_template(), tokenizer.special_tokens_map)
    control = Control(tokenizer.backend_tokenizer)
    if not any(control.is_typed(turn["content"], turn["role"]) for turn in turns):
        text = template.render(turns, None, answer_next=True)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    held = [control.held_back(turn, turn["role"]) for turn in turns]
    return [int(number) for number in control.encode(template.render(held, None, answer_next=True)).ids]


def dressed(tokenizer: Any, template: str) -> Any:
    """The tokenizer, or where it has no chat template of its own and `template` is one, its twin with that."""
    if tokenizer.chat_template or not template:
        return tokenizer
    twin = copy.copy(tokenizer)
    twin.chat_template = template
    return twin


def template_for(own: str | None, choice: str) -> str:
    """The chat template to go by: the base's own, or the one that a recipe chose (`data.chat_template`) for a base without.

    Raises `BaseModelError` if there is none, or if one was chosen beside the base's own.
    """
    if own and choice == OWN:
        return own
    if own or choice == OWN:
        raise no_template(is_own=bool(own))
    return template_text(choice)


def no_template(*, is_own: bool = False) -> BaseModelError:
    """Why a base cannot render chats; or, if it `is_own`, why not by another template than its own."""
    told = refusal_of_choice(is_own=is_own)
    return BaseModelError(f"{told['message'][0].upper()}{told['message'][1:]}.", told["fix"])


def told_of(tokenizer: Any) -> dict[str, Any]:
    """All that decides how a fast tokenizer of transformers encodes, but for what is to be learnt. `template` may be None.

    Truncation and padding are not taken over.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return {
        "template": tokenizer.get_chat_template() if tokenizer.chat_template else None,
        "special_tokens": tokenizer.special_tokens_map,
        "special_ids": sorted({*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}),
        "split_special_tokens": tokenizer.split_special_tokens,
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
    }


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
        """From a fast tokenizer of transformers with a chat template."""
        return cls(json.dumps({"train_on": train_on, **told_of(tokenizer)}))

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
        return Control(self._tokenizer)

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

    def texts(self, ids: Sequence[int]) -> list[str]:
        """What each token stands for; part of a letter is shown as U+FFFD."""
        return [self._tokenizer.decode([number], skip_special_tokens=False) for number in ids]

    def _finished(self, draft: _Draft | DataError, row: int, codes: Iterator[Coded]) -> Example | DataError:
        if isinstance(draft, DataError):
            return draft
        try:
            coded = self._control.encode(draft.text) if draft.is_odd else next(codes)
        except DataError as error:
            return error
        if draft.is_prose:
            return self._prose(coded, row, draft.goes_on)
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
                return _Draft(turns[0]["content"], None, is_odd, is_prose=True, goes_on=conversation.goes_on)
            text = self._template.render(turns, tools, answer_next=False)
            if self._train_on == "everything":
                return _Draft(text, None, is_odd)
            answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
            wanted = answers[-1:] if self._train_on == "last_answer" else answers
            return _Draft(text, self._shapes.answers(turns, tools, text, wanted), is_odd)
        except DataError as error:
            return error

    def _prose(self, coded: Coded, row: int, goes_on: bool) -> Example:
        """All of a text behind what this tokenizer puts before one, and the token that ends a text unless it goes on."""
        eos_id = self._tokenizer.token_to_id(self._eos_token) if self._eos_token else None
        before = [one for one in self._tokenizer.encode("").ids if one != eos_id]
        ids = np.array([*before, *coded.ids, *([] if eos_id is None or goes_on else [eos_id])], dtype=np.int32)
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
    goes_on: bool = False


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
