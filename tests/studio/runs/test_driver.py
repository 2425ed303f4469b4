"""Working through the queue: what is done after which ending, and what is left when anybody is killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import wakepy

from studio import files
from studio.errors import BusyError, EngineError, StudioError
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs import driver, engine, follower
from studio.runs import events as e
from studio.runs import queue as q
from studio.runs import wishes as w
from studio.runs.driver import Driver
from studio.runs.engine import running_engine, start_engine
from studio.runs.folder import RunFolder, find_run
from studio.runs.state import Status
from tests.studio.library.folders import make_base
from tests.studio.runs.conftest import kill

SECONDS = 60


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver in this process looks often, so that the test need not wait."""
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(driver, "NEW_SECONDS", 0.0)
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(follower, "LOOK_SECONDS", 0.0)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.01)
    return found


def write_rows(workspace: Workspace, count: int) -> None:
    line = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    (workspace.root / "rows.jsonl").write_text(line * count, encoding="utf-8")


def queued(workspace: Workspace, *names: str) -> list[RunFolder]:
    """Runs that wait, with inputs that are there."""
    if not (workspace.bases / "small").exists():
        make_base(workspace.bases / "small")
        write_rows(workspace, 4)
    recipe = Recipe()
    for path, value in (("base.id", "small"), ("data.path", str(workspace.root / "rows.jsonl"))):
        recipe = replaced(recipe, path, value)
    for path in ("data.max_tokens", "training.micro_batch_tokens"):
        recipe = replaced(recipe, path, 64)
    return [q.add(workspace, recipe, device="cpu", name=name) for name in names]


def work(workspace: Workspace) -> q.Queue:
    """Drive the queue in this process to its end."""
    with q.changing(workspace) as queue:
        q.begin_report(queue)
    Driver(workspace).work()
    found = q.read_queue(workspace)
    assert (found.turn, found.driver, found.is_started) == (None, None, False)
    return found


def endings(workspace: Workspace, queue: q.Queue) -> dict[str, str]:
    return {RunFolder(workspace.runs / done.run).name: done.ending for done in queue.done}


def names(workspace: Workspace, runs: list[str]) -> list[str]:
    return [RunFolder(workspace.runs / run).name for run in runs]


# --- endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_night_of_all_kinds_of_endings(scripted: Workspace) -> None:
    queued(scripted, "short-1", "nan", "bad", "climbs", "dies", "halves", "short-2")
    found = work(scripted)
    assert endings(scripted, found) == {
        "short-1": "finished",
        "nan": "diverged",
        "bad": "failed",
        "climbs": "diverged",
        "dies": "interrupted",
        "halves": "finished",
        "short-2": "finished",
    }
    told = {RunFolder(scripted.runs / done.run).name: done.message for done in found.done}
    assert "NaN" in told["nan"]
    assert "climbing" in told["climbs"]
    assert "killed" in told["dies"]
    # What climbed was stopped and saved, so that it can go on.
    climbed = find_run(scripted, "climbs").state()
    assert (climbed.status, climbed.adapter) == (Status.STOPPED, "kept")
    assert len(find_run(scripted, "halves").state().halvings) == 1
    assert found.waiting == []
    assert not found.is_seen


@pytest.mark.usefixtures("quick")
def test_a_full_disk_halts_the_queue_and_room_lets_it_go_on_where_it_stood(scripted: Workspace) -> None:
    (scripted.root / "full").touch()
    queued(scripted, "fills", "short")
    found = work(scripted)
    assert names(scripted, found.waiting) == ["fills", "short"]
    assert found.halt[0] == "The disk is full."
    (scripted.root / "full").unlink()
    found = work(scripted)
    assert found.halt == ("", "")
    assert endings(scripted, found) == {"fills": "finished", "short": "finished"}


@pytest.mark.usefixtures("quick")
def test_a_lost_card_halts_the_queue_and_its_run_comes_first_when_it_goes_on(scripted: Workspace) -> None:
    queued(scripted, "lost", "short")
    found = work(scripted)
    assert names(scripted, found.waiting) == ["lost", "short"]
    assert "fell off the bus" in found.halt[0]
    assert endings(scripted, work(scripted)) == {"lost": "finished", "short": "finished"}


@pytest.mark.usefixtures("quick")
def test_three_dead_engines_in_a_row_halt_the_queue(scripted: Workspace) -> None:
    queued(scripted, "dies-1", "dies-2", "short", "dies-3", "dies-4", "dies-5", "short-6")
    found = work(scripted)
    assert names(scripted, found.waiting) == ["short-6"]
    assert "3 engines in a row" in found.halt[0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", [EngineError, BusyError])
def test_an_engine_that_does_not_come_up_halts_the_queue_and_costs_no_run(
    scripted: Workspace, monkeypatch: pytest.MonkeyPatch, kind: type[StudioError]
) -> None:
    queued(scripted, "short-1", "short-2")

    def broken(*_: object) -> None:
        raise kind("The engine did not start.", "Mend it.")

    monkeypatch.setattr(driver, "start_engine", broken)
    found = work(scripted)
    assert names(scripted, found.waiting) == ["short-1", "short-2"]
    assert (found.halt, found.done) == (("The engine did not start.", "Mend it."), [])


def in_background(workspace: Workspace) -> tuple[threading.Thread, list[q.Queue]]:
    found: list[q.Queue] = []
    thread = threading.Thread(target=lambda: found.append(work(workspace)))
    thread.start()
    return thread, found


def live(workspace: Workspace, run: RunFolder) -> None:
    until(lambda: run.state().status is Status.RUNNING, f"{run.name} to run")


@pytest.mark.usefixtures("quick")
def test_a_pause_leaves_the_card_to_its_user_and_does_not_return_by_itself(scripted: Workspace) -> None:
    paused, _ = queued(scripted, "long", "short")
    thread, found = in_background(scripted)
    live(scripted, paused)
    serving = running_engine(scripted, "cpu")
    assert serving is not None
    serving.post(w.Pause(run=paused.id))
    thread.join()
    assert endings(scripted, found[0]) == {"long": "paused"}
    assert "leaves the card to you" in found[0].halt[0]
    assert serving.wait(SECONDS), "the card is not free"
    found.append(work(scripted))
    assert endings(scripted, found[1])["short"] == "finished"
    assert paused.state().status is Status.PAUSED


@pytest.mark.usefixtures("quick")
def test_a_run_stopped_by_its_user_makes_way_for_the_next(scripted: Workspace) -> None:
    stopped, _ = queued(scripted, "long", "short")
    thread, found = in_background(scripted)
    live(scripted, stopped)
    serving = running_engine(scripted, "cpu")
    assert serving is not None
    serving.post(w.Stop(run=stopped.id))
    thread.join()
    assert endings(scripted, found[0]) == {"long": "stopped", "short": "finished"}


@pytest.mark.usefixtures("quick")
def test_a_queue_that_is_held_begins_no_other_and_one_reordered_meanwhile_heeds_it(scripted: Workspace) -> None:
    first, second, third = queued(scripted, "long", "short-2", "short-3")
    thread, found = in_background(scripted)
    live(scripted, first)
    q.move(scripted, third, 1)
    q.hold(scripted)
    serving = running_engine(scripted, "cpu")
    assert serving is not None
    serving.post(w.Stop(run=first.id))
    thread.join()
    assert names(scripted, found[0].waiting) == ["short-3", "short-2"]
    found.append(work(scripted))
    ran = sorted((done.took_up, done.run) for done in found[1].done)
    assert [run for _, run in ran] == [first.id, third.id, second.id]


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_dataset_mended_while_the_run_waited_is_taken_as_it_is_now_and_told(scripted: Workspace) -> None:
    (run,) = queued(scripted, "short")
    write_rows(scripted, 5)
    work(scripted)
    assert RunFolder(run.path).job["inputs"]["dataset"] == files.sha256(scripted.root / "rows.jsonl")
    (warned,) = run.state().warnings
    assert "The dataset changed while this run waited" in warned.message


@pytest.mark.usefixtures("quick")
def test_a_dataset_that_is_gone_fails_its_run_alone(scripted: Workspace) -> None:
    gone, _ = queued(scripted, "short-1", "short-2")
    job = files.read_json(gone.path / "job.json")
    job["data"]["path"] = str(scripted.root / "nowhere.jsonl")
    files.write_json(gone.path / "job.json", job)
    assert endings(scripted, work(scripted)) == {"short-1": "failed", "short-2": "finished"}
    ending = gone.state().ending
    assert ending is not None
    assert "is gone" in ending.message


# --- other processes -------------------------------------------------------------------------------------------------


def test_starting_an_empty_queue_says_what_to_do(scripted: Workspace) -> None:
    with pytest.raises(StudioError, match="No run waits"):
        driver.start(scripted)


def test_a_driver_killed_at_any_moment_loses_nothing(scripted: Workspace) -> None:
    """Killed as soon as it is there, in the midst of a run, and with its engine; each time the next one goes on."""
    runs = queued(scripted, "short-1", "long-2", "short-3")
    driver.start(scripted)
    until(lambda: runs[1].state().step > 5, "the second run")
    killed = q.read_queue(scripted).driver
    assert killed is not None
    kill(killed[0])
    found = q.read_queue(scripted)
    assert (found.is_driven, found.turn and found.turn.run) == (False, runs[1].id)
    was = runs[1].state()
    driver.start(scripted)  # follows the engine that went on
    assert runs[1].state().pid == was.pid
    serving = running_engine(scripted, "cpu")
    assert serving is not None
    # Both at once, as when the computer is switched off: the run is taken up again.
    second = q.read_queue(scripted).driver
    assert second is not None
    kill(second[0])
    kill(serving.pid)
    driver.start(scripted)
    until(lambda: runs[1].state().pid not in (None, was.pid), "the run to be taken up again")
    again = until(lambda: running_engine(scripted, "cpu"), "an engine")
    again.post(w.Stop(run=runs[1].id))
    until(lambda: len(q.read_queue(scripted).done) == 3, "the end of the queue")
    found = q.read_queue(scripted)
    assert endings(scripted, found) == {"short-1": "finished", "long-2": "stopped", "short-3": "finished"}


def test_a_run_that_takes_the_computer_down_each_time_is_given_up(scripted: Workspace) -> None:
    (run, _) = queued(scripted, "long", "short")
    for _ in range(3):
        driver.start(scripted)
        until(lambda: run.state().status.is_live and q.read_queue(scripted).is_driven, "the run")
        found, serving = q.read_queue(scripted), running_engine(scripted, "cpu")
        assert found.driver is not None
        assert serving is not None
        kill(found.driver[0])
        kill(serving.pid)
        run.bury()
    driver.start(scripted)
    until(lambda: len(q.read_queue(scripted).done) == 2, "the end of the queue")
    assert endings(scripted, q.read_queue(scripted)) == {"long": "interrupted", "short": "finished"}


def test_there_is_one_driver_however_many_are_started(scripted: Workspace) -> None:
    (run,) = queued(scripted, "long")
    driver.start(scripted)
    first = q.read_queue(scripted).driver
    driver.start(scripted)
    assert q.read_queue(scripted).driver == first
    # Even one that is started behind everybody's back finds the lock taken.
    code = "from studio.runs import driver; driver.RELEASE_SECONDS = 0.1; raise SystemExit(driver.main())"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == engine.EXIT_BUSY
    assert q.read_queue(scripted).driver == first
    assert run.state().status.is_live or run.state().status is Status.WAITING


def test_the_driver_outlives_whoever_started_it(scripted: Workspace) -> None:
    queued(scripted, "long")
    code = "from studio.runs import driver; from studio.places import Workspace; driver.start(Workspace.default())"
    starter = subprocess.Popen([sys.executable, "-c", f"{code}; import signal; signal.pause()"], start_new_session=True)
    until(lambda: q.read_queue(scripted).is_driven, "the driver")
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    until(lambda: find_run(scripted, "long").state().step > 3, "the run to go on")
    assert q.read_queue(scripted).is_driven


def test_a_run_begun_by_hand_is_waited_for(scripted: Workspace) -> None:
    byhand, waits = queued(scripted, "long", "short")
    q.take_out(scripted, byhand)
    serving = start_engine(scripted, "cpu")
    serving.post(w.Train(folder=str(byhand.path)))
    live(scripted, byhand)
    driver.start(scripted)
    until(lambda: q.read_queue(scripted).is_driven, "the driver")
    assert q.read_queue(scripted).turn is None, "the list can still be changed while the card is taken"
    assert waits.state().status is Status.WAITING
    serving.post(w.Stop(run=byhand.id))
    until(lambda: waits.state().status is Status.FINISHED, "the run that waited")
    ended, began = byhand.state().ended, waits.state().began
    assert ended is not None
    assert began is not None
    assert ended <= began
    assert serving.process is not None
    serving.process.kill()
    serving.process.wait()


def test_an_idle_engine_of_somebody_elses_is_sent_home_before_a_run_is_begun(scripted: Workspace) -> None:
    """Its owner may end it at any time, and a run that was begun there would be paused by that."""
    (run,) = queued(scripted, "short")
    serving = start_engine(scripted, "cpu")
    driver.start(scripted)
    until(lambda: run.state().status is Status.FINISHED, "the run")
    (began,) = [event for event in run.events.read() if isinstance(event, e.Started)]
    assert began.pid != serving.pid
    assert serving.wait(SECONDS)


def test_an_engine_that_has_just_come_up_is_given_time_to_be_told_what_for(scripted: Workspace) -> None:
    by_hand, waiting = queued(scripted, "short", "short")
    q.take_out(scripted, by_hand)
    serving = start_engine(scripted, "cpu")
    driver.start(scripted)
    until(lambda: q.read_queue(scripted).turn, "the turn")
    serving.post(w.Train(folder=str(by_hand.path)))
    for run in (by_hand, waiting):
        until(lambda run=run: run.state().status is Status.FINISHED, "both runs")  # type: ignore[misc]
    (began,) = [event for event in by_hand.events.read() if isinstance(event, e.Started)]
    assert began.pid == serving.pid
    assert serving.wait(SECONDS)


def test_a_run_that_somebody_else_has_asked_an_engine_for_is_followed_there(scripted: Workspace) -> None:
    """Two that take a run up again after its memory ran out must not have it done twice."""
    (run,) = queued(scripted, "long")
    serving = start_engine(scripted, "cpu")
    serving.post(w.Train(folder=str(run.path)))
    live(scripted, run)
    driver.start(scripted)
    until(lambda: q.read_queue(scripted).turn, "the turn")
    serving.post(w.Stop(run=run.id))
    until(lambda: q.read_queue(scripted).done, "the end")
    assert [event.pid for event in run.events.read() if isinstance(event, e.Started)] == [serving.pid]
    assert serving.process is not None
    serving.process.kill()
    serving.process.wait()


def test_the_computer_stays_awake_for_a_driver_unless_it_may_sleep(
    scripted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    before = wakepy.modecount()
    monkeypatch.setenv("OVERLAY_HOME", str(scripted.root))
    monkeypatch.setattr(driver.Driver, "work", lambda _: seen.append(wakepy.modecount() - before))
    assert driver.main() == 0
    assert driver.main([driver.LET_SLEEP]) == 0
    assert seen == [1, 0]
    assert wakepy.modecount() == before


@pytest.mark.parametrize(("let_sleep", "told"), [(False, []), (True, ["--let-sleep"])])
def test_a_new_driver_is_told_whether_the_computer_may_sleep(
    scripted: Workspace, monkeypatch: pytest.MonkeyPatch, let_sleep: bool, told: list[str]
) -> None:
    queued(scripted, "first")
    spawned: list[list[str]] = []

    def spawn(arguments: list[str], *_: object) -> SimpleNamespace:
        spawned.append(arguments)
        return SimpleNamespace(poll=lambda: 0)

    monkeypatch.setattr(driver, "spawn_python", spawn)
    driver.start(scripted, let_sleep)
    assert spawned == [["studio.runs.driver", *told]]
