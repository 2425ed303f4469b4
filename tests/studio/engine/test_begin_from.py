"""A run whose overlay begins as another one has left it: real NF4, real PEFT, real files."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio import files
from studio.errors import AdapterError, DamagedError
from studio.library.adapter import read_sidecar
from studio.library.lineage import find_parent
from studio.recipe.fields import replaced
from studio.runs import events as e
from studio.runs.again import again, calmer_rate
from studio.runs.create import create_run
from studio.runs.origin import last_good
from studio.runs.state import Status
from tests.studio.engine.conftest import ROWS, write_base, write_rows
from tests.studio.engine.test_train import StopAfter, recipe, run_it, tensors


@pytest.fixture
def parent(workspace, tiny_base, rows_file):
    """A run whose last checkpoint is that of step 4, where it was evaluated too: it was paused one step later, and that
    checkpoint is gone."""
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, keep__checkpoints_kept=3), StopAfter(5, "pause"))
    files.remove(run.checkpoint(5))
    return run


def first_evaluation(run):
    return next(event.loss for event in run.events.read() if isinstance(event, e.Evaluated))


def test_it_begins_with_the_last_good_checkpoint_and_everything_else_fresh(workspace, parent):
    child = again(workspace, parent, {"training.learning_rate": calmer_rate(1e-2)}, device="cpu")
    run_it(workspace, None, run=child)
    state, of_parent = child.state(), parent.state()
    assert first_evaluation(child) == of_parent.evaluations[-1].loss != of_parent.evaluations[0].loss
    assert state.status is Status.FINISHED
    assert state.steps[0].learning_rate == 0.0, "the schedule climbs anew"
    assert max(taken.learning_rate for taken in state.steps) == 0.0033
    assert len(state.steps) == state.num_steps == of_parent.num_steps
    told = read_sidecar(workspace.adapters / state.adapter)["parent"]
    assert (told["run"], told["step"]) == (parent.id, 4)
    assert str(workspace.root) not in str(told)


def test_a_child_needs_its_parent_no_more_and_resumes_as_if_unbroken(workspace, parent):
    child, other = (again(workspace, parent, {}, device="cpu") for _ in range(2))
    for _, folder in parent.checkpoints():
        (folder / "adapter.safetensors").unlink()
    run_it(workspace, None, run=child)
    run_it(workspace, None, StopAfter(2, "pause"), run=other)
    run_it(workspace, None, run=other)
    assert other.state().losses == child.state().losses
    assert all(torch.equal(tensor, tensors(child)[name]) for name, tensor in tensors(other).items())


def test_it_may_begin_with_a_finished_adapter(workspace, parent, tiny_base, rows_file):
    run_it(workspace, None, run=parent)
    run, origin = find_parent(workspace, parent.state().adapter)
    assert run == parent, "whose recipe may be used again"
    child = create_run(workspace, recipe(tiny_base, rows_file), device="cpu", origin=origin)
    run_it(workspace, None, StopAfter(2, "stop"), run=child)
    assert first_evaluation(child) == parent.state().evaluations[-1].loss
    assert child.job["parent"]["adapter"] == parent.state().adapter


def test_a_changed_dataset_is_learnt_from_where_the_old_one_had_led(workspace, parent, rows_file):
    write_rows(rows_file, ROWS[:8])
    child = again(workspace, parent, {}, device="cpu")
    run_it(workspace, None, run=child)
    assert child.state().prepared.num_rows < parent.state().prepared.num_rows
    assert child.state().status is Status.FINISHED


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("adapter.rank", 8, "rank 4 instead of 8, alpha 8 instead of 16"),
        ("adapter.rslora", True, "rslora off instead of on"),
        ("adapter.targets", ["q_proj"], "targets all-linear instead of"),
    ],
)
def test_an_overlay_of_another_shape_is_refused_with_the_reason_and_leaves_no_run(
    workspace, parent, path, value, words
):
    with pytest.raises(AdapterError, match=words):
        again(workspace, parent, {path: value}, device="cpu")
    assert len(list(workspace.runs.glob("[!.]*"))) == 1


def test_another_base_of_the_same_shape_is_refused(workspace, parent, tmp_path, rows_file):
    other = write_base(tmp_path / "other", seed=1)
    with pytest.raises(AdapterError, match="another base"):
        create_run(workspace, recipe(other, rows_file), device="cpu", origin=last_good(parent))


def test_layers_that_the_recipe_does_not_have_are_found_out_before_the_first_step(
    workspace, parent, tiny_base, rows_file
):
    run_it(workspace, None, run=parent)
    _, origin = find_parent(workspace, parent.state().adapter)
    made = replaced(recipe(tiny_base, rows_file), "adapter.targets", ["q_proj"])
    child = create_run(workspace, made, device="cpu", origin=origin)
    with pytest.raises(AdapterError, match=r"has matrices for model\.layers\.0"):
        run_it(workspace, None, run=child)
    assert child.state().steps == []


def test_an_overlay_with_a_number_that_is_none_is_refused(workspace, parent):
    weights = parent.checkpoints()[-1][1] / "adapter.safetensors"
    poisoned = load_file(weights)
    next(iter(poisoned.values()))[0, 0] = float("nan")
    child = again(workspace, parent, {}, device="cpu")
    save_file(poisoned, child.start)
    with pytest.raises(DamagedError, match="damaged"):
        run_it(workspace, None, run=child)
    child.job["parent"]["sha256"] = files.sha256(child.start)
    with pytest.raises(AdapterError, match="numbers that are none"):
        run_it(workspace, None, run=child)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(workspace, parent):
    (parent.checkpoints()[-1][1] / "optimizer.safetensors").write_bytes(b"torn")
    assert last_good(parent).step == 2


def test_a_run_that_has_left_nothing_is_begun_from_nothing(workspace, tiny_base, rows_file):
    run = create_run(workspace, recipe(tiny_base, rows_file), device="cpu")
    assert last_good(run) is None
    child = again(workspace, run, {}, device="cpu")
    assert "parent" not in child.job
    assert not child.start.exists()
