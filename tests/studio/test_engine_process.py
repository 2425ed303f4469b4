"""The command line and the real engine process, killed in the middle of things. The base is tiny, all else is real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from studio.places import Workspace
from studio.recipe.toml import save
from studio.runs import events as e
from studio.runs.engine import running_engine
from studio.runs.folder import find_run
from studio.runs.state import Status
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.test_train import recipe

pytestmark = pytest.mark.slow
_started: list[subprocess.Popen[str]] = []


@pytest.fixture
def home(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "home")
    write_base(workspace.bases / "tiny")
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    yield workspace
    for process in _started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    _started.clear()
    engine = running_engine(workspace, "cpu")
    if engine is not None:
        psutil.Process(engine.pid).kill()


def overlay(*arguments, **options):
    command = [sys.executable, "-m", "studio.cli", *map(str, arguments)]
    _started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options))
    return _started[-1]


def done(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, (out[-2000:], err[-2000:])
    return out, err


def document(*arguments):
    return json.loads(done(overlay(*arguments, "--json"))[0])


def write_recipe(home, steps, **changes):
    rows = write_rows(home.root / "rows.jsonl")
    made = recipe(
        "tiny", rows, training__steps=steps, keep__checkpoint_every_steps=5, keep__sample_every_steps=0, **changes
    )
    save(made, home.root / "recipe.toml")
    return home.root / "recipe.toml"


def until(condition, what, seconds=120):
    """Wait for something another process does; a test that waits in vain says for what."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.02)
    return found


def run_of(home, name="tiny"):
    def look():
        runs = sorted(home.runs.glob(f"*_{name}"))
        return find_run(home, runs[-1].name) if runs else None

    return until(look, "the run's folder")


def at_step(home, step):
    run = run_of(home)
    until(lambda: run.state().step >= step, f"step {step}")
    return run


def losses(out):
    return {
        event["step"]: event["loss"] for event in map(json.loads, out.splitlines()) if event["event"] == "StepTaken"
    }


def test_train_chat_and_merge_by_command(home, tmp_path):
    out, _ = done(overlay("train", write_recipe(home, 8), "--json"))
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "Finished"
    name, run = events[-1]["adapter"], events[-1]["run"]
    assert len(losses(out)) == 8
    assert document("runs", "show", run)["losses"] == [[s, loss] for s, loss in losses(out).items()]
    assert [one["name"] for one in document("adapters")] == [name]
    chat = document(
        "chat",
        "--base",
        "tiny",
        "--lanes",
        f"base,{name},base",
        "--prompt",
        "Who are you?",
        "--temperature",
        0,
        "--max-tokens",
        12,
    )
    base, adapted, again = chat["lanes"]
    assert (base["text"], base["fingerprint"]) == (again["text"], "")
    assert adapted["fingerprint"].startswith("sha256:")
    merged = document("merge", name, "--out", tmp_path / "merged")
    assert merged["receipt"]["top1_agreement"] > 0.9
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert running_engine(home, "cpu") is None


def test_a_killed_engine_is_named_and_the_run_goes_on_as_if_unbroken(home):
    recipe_file = write_recipe(home, 120)
    whole = losses(done(overlay("train", recipe_file, "--json"))[0])
    process = overlay("train", recipe_file, "--name", "broken", "--json")
    run = run_of(home, "broken")
    until(lambda: run.state().step >= 12, "step 12")
    os.kill(run.state().pid, signal.SIGKILL)
    before, said = done(process, 2)
    assert "killed" in said
    (listed,) = [one for one in document("runs") if one["run"] == run.id]
    assert listed["state"] == "interrupted"
    after, _ = done(overlay("resume", "broken", "--json"))
    assert {**losses(before), **losses(after)} == whole
    assert run.state().losses == sorted(whole.items())
    assert json.loads(after.splitlines()[-1])["event"] == "Finished"


ALLOCATOR = """
import importlib.abc, importlib.machinery, sys

class Allocator(importlib.abc.MetaPathFinder):
    'From its 31st training pass on, no process has room for a micro-batch of more than {tokens} tokens.'

    def find_spec(self, name, path, target=None):
        if name != "studio.engine.train":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            module.Learner.forward = allocating(module.Learner.forward)
        spec.loader.exec_module = exec_module
        return spec

def allocating(forward):
    num_seen = 0
    def allocate(learner, batch):
        nonlocal num_seen
        num_seen += learner.training
        if num_seen > 30 and batch.num_tokens > {tokens}:
            import torch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(learner, batch)
    return allocate

sys.meta_path.insert(0, Allocator())
"""


@pytest.fixture
def scarce(home, tmp_path, monkeypatch):
    """A recipe of 60 steps, after 30 of which memory runs out unless half as much is computed at a time."""
    (tmp_path / "sitecustomize.py").write_text(ALLOCATOR.format(tokens=120))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return write_recipe(home, 60, training__batch_rows=4, training__micro_batch_tokens=512)


def test_memory_that_runs_out_costs_no_run(home, scarce):
    out, said = done(overlay("train", scarce, "--json"))
    state = run_of(home).state()
    (halving,) = state.halvings
    assert (halving.was, halving.now) == (240, 120)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["from_step"] for event in events if event["event"] == "Started"] == [0, (halving.step - 1) // 5 * 5]
    assert events[-1]["event"] == "Finished"
    assert [step for step, _ in state.losses] == list(range(1, 61))
    assert "The micro-batch is halved" in said
    assert running_engine(home, "cpu") is None


def test_memory_that_runs_out_while_nobody_watches_costs_no_run_either(home, scarce):
    process = overlay("train", scarce, "--json", start_new_session=True)
    run = at_step(home, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: run.state().status is Status.FINISHED, "the end of the run")
    assert len(run.state().halvings) == 1
    assert len(run.state().losses) == 60
    until(lambda: running_engine(home, "cpu") is None, "the end of an engine nobody attends")


def test_a_killed_watcher_costs_nothing(home):
    process = overlay("train", write_recipe(home, 60), "--json", start_new_session=True)
    run = at_step(home, 5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: run.state().status is Status.FINISHED, "the end of the run")
    assert len(run.state().losses) == 60
    until(lambda: running_engine(home, "cpu") is None, "the end of an engine nobody attends")


def test_stop_from_another_terminal_saves_and_resume_goes_on(home):
    process = overlay("train", write_recipe(home, 2000), "--json")
    run = at_step(home, 3)
    assert document("stop", run.id) == {"run": run.id, "state": "stopped"}
    assert json.loads(done(process)[0].splitlines()[-1])["event"] == "Stopped"
    state = run.state()
    assert run.checkpoints()[-1][0] == state.step
    assert (home.adapters / state.adapter / "adapter_model.safetensors").is_file()


def test_ctrl_c_saves(home):
    process = overlay("train", write_recipe(home, 2000), "--json")
    at_step(home, 3)
    process.send_signal(signal.SIGINT)
    out, said = done(process)
    assert json.loads(out.splitlines()[-1])["event"] == "Stopped"
    assert "Traceback" not in said


def test_one_engine_per_device_and_a_busy_one_is_left_alone(home):
    recipe_file = write_recipe(home, 2000)
    process = overlay("train", recipe_file, "--json")
    run = at_step(home, 2)
    _, said = done(overlay("train", recipe_file, "--name", "second", "--json"), 2)
    assert run.id in said
    assert not list(home.runs.glob("*second"))
    document("stop", run.id)
    done(process)


def test_a_run_in_progress_answers_between_its_steps(home):
    process = overlay("train", write_recipe(home, 2000), "--json")
    run = at_step(home, 2)
    chat = document("chat", "--base", "tiny", "--lanes", "base", "--prompt", "Who are you?", "--max-tokens", 4)
    assert chat["lanes"][0]["num_tokens"] >= 0
    assert run.state().status is Status.RUNNING
    document("stop", run.id)
    done(process)


def bad(home, name):
    recipe_file = write_recipe(home, 4)
    text = recipe_file.read_text()
    if name == "base":
        recipe_file.write_text(text.replace('id = "tiny"', 'id = "nobody"'))
    elif name == "data":
        (home.root / "rows.jsonl").unlink()
    elif name == "empty":
        (home.root / "rows.jsonl").write_text("")
    elif name == "weights":
        (home.bases / "tiny" / "model.safetensors").unlink()
    elif name == "three":
        text = text.replace("rank = 4", "rank = 0").replace("batch_rows", "batch_rovs").replace('"cosine"', '"zigzag"')
        recipe_file.write_text(text)
    return recipe_file


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("base", ["nobody", "overlay bases add"]),
        ("data", ["rows.jsonl"]),
        ("empty", ["rows.jsonl"]),
        ("weights", ["weights"]),
        ("three", ["adapter.rank", "batch_rows", "schedule"]),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_nothing_is_begun(home, name, words):
    out, said = done(overlay("train", bad(home, name), "--json"), 2)
    assert out == ""
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    runs = list(home.runs.glob("*_*")) if home.runs.exists() else []
    assert all(find_run(home, run.name).state().status is Status.FAILED for run in runs)


def test_the_engine_opens_no_port_and_holds_no_terminal(home):
    process = overlay("train", write_recipe(home, 2000), "--json")
    run = at_step(home, 2)
    engine = psutil.Process(run.state().pid)
    assert [c for c in engine.net_connections() if c.status == psutil.CONN_LISTEN] == []
    assert os.getsid(engine.pid) != os.getsid(0)
    document("stop", run.id)
    done(process)


def test_a_job_that_dies_is_told(home, monkeypatch):
    from studio.runs import jobs

    job = jobs.start_job(home, "import", {"source": "starter", "name": "x"})
    os.kill(job.process.pid, signal.SIGKILL)
    died = until(lambda: [event for event in job.read() if isinstance(event, e.Died)], "the last word")
    assert died[0].signal == "SIGKILL"
    assert "SIGKILL" in jobs.failure(died[0]).message
    assert job.read() == []
    assert Path(job.path).is_dir()
