"""Texts that are nearly the same, found among a million in bounded memory.

MinHash (Broder 1997) by one permutation: every eight bytes of a text, letter case and white space aside, are hashed once; 64 bins
keep the smallest hash that falls into them, and empty bins borrow from full ones (Shrivastava 2017, optimal densification).
Two texts agree in a share of the bins that is about the share of eight-byte pieces which they have in common. Candidates are
those that agree in one of 16 bands of four bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS, BANDS = 64, 16
THRESHOLD = 0.8
# 128 bytes are kept of each text: this many take a quarter of a gigabyte.
MOST_TEXTS = 2_000_000
_PIECE_BYTES = 8
_EMPTY = np.uint32(0xFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class NearTexts:
    """Gathers texts batch by batch. Those beyond `MOST_TEXTS` are counted and not compared."""

    def __init__(self) -> None:
        self._fingers: list[NDArray[np.uint8]] = []
        self._bands: list[NDArray[np.uint32]] = []
        self.num_texts = 0

    @property
    def num_compared(self) -> int:
        """Texts that `near` looks at."""
        return min(self.num_texts, MOST_TEXTS)

    def add(self, texts: Sequence[str]) -> None:
        """The next texts, some hundreds at a time."""
        room = MOST_TEXTS - self.num_compared
        self.num_texts += len(texts)
        if texts[:room]:
            bins = signatures(texts[:room])
            self._fingers.append((bins ^ (bins >> 16)).astype(np.uint8))
            self._bands.append(_bands(bins))

    def near(self) -> NDArray[np.int64]:
        """For each compared text the first of all that it nearly repeats, -1 if there is none."""
        earlier = np.full(self.num_compared, -1, dtype=np.int64)
        if not self.num_compared:
            return earlier
        fingers, bands = np.concatenate(self._fingers), np.concatenate(self._bands)
        for band in range(BANDS):
            _join(earlier, fingers, bands[:, band])
        return earlier


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """64 numbers for each text; the share in which two agree is about their similarity (Jaccard's, of eight-byte pieces)."""
    plain = [" ".join(text.casefold().split()).encode("utf-8", "replace").ljust(_PIECE_BYTES, b"\0") for text in texts]
    sizes = np.array([len(one) for one in plain], dtype=np.int64)
    hashes = _mixed(_pieces(b"".join(plain)))
    bins = np.full(len(texts) * BINS, _EMPTY, dtype=np.uint32)
    places = np.repeat(np.arange(len(texts)) * BINS, sizes)[: len(hashes)]
    places += (hashes >> np.uint64(58)).astype(np.int64)
    numbers = (hashes >> np.uint64(20)).astype(np.uint32)
    # Pieces that reach from one text into the next are nobody's.
    numbers[np.add.outer(np.cumsum(sizes[:-1]), -np.arange(1, _PIECE_BYTES))] = _EMPTY
    np.minimum.at(bins, places, numbers)
    return _filled(bins.reshape(-1, BINS))


def _pieces(characters: bytes) -> NDArray[np.uint64]:
    """Every eight bytes that follow one another, as a number."""
    found = np.empty(len(characters) - _PIECE_BYTES + 1, dtype=np.uint64)
    for shift in range(min(_PIECE_BYTES, len(found))):
        count = (len(characters) - shift) // _PIECE_BYTES
        found[shift::_PIECE_BYTES] = np.frombuffer(characters, dtype=np.uint64, count=count, offset=shift)
    return found


def similarity(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """About the share of pieces that two texts have in common, from their signatures."""
    return float((one == other).mean())


def _mixed(pieces: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bits spread evenly (the finaliser of splitmix64)."""
    mixed = pieces * _MIX
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _filled(bins: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Empty bins get the number of a full one, the same choice for all texts."""
    filled, empty = bins.copy(), bins == _EMPTY
    attempt = 0
    while empty.any():
        attempt += 1
        donors = (np.arange(BINS) * (2 * attempt + 1) + 17 * attempt) % BINS
        offered = bins[:, donors]
        takes = empty & (offered != _EMPTY)
        filled[takes] = offered[takes] + np.uint32(attempt)
        empty &= ~takes
    return filled


def _bands(bins: NDArray[np.uint32]) -> NDArray[np.uint32]:
    wide = bins.reshape(len(bins), BANDS, -1).astype(np.uint64)
    hashed = _mixed(wide[:, :, 0])
    for place in range(1, wide.shape[2]):
        hashed = _mixed(hashed ^ wide[:, :, place])
    return hashed.astype(np.uint32)


def _join(earlier: NDArray[np.int64], fingers: NDArray[np.uint8], band: NDArray[np.uint32]) -> None:
    """Texts of the same band are held against the first of them."""
    order = np.argsort(band, kind="stable")
    is_first = np.concatenate([[True], band[order][1:] != band[order][:-1]])
    first = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    text, first = order[~is_first], first[~is_first]
    for start in range(0, len(text), 1 << 16):
        some, leader = text[start : start + (1 << 16)], first[start : start + (1 << 16)]
        # Two fingers of eight bits agree by chance in one of 256 cases.
        agree = ((fingers[some] == fingers[leader]).mean(axis=1) - 1 / 256) / (1 - 1 / 256)
        some, leader = some[agree >= THRESHOLD], leader[agree >= THRESHOLD]
        known = earlier[some]
        earlier[some] = np.where(known < 0, leader, np.minimum(known, leader))
