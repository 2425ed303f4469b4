from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data.lengths import LIMITS, Consequence, Lengths, better_limit, consequence, histogram
from studio.data.survey import Quantiles, quantiles
from studio.errors import DamagedError


def lengths(*rows: tuple[int, int, int]) -> Lengths:
    """Of rows of (tokens, first learnt, last learnt)."""
    tokens, first, last = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Lengths(np.arange(len(rows)), tokens, first, last, last - first + 1)


ROWS = st.lists(
    st.integers(2, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1)).map(lambda p: (*p, p[0] - 1))),
    max_size=20,
)
FOUR = lengths((100, 10, 98), (1000, 10, 990), (1000, 700, 990), (3000, 2000, 2999))


def test_what_a_limit_costs() -> None:
    found = consequence(FOUR, 600)
    assert found == Consequence(600, 4, 5100, 400 + 400 + 2400, num_cut=3, num_endless=3, num_lost=2)
    assert found.share_cut == pytest.approx(3200 / 5100)


def test_the_next_usual_limit_that_keeps_every_answer_is_offered() -> None:
    assert better_limit(FOUR, 600, most=8192) == 3072
    assert better_limit(FOUR, 600, most=2048) == 2048  # one answer still loses its end, none is lost
    assert better_limit(FOUR, 600, most=700) == 600
    assert better_limit(FOUR, 4096, most=8192) == 4096


@given(ROWS, st.integers(1, 4000), st.sampled_from(LIMITS))
def test_a_better_limit_never_loses_more_and_is_the_smallest_that_loses_nothing(
    rows: list[tuple[int, int, int]], limit: int, most: int
) -> None:
    found = lengths(*rows)
    better = better_limit(found, limit, most)
    before, after = consequence(found, limit), consequence(found, better)
    assert after.num_lost <= after.num_endless <= after.num_cut <= before.num_cut
    assert better == limit or (better <= most and after.num_endless < before.num_endless)
    if after.num_endless == 0 and better != limit:
        assert all(consequence(found, one).num_endless for one in LIMITS if limit < one < better)


@given(ROWS)
def test_the_histogram_counts_every_row_and_the_quantiles_occur(rows: list[tuple[int, int, int]]) -> None:
    found = lengths(*rows)
    assert sum(count for _, count in histogram(found)) == len(rows)
    assert len(histogram(found)) <= 40
    assert found.quantiles == quantiles([tokens for tokens, _, _ in rows])


def test_lengths_are_kept_in_a_file_and_nothing_else_is_taken_for_them(tmp_path: Path) -> None:
    FOUR.save(tmp_path / "lengths.npy")
    found = Lengths.load(tmp_path / "lengths.npy")
    assert consequence(found, 600) == consequence(FOUR, 600)
    assert Lengths.load(tmp_path / "lengths.npy").quantiles == Quantiles(1000, 3000, 3000)
    for content in (b"", b"no array"):
        (tmp_path / "other.npy").write_bytes(content)
        with pytest.raises(DamagedError):
            Lengths.load(tmp_path / "other.npy")
