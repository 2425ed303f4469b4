import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.runs import events as e
from studio.runs.state import RunState, Status, without_curves
from tests.studio.runs.test_lines import any_event


def step(number, loss=1.0):
    return e.StepTaken(
        step=number,
        epoch=number / 4,
        loss=loss,
        learning_rate=1e-4,
        grad_norm=0.5,
        num_tokens=9,
        num_supervised=5,
        seconds=2.0,
    )


STARTED = e.Started(pid=7, process_started=1.0, device="cpu")
PREPARED = e.Prepared(
    num_steps=10,
    num_rows=4,
    num_held_out=1,
    tokens_per_epoch=9,
    supervised_tokens_per_epoch=5,
    num_cut=0,
    num_dropped=0,
    num_trainable=1,
    num_parameters=2,
)


@given(st.lists(any_event, max_size=30))
def test_any_events_in_any_order_are_a_state_and_live_equals_replayed(events):
    live = RunState()
    for event in events:
        live.advance(event)
    assert live == RunState.replay(events)


def test_a_run_from_start_to_end():
    state = RunState()
    assert state.status is Status.WAITING
    state.advance(STARTED)
    assert state.status is Status.LOADING
    state.advance(PREPARED)
    state.advance(e.PhaseEntered(name="training"))
    assert state.status is Status.RUNNING
    for number in range(1, 6):
        state.advance(step(number, loss=3.0 / number))
    assert (state.step, state.num_steps, state.losses[1]) == (5, 10, (2, 1.5))
    assert state.seconds_left == pytest.approx(10.0)
    state.advance(e.Finished(run="r", adapter="pirate"))
    assert (state.status, state.adapter, state.ending, state.pid) == (Status.FINISHED, "pirate", None, None)


def test_steps_taken_again_after_a_crash_are_shown_once():
    state = RunState.replay([STARTED, step(1, 3.0), step(2, 2.0), step(3, 1.0)])
    state.advance(e.Died(exit_code=-9, signal="SIGKILL", last_lines=[]))
    assert state.status is Status.INTERRUPTED
    state.advance(e.Started(pid=8, process_started=2.0, device="cpu", from_step=2))
    state.advance(step(3, 1.5))
    assert state.losses == [(1, 3.0), (2, 2.0), (3, 1.5)]
    assert state.ending is None


@pytest.mark.parametrize(
    ("event", "status", "said"),
    [
        (e.Paused(step=3), Status.PAUSED, "card is free"),
        (e.Paused(step=0, cause="The disk is full.", hint="Free some."), Status.PAUSED, "step 1. The disk is full."),
        (e.Stopped(step=3, saved=True, adapter="a"), Status.STOPPED, "Stopped at step 3"),
        (e.Stopped(step=3, saved=False), Status.STOPPED, "without saving"),
        (e.Failed(kind="data", message="No rows.", hint="Add some."), Status.FAILED, "No rows."),
        (e.Died(exit_code=-9, signal="SIGKILL", last_lines=[]), Status.INTERRUPTED, "killed"),
        (e.Died(exit_code=3, signal=None, last_lines=[]), Status.INTERRUPTED, "exit code 3"),
        (e.Died(exit_code=None, signal=None, last_lines=[]), Status.INTERRUPTED, "switched off"),
    ],
)
def test_every_ending_has_its_name_and_cause(event, status, said):
    state = RunState.replay([STARTED, step(1), event])
    assert state.status is status
    assert said in state.ending.message
    assert not state.status.is_live


def test_the_hint_after_a_death_names_the_step_to_go_on_from():
    saved = e.CheckpointSaved(step=1, path="checkpoints/step-000001", bytes=9)
    state = RunState.replay([STARTED, step(1), saved, step(2), e.Died(exit_code=None, signal=None, last_lines=[])])
    assert "step 1" in state.ending.hint


def measured(number, process, allocated=None):
    return e.MemoryMeasured(step=number, process_bytes=process, allocated_bytes=allocated)


def test_memory_is_a_curve_beside_its_estimate_and_shown_once_after_a_resume():
    estimate = e.Estimated(total_bytes=70, process_bytes=90, context_bytes=20, terms={"weights": 70})
    state = RunState.replay(
        [STARTED, estimate, step(1), measured(1, 80, 60), measured(3, 85, 66), measured(11, 86, 66)]
    )
    assert state.memory_curve == [(1, 80, 60), (3, 85, 66), (11, 86, 66)]
    assert state.estimate == estimate
    state.advance(e.Started(pid=8, process_started=2.0, device="cpu", from_step=5))
    state.advance(measured(11, 84))
    state.advance(measured(11, 83))
    assert state.memory_curve == [(1, 80, 60), (3, 85, 66), (11, 83, None)]
    assert state.memory.process_bytes == 83
    assert without_curves(state).memory_curve == [(11, 83, None)]


def test_how_far_a_phase_is_goes_with_the_phase():
    state = RunState.replay([STARTED, e.PhaseEntered(name="tokenising"), e.Progressed(what="lines", done=3, total=9)])
    assert (state.progress.done, state.progress.total) == (3, 9)
    for after in (e.PhaseEntered(name="evaluating"), STARTED, e.Failed(kind="x", message="y")):
        live = RunState.replay(
            [STARTED, e.PhaseEntered(name="tokenising"), e.Progressed(what="lines", done=3, total=9)]
        )
        live.advance(after)
        assert live.progress is None


def evaluated(number, loss):
    return e.Evaluated(step=number, loss=loss, num_supervised=5)


def saved(number, *, is_best=False):
    return e.CheckpointSaved(step=number, path=f"checkpoints/step-{number:06}", bytes=9, is_best=is_best)


def test_the_best_evaluation_is_the_lowest_after_the_beginning():
    state = RunState.replay([STARTED, evaluated(0, 0.5), evaluated(2, 1.5), evaluated(4, 1.2), evaluated(6, 1.2)])
    assert (state.best_evaluation.step, state.best_evaluation.loss) == (4, 1.2)
    assert RunState.replay([STARTED, evaluated(0, 0.5)]).best_evaluation is None


def test_what_was_seen_beyond_a_resume_point_is_forgotten_and_what_the_user_wished_is_not():
    batch = e.FirstBatchWritten(path="first_batch.json", num_rows=2, num_tokens=9, num_supervised=5)
    judged = [e.RowsJudged(step=number, rows=[{"row": number, "loss": 2.0}]) for number in (2, 4)]
    early = e.EndedEarly(step=4, best_step=2, best_loss=1.5)
    state = RunState.replay(
        [STARTED, batch, e.PromptAdded(prompt="Aye?"), e.PromptAdded(prompt="Aye?"), step(1), step(2)]
    )
    for event in (judged[0], saved(2, is_best=True), step(3), step(4), judged[1], early, saved(4)):
        state.advance(event)
    assert (state.first_batch, state.ended_early, state.best_checkpoint.step) == (batch, early, 2)
    assert state.worst_rows == [{"row": 4, "loss": 2.0}]
    state.advance(e.Started(pid=8, process_started=2.0, device="cpu", from_step=4))
    assert state.ended_early == early
    state.advance(e.Started(pid=9, process_started=3.0, device="cpu", from_step=3))
    assert state.worst_rows == [{"row": 2, "loss": 2.0}]
    assert (state.ended_early, state.prompts_added, state.first_batch) == (None, ["Aye?"], batch)
    state.advance(e.Started(pid=9, process_started=3.0, device="cpu"))
    assert (state.worst_rows, state.best_checkpoint, state.prompts_added) == ([], None, ["Aye?"])


def test_a_run_remembers_behind_which_steps_another_process_took_it_up():
    def begun(from_step):
        return e.Started(pid=2, process_started=2.0, device="cpu", from_step=from_step)

    taken = [step(number, 1.0) for number in range(1, 9)]
    state = RunState.replay([begun(0), *taken])
    assert state.resumes == []
    for from_step, resumes in ((4, [4]), (6, [4, 6]), (5, [4, 5]), (0, [])):
        state.advance(begun(from_step))
        for number in range(from_step + 1, 9):
            state.advance(step(number, 1.0))
        assert state.resumes == resumes


def test_a_failure_keeps_the_name_of_its_kind():
    assert (
        RunState.replay([STARTED, e.Failed(kind="diverged", message="NaN.", hint="Lower it.")]).ending.kind
        == "diverged"
    )
    assert RunState.replay([STARTED, e.Paused(step=3)]).ending.kind == ""
