"""Control tokens that somebody typed are text: they never open or close a turn.

A tokenizer takes `<|im_end|>` for the end of a turn, whoever wrote it (transformers#29279). Here each such string in a message
is held back while the template is rendered, by one character that stands in for it, so that all that is left in the rendered
text is the template's own. A twin of the tokenizer, which knows the control tokens by other names, then reads both: the
template's by those names, and what was typed letter by letter, as any other text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from studio.errors import DataError

# Private-use characters: what stands in for something typed, and the names by which the twin knows control tokens.
_TYPED, _NAMES, _MOST = 0xF0000, 0x100000, 0xFFFE
_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
_MARKUP = re.compile(r"[<\[{|].*[>\]}|]", re.DOTALL)


@dataclass(frozen=True)
class Coded:
    """Token ids of `text`, and which characters each covers (`offsets`, tokens x 2).

    If `text` is not the one that was to be encoded, `places` has for each character of that one, and for its end, where in
    `text` it is.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    text: str
    places: NDArray[np.int64] | None = None

    def place(self, position: int) -> int:
        """Where in `text` a position in the text that was to be encoded is."""
        return position if self.places is None else int(self.places[position])


class Control:
    """The control tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = sorted(tokenizer.get_added_tokens_decoder().items())[:_MOST]
        self._ids = {
            token.content: number for number, token in added if token.special or _MARKUP.fullmatch(token.content)
        }
        self._names = list(self._ids)
        # An assistant may think and call tools in markup; nobody may end a turn but the template.
        self._special = _pattern([token.content for _, token in added if token.special])
        self._any = _pattern(self._names)
        self._beginnings = {name[0] for name in self._names if name}
        self._twin: tuple[Tokenizer, NDArray[np.int64]] | None = None

    def is_typed(self, text: str, role: str) -> bool:
        """Whether a message of that role has a control token in it that would be taken for the template's."""
        if not any(beginning in text for beginning in self._beginnings):
            return False
        pattern = self._special if role == "assistant" else self._any
        return bool(pattern and pattern.search(text))

    def held_back(self, value: Any, role: str) -> Any:
        """`value`, a text or plain JSON, with one character in the place of each control token.

        Raises `DataError` for a text that has private-use characters besides.
        """
        if isinstance(value, dict):
            return {key: inner if key == "role" else self.held_back(inner, role) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.held_back(inner, role) for inner in value]
        if not isinstance(value, str):
            return value
        if _PRIVATE.search(value):
            raise DataError("A message holds control tokens and private-use characters.", "Remove one or the other.")
        pattern = self._special if role == "assistant" else self._any
        return pattern.sub(lambda found: chr(_TYPED + self._names.index(found[0])), value) if pattern else value

    def let_go(self, text: str) -> str:
        """A rendered text with what was held back in its place again."""
        return _PRIVATE.sub(lambda found: self._typed(found[0]), text)

    def encode(self, text: str) -> Coded:
        """Tokens of a rendered text in which what was typed is held back.

        Raises `DataError` if the tokenizer has no other way to write a control token than as such.
        """
        self._twin = self._twin or self._made_twin()
        twin, ids = self._twin
        plain, places = self._for_twin(text)
        code = twin.encode(plain, add_special_tokens=False)
        found = ids[np.array(code.ids, dtype=np.int64)]
        offsets = np.array(code.offsets, dtype=np.int64).reshape(-1, 2)
        is_control = np.isin(found, list(self._ids.values()))
        if any(not _PRIVATE.search(plain[start:end]) for start, end in offsets[is_control]):
            raise DataError(
                "This base's tokenizer cannot write its control tokens as text.", "Remove them from the messages."
            )
        return Coded(found.astype(np.int32), offsets, plain, places)

    def _typed(self, character: str) -> str:
        """What a character of a held back text stands in for; itself if for nothing."""
        number = ord(character) - _TYPED
        return self._names[number] if 0 <= number < len(self._names) else character

    def _for_twin(self, text: str) -> tuple[str, NDArray[np.int64]]:
        pieces, places, position, length = [], [], 0, 0
        pattern = re.compile(f"{self._any.pattern}|{_PRIVATE.pattern}" if self._any else _PRIVATE.pattern, re.DOTALL)
        for found in pattern.finditer(text):
            word = found[0]
            other = chr(_NAMES + self._names.index(word)) if word in self._ids else self._typed(word)
            pieces += [text[position : found.start()], other]
            places.append(np.arange(found.start() - position) + length)
            length += found.start() - position
            places.append(np.full(len(word), length))
            length, position = length + len(other), found.end()
        pieces.append(text[position:])
        places.append(np.arange(len(text) - position + 1) + length)
        return "".join(pieces), np.concatenate(places).astype(np.int64)

    def _made_twin(self) -> tuple[Tokenizer, NDArray[np.int64]]:
        """The twin, and for each of its ids the one of the tokenizer itself."""
        names = {name: chr(_NAMES + number) for number, name in enumerate(self._names)}
        told = json.loads(self._tokenizer.to_str())
        added = [{**token, "content": names.get(token["content"], token["content"])} for token in told["added_tokens"]]
        twin = Tokenizer.from_str(json.dumps({**told, "added_tokens": added}))
        ids = np.arange(twin.get_vocab_size(with_added_tokens=True) + len(added), dtype=np.int64)
        for token in added:
            ids[twin.token_to_id(token["content"])] = token["id"]
        return twin, ids


def _pattern(names: list[str]) -> re.Pattern[str] | None:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
