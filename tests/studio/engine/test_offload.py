"""Copies beside the computation: whoever is early or late, nothing is overwritten that is wanted, nor read before it is there."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter

import pytest
import torch

from studio.engine import offload
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.offload import CardLanes, Ferry, PlainLanes
from tests.studio.engine.test_attention import BATCHES, build
from tests.studio.engine.test_checkpointing import NUM_LAYERS, learner_of, numbers, same


class LateLanes:
    """The slowest card there could be: a copy is made when somebody waits for it, and not a moment before."""

    def __init__(self):
        self.pending, self.sizes, self.most_here = [], [], 0
        self._here = []

    def place(self, num_bytes):
        self.sizes.append(num_bytes)
        return torch.full((num_bytes,), 0xFF, dtype=torch.uint8)  # not a number, read as floats

    def send(self, source, into, after):
        storage, shape = weakref.ref(source.untyped_storage()), (source.storage_offset(), source.shape, source.stride())
        self._note(source)

        def copy():
            # What was dropped before it had left has been given to somebody else by then.
            lost = storage() is None
            into.copy_(
                torch.tensor(float("nan")) if lost else torch.empty(0, dtype=source_type).set_(storage(), *shape)
            )

        source_type = source.dtype
        return self._later(copy, after)

    def fetch(self, source, device, after):
        tensor = torch.full(source.shape, float("nan"), dtype=source.dtype, device=device)
        self._note(tensor)
        target = weakref.ref(tensor)

        def copy():
            if target() is not None:
                target().copy_(source)

        return tensor, self._later(copy, after)

    def wait(self, mark):
        if mark is not None and mark in self.pending:
            self.pending.remove(mark)
            copy, after = mark
            self.wait(after)
            copy()

    def _later(self, copy, after):
        self.pending.append((copy, after))
        return self.pending[-1]

    def _note(self, tensor):
        self._here = [one for one in self._here if one() is not None] + [weakref.ref(tensor.untyped_storage())]
        self.most_here = max(self.most_here, len(self._here))


@pytest.mark.parametrize("lanes", [LateLanes, PlainLanes])
@pytest.mark.parametrize("count", [1, 2, NUM_LAYERS])
def test_the_numbers_are_the_same_however_late_the_copies(lanes, count, monkeypatch):
    model = build("llama")
    learner = learner_of(model, dropout=0.3)
    expected = [numbers(learner, seed) for seed in (7, 8)]
    monkeypatch.setattr(offload, "lanes_of", lambda _device: lanes())
    checkpoint_layers(model, count, offload=True)
    # Places are used again from step to step.
    for _ in range(2):
        assert all(same(numbers(learner, seed), known) for seed, known in zip((7, 8), expected, strict=True))


def test_two_are_under_way_and_places_are_used_again(monkeypatch):
    model = build("llama")
    learner, lanes = learner_of(model), LateLanes()
    monkeypatch.setattr(offload, "lanes_of", lambda _device: lanes)
    checkpoint_layers(model, NUM_LAYERS, offload=True)
    for _ in range(3):
        learner(BATCHES["both"]).backward()
    # Beside them the embeddings' output, which never goes: it is where gradients end.
    assert lanes.most_here == 3
    assert len(lanes.sizes) == NUM_LAYERS


def test_a_step_broken_off_leaves_nothing_behind_that_the_next_could_stumble_over(monkeypatch):
    model = build("llama")
    learner, lanes = learner_of(model), LateLanes()
    expected = numbers(learner)
    monkeypatch.setattr(offload, "lanes_of", lambda _device: lanes)
    checkpoint_layers(model, NUM_LAYERS, offload=True)
    learner(BATCHES["both"])  # out of memory before its backward pass, say
    assert same(numbers(learner), expected)
    assert len(lanes.sizes) == NUM_LAYERS


def test_places_grow_with_the_batches_and_do_not_become_more():
    lanes = LateLanes()
    ferry = Ferry(lanes)
    for tokens in (4, 9, 2, 9):
        tensors = [torch.randn(1, tokens, 3) for _ in range(3)]
        trips = [ferry.away(tensor) for tensor in tensors]
        returned = [ferry.back(trip) for trip in reversed(trips)]
        assert all(torch.equal(one, other) for one, other in zip(returned, reversed(tensors), strict=True))
        del trips, returned
    assert sorted(Counter(lanes.sizes).items()) == [(4 * 3 * 4, 3), (9 * 3 * 4, 3)]


class Noting(LateLanes):
    """Knows the last copy from or to each place."""

    def __init__(self):
        super().__init__()
        self.last, self.asked, self.num_fetched = {}, [], 0

    def send(self, source, into, after):
        self.asked.append((after, self.last.get(into.data_ptr())))
        self.last[into.data_ptr()] = super().send(source, into, after)
        return self.last[into.data_ptr()]

    def fetch(self, source, device, after):
        self.num_fetched += 1
        self.asked.append((after, self.last[source.data_ptr()]))
        tensor, self.last[source.data_ptr()] = super().fetch(source, device, after)
        return tensor, self.last[source.data_ptr()]


def test_every_copy_waits_for_the_one_before_it_at_the_same_place():
    lanes = Noting()
    ferry = Ferry(lanes)
    for _ in range(3):
        trips = [ferry.away(torch.randn(1, 4, 3)) for _ in range(3)]
        for trip in reversed(trips[1:]):  # the first is fetched and never taken up, as after an error
            ferry.back(trip)
        del trips, trip
    assert len(lanes.sizes) == 3
    assert all(after is last for after, last in lanes.asked)
    assert sum(after is None for after, _ in lanes.asked) == 3


def test_the_next_one_is_on_its_way_before_it_is_wanted():
    lanes = Noting()
    ferry = Ferry(lanes)
    trips = [ferry.away(torch.randn(1, 4, 3)) for _ in range(4)]
    fetched = []
    for trip in reversed(trips):
        ferry.back(trip)
        fetched.append(lanes.num_fetched)
    assert fetched == [1, 2, 3, 3]


def test_what_is_no_batch_of_hidden_states_stays():
    ferry = Ferry(PlainLanes())
    for tensor in (torch.ones(1, 1, 4, 4), torch.ones(0), torch.empty(0, 2, 2)):
        assert ferry.away(tensor) is tensor
        assert ferry.back(tensor) is tensor


def test_what_was_taken_up_once_can_be_taken_up_again():
    ferry, tensor = Ferry(PlainLanes()), torch.randn(1, 5, 3).bfloat16()
    trip = ferry.away(tensor)
    assert all(torch.equal(ferry.back(trip), tensor) for _ in range(3))


# --- what a card is told ------------------------------------------------------------------------------------------------


class Stream:
    """Writes down what a stream of a card was told, and to what it was told to."""

    told: list

    def __init__(self, name):
        self.name = name

    def wait_stream(self, other):
        self.told.append((self.name, "waits for all of", other.name))

    def wait_event(self, mark):
        self.told.append((self.name, "waits for", mark))

    def record_event(self):
        mark = f"{self.name} {len(self.told)}"
        self.told.append((self.name, "marks", mark))
        return mark


@pytest.fixture
def told(monkeypatch):
    Stream.told = []
    names = iter(("out", "back"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: Stream(next(names)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream("computing"))

    @contextlib.contextmanager
    def entered(stream):
        Stream.told.append((stream.name, "copies", ""))
        yield

    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda _tensor, stream: Stream.told.append((stream.name, "holds", ""))
    )
    return Stream.told


def test_a_card_is_told_to_copy_after_what_it_depends_on_and_to_go_on_after_the_copy(told):
    lanes, source = CardLanes(torch.device("cpu")), torch.randn(1, 3, 2)
    place = torch.empty(source.shape)
    sent = lanes.send(source, place, "last reading")
    tensor, returned = lanes.fetch(place, source.device, sent)
    lanes.wait(returned)
    assert torch.equal(tensor, source)
    assert told == [
        ("out", "waits for all of", "computing"),
        ("out", "waits for", "last reading"),
        ("out", "copies", ""),
        ("out", "marks", sent),
        ("back", "waits for all of", "computing"),
        ("back", "waits for", sent),
        ("back", "copies", ""),
        ("back", "holds", ""),
        ("back", "marks", returned),
        ("computing", "waits for", returned),
    ]
