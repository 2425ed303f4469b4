"""Tokens found word by word are those that the tokenizer finds by itself, with their places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from studio.engine import words
from studio.engine.words import Words
from tests.studio.engine.odd_rows import PIECES
from tests.studio.engine.template_families import FAMILIES, tokenizer_of

CONTRACTED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
LLAMA3 = CONTRACTED + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN3 = LLAMA3.replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"s\p{L}", r"s\p{L}\p{M}").replace("{1,3}", "")
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥ぁ-ゟ]+",
    r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|\s+(?!\S)|\s+",
]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
NAMES = ["<|im_start|>", "<|im_end|>", "<|im_end|>x"]


def split(*patterns):
    return pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(one), "isolated") for one in patterns), BYTES])


CUTTING = {
    "gpt 2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama 3": split(LLAMA3),
    "qwen": split(QWEN3),
    "deepseek": split(*DEEPSEEK),
}


def made(cutting, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.normalizer = cutting, normalizer
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["it's what we've known", "  \n\n \n  a\tb", "größer naïve", "1984 3.14"], trainer)
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in NAMES])
    return tokenizer


TOKENIZERS = {name: made(cutting) for name, cutting in CUTTING.items()}
TOKENIZERS["composing"] = made(CUTTING["qwen"], normalizers.NFC())
SPACES = [
    "'s",
    "'S",
    "'\u017f",
    "' ",
    "  ",
    " \n",
    "\r\n",
    "\t",
    "\x1c",
    "\x85",
    "\xa0",
    "\u3000",
    "٣",
    "ª",
    "ᾼ",
    "\u0378",
]
texts = st.lists(
    st.lists(
        st.sampled_from([*PIECES, *NAMES, *SPACES, "it's", " what", "größer", "日本語", "12345"]) | st.text(max_size=4),
        max_size=12,
    ).map("".join),
    min_size=1,
    max_size=4,
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(words, "WORTH_CHARACTERS", 0)


def found(coded):
    return [(one.ids.tolist(), [tuple(pair) for pair in one.offsets.tolist()], one.text) for one in coded]


def plainly(tokenizer, some):
    codes = tokenizer.encode_batch(some, add_special_tokens=False)
    return [(code.ids, code.offsets, text) for code, text in zip(codes, some, strict=True)]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(some=st.lists(texts, min_size=1, max_size=2))
def test_whatever_is_written_becomes_the_tokens_that_the_tokenizer_finds(name, some):
    tokenizer = TOKENIZERS[name]
    by_words = Words(tokenizer, tokenizer.to_str())
    for batch in some:
        assert found(by_words.encode(batch)) == plainly(tokenizer, batch)
    assert by_words.is_used


def test_a_text_that_the_tokenizer_composes_is_left_to_it():
    """Letter and accent become one: other tokens, at other places. The text before it has nothing of that kind."""
    tokenizer, some = made(CUTTING["llama 3"], normalizers.NFC()), ["What we have known", "Cafe\u0301, nai\u0308ve"]
    seen = Words(tokenizer, tokenizer.to_str())
    assert found(seen.encode(some)) == plainly(tokenizer, some)
    assert seen.is_used


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokenizer_of_any_family_is_followed_or_left_alone(name):
    tokenizer = tokenizer_of(FAMILIES[name]).backend_tokenizer
    by_words = Words(tokenizer, tokenizer.to_str())
    some = ["Who are  you?\n<|im_end|></s> [INST]", "I be  a pirate."]
    assert found(by_words.encode(some)) == plainly(tokenizer, some)
    assert by_words.is_used == (not FAMILIES[name].has_pieces)


@pytest.mark.parametrize(
    "changed",
    [
        {"post_processor": processors.ByteLevel(trim_offsets=True)},
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": pre_tokenizers.Whitespace()},
        {"pre_tokenizer": split(r"\w+|\W+")},
        {"pre_tokenizer": split(r"(a)|b")},
        {"pre_tokenizer": split(r"[a-z&&[^b]]+")},
        {"encode_special_tokens": True},
    ],
)
def test_one_that_works_in_another_way_is_left_alone(changed):
    tokenizer = made(CUTTING["gpt 2"])
    for name, value in changed.items():
        setattr(tokenizer, name, value)
    by_words = Words(tokenizer, tokenizer.to_str())
    some = [" Größer it's  \n<|im_end|> what", "abab"]
    assert found(by_words.encode(some)) == plainly(tokenizer, some)
    assert not by_words.is_used


def test_what_comes_out_otherwise_is_never_trusted_again():
    tokenizer = made(CUTTING["llama 3"])
    told = made(split(LLAMA3.replace(r"\p{L}+", r"\p{L}"))).to_str()  # says that each letter is a word
    by_words = Words(tokenizer, told)
    assert found(by_words.encode(["what we've known"])) == plainly(tokenizer, ["what we've known"])
    assert not by_words.is_used


def test_words_are_forgotten_when_they_are_many(monkeypatch):
    monkeypatch.setattr(words, "MOST_TOKENS", 10)
    tokenizer = TOKENIZERS["llama 3"]
    by_words = Words(tokenizer, tokenizer.to_str())
    for some in (["it's what we've known"], ["a few other words"], ["it's known"]):
        assert found(by_words.encode(some)) == plainly(tokenizer, some)
        assert by_words.num_tokens < 30
