import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data.rows import Conversation, Dataset, Message, stream
from studio.data.survey import Quantiles, content_digest, fingerprint, quantiles, split, survey
from studio.errors import DataError


def conversation(text: str, row: int = 0) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", "ok")), row, row + 1)


def dataset(*texts: str, num_bad: int = 0) -> Dataset:
    rows = tuple(conversation(text, row) for row, text in enumerate(texts))
    return Dataset("messages", rows, (), len(rows) + num_bad)


TEXTS = st.lists(st.text(min_size=1, max_size=4), max_size=30)
FRACTIONS = st.floats(0, 0.9)


def test_counts_and_lengths() -> None:
    found = survey(dataset("a", "bb", "a", "a", num_bad=2))
    assert (found.num_rows, found.num_good, found.num_duplicates) == (6, 4, 2)
    assert found.characters == Quantiles(p50=3, p95=4, max=4)
    assert found.turns == Quantiles(2, 2, 2)


def test_quantiles_are_numbers_that_occur() -> None:
    assert quantiles(range(1, 101)) == Quantiles(50, 95, 100)
    assert quantiles([7]) == Quantiles(7, 7, 7)
    assert quantiles([]) == Quantiles(0, 0, 0)


def test_the_same_texts_with_other_roles_are_no_duplicates() -> None:
    one = Conversation((Message("user", "a"), Message("assistant", "b")), 0, 1)
    two = Conversation((Message("system", "a"), Message("user", "b")), 1, 2)
    assert survey(Dataset("messages", (one, two), (), 2)).num_duplicates == 0


@given(TEXTS, FRACTIONS, st.integers(0, 2**32 - 1))
def test_every_row_is_on_one_side_and_duplicates_are_together(texts: list[str], fraction: float, seed: int) -> None:
    rows = dataset(*texts).conversations
    train, held_out = split(rows, fraction, seed)
    assert sorted(row.row for row in [*train, *held_out]) == list(range(len(rows)))
    assert not {row.messages for row in train} & {row.messages for row in held_out}
    assert split(rows, fraction, seed) == (train, held_out)
    if len(set(texts)) >= 2:
        assert bool(held_out) == (fraction > 0)
    assert train or not rows


@given(TEXTS.filter(lambda texts: len(set(texts)) > 1), TEXTS, st.integers(0, 100))
def test_new_rows_do_not_move_old_ones(old: list[str], new: list[str], seed: int) -> None:
    # Fifty rows make it certain that neither side is empty, which is the one case in which a row has to move.
    base = [f"row {number}" for number in range(50)] + old
    before, _ = split(dataset(*base).conversations, 0.3, seed)
    after, _ = split(dataset(*base, *new).conversations, 0.3, seed)
    assert {row.messages for row in before} <= {row.messages for row in after}


def test_the_share_is_about_what_was_asked_for_and_the_seed_matters() -> None:
    rows = dataset(*(f"row {number}" for number in range(2000))).conversations
    held = {row.row for row in split(rows, 0.1, 1)[1]}
    assert 140 < len(held) < 260
    assert held != {row.row for row in split(rows, 0.1, 2)[1]}


def test_nothing_is_held_out_when_nothing_is_asked_for() -> None:
    rows = dataset("a", "b", "c").conversations
    assert split(rows, 0, 42) == (list(rows), [])


def test_one_row_repeated_is_all_for_training() -> None:
    rows = dataset("a", "a").conversations
    assert split(rows, 0.5, 42) == (list(rows), [])


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"abc")
    assert fingerprint(path) == "sha256:" + hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        fingerprint(tmp_path / "missing")


@given(TEXTS, FRACTIONS, st.integers(0, 99))
def test_the_sides_are_those_of_the_rule_written_out_in_whole_numbers(
    texts: list[str], fraction: float, seed: int
) -> None:
    rows = dataset(*texts).conversations
    keys = [
        int.from_bytes(hashlib.sha256(f"{seed}:".encode() + content_digest(row)).digest()[:8], "big") for row in rows
    ]
    distinct = sorted(set(keys))
    held: set[int] = set()
    if fraction > 0 and len(distinct) >= 2:
        held = {key for key in distinct if key / 2**64 < fraction} or {distinct[0]}
        held -= {distinct[-1]}
    wanted = [row.row for key, row in zip(keys, rows, strict=True) if key in held]
    assert [row.row for row in split(rows, fraction, seed)[1]] == wanted


def grouped(text: str, group: str, row: int) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", "ok")), row, row + 1, group=group)


@given(
    st.lists(st.tuples(st.text(max_size=3), st.sampled_from(["", "a", "b", "c"])), max_size=30),
    FRACTIONS,
    st.integers(0, 99),
)
def test_a_group_is_never_parted_and_rows_without_one_stand_for_themselves(
    rows: list[tuple[str, str]], fraction: float, seed: int
) -> None:
    conversations = [grouped(text, group, row) for row, (text, group) in enumerate(rows)]
    train, held = split(conversations, fraction, seed)
    assert not {one.group for one in train if one.group} & {one.group for one in held if one.group}
    assert not {one.messages for one in train if not one.group} & {one.messages for one in held if not one.group}


def test_rows_of_a_group_come_from_a_column(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"question": f"{n}", "answer": "x", "customer": n // 3 if n else None} for n in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [one.group for one in stream(path, group_by="customer")] == ["", "0", "0", "1", "1", "1", "2", "2", "2"]
    assert {one.group for one in stream(path)} == {""}
    with pytest.raises(DataError, match="column 'client'"):
        list(stream(path, group_by="client"))
