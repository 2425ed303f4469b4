"""A text is tokenised word by word, and each word once: most of what people write are words that stood there before.

A byte-level tokenizer takes the control tokens out of a text, cuts the rest into words by a regular expression, and then looks at
one word at a time (GPT-2 and all that follow it: Llama 3, Qwen, Phi). Here its own expression cuts in Python's `re`, and the
tokenizer itself says which tokens a word becomes, and which letters each of them covers. What an expression means for a character
is taken from Unicode, and only for characters that have meant the same since 2002. A text with others, or a tokenizer that works
in another way, is left to the tokenizer as a whole. In each batch one text goes both ways, and must come out the same.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from studio.engine.control import Coded

# Words are forgotten when they have come to so many tokens; that is some 60 MB.
MOST_TOKENS = 500_000
# To learn how a tokenizer cuts takes as long as to tokenise so much.
WORTH_CHARACTERS = 500_000
# The expression of GPT-2, which the tokenizers' ByteLevel means by `use_regex`.
_GPT2 = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Letters that stand for another one where case does not matter, or do not lower to one letter.
_FOLDED = frozenset("\u0130\u0131\u017f\u212a")
# What means something else to Oniguruma than to Python, or may.
_FOREIGN, _FOREIGN_IN_CLASS = ("^", "$", "."), ("[", "[^", "&")
_REPEATED = re.compile(r"[\d,]\}\+")
_ESCAPED = frozenset("rnt.+*?()[]{}|^$/'-\\")

Cut = Callable[[str], list[str]]


class _Numbers(dict[str, int]):
    """Words, numbered as they come."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class Words:
    """One tokenizer, of which `told` is the JSON, with the words that it has seen."""

    def __init__(self, tokenizer: Tokenizer, told: str) -> None:
        self._tokenizer = tokenizer
        self._told = told
        self._is_tried = False
        self._cuts: tuple[re.Pattern[str] | None, Cut] | None = None
        self._forget()

    def encode(self, texts: Sequence[str]) -> list[Coded]:
        """Tokens of each text, as the tokenizer's `encode_batch` without special tokens has them."""
        picked = [number for number, text in enumerate(texts) if is_known(text)] if self._is_worth(texts) else []
        found = dict(zip(picked, self._checked([texts[number] for number in picked]), strict=False))
        left = [number for number in range(len(texts)) if number not in found]
        found.update(zip(left, self._plainly([texts[number] for number in left]), strict=True))
        return [found[number] for number in range(len(texts))]

    @property
    def is_used(self) -> bool:
        """Whether it goes word by word."""
        return self._cuts is not None

    @property
    def num_tokens(self) -> int:
        """Tokens of all words that are known by now."""
        return len(self._ids)

    def _is_worth(self, texts: Sequence[str]) -> bool:
        if not self._is_tried and sum(map(len, texts)) >= WORTH_CHARACTERS:
            self._is_tried = True
            self._cuts = None if self._tokenizer.encode_special_tokens else _cuts(json.loads(self._told))
        return self.is_used

    def _checked(self, texts: Sequence[str]) -> list[Coded]:
        """By words; none, and never again, if they are not what the tokenizer would see by itself."""
        if not texts:
            return []
        found = self._by_words(texts)
        if found is None or not _is_same(found[0], self._plainly(texts[:1])[0]):
            self._cuts = None
            return []
        return found

    def _plainly(self, texts: Sequence[str]) -> list[Coded]:
        codes = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_coded(code, text) for code, text in zip(codes, texts, strict=True)]

    def _by_words(self, texts: Sequence[str]) -> list[Coded] | None:
        """None if the tokenizer might cut the words further, or they are not all of a text."""
        assert self._cuts
        if self.num_tokens > MOST_TOKENS:
            self._forget()
        control, cut = self._cuts
        words: list[str] = []
        ends = []
        for text in texts:
            for number, piece in enumerate(control.split(text) if control else (text,)):
                words += (piece,) if number % 2 else cut(piece)
            ends.append(len(words))
        num_known = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), dtype=np.int64, count=len(words))
        if not self._learn(list(islice(self._numbers, num_known, None))):
            return None
        return self._joined(texts, numbers, np.array(ends))

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._lengths, self._counts = array("i"), array("i")
        self._ids, self._starts, self._stops = array("i"), array("i"), array("i")

    def _learn(self, words: list[str]) -> bool:
        """Have the tokenizer say what these become. False if it might cut one of them further where it stands alone."""
        if not words:
            return True
        assert self._cuts
        control, cut = self._cuts
        if any(cut(word) != [word] for word in words if not (control and control.fullmatch(word))):
            return False
        code = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        self._lengths.extend(map(len, words))
        self._counts.extend(np.bincount(np.array(code.word_ids, dtype=np.int64), minlength=len(words)).tolist())
        self._ids.extend(code.ids)
        starts, stops = zip(*code.offsets, strict=True) if code.ids else ((), ())
        self._starts.extend(starts)
        self._stops.extend(stops)
        return True

    def _joined(self, texts: Sequence[str], numbers: NDArray[np.int64], ends: NDArray[np.int64]) -> list[Coded] | None:
        """The tokens of the texts, of which each has the words up to one of the `ends`."""
        lengths, counts = np.array(self._lengths)[numbers], np.array(self._counts)
        begins = np.cumsum(counts) - counts
        counts, begins = counts[numbers], begins[numbers]
        token_ends, character_ends = _sums(counts), _sums(lengths)
        text_ends = character_ends[ends]
        if np.diff(text_ends, prepend=0).tolist() != [len(text) for text in texts]:
            return None
        token = np.repeat(begins - token_ends[:-1], counts) + np.arange(token_ends[-1])
        in_text = np.repeat(np.array([0, *text_ends[:-1]]), np.diff(ends, prepend=0))
        word_begins = np.repeat(character_ends[:-1] - in_text, counts)
        ids = np.array(self._ids)[token]
        offsets = np.empty((len(ids), 2), dtype=np.int64)
        offsets[:, 0] = np.array(self._starts)[token] + word_begins
        offsets[:, 1] = np.array(self._stops)[token] + word_begins
        stops = token_ends[ends].tolist()
        return [
            Coded(ids[start:stop], offsets[start:stop], text)
            for start, stop, text in zip([0, *stops], stops, texts, strict=False)
        ]


def _coded(code: Encoding, text: str) -> Coded:
    ids = code.ids
    offsets = np.fromiter(chain.from_iterable(code.offsets), dtype=np.int64, count=2 * len(ids))
    return Coded(np.fromiter(ids, dtype=np.int32, count=len(ids)), offsets.reshape(-1, 2), text)


def _sums(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of the first 0, 1, 2, ... of them."""
    return np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])


def _is_same(one: Coded, other: Coded) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets)


# --- how a tokenizer cuts ----------------------------------------------------------------------------------------------


def _cuts(told: dict[str, Any]) -> tuple[re.Pattern[str] | None, Cut] | None:
    """What takes control tokens out of a text, if there are any, and what cuts the rest into words. None if this tokenizer looks
    at more than a word at a time, or cuts in a way that is not known here."""
    added, model, normalizer = told["added_tokens"], told["model"], told["normalizer"]
    is_plain = (
        model["type"] == "BPE"
        and not model.get("dropout")
        and (normalizer is None or normalizer == {"type": "NFC"})
        and not any(token[key] for token in added for key in ("lstrip", "rstrip", "single_word", "normalized"))
        and all(
            step["type"] == "TemplateProcessing" or not step.get("trim_offsets", True) for step in _steps(told, "post")
        )
    )
    steps = [_step(step) for step in _steps(told, "pre")]
    if not is_plain or not steps or None in steps or _steps(told, "pre")[-1]["type"] != "ByteLevel":
        return None
    patterns = [re.compile(f"(?:{step})|(?:(?!{step})[\\s\\S])+") for step in steps if step]
    if not patterns or any(pattern.groups or pattern.match("") for pattern in patterns):
        return None
    names = sorted((re.escape(token["content"]) for token in added), key=len, reverse=True)
    return re.compile(f"({'|'.join(names)})") if names else None, _cut(patterns)


def _cut(patterns: Sequence[re.Pattern[str]]) -> Cut:
    first, *more = patterns
    if not more:
        return first.findall
    rest = _cut(more)
    return lambda text: [word for piece in first.findall(text) for word in rest(piece)]


def _steps(told: dict[str, Any], when: str) -> list[dict[str, Any]]:
    """The steps before (`pre`) or after (`post`) the tokenising, one by one."""
    name, inner = {"pre": ("pre_tokenizer", "pretokenizers"), "post": ("post_processor", "processors")}[when]
    found = told[name]
    if found is None:
        return []
    return list(found[inner]) if found["type"] == "Sequence" else [found]


def _step(step: dict[str, Any]) -> str | None:
    """One step as a regular expression of the words that it isolates, empty if there are none; None if it does anything else."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": uses}:
            return _translated(_GPT2) if uses else ""
        case {"type": "Digits", "individual_digits": bool(each)}:
            return _translated(r"\p{N}" if each else r"\p{N}+")
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return _translated(pattern)
    return None


def _translated(pattern: str) -> str | None:
    """An expression of Oniguruma's in Python's words; None if it has any that are not known here."""
    found, is_class = [], False
    for token in re.finditer(r"\\p\{(\w+)\}|\\(.)|(\[\^?)|(\])|(.)", pattern, re.DOTALL):
        name, escaped, opens, closes, _ = token.groups()
        if name or escaped in ("s", "S"):
            characters = _SPACES if escaped else _characters(name)
            if not characters or (escaped == "S" and is_class):
                return None
            found.append(characters if is_class else f"[{'^' * (escaped == 'S')}{characters}]")
        elif token[0] in (_FOREIGN_IN_CLASS if is_class else _FOREIGN) or (escaped and escaped not in _ESCAPED):
            return None
        else:
            is_class = bool(opens) or (is_class and not closes)
            found.append(token[0])
    return None if _REPEATED.search(pattern) else _sound("".join(found))


def _sound(pattern: str) -> str | None:
    try:
        re.compile(pattern)
    except re.error:
        return None
    return pattern


# --- characters --------------------------------------------------------------------------------------------------------


@cache
def _categories() -> dict[str, list[int]]:
    """Characters of the first plane by category, those whose category has been the same since Unicode 3.2."""
    found: dict[str, list[int]] = {}
    before = unicodedata.ucd_3_2_0
    for number, character in enumerate(map(chr, range(1 << 16))):
        category = unicodedata.category(character)
        if category == before.category(character) and category not in ("Cn", "Cs") and character not in _FOLDED:
            found.setdefault(category, []).append(number)
    return found


@cache
def _characters(name: str) -> str:
    """Those of a category, or of a kind of categories (`L`), as they stand in a class; empty if there are none."""
    return _ranges(number for category, them in _categories().items() if category.startswith(name) for number in them)


def _ranges(numbers: Iterable[int]) -> str:
    ordered = np.array(sorted(numbers), dtype=np.int64)
    edges = np.flatnonzero(np.diff(ordered) != 1)
    pairs = (
        zip(ordered[[0, *(edges + 1)]].tolist(), ordered[[*edges, -1]].tolist(), strict=True) if len(ordered) else ()
    )
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in pairs)


@cache
def _strange() -> re.Pattern[str]:
    return re.compile(f"[^{_characters('')}]")


def is_known(text: str) -> bool:
    """Whether it is known what each character of it is to an expression. A text that the tokenizer would compose is not."""
    return text.isascii() or (not _strange().search(text) and unicodedata.is_normalized("NFC", text))
