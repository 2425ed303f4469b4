"""The queue by command with the real engine: real training of a tiny base, one run at a time on one device."""

from __future__ import annotations

import itertools
import json
import os
import signal

import psutil
import pytest

from studio.runs import events as e
from studio.runs.engine import running_engine
from studio.runs.queue import read_queue
from studio.runs.state import Status
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
    """(begin, end, engine) of each time that a process was at the run."""
    found, begun = [], None
    for event in run.events.read():
        if isinstance(event, e.Started):
            begun = event
        elif isinstance(event, e.LAST_WORDS):
            found.append((begun.time, event.time, begun.pid))
    return found


def test_a_hand_started_run_and_a_queue_never_share_a_device(home):
    recipe = write_recipe(home, 6, **BRIEF)
    by_hand = overlay("train", recipe, "--name", "by-hand", "--json")
    first = run_of(home, "by-hand")
    for name in ("second", "third"):
        document("queue", "add", recipe, "--name", name)
    assert [one["name"] for one in document("queue", "start")] == ["second", "third"]
    out, _ = done(by_hand)
    until(lambda: run_of(home, "second").state().status is Status.RUNNING, "the queue's first run")
    # Who comes with a run of his own now is told that the card is taken, by name, before anything is written.
    _, said = done(overlay("train", recipe, "--name", "late"), 2)
    assert "busy with the run" in said
    assert not list(home.runs.glob("*_late"))
    # Another start finds the driver that is there.
    driver = read_queue(home).driver
    document("queue", "start")
    assert read_queue(home).driver == driver
    until(lambda: len(read_queue(home).done) == 2 and not read_queue(home).is_driven, "the end of the queue")
    runs = [first, run_of(home, "second"), run_of(home, "third")]
    spans = sorted(span for run in runs for span in turns(run))
    assert len(spans) == 3
    assert all(one[1] <= after[0] for one, after in itertools.pairwise(spans)), "two runs at once"
    # The same recipe by another way is the same run.
    assert [losses_of(run) for run in runs] == [losses(out)] * 3
    found = document("queue", "report")
    assert [one["ending"] for one in found["runs"]] == ["finished", "finished"]
    assert {one["name"] for one in document("adapters")} == {"by-hand", "second", "third"}
    until(lambda: running_engine(home, "cpu") is None, "the engine to leave")


def losses_of(run):
    return dict(run.state().losses)


def test_driver_and_engine_killed_at_once_cost_nothing(home):
    recipe = write_recipe(home, 24, **BRIEF)
    whole = losses(done(overlay("train", recipe, "--name", "whole", "--json"))[0])
    for name in ("broken", "after"):
        document("queue", "add", recipe, "--name", name)
    document("queue", "start")
    run = run_of(home, "broken")
    until(lambda: run.state().step >= 6, "step 6")
    os.kill(read_queue(home).driver[0], signal.SIGKILL)
    os.kill(run.state().pid, signal.SIGKILL)
    until(lambda: not read_queue(home).is_driven, "the driver's end")
    listed = json.loads(done(overlay("queue", "--json"))[0])
    assert [(one["name"], one["position"]) for one in listed] == [("broken", 0), ("after", 1)]
    document("queue", "start")
    until(lambda: len(read_queue(home).done) == 2, "the end of the queue")
    assert losses_of(run) == whole == losses_of(run_of(home, "after"))
    assert len(turns(run)) == 2
