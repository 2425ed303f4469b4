"""The queue by command with the real engine: real training of a tiny base, one run at a time on one device."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from studio.runs import events as e
from studio.runs.engine import running_engine
from studio.runs.queue import read_queue
from tests.studio import test_engine_process as by_command
from tests.studio.test_engine_process import document, done, losses, overlay, run_of, until, write_recipe

pytestmark = pytest.mark.slow
BRIEF = {"keep__evaluate_every_steps": 0, "data__validation_fraction": 0.0}
started = by_command.home  # the workspace with a base, and the end of all that was begun in it


@pytest.fixture
def home(started):
    yield started
    driver = read_queue(started).driver
    if driver is not None and psutil.pid_exists(driver[0]):
        psutil.Process(driver[0]).kill()


def turns(run):
    """(begin, end) of each time that a process was at the run."""
    found, begun = [], None
    for event in run.events.read():
        if isinstance(event, e.Started):
            begun = event
        elif isinstance(event, e.LAST_WORDS):
            found.append((begun.time, event.time))
    return found


def test_a_hand_started_run_and_a_queue_never_share_a_device(home):
    by_hand = overlay("train", write_recipe(home, 6, **BRIEF), "--name", "by-hand")
    first = run_of(home, "by-hand")
    document("queue", "add", write_recipe(home, 9000, **BRIEF), "--name", "second")
    # Most likely the engine of the first is not up yet: the device is taken all the same.
    assert [one["name"] for one in document("queue", "start")] == ["second"]
    done(by_hand)
    second = run_of(home, "second")
    until(lambda: second.state().step, "the queue's run")
    # Who comes with a run of his own now is told that the card is taken, by name, before anything is written.
    _, said = done(overlay("train", home.root / "recipe.toml", "--name", "late"), 2)
    assert "busy with the run" in said
    assert not list(home.runs.glob("*_late"))
    # Another start finds the driver that is there.
    driver = read_queue(home).driver
    document("queue", "start")
    assert read_queue(home).driver == driver
    assert document("stop", "second")["state"] == "stopped"
    until(lambda: not read_queue(home).is_driven, "the end of the queue")
    (by_hand_began, by_hand_ended), (queue_began, _) = [span for run in (first, second) for span in turns(run)]
    assert by_hand_began < by_hand_ended <= queue_began, "two runs at once"
    found = document("queue", "report")
    assert [(one["name"], one["ending"], one["adapter"]) for one in found["runs"]] == [("second", "stopped", "second")]
    until(lambda: running_engine(home, "cpu") is None, "the engine to leave")


def losses_of(run):
    return dict(run.state().losses)


def test_driver_and_engine_killed_at_once_cost_nothing(home):
    recipe = write_recipe(home, 24, **BRIEF)
    whole = losses(done(overlay("train", recipe, "--name", "whole", "--json"))[0])
    document("queue", "add", recipe, "--name", "broken")
    document("queue", "start")
    run = run_of(home, "broken")
    until(lambda: run.state().step >= 6, "step 6")
    os.kill(read_queue(home).driver[0], signal.SIGKILL)
    os.kill(run.state().pid, signal.SIGKILL)
    until(lambda: not read_queue(home).is_driven, "the driver's end")
    listed = json.loads(done(overlay("queue", "--json"))[0])
    assert [(one["name"], one["position"]) for one in listed] == [("broken", 0)]
    document("queue", "start")
    until(lambda: read_queue(home).done, "the end of the queue")
    assert losses_of(run) == whole
    assert len(turns(run)) == 2
