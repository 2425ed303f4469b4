"""Before a long run: three real steps that measure, read on the page where the run is then started."""

from __future__ import annotations

import pytest

from studio.runs.state import Status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 4


def test_a_fit_test_measures_and_the_run_then_starts_with_the_same_base(open_window, workspace):
    studio, hand = open_window()
    state = studio.state
    hand.press("Add starter base")
    hand.until(lambda: state.bases, "the starter base", 180)
    hand.press("Train")
    hand.choose("Base model", "starter")
    hand.choose("Dataset", "Pirate")
    hand.press("Expert")
    for setting, value in (("Steps", STEPS), ("Max length", 64), ("Micro-batch", 64), ("Batch", 2)):
        hand.write("Find a setting", setting)
        hand.write(setting, str(value))
    hand.write("Find a setting", "")
    hand.press("Basic")
    training = state.recipe.training
    assert (training.steps, training.micro_batch_tokens, training.batch_rows) == (STEPS, 64, 2)
    hand.until(lambda: not state.problems and state.budget is not None, "the estimate")

    hand.press("Fit test")
    hand.find("Stop the test")
    hand.until(lambda: state.fit_test.step > 0, "a step", 300)
    hand.shot("1-testing")
    hand.until(lambda: state.fit_test.is_over, "the answer", 300)
    result = state.fit_test.result
    assert result is not None, state.fit_test.error
    assert result.fits
    assert result.num_steps == STEPS
    assert result.process_bytes > result.estimated_total_bytes > 0
    assert hand.sees("GB of main memory measured")
    assert hand.sees("made for cards and not compared")
    assert hand.sees("done at")
    assert not state.runs
    hand.shot("2-tested")

    hand.press("Start training")
    hand.until(lambda: state.live_run is not None, "the run to begin")
    run = state.live_run
    hand.until(lambda: run.state.memories, "the first measurement", 300)
    hand.until(lambda: hand.sees("GB measured; the estimate is for cards"), "it to be shown")
    hand.shot("3-running")
    hand.until(lambda: run.state.status is Status.FINISHED, "the end of the run", 400)
    hand.until(lambda: hand.sees("Peak memory: "), "the peak to be told")
    hand.press("Runs")
    hand.find("Peak memory")
    hand.shot("4-runs")
    studio.window.close()
    assert list(workspace.adapters.iterdir())
