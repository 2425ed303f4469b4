import os
import subprocess
import sys

import pytest

from studio.errors import DamagedError, DiskFullError, NotFoundError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.folder import RunFolder, find_run, list_runs
from studio.runs.processes import is_alive, own_start, signal_name
from studio.runs.state import Status


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def started(pid, when):
    return e.Started(pid=pid, process_started=when, device="cpu")


def test_names_from_users_become_folders_inside_the_workspace(workspace):
    for name in ("pirate", "../../etc", "a/b", "", "con", "x" * 300):
        run = RunFolder.create(workspace, name, {})
        assert run.path.parent == workspace.runs
        assert run.name == name


def test_two_runs_of_one_name_are_two_runs(workspace):
    first, second = (RunFolder.create(workspace, "pirate", {}) for _ in range(2))
    assert first.id != second.id
    assert find_run(workspace, first.id) == first
    assert find_run(workspace, "pirate") in (first, second)


def test_a_run_never_appears_without_its_job(workspace, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DiskFullError):
        RunFolder.create(workspace, "pirate", {})
    monkeypatch.undo()
    assert list(list_runs(workspace)) == []
    assert [path.name for path in workspace.runs.iterdir()] == [".lock"]


def test_an_unknown_run_is_refused_and_a_damaged_one_does_not_hide_the_others(workspace):
    with pytest.raises(NotFoundError):
        find_run(workspace, "nobody")
    run = RunFolder.create(workspace, "good", {})
    (workspace.runs / "zzz").mkdir()
    (workspace.runs / "zzz" / "job.json").write_text("{broken")
    assert find_run(workspace, "good") == run
    assert len(list(list_runs(workspace))) == 2
    with pytest.raises(DamagedError):
        _ = find_run(workspace, "zzz").job


def test_a_run_whose_engine_is_gone_gets_its_last_word_once(workspace):
    child = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    run = RunFolder.create(workspace, "killed", {})
    run.events.post(started(child.pid, 0.0))
    code = child.wait()
    run.log.write_text("one\ntwo\n")
    assert run.bury(code, signal_name(code)).status is Status.INTERRUPTED
    run.bury()
    died = [event for event in run.events.read() if isinstance(event, e.Died)]
    assert [(event.exit_code, event.signal, event.last_lines) for event in died] == [(-9, "SIGKILL", ["one", "two"])]


def test_a_living_engine_is_not_buried(workspace):
    run = RunFolder.create(workspace, "alive", {})
    run.events.post(started(*own_start()))
    assert run.bury().status is Status.LOADING


def test_a_pid_used_again_by_someone_else_is_not_our_engine():
    pid, when = own_start()
    assert is_alive(pid, when)
    assert not is_alive(pid, when - 100)
    assert not is_alive(2**22 + 1, when)


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    import psutil

    when = psutil.Process(child.pid).create_time()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid, when)
    child.wait()
