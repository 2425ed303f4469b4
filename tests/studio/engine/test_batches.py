from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from studio.engine.batches import Boundaries, Layout, Schedule, best_fit, collate, micro_batches
from studio.engine.loss import IGNORED
from studio.engine.template import Example
from studio.recipe.recipe import Training

examples = st.lists(
    st.integers(2, 40).map(lambda n: Example(tuple(range(3, 3 + n)), (False, *(True,) * (n - 1)), 0)),
    min_size=1,
    max_size=30,
)


@given(examples, st.integers(40, 200))
def test_packs_hold_every_row_once_within_the_room(rows, room):
    packs = best_fit(rows, room)
    assert sorted(len(x.ids) for pack in packs for x in pack) == sorted(len(x.ids) for x in rows)
    assert all(sum(len(x.ids) for x in pack) <= room for pack in packs)


def plain_best_fit(rows, room):
    """The same, written for reading: each row looks at every pack."""
    packs, rooms = [], []
    for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
        fitting = [i for i, left in enumerate(rooms) if left >= len(row.ids)]
        if not fitting:
            packs.append([])
            rooms.append(room)
        best = min(fitting, key=lambda i: rooms[i]) if fitting else len(packs) - 1
        packs[best].append(row)
        rooms[best] -= len(row.ids)
    return packs


@given(examples, st.integers(40, 200))
def test_packs_are_those_of_the_plain_best_fit(rows, room):
    assert best_fit(rows, room) == plain_best_fit(rows, room)


@given(examples, st.booleans(), st.integers(1, 5))
def test_no_supervised_token_is_lost_however_rows_are_split(rows, packing, micro_batch_rows):
    for layout in (
        Layout(packing, 0, micro_batch_rows=micro_batch_rows),
        Layout(packing, 0, micro_batch_tokens=64, multiple=16),
    ):
        batches = micro_batches(rows, layout)
        assert all(batch.ids_BT.shape[1] % layout.multiple == 0 for batch in batches)
        assert sum(batch.num_supervised for batch in batches) == sum(x.num_supervised for x in rows)
        assert sum(batch.num_tokens for batch in batches) == sum(len(x.ids) for x in rows)


def test_the_next_token_is_asked_for_and_never_the_neighbours_first():
    a, b = Example((5, 6, 7), (False, True, True), 0), Example((8, 9), (True, True), 1)
    batch = collate([[a, b]], pad_id=0)
    assert batch.targets_BT.tolist() == [[6, 7, IGNORED, 9, IGNORED]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1]]


def test_padding_is_never_asked_for():
    batch = collate([[Example((5, 6, 7), (True,) * 3, 0)], [Example((8, 9), (True,) * 2, 1)]], pad_id=0)
    assert batch.ids_BT.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.targets_BT.tolist() == [[6, 7, IGNORED], [9, IGNORED, IGNORED]]


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 4), st.integers(0, 99))
def test_each_epoch_sees_each_row_once(num_rows, batch_rows, epochs, seed):
    schedule = Schedule.of(Training(epochs=epochs, batch_rows=batch_rows, seed=seed), num_rows)
    per_epoch = schedule.steps_per_epoch
    assert schedule.num_steps == epochs * per_epoch
    for epoch in range(epochs):
        seen = [row for step in range(per_epoch) for row in schedule.rows(epoch * per_epoch + step + 1)]
        assert sorted(seen) == list(range(num_rows))


def test_epochs_differ_in_order_and_seeds_repeat():
    schedule = Schedule(num_rows=32, batch_rows=32, num_steps=2, seed=1)
    assert schedule.rows(1) != schedule.rows(2)
    assert schedule.rows(2) == Schedule(num_rows=32, batch_rows=32, num_steps=9, seed=1).rows(2)


def test_a_batch_elsewhere_is_the_same_batch():
    batch = collate([[Example((5, 6, 7), (False, True, True), 0)], [Example((8, 9), (True, True), 1)]], pad_id=0)
    there = batch.to(torch.device("meta"))
    everything = (there.ids_BT, there.positions_BT, there.targets_BT, there.supervised_N, there.boundaries.starts_S)
    assert {tensor.device.type for tensor in everything} == {"meta"}
    assert (there.num_tokens, there.num_supervised, there.boundaries.longest) == (5, 3, 3)


def test_tensors_are_what_models_expect():
    batch = collate([[Example((1, 2), (True, True), 0)]], pad_id=0)
    assert {batch.ids_BT.dtype, batch.targets_BT.dtype, batch.positions_BT.dtype} == {torch.long}


def starts(batch):
    """The conversations' beginnings, as the positions tell them: padding behind a packed row counts anew as well."""
    return batch.boundaries.starts_S.tolist()


def test_boundaries_are_where_conversations_begin_and_padding_is_a_stretch_of_its_own():
    a, b, c = (Example(tuple(range(5, 5 + n)), (True,) * n, n) for n in (3, 2, 6))
    # One row of 3 + 2 tokens, filled up to 8: it reads 0..2, 3..4, 5..7.
    packed = collate([[a, b]], pad_id=0, multiple=8)
    assert (starts(packed), packed.boundaries.longest) == ([0, 3, 5, 8], 3)
    # Rows of 6 and of 3 + 2 tokens: the second is one short of the first, and begins behind all of it.
    rows = collate([[c], [a, b]], pad_id=0)
    assert (starts(rows), rows.boundaries.longest) == ([0, 6, 9, 11, 12], 6)
    # Nothing to fill up: no empty stretch.
    assert starts(collate([[a]], pad_id=0)) == [0, 3]
    assert packed.boundaries.starts_S.dtype == torch.int32
    # Padding may be the longest stretch of all.
    assert collate([[b]], pad_id=0, multiple=64).boundaries.longest == 62


@given(examples, st.booleans(), st.integers(1, 3), st.sampled_from([1, 16]))
def test_boundaries_cover_the_batch_and_cut_it_where_positions_restart(rows, packing, micro_batch_rows, multiple):
    for batch in micro_batches(rows, Layout(packing, 0, micro_batch_rows=micro_batch_rows, multiple=multiple)):
        begun = starts(batch)
        lengths = [end - start for start, end in pairwise(begun)]
        assert (begun[0], begun[-1]) == (0, batch.ids_BT.numel())
        assert min(lengths) >= 1
        assert max(lengths) == batch.boundaries.longest
        restarts = torch.nonzero(batch.positions_BT.flatten() == 0).flatten().tolist()
        assert set(restarts) <= set(begun[:-1])
        # No stretch reaches from one row into the next.
        assert set(range(0, batch.ids_BT.numel(), batch.ids_BT.shape[1])) <= set(begun)


@given(examples, st.booleans())
def test_supervised_offsets_are_those_of_the_targets(rows, packing):
    for batch in micro_batches(rows, Layout(packing, 0, micro_batch_tokens=64, multiple=16)):
        targets = batch.targets_BT.flatten()
        assert batch.num_supervised == int((targets != IGNORED).sum())
        assert bool((targets[batch.supervised_N] != IGNORED).all())
        assert len(set(batch.supervised_N.tolist())) == batch.num_supervised


def test_boundaries_from_lengths():
    found = Boundaries.of([4, 1, 7])
    assert (found.starts_S.tolist(), found.longest) == ([0, 4, 5, 12], 7)
