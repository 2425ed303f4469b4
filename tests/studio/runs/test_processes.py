"""Real processes: who dies with whom, and who is left alone."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from studio.runs import events as e
from studio.runs.processes import is_alive, kill, pulse
from studio.runs.watchdog import Watchdog

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import os, signal, sys
from studio.runs.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
print("ready", flush=True)
signal.pause()
"""
PARENT = f"""
import os, signal, subprocess, sys
how = sys.argv[1]
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())], stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
decoy = subprocess.Popen([sys.executable, "-c", {CHILD.replace("die_with_parent(int(sys.argv[1]))", "")!r}, "decoy"],
                         stdout=subprocess.PIPE, start_new_session=True)
decoy.stdout.readline()
print(child.pid, decoy.pid, flush=True)
if how == "exits":
    sys.exit(0)
signal.pause()
"""


def python(code, *arguments):
    return psutil.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, cwd=ROOT)


@pytest.mark.parametrize("how", ["killed", "terminated", "exits"])
def test_a_child_dies_with_its_parent_however_that_ends_and_a_decoy_lives_on(how):
    parent = python(PARENT, how)
    child, decoy = map(psutil.Process, map(int, parent.stdout.readline().split()))
    try:
        if how != "exits":
            parent.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        parent.wait()
        gone, _ = psutil.wait_procs([child], timeout=20)
        assert [process.pid for process in gone] == [child.pid]
        assert decoy.is_running()
        assert decoy.status() != psutil.STATUS_ZOMBIE
    finally:
        parent.stdout.close()
        for process in (child, decoy):
            if process.is_running():
                process.kill()


def test_one_whose_parent_was_gone_before_it_could_ask_ends_at_once():
    nobody = python("")
    nobody.wait()
    nobody.stdout.close()
    late = python(CHILD, str(nobody.pid))
    assert late.stdout.read() == b""
    assert late.wait(20) == -signal.SIGKILL
    late.stdout.close()


def test_a_number_that_belongs_to_somebody_else_by_now_is_neither_alive_nor_killed_nor_felt():
    other = python("import signal; print(1, flush=True); signal.pause()")
    other.stdout.readline()
    started = other.create_time()
    try:
        assert not is_alive(other.pid, started - 60.0)
        assert not kill(other.pid, started - 60.0)
        assert pulse(other.pid, started - 60.0) is None
        assert is_alive(other.pid, started)
        assert kill(other.pid, started)
        assert other.wait(20) == -signal.SIGKILL
        assert not kill(other.pid, started)
        assert pulse(other.pid, started) is None
    finally:
        other.stdout.close()


def test_the_pulse_of_a_process_counts_its_children_in():
    family = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True)\\nwhile True: pass'])"
    parent = python(family)
    try:
        parent.stdout.readline()
        started = parent.create_time()
        before = now = pulse(parent.pid, started)
        while now.cpu - before.cpu < 0.3:
            now = pulse(parent.pid, started)
        assert now.at > before.at
        assert not now.is_stopped
        assert psutil.Process(parent.pid).cpu_times().user < 0.3 + before.cpu
    finally:
        for process in [*parent.children(), parent]:
            process.kill()
        parent.wait()
        parent.stdout.close()


def test_a_process_that_waits_for_the_others_at_a_shared_run_is_not_taken_for_idle():
    launcher = python(
        "import subprocess, sys; run = lambda code: subprocess.Popen([sys.executable, '-c', code]); "
        "one = run('import signal; signal.pause()'); other = run('while True: pass'); print(one.pid, flush=True); other.wait()"
    )
    first = psutil.Process(int(launcher.stdout.readline()))
    family = launcher.children()
    try:
        who = first.pid, first.create_time()
        dog = Watchdog()
        dog.hear(e.Started(pid=who[0], process_started=who[1], device="cpu", num_processes=2))
        assert dog.is_shared
        before = now = pulse(*who, is_shared=dog.is_shared)
        while now.cpu - before.cpu < 0.3:
            now = pulse(*who, is_shared=dog.is_shared)
        assert pulse(*who).cpu < 0.3
    finally:
        for process in [*family, launcher]:
            process.kill()
        launcher.wait()
        launcher.stdout.close()


def test_a_job_ends_with_who_has_asked_for_it(tmp_path):
    code = (
        "import signal, sys; from pathlib import Path; from studio.places import Workspace; from studio.runs import jobs; "
        "job = jobs.start_job(Workspace(Path(sys.argv[1])), 'import', {'source': 'nowhere'}); "
        "print(job.process.pid, job.path, flush=True); signal.pause()"
    )
    asker = python(code, str(tmp_path))
    pid, folder = asker.stdout.readline().decode().split()
    worker = psutil.Process(int(pid))
    asker.kill()
    asker.wait()
    asker.stdout.close()
    _, alive = psutil.wait_procs([worker], timeout=60)
    assert not alive
    assert not (Path(folder) / "events.jsonl").exists(), "it did not come to its own end"
