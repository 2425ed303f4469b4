"""A base cut up among two processes by real FSDP2 over gloo: the tiny base in real NF4, launched as the README says."""

import signal
import subprocess
import sys

import psutil
import pytest
import torch

from studio.engine.launched import EXIT_FAILED, take_part
from studio.engine.serve import Server
from studio.engine.sharded import check_sharding, take_over
from studio.errors import BusyError, StudioError
from studio.places import Workspace
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import new_session
from studio.runs.state import Status
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.test_train import StopAfter, recipe, run_it, tensors

# Rows of one micro-batch each, an odd number of them: the ranks differ in how often they have something to compute.
UNEVEN = {"training__batch_rows": 3, "training__micro_batch_tokens": None, "training__micro_batch_rows": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "home")
    write_base(workspace.bases / "tiny")
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return workspace


def made(home, **changes):
    rows = write_rows(home.root / "rows.jsonl")
    return recipe("tiny", rows, **{"adapter__dropout": 0.0, "training__steps": 6, **UNEVEN, **changes})


def launched(*command):
    """What came of two processes, launched to share `command` and a base: exit code and output. None outlives the test."""
    options = ["--use_fsdp", "--fsdp_version", "2", "--num_machines", "1", "--num_processes", "2"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *options, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=180)
        return process.returncode, out
    finally:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()


# What each rank holds of the blocks' frozen weights, beside the run.
WEIGHED = """
import sys
from pathlib import Path
from studio.engine import run, sharded
from studio.engine.__main__ import main
from studio.engine.checkpointing import blocks

def weighed(model, device, ranks, shard=sharded.shard):
    shard(model, device, ranks)
    frozen = [p for block in blocks(model) for p in block.parameters() if not p.requires_grad]
    Path(sys.argv[2], str(ranks.index)).write_text(str(sum(p.to_local().nbytes for p in frozen)))

run.shard = weighed
sys.exit(main(["run", sys.argv[1]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("checkpointed", "from_step"), [("none", 0), ("all", 2)])
def test_a_base_cut_up_among_two_processes_learns_what_a_whole_one_does(home, tmp_path, checkpointed, from_step):
    whole, _, desk = run_it(home, made(home, memory__checkpointing=checkpointed))
    run = create_run(home, made(home, name="cut", memory__checkpointing=checkpointed), device="cpu")
    if from_step:
        # Begun by one process, whose base is whole.
        run_it(home, made(home), StopAfter(from_step, "pause"), run)
    script = tmp_path / "weighed.py"
    script.write_text(WEIGHED)
    code, out = launched(script, run.path, tmp_path)
    assert code == 0, out[-3000:] + run.log.read_text()[-3000:]

    state = run.state()
    assert state.status is Status.FINISHED
    for ours, theirs in zip(state.steps, whole.state().steps, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
        assert ours.delta_norm == pytest.approx(theirs.delta_norm, rel=1e-4)
    for ours, theirs in zip(state.evaluations, whole.state().evaluations, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
    assert [sample.text for sample in state.samples] == [sample.text for sample in whole.state().samples]
    assert tensors(run).keys() == tensors(whole).keys()
    for name, tensor in tensors(whole).items():
        torch.testing.assert_close(tensors(run)[name], tensor, rtol=0, atol=1e-4)
    held = [int((tmp_path / str(index)).read_text()) for index in range(2)]
    layers = desk.model.get_base_model().base_model.layers
    assert sum(held) == sum(p.nbytes for name, p in layers.named_parameters() if "lora" not in name)
    assert held[0] == held[1]
    assert [step for step, _ in run.checkpoints()] == [step for step, _ in whole.checkpoints()]


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter__dora": True},
        {"base__quantisation": "int8"},
        {"training__compile": True},
        {"memory__offload": True},
        {"memory__embeddings_on_cpu": True},
    ],
)
def test_what_a_cut_up_base_cannot_do_is_told_before_anything_is_begun(home, monkeypatch, caplog, changes):
    run = create_run(home, made(home, **changes), device="cpu")
    for name, value in {"ACCELERATE_USE_FSDP": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert take_part(home, run.path) == EXIT_FAILED
    (setting,) = changes
    assert setting.replace("__", ".") in caplog.text
    assert run.events.read() == []


def test_a_recipe_of_usual_settings_can_be_sharded_and_the_launchers_wish_is_taken_over(home):
    check_sharding(made(home), {"FSDP_OFFLOAD_PARAMS": "false"})
    with pytest.raises(StudioError, match="--fsdp_offload_params"):
        check_sharding(made(home), {"FSDP_OFFLOAD_PARAMS": "true"})
    environment = {"ACCELERATE_USE_FSDP": "true"}
    assert take_over(environment)
    assert environment == {}
    assert not take_over(environment)


def test_a_question_during_such_a_run_is_refused_and_not_left_hanging(home, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    server = Server(home, "cpu", new_session(home, "cpu"), to_shard=True)
    asked = w.Say(ask="1", base=str(home.bases / "tiny"), quantisation="nf4", lanes=[""], turns=[[]], sampling={})
    with pytest.raises(BusyError, match="cut up"):
        server.answer_within(asked, None)
