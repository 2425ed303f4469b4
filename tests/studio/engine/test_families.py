"""Model families in miniature: each must load in 4 bits, start as its base, keep packed rows apart, learn, and merge."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from studio.engine import overlay
from studio.engine.batches import collate
from studio.engine.desk import Desk
from studio.engine.imports import import_base
from studio.engine.load import load_base
from studio.engine.loss import IGNORED
from studio.engine.merge import merge
from studio.engine.train import Learner
from studio.errors import BaseModelError
from studio.library import adapter as library
from studio.models.bases import find_base
from studio.recipe.recipe import Adapter, Base
from studio.runs.state import Status
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.test_train import CPU, ROWS, recipe, run_it

# PEFT sets it right by itself for GPT-2, whose weights lie the other way round.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "dtype": "float32",
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma2": {"final_logit_softcapping": 30.0, "query_pre_attn_scalar": 16, "sliding_window": 8},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window": 8},
    "phi3": {},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 4.0},
    "gpt_neox": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 128},
}


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases") / request.param
    tokenizer = make_tokenizer()
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(request.param, **{**SIZES, **ids, **FAMILIES[request.param]})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and parameter.dim() == 2:
                parameter.normal_(0, 0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def learner(base):
    loaded = load_base(base, Base(id="x", compute_dtype="float32"), CPU)
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        alone = loaded.model(input_ids=ids).logits
        overlaid = overlay.lay_on(loaded.model, Adapter(rank=4), seed=3)
        assert torch.equal(overlaid(input_ids=ids).logits, alone)
    return Learner(overlaid)


def test_the_loss_is_that_of_the_model_itself(learner):
    """Ours never makes the logits of a batch; the model's own forward pass does, with all that its family does to them."""
    batch = collate([[ROWS[1]]], 0)
    with torch.no_grad():
        ours = learner(batch)
        logits = learner.overlaid(input_ids=batch.ids_BT, use_cache=False).logits.float()
        theirs = torch.nn.functional.cross_entropy(
            logits[0], batch.targets_BT[0], ignore_index=IGNORED, reduction="sum"
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_packed_rows_are_as_good_as_alone(learner):
    packed = collate([[ROWS[1], ROWS[4], ROWS[2]]], 0, multiple=64)
    with torch.no_grad():
        together = learner(packed)
        alone = sum(learner(collate([[row]], 0)) for row in (ROWS[1], ROWS[4], ROWS[2]))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_every_layer_learns(learner):
    with torch.no_grad():
        for name, parameter in overlay.trainable(learner.overlaid).items():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    learner(collate([[row] for row in ROWS], 0)).backward()
    idle = [
        name
        for name, p in overlay.trainable(learner.overlaid).items()
        if p.grad is None or not float(p.grad.abs().sum())
    ]
    assert idle == []


@pytest.mark.slow
def test_it_is_imported_trained_and_merged(base, workspace, rows_file, tmp_path):
    record = import_base(workspace, str(base), "mine", lambda *_: None)
    made = recipe("mine", rows_file, training__steps=3, training__learning_rate=3e-2, adapter__dropout=0.0)
    run, _, _ = run_it(workspace, made)
    state = run.state()
    assert state.status is Status.FINISHED
    adapter = library.read(workspace.adapters / state.adapter)
    assert adapter.base_fingerprint == record["fingerprint"]
    merge(find_base(workspace, "mine"), adapter, tmp_path / "merged", None, lambda *_: None)
    desk, ids = Desk(CPU), torch.arange(10, 60)[None]
    desk.lay_base(find_base(workspace, "mine"), Base(id="mine", quantisation="none", compute_dtype="float32"))
    with torch.no_grad(), desk.lane(adapter.path) as (overlaid, _, _):
        expected = overlaid(input_ids=ids).logits
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_what_transformers_does_not_know_is_refused(workspace, tmp_path):
    with pytest.raises(BaseModelError, match="neither a folder nor"):
        import_base(workspace, str(tmp_path / "nothing"), None, lambda *_: None)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(BaseModelError, match=r"cannot import a\.gguf"):
        import_base(workspace, str(tmp_path / "a.gguf"), None, lambda *_: None)
    (tmp_path / "b.gguf").write_bytes(b"no such thing")
    with pytest.raises(BaseModelError, match="no GGUF file"):
        import_base(workspace, str(tmp_path / "b.gguf"), None, lambda *_: None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(BaseModelError):
        import_base(workspace, str(tmp_path / "empty"), None, lambda *_: None)
    assert not list(workspace.bases.glob("*")) if workspace.bases.exists() else True
