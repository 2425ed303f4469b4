"""A checkpoint taken into the library by hand."""

import json
import struct
from pathlib import Path

import pytest

from studio import files
from studio.errors import AdapterError, DamagedError, NotFoundError
from studio.library import shelf
from studio.library.adapter import CONFIG
from studio.library.promote import as_peft, is_promoted, promote
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.folder import RunFolder
from tests.studio.library import folders
from tests.studio.runs.test_state import STARTED, step

A = f"base_model.model.{folders.LAYER}.lora_A.default.weight"
B = f"base_model.model.{folders.LAYER}.lora_B.default.weight"


def checkpoint(run: RunFolder, number: int, seed: int = 0) -> Path:
    with files.new_folder(run.checkpoint(number)) as folder:
        shapes = {A: (folders.RANK, folders.HIDDEN), B: (folders.HIDDEN, folders.RANK)}
        folders.write_safetensors(folder / "adapter.safetensors", shapes, seed=seed)
    return run.checkpoint(number)


@pytest.fixture
def run(tmp_path):
    workspace = Workspace(tmp_path)
    base = folders.make_base(workspace.bases / "small")
    job = {
        "base": {"id": "small", "path": str(base)},
        "data": {"path": str(tmp_path / "rows.jsonl")},
        "inputs": {"base": "sha256:1", "dataset": "2", "chat template": "3"},
        "versions": {},
        "recipe": {"base": {"id": "small"}, "data": {"path": "rows.jsonl"}, "adapter": {"rank": 2, "alpha": 4}},
    }
    made = RunFolder.create(workspace, "pirate", job)
    (made.path / CONFIG).write_text(json.dumps(folders.CONFIG))
    for event in (STARTED, step(1, 3.0), step(2, 2.0), step(3, 1.0)):
        made.events.post(event)
    made.events.post(e.Evaluated(step=2, loss=1.5, num_supervised=9))
    made.events.post(e.Evaluated(step=3, loss=1.8, num_supervised=9))
    return made


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_a_checkpoint_becomes_an_adapter_that_says_where_it_comes_from(workspace, run):
    checkpoint(run, 2)
    (Path(run.job["base"]["path"]) / "tokenizer_config.json").write_text("{}")
    adapter = promote(workspace, run, 2)
    assert adapter.name == "pirate-step-2"
    assert shelf.check(adapter) == []
    assert (adapter.run, adapter.rank, adapter.base) == (run.id, 2, "small")
    assert (adapter.metrics["steps"], adapter.metrics["loss"], adapter.metrics["evaluation_loss"]) == (2, 2.0, 1.5)
    assert is_promoted(adapter)
    assert (adapter.path / "tokenizer_config.json").is_file()
    assert str(workspace.root) not in "".join(
        path.read_text() for path in adapter.path.iterdir() if path.suffix in (".json", ".md")
    )
    assert [path.name for path in run.path.iterdir() if "promoted" in path.name] == []
    assert promote(workspace, run, 2).name == "pirate-step-2-2"


def test_names_are_those_of_peft_and_numbers_the_same_bytes(tmp_path):
    shapes = {A: (2, 8), B: (8, 2), f"{folders.LAYER}.lora_magnitude_vector.default.weight": (8,)}
    folders.write_safetensors(tmp_path / "x", shapes)
    data = (tmp_path / "x").read_bytes()
    made = as_peft(data)
    (length,) = struct.unpack_from("<Q", made)
    header = json.loads(made[8 : 8 + length])
    (before,) = struct.unpack_from("<Q", data)
    assert made[8 + length :] == data[8 + before :]
    assert length % 8 == 0
    assert header.pop("__metadata__") == {"format": "pt"}
    assert list(header) == [
        A.replace(".default", ""),
        B.replace(".default", ""),
        f"{folders.LAYER}.lora_magnitude_vector",
    ]


def test_a_checkpoint_that_is_gone_spoilt_or_of_an_unknown_kind_is_refused(workspace, run):
    checkpoint(run, 2)
    with pytest.raises(NotFoundError, match="step 3") as gone:
        promote(workspace, run, 3)
    assert "2" in gone.value.hint
    (checkpoint(run, 4) / "adapter.safetensors").write_bytes(b"x")
    with pytest.raises(DamagedError, match="step 4"):
        promote(workspace, run, 4)
    (run.path / CONFIG).unlink()
    with pytest.raises(AdapterError, match=CONFIG):
        promote(workspace, run, 2)
    assert shelf.list_adapters(workspace) == []
