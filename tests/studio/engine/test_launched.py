"""One run shared by two processes, started as the README says: real `accelerate launch`, real gloo, the tiny base in NF4."""

import os
import queue
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from studio.engine import launched
from studio.engine.launched import SharedOrders, take_part, watched
from studio.engine.lease import lease
from studio.engine.ranks import Ranks
from studio.engine.train import Orders
from studio.errors import BusyError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import new_session, running_engine, start_engine
from studio.runs.launch import command_for, options
from studio.runs.processes import own_start
from studio.runs.state import Status
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.test_train import recipe, run_it, tensors
from tests.studio.test_engine_process import run_of, until

NUM_STEPS = 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "home")
    write_base(workspace.bases / "tiny")
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return workspace


@pytest.fixture
def start():
    """Start a command; what of it still lives after the test is ended."""
    started = []

    def start_it(*command):
        started.append(
            subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start_it
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def on_two(*arguments):
    return (sys.executable, "-m", "accelerate.commands.launch", *options(2, "cpu"), *arguments)


def done(process, code):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == code, out[-3000:]
    return out


def made(home, **changes):
    rows = write_rows(home.root / "rows.jsonl")
    changes = {"training__steps": NUM_STEPS, "keep__checkpoint_every_steps": 10, **changes}
    return recipe("tiny", rows, adapter__dropout=0.0, keep__evaluate_every_steps=10, **changes)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_pause_and_go_on_together(home, start):
    whole, _, _ = run_it(home, made(home))
    # As copied from the window, whose engine has the device but no run.
    idle = start_engine(home, "cpu")
    command = command_for(home, made(home, name="shared"), 2)
    process = start(*shlex.split(command), "--device", "cpu")
    run = run_of(home, "shared")
    until(lambda: run.state().step >= 3, "step 3")
    assert idle.exit_code == 0
    running_engine(home, "cpu").post(w.Pause(run=run.id))
    done(process, 0)
    state = run.state()
    assert (state.status, state.step) == (Status.PAUSED, run.checkpoints()[-1][0])
    assert 3 <= state.step < NUM_STEPS

    done(start(*on_two("-m", "studio.engine", "run", run.path)), 0)
    state = run.state()
    assert state.status is Status.FINISHED
    assert [step for step, _ in state.losses] == list(range(1, NUM_STEPS + 1))
    for ours, theirs in zip(state.steps, whole.state().steps, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
        assert (ours.num_tokens, ours.num_supervised) == (theirs.num_tokens, theirs.num_supervised)
    for ours, theirs in zip(state.evaluations, whole.state().evaluations, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
    for name, tensor in tensors(whole).items():
        torch.testing.assert_close(tensors(run)[name], tensor, rtol=0, atol=1e-4)
    events = run.events.read()
    assert [event.num_processes for event in events if isinstance(event, e.Started)] == [2, 2]
    assert len([event for event in events if isinstance(event, e.StepTaken)]) == NUM_STEPS
    assert len([event for event in events if isinstance(event, e.SampleWritten)]) == len(whole.state().samples)
    assert [step for step, _ in run.checkpoints()] == [step for step, _ in whole.checkpoints()]
    assert {path.name for path in home.adapters.iterdir() if path.is_dir()} == {"shared", "tiny"}


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_run_with_its_own_word(home, tmp_path, start):
    script = tmp_path / "failing.py"
    script.write_text(
        "import os, sys\n"
        "from studio.engine import launched, train\n"
        "from studio.engine.__main__ import main\n"
        "from studio.errors import OutOfMemoryError\n"
        "def fail(*_):\n"
        "    raise OutOfMemoryError('The second card is full.', 'Halve it.')\n"
        "if os.environ['RANK'] == '1':\n"
        "    train.delta_norm = fail\n"
        "sys.exit(main(['run', sys.argv[1]]))\n"
    )
    run = create_run(home, made(home), device="cpu")
    done(start(*on_two(script, run.path)), 1)
    (failed,) = [event for event in run.events.read() if isinstance(event, e.ENDINGS)]
    assert (failed.kind, failed.message, failed.hint) == ("outofmemory", "The second card is full.", "Halve it.")
    assert run.state().status is Status.FAILED


@pytest.mark.slow
def test_a_run_whose_second_rank_runs_out_of_memory_is_launched_again_with_half_the_micro_batch(
    home, tmp_path, start, monkeypatch
):
    (tmp_path / "patch").mkdir()
    # Imported by every Python of this test before anything else.
    (tmp_path / "patch" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        f"happened = Path({str(tmp_path / 'happened')!r})\n"
        "if os.environ.get('RANK') == '1' and not happened.exists():\n"
        "    from studio.engine import train\n"
        "    from studio.errors import OutOfMemoryError\n"
        "    def fail(*_):\n"
        "        happened.touch()\n"
        "        raise OutOfMemoryError('The card is full.')\n"
        "    train.delta_norm = fail\n"
    )
    root = os.fspath(Path(launched.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "patch"), root]))
    command = command_for(home, made(home, name="shared", training__steps=4, training__micro_batch_tokens=400), 2)
    done(start(*shlex.split(command), "--device", "cpu"), 0)
    run = run_of(home, "shared")
    assert (tmp_path / "happened").exists()
    state = run.state()
    assert state.status is Status.FINISHED
    (halving,) = state.halvings
    assert halving.now < halving.was
    assert [step for step, _ in state.losses] == [1, 2, 3, 4]
    starts = [event for event in run.events.read() if isinstance(event, e.Started)]
    assert [event.num_processes for event in starts] == [2, 2]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_run_and_it_goes_on_with_one_process(home, start):
    run = create_run(home, made(home, training__steps=2000), device="cpu")
    process = start(*on_two("-m", "studio.engine", "run", run.path))
    until(lambda: run.state().step >= 12, "step 12")
    ranks = [one for one in psutil.Process(process.pid).children() if "studio.engine" in one.cmdline()]
    (other,) = [one for one in ranks if one.pid != run.state().pid]
    other.kill()
    done(process, 1)
    state = run.state()
    assert state.status is Status.FAILED
    assert "gone" in state.ending.message
    assert "Resume" in state.ending.hint
    assert [event for event in run.events.read() if isinstance(event, e.ENDINGS)][1:] == []


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_pause_together_and_are_gone(home, start):
    run = create_run(home, made(home), device="cpu")
    launcher = start(*on_two("-m", "studio.engine", "run", run.path))
    until(lambda: run.state().step >= 3, "step 3")
    ranks = psutil.Process(launcher.pid).children(recursive=True)
    assert len(ranks) == 2
    launcher.kill()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive
    state = run.state()
    assert (state.status, run.checkpoints()[-1][0]) == (Status.PAUSED, state.step)


def test_no_rank_breaks_a_step_off_for_it_would_leave_the_others_waiting():
    own = Orders()
    own.ending = "stop"
    orders = SharedOrders(Ranks(), own)
    assert own.is_to_break_off()
    assert not orders.is_to_break_off()
    assert orders.is_in_a_hurry()


def test_what_is_launched_but_cannot_be_is_told_and_nothing_is_begun(home, monkeypatch, caplog):
    run = create_run(home, made(home), device="cpu")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert take_part(home, run.path) == launched.EXIT_FAILED
    assert "DeepSpeed cannot be used" in caplog.text
    assert run.events.read() == []


def test_a_busy_device_is_told_and_nothing_is_begun(home, caplog):
    run = create_run(home, made(home), device="cpu")
    with lease(home, "cpu", new_session(home, "cpu")):
        assert take_part(home, run.path) == launched.EXIT_FAILED
    assert "holds cpu" in caplog.text
    assert run.events.read() == []


@pytest.fixture
def peer(monkeypatch):
    """Another rank, a child of ours that does nothing, and a pulse felt at once."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ranks = [list(own_start()), [child.pid, psutil.Process(child.pid).create_time()]]
    monkeypatch.setattr(Ranks, "gathered", lambda *_: ranks)
    monkeypatch.setattr(launched, "PULSE_SECONDS", 0.01)
    yield child
    child.kill()
    child.communicate()


def test_a_rank_left_hanging_by_a_dead_one_says_so_and_leaves(peer, monkeypatch):
    monkeypatch.setattr(launched, "GRACE_SECONDS", 0.01)
    lost, left = [], queue.Queue()
    with watched(Ranks(0, 2), lost.append, left.put):
        peer.kill()
        assert left.get(timeout=60) == launched.EXIT_FAILED
    assert lost == [1]


def test_a_rank_that_ends_by_itself_once_another_is_gone_is_let_end(peer):
    lost, left = queue.Queue(), []
    with watched(Ranks(0, 2), lost.put, left.append):
        peer.kill()
        assert lost.get(timeout=60) == 1
    assert left == []


def test_each_rank_has_its_own_card_to_itself(home):
    with launched._own_card(home, Ranks(1, 2), "cuda-0") as card:
        assert card == "cuda-1"
        with pytest.raises(BusyError, match="holds cuda-1"), launched._own_card(home, Ranks(1, 2), "cuda-0"):
            pass
        with launched._own_card(home, Ranks(2, 3), "cuda-0") as next_card:
            assert next_card == "cuda-2"
    with launched._own_card(home, Ranks(1, 2), "cpu") as cpu, launched._own_card(home, Ranks(2, 3), "cpu"):
        assert cpu == "cpu"
