"""A run whose memory runs out. Each `Server` stands for a process; a fake allocator tells it what it cannot have."""

from __future__ import annotations

import pytest
import torch
import wakepy

from studio.engine.serve import RunOrders, Server
from studio.engine.train import Learner
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import new_session
from studio.runs.state import Status
from tests.studio.engine.test_train import recipe, tensors

STEPS, EVERY = 9, 4


@pytest.fixture
def made(tiny_base, rows_file):
    changes = {"adapter__dropout": 0.0, "training__batch_rows": 8, "training__micro_batch_tokens": 512}
    changes |= {"training__steps": STEPS, "training__epochs": None, "keep__checkpoint_every_steps": EVERY}
    return recipe(tiny_base, rows_file, **changes)


@pytest.fixture
def server(workspace, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return lambda: Server(workspace, "cpu", new_session(workspace, "cpu"))


class Allocator:
    """Has room for `tokens` at a time from its `first` training step on, of those that it sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens, self.first = 1 << 30, 1
        self.largest, self.num_seen = 0, 0
        forward = Learner.forward

        def allocating(learner: Learner, batch):
            if learner.training:
                self.num_seen += 1
                if self.num_seen >= self.first and batch.num_tokens > self.tokens:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                self.largest = max(self.largest, batch.num_tokens)
            return forward(learner, batch)

        monkeypatch.setattr(Learner, "forward", allocating)


@pytest.fixture
def allocator(monkeypatch):
    return Allocator(monkeypatch)


def do(server, run, processes=1):
    """Have so many processes do the run, one after another; returns which of them could be used further."""
    return [server().train(run) for _ in range(processes)]


@pytest.mark.parametrize(("first", "goes_on_from"), [(7, EVERY), (3, 0)])
def test_a_run_that_runs_out_of_memory_goes_on_with_half_and_learns_the_same(
    workspace, made, server, allocator, first, goes_on_from
):
    whole = create_run(workspace, made, device="cpu")
    assert do(server, whole) == [True]
    most = allocator.largest
    allocator.num_seen, allocator.largest = 0, 0

    run = create_run(workspace, made, device="cpu", name="rescued")
    job = (run.path / "job.json").read_bytes()
    allocator.tokens, allocator.first = most * 3 // 4, first
    assert do(server, run) == [False], "the process ends: its memory comes back in no other way"
    assert run.state().status is Status.INTERRUPTED
    allocator.first, allocator.largest = 1, 0
    assert do(server, run) == [True]

    state = run.state()
    assert state.status is Status.FINISHED
    assert [(one.step, one.unit) for one in state.halvings] == [(first, "tokens")]
    assert allocator.largest <= state.halvings[0].now < most
    starts = [event.from_step for event in run.events.read() if isinstance(event, e.Started)]
    assert starts == [0, goes_on_from]
    assert [step for step, _ in state.losses] == list(range(1, STEPS + 1))
    for (_, ours), (_, theirs) in zip(state.losses, whole.state().losses, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    for name, tensor in tensors(whole).items():
        torch.testing.assert_close(tensors(run)[name], tensor, rtol=0, atol=1e-4)
    assert (run.path / "job.json").read_bytes() == job


def test_one_that_never_fits_fails_for_good_and_says_why(workspace, made, server, allocator):
    run = create_run(workspace, made, device="cpu")
    allocator.tokens = 0
    usable = do(server, run, processes=4)
    state = run.state()
    assert state.status is Status.FAILED
    assert len(state.halvings) == usable.count(False) <= 3
    assert "ran out of memory" in state.ending.message
    assert "halve" in state.ending.message


def test_who_asked_for_the_end_meanwhile_is_not_disobeyed(workspace, made, server, allocator):
    run = create_run(workspace, made, device="cpu")
    allocator.tokens = 0
    engine = server()
    engine.inbox.post(w.Stop(run=run.id))
    engine.train(run)
    assert run.state().status is Status.FAILED
    assert engine.rescued is None


def test_a_run_asked_for_twice_is_done_once(workspace, made, server):
    run = create_run(workspace, made, device="cpu")
    engine = server()
    engine.inbox.post(w.Train(folder=str(run.path)))
    engine.train(run)
    assert list(engine.backlog) == []
    assert run.state().status is Status.FINISHED


def test_an_engine_left_alone_keeps_the_computer_awake_until_its_run_has_ended(workspace, made, server, monkeypatch):
    run = create_run(workspace, made, device="cpu")
    engine, seen = server(), []
    update = RunOrders.update

    def watched(orders, model):
        update(orders, model)
        seen.append(wakepy.modecount())

    monkeypatch.setattr(RunOrders, "update", watched)
    engine.inbox.post(w.StayAwake(run=run.id))
    engine.inbox.post(w.StayAwake(run=run.id))
    engine.train(run)
    assert seen == [1] * STEPS
    assert wakepy.modecount() == 0
    engine.inbox.post(w.StayAwake(run=run.id))
    engine.collect()
    assert wakepy.modecount() == 0, "there is no run that it could be for"
