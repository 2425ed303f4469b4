"""Early stopping and the best checkpoint, with evaluations that go as they are told and all else real."""

import threading

import pytest
import torch
from safetensors.torch import load_file

from studio.engine import train
from studio.engine.desk import Desk
from studio.engine.run import perform
from studio.engine.train import Orders
from studio.library import shelf
from studio.library.promote import promote
from studio.runs import events as e
from studio.runs.create import create_run
from studio.runs.state import Status
from tests.studio.engine.test_train import Killed, StopAfter, recipe, run_it, tensors

# Twelve steps, evaluated at every second one: the best is that of step 4, and from step 8 on there is no hope.
LOSSES = {0: 0.1, 2: 2.0, 4: 1.0, 6: 1.5, 8: 1.2, 10: 1.1, 12: 1.05}


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """The real evaluation, but for the number that comes out. Returns the steps at which one was made."""
    made = []
    real = train.evaluate

    def evaluate(learner, material, step, orders, emit):
        def heard(event):
            emit(
                e.Evaluated(step=step, loss=LOSSES[step], num_supervised=9) if isinstance(event, e.Evaluated) else event
            )

        found = real(learner, material, step, orders, heard)
        made.extend([step] if found is not None else [])
        return None if found is None else LOSSES[step]

    monkeypatch.setattr(train, "evaluate", evaluate)
    return made


def patient(base, rows, **changes):
    return recipe(
        base,
        rows,
        training__epochs=4,
        keep__checkpoints_kept=1,
        **{"keep__stop_after_worse_evaluations": 2, "keep__adapter_from": "best", **changes},
    )


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def as_peft(checkpoint):
    return {
        name.replace(".default", ""): value for name, value in load_file(checkpoint / "adapter.safetensors").items()
    }


def test_a_run_without_hope_ends_early_and_its_adapter_is_that_of_the_best_step(workspace, tiny_base, rows_file):
    run, outcome, _ = run_it(workspace, patient(tiny_base, rows_file))
    state = run.state()
    assert (outcome.step, outcome.ending, state.status, state.num_steps) == (8, "", Status.FINISHED, 12)
    assert (state.ended_early.step, state.ended_early.best_step, state.ended_early.best_loss) == (8, 4, 1.0)
    assert [step for step, _ in run.checkpoints()] == [4, 8]
    assert [(saved.step, saved.is_best) for saved in state.checkpoints] == [
        (2, True),
        (4, True),
        (6, False),
        (8, False),
    ]
    assert state.best_checkpoint.step == 4
    assert same(tensors(run), as_peft(run.checkpoint(4)))
    assert not same(tensors(run), as_peft(run.checkpoint(8)))
    (finished,) = [event for event in run.events.read() if isinstance(event, e.Finished)]
    assert finished.result == {"adapter_step": 4, "best_step": 4, "best_loss": 1.0}
    (adapter,) = shelf.list_adapters(workspace)
    assert (adapter.metrics["steps"], adapter.metrics["evaluation_loss"]) == (4, 1.0)


def test_by_default_a_run_goes_to_its_end_and_keeps_the_last(workspace, tiny_base, rows_file):
    made = patient(tiny_base, rows_file, keep__stop_after_worse_evaluations=0, keep__adapter_from="last")
    run, outcome, _ = run_it(workspace, made)
    state = run.state()
    assert (outcome.step, state.ended_early) == (12, None)
    assert same(tensors(run), as_peft(run.checkpoint(12)))
    # The best one stays on the disk all the same: it may be taken by hand.
    assert [step for step, _ in run.checkpoints()] == [4, 12]


def test_a_new_best_is_saved_at_once_where_the_adapter_is_made_of_it(workspace, tiny_base, rows_file):
    run, _, _ = run_it(workspace, patient(tiny_base, rows_file, keep__checkpoint_every_steps=0))
    assert [saved.step for saved in run.state().checkpoints] == [2, 4, 8]
    assert same(tensors(run), as_peft(run.checkpoint(4)))


class KillAt:
    """Dies in the midst of telling an event."""

    def __init__(self, run, kind, number):
        self.run, self.kind, self.left = run, kind, number

    def __call__(self, event):
        self.run.events.post(event)
        self.left -= isinstance(event, self.kind)
        if not self.left:
            raise Killed


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (e.StepTaken, 3),
        (e.Evaluated, 3),
        (e.CheckpointSaved, 2),
        (e.Evaluated, 5),
        (e.CheckpointSaved, 4),
        (e.EndedEarly, 1),
    ],
)
def test_killed_at_any_moment_it_ends_at_the_same_step_with_the_same_adapter(
    workspace, tiny_base, rows_file, kind, number
):
    made = patient(tiny_base, rows_file)
    unbroken, _, _ = run_it(workspace, made)
    run = create_run(workspace, made, device="cpu")
    with pytest.raises(Killed):
        perform(run, workspace, Desk(torch.device("cpu")), Orders(), KillAt(run, kind, number))
    saved = run.checkpoints()
    run.events.post(e.Started(pid=1, process_started=1.0, device="cpu", from_step=saved[-1][0] if saved else 0))
    perform(run, workspace, Desk(torch.device("cpu")), Orders(), run.events.post)
    assert same(tensors(run), tensors(unbroken))
    state, expected = run.state(), unbroken.state()
    assert state.losses == expected.losses
    assert state.ended_early.best_step == expected.ended_early.best_step
    assert [step for step, _ in run.checkpoints()] == [4, 8]


class HurryDuring(Orders):
    """Wants the run to end from the moment that something is asked of the model at this step."""

    def __init__(self, step, ending):
        self.steps, self.at, self.wanted = 0, step, ending

    def update(self, model):
        self.steps += 1

    def is_in_a_hurry(self):
        # In the other thread the question is whether to break off the loading.
        if self.steps == self.at and threading.current_thread() is threading.main_thread():
            self.ending = self.wanted
        return self.is_ending


@pytest.mark.parametrize("ending", ["pause", "stop"])
def test_an_evaluation_that_was_broken_off_is_made_up_for(workspace, tiny_base, rows_file, told, ending):
    made = patient(tiny_base, rows_file)
    unbroken, _, _ = run_it(workspace, made)
    told.clear()
    run, outcome, _ = run_it(workspace, made, HurryDuring(6, ending))
    assert (outcome.step, outcome.ending) == (6, ending)
    assert told == [0, 2, 4]
    assert run.checkpoints()[-1][0] == 6
    run.events.post(e.Started(pid=1, process_started=1.0, device="cpu", from_step=6))
    run_it(workspace, made, run=run)
    assert told == [0, 2, 4, 6, 8]
    assert same(tensors(run), tensors(unbroken))
    assert run.state().losses == unbroken.state().losses


def test_whoever_ends_a_run_before_its_first_step_leaves_nothing_behind(workspace, tiny_base, rows_file):
    run, outcome, _ = run_it(workspace, patient(tiny_base, rows_file), HurryDuring(0, "stop"))
    assert outcome.step == 0
    assert run.state().status is Status.STOPPED
    assert not run.adapter.exists()
    assert shelf.list_adapters(workspace) == []
    assert run.state().samples == []


def test_a_best_checkpoint_that_was_spoilt_is_told_and_the_last_one_taken(workspace, tiny_base, rows_file):
    made = patient(tiny_base, rows_file)
    run, _, _ = run_it(workspace, made, StopAfter(6, "pause"))
    (run.checkpoint(4) / "adapter.safetensors").write_bytes(b"spoilt")
    run_it(workspace, made, run=run)
    assert "step 4" in run.state().warnings[-1].message
    assert same(tensors(run), as_peft(run.checkpoint(8)))


@pytest.mark.parametrize("dora", [False, True])
def test_a_promoted_checkpoint_is_what_peft_would_have_saved_and_outlives_its_run(
    workspace, tiny_base, rows_file, dora
):
    made = recipe(tiny_base, rows_file, adapter__dora=dora)
    run, _, _ = run_it(workspace, made, StopAfter(4, "stop"))
    promoted = promote(workspace, run, 4)
    assert same(load_file(promoted.path / "adapter_model.safetensors"), tensors(run))
    assert (promoted.path / "adapter_config.json").read_bytes() == (run.adapter / "adapter_config.json").read_bytes()
    assert (promoted.path / "tokenizer.json").is_file()
    run_it(workspace, made, run=run)
    assert {adapter.name for adapter in shelf.list_adapters(workspace)} == {"tiny", promoted.name}
