"""What a limit on the length of rows costs: tokens that are cut, answers that lose their end, rows that are lost altogether."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.data.survey import Quantiles
from studio.errors import DamagedError

# Limits that one would choose: powers of two, and half-way between them.
LIMITS = tuple(sorted({*(1 << n for n in range(7, 21)), *(3 << n for n in range(6, 19))}))


@dataclass(frozen=True)
class Lengths:
    """Of each row: its place in the dataset, its tokens, and the first and last of those that are learnt. int64 arrays."""

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    supervised: NDArray[np.int64]

    @property
    def quantiles(self) -> Quantiles:
        """Of the tokens, by the nearest rank; zeros if there is no row."""
        if not len(self.tokens):
            return Quantiles(0, 0, 0)
        p50, p95 = (int(np.quantile(self.tokens, share, method="inverted_cdf")) for share in (0.5, 0.95))
        return Quantiles(p50, p95, int(self.tokens.max()))

    def save(self, path: Path) -> None:
        """Keep them in one file. Raises `DiskFullError`."""
        with files.new_file(path) as file:
            np.save(
                file, np.stack([self.rows, self.tokens, self.first, self.last, self.supervised]), allow_pickle=False
            )

    @classmethod
    def load(cls, path: Path) -> Lengths:
        """What `save` kept. Raises `DamagedError` if it is something else."""
        try:
            columns = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise DamagedError(f"{path.name} holds no lengths of rows.", "Survey the dataset again.") from error
        return cls(*columns)


@dataclass(frozen=True)
class Consequence:
    """What becomes of a dataset under a limit of `max_tokens`.

    `num_cut` rows lose something; of these `num_endless` lose the end of their last answer, so that they do not teach the
    model to stop, and of these `num_lost` lose all that there was to learn.
    """

    max_tokens: int
    num_rows: int
    num_tokens: int
    num_tokens_cut: int
    num_cut: int
    num_endless: int
    num_lost: int

    @property
    def share_cut(self) -> float:
        """The share of all tokens that is cut."""
        return self.num_tokens_cut / self.num_tokens if self.num_tokens else 0.0


def consequence(lengths: Lengths, max_tokens: int) -> Consequence:
    """What becomes of these rows; a few milliseconds for a million of them."""
    return Consequence(
        max_tokens=max_tokens,
        num_rows=len(lengths.tokens),
        num_tokens=int(lengths.tokens.sum()),
        num_tokens_cut=int(np.maximum(lengths.tokens - max_tokens, 0).sum()),
        num_cut=int((lengths.tokens > max_tokens).sum()),
        num_endless=int((lengths.last >= max_tokens).sum()),
        num_lost=int((lengths.first >= max_tokens).sum()),
    )


def better_limit(lengths: Lengths, max_tokens: int, most: int) -> int:
    """The smallest usual limit, no larger than `most`, that keeps every answer whole; if none does, the one that loses fewest
    rows; `max_tokens` itself if nothing is gained."""
    now = consequence(lengths, max_tokens)
    larger = [limit for limit in LIMITS if max_tokens < limit <= most]
    found = [consequence(lengths, limit) for limit in larger]
    whole = next((one for one in found if not one.num_endless), None)
    best = whole or min(found, key=lambda one: (one.num_lost, one.num_endless), default=now)
    return best.max_tokens if best.num_endless < now.num_endless else max_tokens


def histogram(lengths: Lengths, bins: int = 40) -> list[tuple[int, int]]:
    """(tokens from, rows) of each bin of equal width; empty if there is no row."""
    if not len(lengths.tokens):
        return []
    width = max(1, -(-(int(lengths.tokens.max()) + 1) // bins))
    counts = np.bincount(lengths.tokens // width)
    return [(number * width, int(count)) for number, count in enumerate(counts)]
