"""The window and the engine die in turn: nothing is lost, and everything is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from studio.recipe.toml import save
from studio.runs.folder import list_runs
from studio.runs.state import Status
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.test_train import recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def draft(workspace):
    """A recipe on a tiny base, waiting in the workspace as the draft of the window's last user."""

    def write(steps, name="tiny"):
        rows = write_rows(workspace.root / "rows.jsonl")
        made = recipe("tiny", rows, name=name, training__steps=steps, keep__sample_every_steps=0)
        save(made, workspace.recipes / "draft.toml")
        return made

    write_base(workspace.bases / "tiny")
    return write


def newest(state):
    return next(iter(state.runs.values()), None)


def test_a_killed_window_costs_nothing_and_the_next_one_finds_the_run_with_its_whole_curve(
    open_window, workspace, draft
):
    draft(steps=1500)
    window = subprocess.Popen([sys.executable, "-m", "tests.journeys.window_that_trains"])
    _, hand = open_window()
    hand.until(lambda: any(run.state().step >= 5 for run in list_runs(workspace)), "a run at step 5", 120)
    os.kill(window.pid, signal.SIGKILL)
    window.wait()
    at_death = next(iter(list_runs(workspace))).state().step

    studio, hand = open_window()
    state = studio.state
    hand.until(lambda: state.live_run is not None, "the run to be found again")
    live = state.live_run
    hand.until(lambda: live.state.step > at_death + 10, "the run to go on without its window", 120)
    steps = [step for step, _ in live.state.losses]
    assert steps == list(range(1, len(steps) + 1))
    hand.press("Runs")
    assert hand.sees("tiny")
    state.run_selected.emit(live.folder.id)
    hand.shot("6-found-again")
    hand.press("Pause")
    hand.until(lambda: live.state.status is Status.PAUSED, "the pause", 60)
    assert live.folder.state().losses == live.state.losses


def test_a_killed_engine_is_named_and_resume_goes_on(open_window, draft):
    draft(steps=150)
    studio, hand = open_window()
    state = studio.state
    hand.press("Train")
    hand.press("Start training")
    hand.until(lambda: newest(state) and newest(state).state.step >= 6, "step 6", 120)
    run = newest(state)
    os.kill(run.state.pid, signal.SIGKILL)
    hand.until(lambda: run.state.status is Status.INTERRUPTED, "the death to be noticed")
    hand.until(lambda: hand.sees("The engine was killed"), "the cause on screen")
    assert hand.sees("Interrupted")
    hand.shot("7-interrupted")
    hand.press("Resume")
    hand.until(lambda: newest(state).state.status is Status.FINISHED, "the end of the run", 60)
    steps = [step for step, _ in newest(state).state.losses]
    assert steps == list(range(1, 151))
    hand.shot("8-resumed-and-done")


def test_closing_the_window_asks_and_keeps_the_run(open_window, workspace, draft):
    draft(steps=1500)
    studio, hand = open_window()
    hand.press("Train")
    hand.press("Start training")
    hand.until(lambda: studio.state.live_run and studio.state.live_run.state.step >= 2, "step 2", 120)
    studio.window.close()
    assert studio.window.isVisible()
    hand.press("Cancel")
    assert studio.window.isVisible()
    studio.window.close()
    hand.shot("9-closing")
    hand.press("Stop and save, then quit")
    hand.until(lambda: not studio.window.isVisible(), "the window to close", 60)
    (run,) = list_runs(workspace)
    assert run.state().status is Status.STOPPED
    assert (workspace.adapters / run.state().adapter / "adapter_model.safetensors").is_file()


def test_an_adapter_is_merged_from_its_page(open_window, workspace, draft, tmp_path):
    draft(steps=4)
    studio, hand = open_window()
    state = studio.state
    hand.press("Train")
    hand.press("Start training")
    hand.until(lambda: state.adapters, "the adapter", 120)
    hand.press("Adapters")
    hand.press("Merge\u2026")
    hand.write("New folder", str(tmp_path / "merged"))
    hand.press("Merge")
    hand.until(lambda: any(job.kind == "merge" and job.is_over for job in state.jobs.values()), "the merge", 120)
    (job,) = [job for job in state.jobs.values() if job.kind == "merge"]
    assert job.error == ""
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    hand.until(lambda: hand.sees("merged"), "the receipt")
    hand.shot("10-merged")
