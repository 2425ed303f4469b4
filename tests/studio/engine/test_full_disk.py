"""The engine at a run, on a disk that has no room."""

import pytest
import torch

from studio import files
from studio.engine import checkpoint
from studio.engine.serve import Server
from studio.runs import events as e
from studio.runs.create import create_run
from studio.runs.state import Status
from tests.studio.engine.file_operations import full
from tests.studio.engine.test_train import StopAfter, recipe, run_it, tensors


@pytest.fixture
def server(workspace, tmp_path):
    (tmp_path / "session").mkdir()
    return Server(workspace, "cpu", tmp_path / "session")


@pytest.fixture
def run(workspace, tiny_base, rows_file):
    return create_run(workspace, recipe(tiny_base, rows_file), device="cpu")


def fill_at(monkeypatch, module, name, call):
    """No room any more at the `call`-th use of `module.name`."""
    left, real = call, getattr(module, name)

    def save(*args, **options):
        nonlocal left
        left -= 1
        return full("", real, ()) if left == 0 else real(*args, **options)

    monkeypatch.setattr(module, name, save)


def test_a_run_that_meets_a_full_disk_pauses_says_what_it_needs_and_goes_on_as_if_unbroken(
    server, run, workspace, tiny_base, rows_file, monkeypatch
):
    # Each checkpoint saves the optimizer and the generators in this way: the fifth call is of the third checkpoint.
    fill_at(monkeypatch, checkpoint, "save_file", 5)
    assert server.train(run)
    monkeypatch.undo()
    state = run.state()
    *_, paused = run.events.read()
    assert isinstance(paused, e.Paused)
    assert (state.status, paused.step, state.step) == (Status.PAUSED, 4, 6)
    assert paused.folder == str(run.checkpoint(0).parent)
    assert paused.needs_bytes > 3 * sum(tensor.nbytes for tensor in saved_tensors(run))
    assert files.readable_bytes(paused.needs_bytes) in state.ending.message
    assert "step 4" in state.ending.hint
    assert not list(run.path.rglob(".*.tmp-*")) + list(run.path.glob(".reserve"))

    with monkeypatch.context() as still_full:
        still_full.setattr(files, "free_bytes", lambda _: paused.needs_bytes - 1)
        assert server.train(run)
    assert [event.cause for event in run.events.read() if isinstance(event, e.Paused)][1:] == [run.state().ending.cause]
    assert run.state().step == 4, "no step is taken for which there is no room"

    server.train(run)
    whole, _, _ = run_it(workspace, recipe(tiny_base, rows_file))
    assert run.state().status is Status.FINISHED
    assert run.state().losses == whole.state().losses
    assert all(torch.equal(tensor, tensors(whole)[name]) for name, tensor in tensors(run).items())


def test_older_checkpoints_make_room_for_a_newer_one_but_never_the_last_whole_one(
    workspace, tiny_base, rows_file, monkeypatch
):
    made = recipe(tiny_base, rows_file, training__epochs=4, keep__checkpoints_kept=3, keep__evaluate_every_steps=0)
    run, _, _ = run_it(workspace, made, StopAfter(4, "pause"))
    assert [step for step, _ in run.checkpoints()] == [2, 4]
    # There is room for two checkpoints and not for a third one.
    monkeypatch.setattr(files, "free_bytes", lambda _: 1 << 40 if len(run.checkpoints()) < 2 else 1000)
    run_it(workspace, made, StopAfter(2, "pause"), run)
    assert (run.state().status, run.state().ending.cause) == (Status.PAUSED, "")
    assert [step for step, _ in run.checkpoints()] == [4, 6]

    torn = run.checkpoint(6) / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    checkpoint._make_room(run, 10**6, kept_step=0)
    assert [step for step, _ in run.checkpoints()] == [4, 6], "the newest is torn: the one before it is all there is"


def test_the_checkpoint_with_the_best_evaluation_is_no_reserve(workspace, tiny_base, rows_file, monkeypatch):
    made = recipe(tiny_base, rows_file, training__epochs=4, keep__checkpoints_kept=3)
    run, _, _ = run_it(workspace, made, StopAfter(6, "pause"))
    assert [step for step, _ in run.checkpoints()] == [2, 4, 6]
    monkeypatch.setattr(files, "free_bytes", lambda _: 1000)
    checkpoint._make_room(run, 10**6, kept_step=2)
    assert [step for step, _ in run.checkpoints()] == [2, 6]


def saved_tensors(run):
    from safetensors.torch import load_file

    return load_file(run.checkpoints()[-1][1] / "adapter.safetensors").values()


@pytest.mark.parametrize("place", ["last words", "adapter", "library"])
def test_wherever_there_is_no_room_the_run_can_go_on(server, run, workspace, monkeypatch, place):
    from studio.engine import publish
    from studio.library import shelf

    if place == "last words":
        fill_at(monkeypatch, files.os, "fsync", 1)
    elif place == "adapter":
        fill_at(monkeypatch, publish, "save_file", 1)
    else:
        fill_at(monkeypatch, shelf.shutil, "copyfile", 2)
    server.train(run)
    monkeypatch.undo()
    assert run.state().status is Status.PAUSED
    assert not shelf.list_adapters(workspace)
    assert not list(workspace.root.rglob(".*.tmp-*"))
    server.train(run)
    assert run.state().status is Status.FINISHED


def test_what_a_killed_engine_left_and_what_is_damaged_is_named_by_the_next_one(server, run, monkeypatch):
    fill_at(monkeypatch, checkpoint, "save_file", 5)
    server.train(run)
    monkeypatch.undo()
    left = files.temporary_beside(run.checkpoint(6))
    left.mkdir()
    files.write_text(left / "adapter.safetensors", "half of it")
    torn = run.checkpoint(4) / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    server.train(run)
    told = " ".join(warning.message for warning in run.state().warnings)
    assert "left of step-000006 is removed" in told
    assert "checkpoints/damaged/step-000004: optimizer.safetensors has" in told
    assert run.state().status is Status.FINISHED
    assert (run.path / "checkpoints" / "damaged" / "step-000004" / "adapter.safetensors").is_file()
    assert not left.exists()
