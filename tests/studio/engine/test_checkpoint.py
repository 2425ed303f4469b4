"""Optimizer states through a checkpoint: torch's, and those of bitsandbytes that a card would use."""

import subprocess
import sys

import bitsandbytes as bnb
import pytest
import torch
from torch import nn

from studio import files
from studio.engine import checkpoint
from studio.engine.train import make_optimizer, make_rate
from studio.errors import ChangedError, DamagedError, DiskFullError
from studio.recipe.recipe import Recipe
from studio.runs.folder import RunFolder
from tests.studio.engine.file_operations import IN_NEED_OF_ROOM, at_operation, full, intercepted, operations

NUM_STEPS = 12


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        # bitsandbytes keeps tensors of fewer than 4,096 elements in 32 bits: one of each kind.
        self.large = nn.Parameter(torch.randn(96, 64))
        self.small = nn.Parameter(torch.randn(16))


def optimizers():
    return {
        "torch": lambda p: torch.optim.AdamW(p, lr=1e-2),
        "8bit": lambda p: bnb.optim.AdamW8bit(p, lr=1e-2),
        "32bit": lambda p: bnb.optim.AdamW32bit(p, lr=1e-2),
    }


class Trainee:
    def __init__(self, kind):
        self.model = Model()
        self.optimizer = optimizers()[kind](list(self.model.parameters()))
        self.rate = make_rate(Recipe(), self.optimizer, NUM_STEPS)

    def steps(self, first, last):
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            for parameter in self.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator) + torch.rand(parameter.shape)
            self.optimizer.step()
            self.rate.step()

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


@pytest.fixture
def run(workspace):
    return RunFolder.create(workspace, "x", {"inputs": {"base": "sha256:1", "dataset": "2"}})


@pytest.mark.parametrize("kind", ["torch", "8bit", "32bit"])
def test_an_optimizer_goes_on_as_if_it_had_never_stopped(run, kind):
    whole = Trainee(kind)
    torch.manual_seed(7)
    whole.steps(0, 5)
    checkpoint.save(run, 5, whole.model, whole.optimizer, whole.rate, keep=2)
    whole.steps(5, 9)

    resumed = Trainee(kind)
    step, folder = checkpoint.newest(run)
    assert checkpoint.restore(run, folder, resumed.model, resumed.optimizer, resumed.rate) == step == 5
    resumed.steps(5, 9)
    assert torch.equal(resumed.weights(), whole.weights())
    assert resumed.rate.get_last_lr() == whole.rate.get_last_lr()


def test_nothing_of_a_checkpoint_is_a_pickle(run):
    trainee = Trainee("8bit")
    trainee.steps(0, 1)
    folder = checkpoint.save(run, 1, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_a_checkpoint_of_other_inputs_is_refused_by_name(run, workspace):
    trainee = Trainee("torch")
    trainee.steps(0, 1)
    folder = checkpoint.save(run, 1, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    other = RunFolder.create(workspace, "y", {"inputs": {"base": "sha256:other", "dataset": "2"}})
    with pytest.raises(ChangedError, match="another base"):
        checkpoint.restore(other, folder, trainee.model, trainee.optimizer, trainee.rate)


@pytest.mark.parametrize("missing", ["adapter.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
def test_a_checkpoint_without_one_of_its_parts_is_none(run, missing):
    trainee = Trainee("torch")
    trainee.steps(0, 2)
    checkpoint.save(run, 1, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    folder = checkpoint.save(run, 2, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    (folder / missing).unlink()
    assert checkpoint.newest(run)[0] == 1
    assert not folder.exists()


def test_without_room_at_any_operation_the_checkpoints_before_stay_and_the_need_is_told(run):
    trainee = Trainee("torch")
    trainee.steps(0, 3)

    def save(step):
        return checkpoint.save(run, step, trainee.model, trainee.optimizer, trainee.rate, keep=2)

    size = sum(path.stat().st_size for path in save(1).rglob("*"))
    save(2)
    made = operations(lambda: save(3))
    kept = made.index("rename")  # from here on the new one is there
    files.remove(run.checkpoint(3))
    for number, name in enumerate(made[: kept + 1], 1):
        if name not in IN_NEED_OF_ROOM or (name == "mkdir" and number != made.index("mkdir") + 1):
            continue  # of the folders one alone is new
        with pytest.raises(DiskFullError, match="are needed") as caught, intercepted(at_operation(number, full)):
            save(3)
        assert caught.value.needs_bytes > size / 2
        assert [step for step, _ in run.checkpoints()] == [2], name
        assert not files.damage(run.checkpoint(2))
        assert not list(run.path.rglob(".*"))
    save(3)
    assert [step for step, _ in run.checkpoints()] == [2, 3]


def test_older_checkpoints_go_only_when_the_new_one_was_read_back(run, monkeypatch):
    trainee = Trainee("torch")
    trainee.steps(0, 1)
    for step in (1, 2):
        checkpoint.save(run, step, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    monkeypatch.setattr(files, "damage", lambda _: ["x has been changed or damaged."])
    with pytest.raises(DamagedError, match="step 3"):
        checkpoint.save(run, 3, trainee.model, trainee.optimizer, trainee.rate, keep=2)
    monkeypatch.undo()
    assert [step for step, path in run.checkpoints() if not files.damage(path)] == [1, 2, 3]


TOO_LARGE = """
import resource, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from studio import files
from studio.errors import DiskFullError

resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    with files.new_folder(Path(sys.argv[1])) as folder:
        save_file({"x": torch.zeros(1 << 20)}, folder / "x.safetensors")
except DiskFullError as error:
    print(error.message)
"""


def test_a_disk_that_fills_up_while_a_library_writes_is_named(tmp_path):
    """The system itself refuses the write: safetensors passes that on in words of its own."""
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(tmp_path / "x")], capture_output=True, text=True, check=False
    )
    assert "is full" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "on_card"),
    [("paged_adamw_8bit", bnb.optim.PagedAdamW8bit), ("adamw_8bit", bnb.optim.AdamW8bit),
     ("paged_adamw_32bit", bnb.optim.PagedAdamW32bit), ("adamw_torch", torch.optim.AdamW)],
)  # fmt: skip
def test_a_card_gets_the_wished_optimizer_and_a_cpu_the_plain_one(wanted, on_card):
    recipe = Recipe(training={"optimizer": wanted, "weight_decay": 0.1})
    parameters = list(Model().parameters())
    on_cpu = make_optimizer(recipe, parameters, torch.device("cpu"))
    assert type(on_cpu) is torch.optim.AdamW
    assert on_cpu.param_groups[0]["weight_decay"] == 0.1
    if wanted != "adamw_torch":  # torch's fused one asks for real parameters on a card
        assert type(make_optimizer(recipe, parameters, torch.device("cuda"))) is on_card
