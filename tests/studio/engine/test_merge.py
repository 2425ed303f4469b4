import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from studio import files
from studio.engine import merge as merging
from studio.engine.compare import agreement
from studio.engine.desk import Desk
from studio.engine.merge import merge
from studio.errors import AdapterError, DiskFullError, DivergedError, StudioError
from studio.library import adapter as library
from studio.models.bases import find_base
from studio.recipe.recipe import Base
from tests.studio.engine.conftest import write_base
from tests.studio.engine.test_train import CPU, recipe, run_it

IDS = torch.arange(10, 60)[None]


def quiet(*_):
    pass


@pytest.fixture
def trained(workspace, tiny_base, rows_file):
    def make(**changes):
        changes = {"training__learning_rate": 3e-2, "adapter__dropout": 0.0} | changes
        run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, **changes))
        return library.read(workspace.adapters / run.state().adapter)

    return make


def overlaid_logits(workspace, base, adapter):
    desk = Desk(CPU)
    desk.lay_base(find_base(workspace, str(base)), Base(id="x", quantisation="none", compute_dtype="float32"))
    with torch.no_grad(), desk.lane(adapter.path) as (model, _, _):
        return model(input_ids=IDS).logits


def merged_logits(path):
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)(input_ids=IDS).logits


@pytest.mark.parametrize(
    "changes", [{}, {"adapter__rslora": True}, {"adapter__targets": ("q_proj", "down_proj")}, {"adapter__rank": 1}]
)
def test_a_merged_model_says_what_base_and_adapter_say(workspace, tiny_base, trained, tmp_path, changes):
    adapter = trained(**changes)
    base = find_base(workspace, str(tiny_base))
    result = merge(base, adapter, tmp_path / "merged", None, quiet)
    expected = overlaid_logits(workspace, tiny_base, adapter)
    torch.testing.assert_close(merged_logits(tmp_path / "merged"), expected, rtol=0, atol=1e-4)
    assert not torch.allclose(merged_logits(tiny_base), expected, atol=1e-2)
    assert result["receipt"]["delta_lost"] == 0.0
    assert files.damage(tmp_path / "merged") == []


def test_dora_is_merged_with_its_magnitude(workspace, tiny_base, trained, tmp_path):
    adapter = trained(adapter__dora=True, base__quantisation="none")
    merge(find_base(workspace, str(tiny_base)), adapter, tmp_path / "merged", None, quiet)
    expected = overlaid_logits(workspace, tiny_base, adapter)
    torch.testing.assert_close(merged_logits(tmp_path / "merged"), expected, rtol=0, atol=2e-4)


def test_many_shards_are_one_model(workspace, tiny_base, trained, tmp_path, monkeypatch):
    adapter = trained()
    base = find_base(workspace, str(tiny_base))
    merge(base, adapter, tmp_path / "one", None, quiet)
    monkeypatch.setattr(merging, "SHARD_BYTES", 60_000)
    merge(base, adapter, tmp_path / "many", None, quiet)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert torch.equal(merged_logits(tmp_path / "many"), merged_logits(tmp_path / "one"))
    assert (
        find_base(workspace, str(tmp_path / "many")).fingerprint
        == find_base(workspace, str(tmp_path / "one")).fingerprint
    )


def test_rounding_is_measured(workspace, tiny_base, trained, tmp_path):
    adapter, base = trained(), find_base(workspace, str(tiny_base))
    lost = {
        dtype: merge(base, adapter, tmp_path / dtype, dtype, quiet)["receipt"]["delta_lost"]
        for dtype in ("float32", "float16", "bfloat16")
    }
    assert 0 == lost["float32"] < lost["float16"] < lost["bfloat16"] < 1
    assert load_file(tmp_path / "float16" / "model.safetensors")["model.norm.weight"].dtype == torch.float16
    assert json.loads((tmp_path / "bfloat16" / "config.json").read_text())["dtype"] == "bfloat16"


def test_the_comparison_tells_a_good_merge_from_a_bad_one(workspace, tiny_base, trained, tmp_path):
    adapter, base = trained(), find_base(workspace, str(tiny_base))
    merge(base, adapter, tmp_path / "good", None, quiet)
    good = agreement(workspace, base, adapter.path, tmp_path / "good")
    bad = agreement(workspace, base, adapter.path, tiny_base)
    assert good["top1_agreement"] > 0.97
    assert good["kl_mean"] < 1e-3 < bad["kl_mean"]


def test_the_wrong_base_is_refused(workspace, trained, tmp_path):
    other = write_base(tmp_path / "other", seed=9)
    with pytest.raises(AdapterError, match="another base"):
        merge(find_base(workspace, str(other)), trained(), tmp_path / "merged", None, quiet)
    assert not (tmp_path / "merged").exists()


def test_a_base_of_another_shape_is_refused_even_for_an_adapter_of_unknown_origin(workspace, trained, tmp_path):
    adapter = trained()
    (adapter.path / "overlay.json").unlink()
    other = write_base(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(AdapterError, match="has no weight"):
        merge(find_base(workspace, str(other)), library.read(adapter.path), tmp_path / "merged", None, quiet)


def test_an_adapter_with_a_nan_is_refused(workspace, tiny_base, trained, tmp_path):
    from safetensors.torch import save_file

    adapter = trained()
    weights = adapter.path / "adapter_model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(DivergedError):
        merge(find_base(workspace, str(tiny_base)), library.read(adapter.path), tmp_path / "merged", None, quiet)


def test_nothing_is_overwritten_and_a_full_disk_leaves_nothing(workspace, tiny_base, trained, tmp_path, monkeypatch):
    adapter, base = trained(), find_base(workspace, str(tiny_base))
    (tmp_path / "taken").mkdir()
    with pytest.raises(StudioError, match="exists already"):
        merge(base, adapter, tmp_path / "taken", None, quiet)
    monkeypatch.setattr(files, "free_bytes", lambda _folder: 1000)
    with pytest.raises(DiskFullError, match="are needed"):
        merge(base, adapter, tmp_path / "merged", None, quiet)
    assert [path.name for path in tmp_path.glob("*merged*")] == []
