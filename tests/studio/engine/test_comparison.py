"""Estimate and measurement side by side in a run's events, and what is learnt from them."""

import dataclasses

import pytest
import torch

from studio.engine import comparison
from studio.engine import run as engine_run
from studio.engine.comparison import Comparison, on_device
from studio.engine.desk import Desk
from studio.engine.run import perform
from studio.memory.budget import FITS_FRACTION, TERM_NAMES, budget
from studio.memory.correction import correction_for, read
from studio.memory.device import CardUse
from studio.models.bases import find_base
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.runs import events as e
from studio.runs.create import create_run
from tests.studio.engine.test_train import StopAfter, recipe, run_it
from tests.studio.runs.test_state import step

CARD = CardUse("NVIDIA GeForce RTX 4090", "550.54.15", 25_757_220_864, 9_400_000_000)


def test_a_run_tells_its_estimate_before_loading_and_measures_after_steps_1_and_3_and_at_the_end(
    workspace, tiny_base, rows_file
):
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, training__steps=13))
    state, events = run.state(), run.events.read()
    names = [event.name if isinstance(event, e.PhaseEntered) else type(event).__name__ for event in events]
    assert names.index("checking") < names.index("Estimated") < names.index("loading")
    assert list(state.estimate.terms) == list(TERM_NAMES)
    assert state.estimate.total_bytes == sum(state.estimate.terms.values())
    assert state.estimate.process_bytes == state.estimate.total_bytes + state.estimate.context_bytes
    assert [number for number, _, _ in state.memory_curve] == [1, 3, 11, 13]
    assert all(process > 100_000_000 for _, process, _ in state.memory_curve)


def test_runs_on_a_cpu_teach_nothing_about_a_card(workspace, tiny_base, rows_file):
    run_it(workspace, recipe(tiny_base, rows_file))
    assert not workspace.measurements.exists()


def test_a_cpu_knows_one_optimizer():
    made = recipe("base", "rows")
    assert on_device(made, torch.device("cpu")) == replaced(made, "training.optimizer", "adamw_torch")
    assert on_device(made, torch.device("cuda")) == made


# What the tiny base takes with one of its two layers recomputed, and not with none.
def between(base, made):
    facts = ModelFacts.from_folder(base)
    fewer, more = (budget(facts, replaced(made, "memory.checkpointing", kind)).process_bytes for kind in (1, "none"))
    return round((fewer + more) / 2 / FITS_FRACTION)


def test_auto_is_settled_by_the_memory_at_the_start_of_the_run_which_says_so(
    workspace, tiny_base, rows_file, monkeypatch
):
    made = recipe(tiny_base, rows_file, training__steps=1)
    counts = []
    monkeypatch.setattr(engine_run, "checkpoint_layers", lambda _model, count, *_more: counts.append(count))
    for limits in ((64 << 30, 0), (between(tiny_base, made), 0), (64 << 30, 64 << 30)):
        monkeypatch.setattr(comparison, "room", lambda _device, limits=limits: limits)
        run, _, _ = run_it(workspace, made)
        estimate = run.state().estimate
        assert (estimate.is_auto, estimate.num_layers) == (True, 2)
        assert counts[-1] == estimate.num_checkpointed
    assert counts == [0, 1, 2]


def test_unpacked_weights_stay_where_the_memory_at_the_start_of_the_run_allows(
    workspace, tiny_base, rows_file, monkeypatch
):
    made = recipe(tiny_base, rows_file, training__steps=1, adapter__dropout=0.0, memory__checkpointing="all")
    kept = []
    monkeypatch.setattr(engine_run, "checkpoint_layers", lambda *arguments: kept.append(arguments[-1]))
    facts = ModelFacts.from_folder(tiny_base)
    needed = budget(facts, replaced(made, "memory.reuse_weights", "always")).process_bytes
    assert needed > budget(facts, made).process_bytes
    for size in (needed + 10, needed - 10):
        monkeypatch.setattr(comparison, "room", lambda _device, size=size: (round(size / FITS_FRACTION), 0))
        run_it(workspace, made)
    assert kept == [True, False]


def test_who_states_a_number_gets_it(workspace, tiny_base, rows_file, monkeypatch):
    monkeypatch.setattr(comparison, "room", lambda _device: (64 << 30, 0))
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, training__steps=1, memory__checkpointing=1))
    assert (run.state().estimate.is_auto, run.state().estimate.num_checkpointed) == (False, 1)


def test_without_an_estimate_a_run_is_trained_all_the_same(workspace, tiny_base, rows_file, monkeypatch):
    from studio.errors import BaseModelError

    def refuse(*_args):
        raise BaseModelError("unknown")

    monkeypatch.setattr(comparison, "budget", refuse)
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, training__steps=2))
    assert run.state().estimate is None
    assert run.state().adapter


@pytest.fixture
def on_a_card(workspace, tiny_base, rows_file):
    """What a comparison looks like on a card, with recorded figures."""
    made = recipe(tiny_base, rows_file)
    expected = budget(ModelFacts.from_folder(tiny_base), made)
    return Comparison(made, expected, CARD, expected.context.bytes)


def recorded(comparison, number):
    """Figures of a card whose context takes 400 MB more than is estimated."""
    allocated = comparison.budget.total_bytes
    process = allocated + comparison.budget.context.bytes + 400_000_000
    return e.MemoryMeasured(
        step=number, process_bytes=process, allocated_bytes=allocated, reserved_bytes=allocated + 10_000_000
    )


@pytest.mark.parametrize(("first", "last", "num_kept"), [(1, 2, 0), (1, 3, 1), (51, 52, 0), (51, 60, 1)])
def test_what_was_measured_after_three_steps_of_this_process_is_kept(workspace, on_a_card, first, last, num_kept):
    passed_on = []
    emit = on_a_card.heard(passed_on.append)
    for number in range(first, last + 1):
        emit(step(number))
        emit(recorded(on_a_card, number))
    on_a_card.keep(workspace, "run-1")
    assert len(passed_on) == 2 * (last + 1 - first)
    assert len(read(workspace)) == num_kept


def test_the_next_estimate_on_this_card_has_learnt_from_it_and_shows_how_much(workspace, on_a_card):
    emit = on_a_card.heard(lambda _event: None)
    for number in (1, 2, 3):
        emit(step(number))
    emit(recorded(on_a_card, 3))
    on_a_card.keep(workspace, "run-1")
    learnt = correction_for(workspace, CARD.name, CARD.driver)
    assert (learnt.bytes, learnt.num_runs) == (400_000_000, 1)
    after = dataclasses.replace(on_a_card, budget=dataclasses.replace(on_a_card.budget, correction_bytes=learnt.bytes))
    (estimated,) = after.estimated()
    assert estimated.correction_bytes == learnt.bytes
    assert estimated.process_bytes == recorded(on_a_card, 3).process_bytes
    assert estimated.card_bytes == CARD.total_bytes


def test_without_a_measurement_nothing_is_kept(workspace, on_a_card):
    on_a_card.keep(workspace, "run-1")
    assert read(workspace) == []


def test_the_program_itself_is_what_a_cpu_run_holds_beside_its_tensors(workspace, tiny_base, rows_file):
    made, desk = recipe(tiny_base, rows_file), Desk(torch.device("cpu"))
    base = find_base(workspace, str(tiny_base))
    before = Comparison.of(workspace, base, made, desk)
    assert before.process_bytes == before.total_bytes + before.beside_bytes
    assert before.beside_bytes > 100_000_000
    run = create_run(workspace, made, device="cpu")
    perform(run, workspace, desk, StopAfter(2, "pause"), run.events.post)
    assert run.state().estimate.card_bytes is None
