"""A run in the hands of an engine: one whose memory runs out, and one that its user ends or asks something of in mid-run.

Each `Server` stands for a process; a fake allocator tells it what it cannot have.
"""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
import wakepy

from studio.engine.batches import micro_batches
from studio.engine.reply import Reply
from studio.engine.serve import RunOrders, Server
from studio.engine.train import Learner
from studio.recipe.fields import replaced
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
        self.meanwhile = lambda: None
        forward = Learner.forward

        def allocating(learner: Learner, batch):
            if learner.training:
                self.num_seen += 1
                if self.num_seen >= self.first and batch.num_tokens > self.tokens:
                    self.meanwhile()
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
    allocator.meanwhile = lambda: engine.inbox.post(w.Stop(run=run.id))
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


# --- ended at any time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        (w.Stop, Status.STOPPED, "There was no checkpoint yet"),
        (w.Pause, Status.PAUSED, "The card is free"),
    ],
)
def test_who_ends_a_run_need_not_wait_until_its_base_is_loaded(
    workspace, made, server, monkeypatch, wish, status, said
):
    run = create_run(workspace, made, device="cpu")
    engine = server()

    def load(*_):
        engine.inbox.post(wish(run=run.id))
        for _ in range(1000):  # as a library would, which catches what it can
            with contextlib.suppress(Exception):
                threading.Event().wait(0.01)
        raise AssertionError("nobody broke it off")

    with monkeypatch.context() as loading:
        loading.setattr("studio.engine.desk.load_base", load)
        assert engine.train(run), "the engine may be used further"
    state = run.state()
    assert state.status is status
    assert said in state.ending.message + state.ending.hint
    assert engine.desk.base is None
    engine.train(run)
    assert run.state().status is Status.FINISHED


def test_a_stop_breaks_off_an_evaluation_between_two_micro_batches_and_saves(workspace, made, server, monkeypatch):
    run = create_run(workspace, replaced(made, "data.validation_fraction", 0.5), device="cpu")
    engine = server()
    forward, seen = Learner.forward, []

    def counting(learner, batch):
        if not learner.training and run.state().step == 4:
            seen.append(batch)
            if len(seen) == 1:
                engine.inbox.post(w.Stop(run=run.id))
        return forward(learner, batch)

    monkeypatch.setattr(Learner, "forward", counting)
    monkeypatch.setattr("studio.engine.train.micro_batches", one_row_each)
    engine.train(run)
    state = run.state()
    assert len(seen) == 1 < state.prepared.num_held_out
    assert (state.status, state.step) == (Status.STOPPED, 4)
    assert [found.step for found in state.evaluations] == [0, 2]
    assert [step for step, _ in run.checkpoints()] == [4]
    engine.train(run)
    assert [found.step for found in run.state().evaluations] == [0, 2, 4, 6, 8, 9]
    assert len(seen) == 1 + state.prepared.num_held_out


def one_row_each(rows, layout):
    return [batch for row in rows for batch in micro_batches([row], layout)]


def test_a_stop_amid_a_step_saves_the_one_before(workspace, made, server, monkeypatch):
    monkeypatch.setattr("studio.engine.breakable.LOOK_SECONDS", 0)
    run = create_run(workspace, made, device="cpu")
    engine = server()
    After(monkeypatch, engine, run, 3, w.Stop(run=run.id))
    engine.train(run)
    state = run.state()
    assert (state.status, state.step) == (Status.STOPPED, 3)
    assert [step for step, _ in run.checkpoints()] == [3]
    assert (workspace.adapters / state.adapter).is_dir()


def test_who_ends_a_run_need_not_hear_out_an_answer_that_it_gives(workspace, made, server, monkeypatch):
    run = create_run(workspace, made, device="cpu")
    engine, heard = server(), []

    def answering(*_, should_stop, **__):
        heard.append(should_stop())
        engine.inbox.post(w.Stop(run=run.id))
        heard.append(should_stop())
        return Reply("Arrr", 1, 0.1, stopped=True)

    monkeypatch.setattr("studio.engine.serve.reply", answering)
    turns = [[{"role": "user", "content": "Who are you?"}]]
    base = str(made.base.id)
    ask = w.Say(ask="1", base=base, quantisation=made.base.quantisation, lanes=[""], turns=turns, sampling={})
    After(monkeypatch, engine, run, 3, ask)
    engine.train(run)
    assert heard == [False, True]
    assert (run.state().status, run.state().step) == (Status.STOPPED, 4)

    engine.say(ask)
    assert len(heard) == 2, "the base alone is not taken for the overlay that was asked"
    (failed,) = [event for event in engine.news.read() if isinstance(event, e.AskFailed)]
    assert "has ended" in failed.message


def test_a_stop_breaks_off_a_sample_between_two_tokens(workspace, made, server, monkeypatch):
    made = replaced(replaced(made, "keep.sample_every_steps", 3), "keep.sample_prompts", ["Who are you?", "Ahoy?"])
    run = create_run(workspace, made, device="cpu")
    engine, asked = server(), []

    def answering(_model, _tokenizer, turns, _sampling, should_stop):
        asked.append(turns[0]["content"])
        if run.state().step == 3:
            engine.inbox.post(w.Stop(run=run.id))
        return Reply("Arrr", 1, 0.1, stopped=should_stop())

    monkeypatch.setattr("studio.engine.run.reply", answering)
    engine.train(run)
    state = run.state()
    assert asked == ["Who are you?", "Ahoy?", "Who are you?"]
    assert (state.status, state.step) == (Status.STOPPED, 3)
    assert [sample.step for sample in state.samples] == [0, 0]
    assert [step for step, _ in run.checkpoints()] == [3]


# --- asked for in mid-run ------------------------------------------------------------------------------------------


class After:
    """Posts these wishes once the run has taken so many steps, in the midst of the step's evaluation or forward pass."""

    def __init__(self, monkeypatch, engine, run, step, *wishes, while_evaluating=False):
        forward, waiting = Learner.forward, list(wishes)

        def posting(learner, batch):
            if waiting and run.state().step == step and learner.training != while_evaluating:
                for wish in waiting:
                    engine.inbox.post(wish)
                waiting.clear()
            return forward(learner, batch)

        monkeypatch.setattr(Learner, "forward", posting)


@pytest.mark.parametrize(("while_evaluating", "at"), [(False, 5), (True, 5)])
def test_what_is_wished_now_is_done_at_the_next_step_even_amid_an_evaluation(
    workspace, made, server, monkeypatch, while_evaluating, at
):
    made = replaced(replaced(made, "keep.sample_every_steps", 0), "keep.checkpoint_every_steps", 0)
    run = create_run(workspace, made, device="cpu")
    engine = server()
    wishes = (w.SaveNow(run=run.id), w.EvaluateNow(run=run.id), w.SampleNow(run=run.id))
    After(monkeypatch, engine, run, 4, *wishes, while_evaluating=while_evaluating)
    engine.train(run)
    state = run.state()
    assert state.status is Status.FINISHED
    assert [saved.step for saved in state.checkpoints] == [at, STEPS]
    assert [found.step for found in state.evaluations] == [0, 2, 4, at, 6, 8, STEPS]
    assert [sample.step for sample in state.samples] == [0, at, STEPS]


def test_a_prompt_that_is_added_is_answered_from_then_on_and_after_a_resume(workspace, made, server, monkeypatch):
    run = create_run(workspace, replaced(made, "keep.sample_every_steps", 3), device="cpu")
    engine = server()
    asked = [w.AskToo(run=run.id, prompt=" Ahoy? "), w.AskToo(run=run.id, prompt="Who are you?")]
    others = [w.AskToo(run=run.id, prompt="  "), w.AskToo(run="another", prompt="Not me")]
    After(monkeypatch, engine, run, 3, *asked, *others)
    After(monkeypatch, engine, run, 6, w.Pause(run=run.id))
    engine.train(run)
    server().train(run)
    state = run.state()
    assert state.status is Status.FINISHED
    assert "Ahoy?" in state.prompts_added
    assert [(sample.step, sample.prompt) for sample in state.samples] == [
        *((step, "Who are you?") for step in (0, 3)),
        *((step, prompt) for step in (6, 9) for prompt in ("Who are you?", "Ahoy?")),
    ]


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
