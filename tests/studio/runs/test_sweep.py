"""What is left behind goes, what somebody is at stays: real processes, real folders, and time by the folders' own dates."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from filelock import FileLock

from studio import files
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.folder import RunFolder
from studio.runs.jobs import PROCESS, sign
from studio.runs.processes import own_start
from studio.runs.sweep import JOBS_KEPT_SECONDS, YOUNG_SECONDS, sweep

HOUR = 3600.0
SLEEPER = "import signal; print(1, flush=True); signal.pause()"


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def aged(path, seconds=HOUR):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def half_made(place, name="llama", seconds=HOUR):
    path = files.temporary_beside(place / name)
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text("half of it")
    return aged(path, seconds)


def job(workspace, worker=None, asker=None, ending=None, seconds=HOUR, **arguments):
    path = workspace.jobs / f"job-{len(list(workspace.jobs.glob('*')))}"
    files.write_json(path / "job.json", {"kind": "merge", "arguments": arguments})
    if worker is not None:
        files.write_json(path / PROCESS, {"worker": worker, "asker": asker or own_start()})
    if ending is not None:
        e.event_file(path / "events.jsonl").post(ending)
    return aged(path, seconds)


@contextlib.contextmanager
def sleeper():
    process = psutil.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()
        process.stdout.close()


def test_a_workspace_that_is_not_there_yet_is_clean(workspace):
    assert sweep(workspace) == []


def test_half_made_things_of_writers_that_are_gone_go_and_nothing_else_does(workspace):
    left = [half_made(place) for place in (workspace.bases, workspace.exports, workspace.runs)]
    young = half_made(workspace.bases, "young", YOUNG_SECONDS / 2)
    whole = workspace.bases / "starter"
    whole.mkdir()
    (whole / "config.json").write_text("{}")
    aged(whole)
    foreign = workspace.bases / ".mine.tmp-notes"
    foreign.mkdir()
    aged(foreign)
    assert set(sweep(workspace)) == set(left)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (young, whole, foreign))


def test_what_a_living_job_is_building_stays(workspace):
    building = half_made(workspace.bases)
    with sleeper() as worker:
        job(workspace, worker=(worker.pid, worker.create_time()))
        assert sweep(workspace) == []
        assert worker.is_running()
    assert sweep(workspace) == [building]


def test_a_number_that_belongs_to_another_process_by_now_protects_nothing_and_that_process_is_left_alone(workspace):
    building = half_made(workspace.bases)
    with sleeper() as decoy:
        job(workspace, worker=(decoy.pid, decoy.create_time() - HOUR), asker=(decoy.pid, decoy.create_time() - HOUR))
        assert sweep(workspace) == [building]
        assert decoy.is_running()
        assert decoy.status() != psutil.STATUS_ZOMBIE


def test_a_job_whose_asker_is_gone_is_ended_and_a_decoy_of_the_same_name_is_not(workspace):
    with sleeper() as worker, sleeper() as decoy, sleeper() as living:
        gone = (living.pid, living.create_time() - HOUR)
        job(workspace, worker=(worker.pid, worker.create_time()), asker=gone)
        job(workspace, worker=(living.pid, living.create_time()))
        sweep(workspace)
        assert worker.wait(20) == -signal.SIGKILL
        assert all(one.status() != psutil.STATUS_ZOMBIE for one in (decoy, living))


def test_a_job_says_itself_who_it_is_and_who_has_asked(workspace):
    path = job(workspace)
    with sleeper() as asker:
        sign(path, asker.pid)
        told = files.read_json(path / PROCESS)
        assert told["worker"] == list(own_start())
        assert told["asker"] == [asker.pid, asker.create_time()]


def test_what_a_dead_merge_was_building_elsewhere_goes_and_its_neighbours_stay(workspace, tmp_path):
    out = tmp_path / "elsewhere" / "merged"
    building, neighbour = half_made(out.parent, "merged"), half_made(out.parent, "other")
    job(workspace, worker=(own_start()[0], 1.0), out=str(out))
    assert sweep(workspace) == [building]
    assert neighbour.exists()


def test_jobs_are_kept_for_a_while(workspace):
    done = e.Finished(result={})
    old = job(workspace, ending=done, seconds=JOBS_KEPT_SECONDS + HOUR)
    job(workspace, ending=done, seconds=JOBS_KEPT_SECONDS - HOUR)
    assert sweep(workspace) == [old]


def test_sessions_go_unless_an_engine_holds_the_device(workspace):
    home = workspace.engine("cpu")
    old, young = home / "20260101-000000-abcdef", home / "20260101-000001-abcdef"
    for path in (old, young):
        path.mkdir(parents=True)
    aged(old)
    with FileLock(home / "lock", timeout=0):
        assert sweep(workspace) == []
    assert sweep(workspace) == [old]
    assert young.exists()


def test_runs_themselves_are_never_touched(workspace):
    run = RunFolder.create(workspace, "pirate", {"recipe": {}})
    aged(run.path, 1000 * HOUR)
    assert sweep(workspace) == []
    assert run.is_readable
