"""Nearly the same texts are found, others are not; the estimate is what the definition says."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data import near
from studio.data.near import NearTexts, signatures, similarity

WORDS = [
    f"{a}{b}" for a in ("sail", "rum", "gold", "wind", "map", "sea") for b in ("or", "ing", "ful", "less", "y", "ed")
]


def text(seed: int, words: int = 120) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words))


def pieces(one: str) -> set[bytes]:
    data = " ".join(one.casefold().split()).encode()
    return {data[n : n + 8] for n in range(len(data) - 7)}


@pytest.mark.parametrize("changed", [0, 2, 5, 15, 40, 120])
def test_the_estimate_is_near_the_share_of_common_pieces(changed: int) -> None:
    words = text(1).split()
    other = " ".join(text(2).split()[:changed] + words[changed:])
    true = len(pieces(" ".join(words)) & pieces(other)) / len(pieces(" ".join(words)) | pieces(other))
    one, two = signatures([" ".join(words), other])
    assert similarity(one, two) == pytest.approx(true, abs=0.15)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_a_signature_is_of_the_text_alone_and_has_no_empty_bin(texts: list[str]) -> None:
    together = signatures(texts)
    for n, one in enumerate(texts):
        assert (signatures([one])[0] == together[n]).all()
        assert (signatures([f"  {one.upper().lower()}\n"])[0] == signatures([one.upper().lower()])[0]).all()
    assert together.shape == (len(texts), near.BINS)


def test_each_near_text_is_told_with_the_first_of_its_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = NearTexts()
    originals = [text(seed) for seed in range(300)]
    found.add(originals)
    found.add([original + " Arrr!" for original in originals[:5]])
    found.add([text(1000), originals[0].upper()])
    earlier = found.near()
    assert earlier[:300].tolist() == [-1] * 300
    assert earlier[300:].tolist() == [0, 1, 2, 3, 4, -1, 0]


def test_texts_beyond_the_limit_are_counted_and_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MOST_TEXTS", 3)
    found = NearTexts()
    found.add([text(0), text(1)])
    found.add([text(0), text(1), text(0)])
    assert (found.num_texts, found.num_compared) == (5, 3)
    assert found.near().tolist() == [-1, -1, 0]
    assert len(NearTexts().near()) == 0
    assert found.near().dtype == np.int64
