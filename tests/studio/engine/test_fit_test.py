"""Three real steps on a real, tiny base: what they are laid out of, what they tell, what they leave behind."""

import statistics

import psutil
import pytest
import torch

from studio.engine.batches import Layout, Schedule, micro_batches
from studio.engine.desk import Desk
from studio.engine.fit_test import NUM_STEPS, FitTest, longest_rows, worst_case
from studio.engine.run import perform
from studio.engine.template import Example
from studio.engine.train import Material, Orders
from studio.errors import DataError
from studio.memory.correction import read as read_measurements
from studio.memory.setup import micro_batch_tokens
from studio.runs import events as e
from studio.runs.create import create_run, fit_test_of
from tests.studio.engine.conftest import write_rows
from tests.studio.engine.test_train import recipe, run_it

CPU = torch.device("cpu")


def try_it(workspace, made, desk=None, is_wanted=lambda _steps: True):
    """The events of a fit test, and the desk it was done at. `is_wanted` hears how many steps were told of."""
    desk, events = desk or Desk(CPU), []
    FitTest(
        fit_test_of(workspace, made), workspace, desk, lambda: is_wanted(steps_told(events)), events.append
    ).perform()
    return events, desk


def steps_told(events):
    return sum(isinstance(event, e.FitTestProgressed) and event.step > 0 for event in events)


# --- the rows ------------------------------------------------------------------------------------------------------


def rows(*lengths):
    return [Example(tuple(range(10 * i, 10 * i + n)), (False,) + (True,) * (n - 1), i) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"training__micro_batch_tokens": 4096, "data__max_tokens": 1024},
        {"training__micro_batch_tokens": 4096, "data__max_tokens": 3000},
        {"training__micro_batch_tokens": 1000, "data__max_tokens": 4096},
        {"training__micro_batch_tokens": 1000, "data__max_tokens": 300},
        {"training__micro_batch_rows": 1, "data__max_tokens": 512},
        {"training__micro_batch_rows": 3, "data__max_tokens": 100},
    ],
)
@pytest.mark.parametrize("lengths", [(3,), (900, 40, 5000, 16), tuple(range(2, 400, 7))])
def test_each_micro_batch_is_the_one_that_the_estimate_assumes(changes, packing, lengths):
    made = recipe("base", "rows", data__packing=packing, **changes)
    cut = [row.cut(made.data.max_tokens) for row in rows(*lengths)]
    batches = micro_batches(longest_rows(cut, made), Layout.of(made, 0, context_tokens=10**6))
    wanted = micro_batch_tokens(made)
    count = -(-wanted // made.data.max_tokens)
    assert len(batches) == 2
    for batch in batches:
        # What does not divide evenly is lost, what is rounded up to the layout's multiple is gained: less than a row's worth.
        assert wanted - count < batch.num_tokens <= wanted
        assert batch.ids_BT.numel() < wanted + 64 * count
    # All tokens are learnt but the last of each conversation, which has none after it; packed, a second one is in there.
    conversations = [batch.num_tokens - batch.num_supervised for batch in batches]
    assert sorted(conversations) == [count, count + packing]


def test_rows_that_are_long_enough_are_taken_as_they_are_longest_first():
    made = recipe("base", "rows", training__micro_batch_tokens=64, data__max_tokens=64, data__packing=False)
    there = rows(64, 20, 64, 30)
    assert [row.ids.tolist() for row in longest_rows(there, made)] == [there[0].ids.tolist(), there[2].ids.tolist()]


def test_the_loop_takes_the_same_rows_at_each_step_and_is_not_at_its_end_after_the_last():
    made = recipe("base", "rows")
    layout = Layout.of(made, 0, 512)
    for num_steps in (1, 3, 100):
        trial, largest = worst_case(Material(rows(50, 40), [], Schedule(2, 2, num_steps, seed=1), layout), made)
        assert trial.schedule.num_steps > NUM_STEPS
        assert trial.held_out == []
        for step in range(1, NUM_STEPS + 1):
            batches = micro_batches([trial.rows[i] for i in trial.schedule.rows(step)], layout)
            assert [batch.num_tokens for batch in batches] == [batch.num_tokens for batch in largest]


# --- what it tells -------------------------------------------------------------------------------------------------


def test_three_steps_are_measured_beside_the_estimate(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file)
    events, desk = try_it(workspace, made)
    answer = events[-1]
    assert isinstance(answer, e.FitTested)
    assert answer.fits
    assert [event.step for event in events if isinstance(event, e.FitTestProgressed)] == [0, 0, 0, 0, 1, 2, 3]
    assert len(answer.step_seconds) == NUM_STEPS
    assert answer.micro_batch_tokens == 128
    assert answer.base == desk.fingerprint
    assert answer.estimated_total_bytes < answer.estimated_process_bytes
    # Without a card the process's resident memory is all there is; Python and torch alone take more than this.
    assert answer.process_bytes > 100_000_000
    assert (answer.allocated_bytes, answer.reserved_bytes, answer.card) == (None, None, "")


def test_the_run_is_as_long_as_the_run_will_be(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file)
    answer = try_it(workspace, made)[0][-1]
    run, _, _ = run_it(workspace, made)
    assert answer.num_steps == run.state().num_steps
    assert answer.seconds_expected == pytest.approx(answer.num_steps * answer.seconds_per_step)
    # Two full micro-batches of 128 tokens are more work than three short rows.
    assert 0 < answer.seconds_per_step < statistics.median(answer.step_seconds[1:])


def test_a_run_of_larger_steps_takes_longer_than_the_test(workspace, tiny_base, tmp_path):
    many = write_rows(tmp_path / "many.jsonl", [("Who are you?", "Arrr, I be a pirate. " * 12)] * 40)
    made = recipe(tiny_base, many, training__batch_rows=16)
    answer = try_it(workspace, made)[0][-1]
    # Sixteen rows of about 120 tokens each, 128 to a micro-batch: sixteen micro-batches where the test has two.
    assert 6 < answer.seconds_per_step / statistics.median(answer.step_seconds[1:]) < 10


def test_an_unknown_architecture_is_tried_all_the_same(workspace, tiny_base, rows_file, monkeypatch):
    from studio.engine import comparison

    def unknown(*_args):
        raise DataError("no estimate")

    monkeypatch.setattr(comparison, "budget", unknown)
    answer = try_it(workspace, recipe(tiny_base, rows_file))[0][-1]
    assert answer.fits
    assert answer.estimated_total_bytes is None


# --- what it leaves ------------------------------------------------------------------------------------------------


def test_nothing_is_left_but_the_base_on_the_desk_and_the_rows_encoded(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file, keep__checkpoint_every_steps=1)
    _, desk = try_it(workspace, made)
    left = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert not [path for path in left if not path.is_relative_to(workspace.encoded)]
    assert not any("lora" in name for name, _ in desk.model.named_modules())
    assert not any(parameter.requires_grad for parameter in desk.model.parameters())
    assert read_measurements(workspace) == []


def test_the_run_after_it_finds_the_base_loaded_and_learns_as_if_there_had_been_no_test(
    workspace, tiny_base, rows_file
):
    made = recipe(tiny_base, rows_file)
    alone, _, _ = run_it(workspace, made)
    _, desk = try_it(workspace, made)
    base = desk.base
    run = create_run(workspace, made, device="cpu")
    perform(run, workspace, desk, Orders(), run.events.post)
    assert desk.base is base
    assert run.state().losses == alone.state().losses


@pytest.mark.parametrize(("most", "looks_within"), [(0, 0), (1, 0), (2, 0), (1, 3)])
def test_it_stops_when_it_is_no_longer_wanted(workspace, tiny_base, rows_file, monkeypatch, most, looks_within):
    monkeypatch.setattr("studio.engine.breakable.LOOK_SECONDS", 0)
    left = iter([True] * looks_within)
    events, desk = try_it(
        workspace, recipe(tiny_base, rows_file), is_wanted=lambda steps: steps < most or next(left, False)
    )
    assert isinstance(events[-1], e.FitTestStopped)
    assert steps_told(events) == most
    assert desk.base is not None
    assert not any("lora" in name for name, _ in desk.model.named_modules())


# --- when memory runs out ------------------------------------------------------------------------------------------


@pytest.fixture
def little_memory():
    """A gigabyte more than this process has mapped, and then no more."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_running_out_of_memory_is_an_answer_and_the_desk_can_be_used_on(workspace, tiny_base, rows_file, little_memory):
    # On a CPU the mask of a packed row takes its length squared: 4 GB here.
    huge = recipe(tiny_base, rows_file, training__micro_batch_tokens=65_536, memory__checkpointing="none")
    events, desk = try_it(workspace, huge)
    answer = events[-1]
    assert isinstance(answer, e.FitTested)
    assert not answer.fits
    assert "needed more than" in answer.message
    assert answer.hint
    assert answer.seconds_expected is None
    assert not any("lora" in name for name, _ in desk.model.named_modules())
    assert try_it(workspace, recipe(tiny_base, rows_file), desk)[0][-1].fits


def test_other_errors_are_no_answer(workspace, tiny_base, rows_file):
    wish = fit_test_of(workspace, recipe(tiny_base, rows_file))
    rows_file.write_text("{}\n", encoding="utf-8")
    desk, events = Desk(CPU), []
    with pytest.raises(DataError):
        FitTest(wish, workspace, desk, lambda: True, events.append).perform()
    assert not any(isinstance(event, e.FitTested) for event in events)
