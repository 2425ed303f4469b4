"""The hand-written passes against PEFT's and transformers' own, for every family."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from studio.engine import lean, overlay
from studio.engine.batches import Boundaries, MicroBatch
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.load import load_base
from studio.engine.train import Learner
from studio.recipe.recipe import Adapter, Base

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WIDE_HEADS = {"head_dim": 32}
FAMILIES = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": WIDE_HEADS,
    "gemma": WIDE_HEADS,
    "gemma2": WIDE_HEADS,
    "gemma3_text": WIDE_HEADS,
    "olmo2": {},
    "phi3": {},
    "smollm3": {},
    "granite": {},
    "gpt_neox": {"hidden_dropout": 0.0, "num_key_value_heads": None},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "num_key_value_heads": None},
}
WITHOUT_LEAN_MLP = {"phi3", "gpt_neox", "gpt2"}
WITHOUT_LEAN_NORM = {"gpt_neox", "gpt2"}


def small_model(family, dtype=torch.float32):
    torch.manual_seed(0)
    settings = {name: value for name, value in (SIZES | FAMILIES[family]).items() if value is not None}
    config = AutoConfig.for_model(family, **settings)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and parameter.dim() == 1:
                parameter.add_(torch.linspace(-0.3, 0.3, parameter.numel()))
    return model.requires_grad_(False)


def lay_on(model, monkeypatch, lean_passes, **changes):
    """An overlay whose B is not zero, so that every gradient counts."""
    if not lean_passes:
        monkeypatch.setattr(overlay, "make_lean", lambda _: None)
    overlaid = overlay.lay_on(model, Adapter(rank=4, alpha=8, **changes), seed=0)
    monkeypatch.undo()
    torch.manual_seed(1)
    for name, parameter in overlay.trainable(overlaid).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return overlaid


def batch(tokens=32, vocabulary=96):
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, vocabulary, (1, tokens), generator=generator)
    targets = torch.randint(3, vocabulary, (1, tokens), generator=generator)
    return MicroBatch(ids, torch.arange(tokens)[None], targets, torch.arange(tokens), Boundaries.of([tokens]), tokens)


def loss_and_gradients(overlaid, checkpointed=0):
    checkpoint_layers(overlaid.get_base_model(), checkpointed)
    loss = Learner(overlaid).train()(batch())
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in overlay.trainable(overlaid).items()}


def lean_modules(model, forward):
    return [module for module in model.modules() if getattr(vars(module).get("forward"), "__func__", None) is forward]


def relative_error(found, wanted):
    return max(float((found[name] - wanted[name]).norm() / wanted[name].norm()) for name in wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_peft(family, monkeypatch):
    plain_loss, plain = loss_and_gradients(lay_on(small_model(family), monkeypatch, lean_passes=False))
    overlaid = lay_on(small_model(family), monkeypatch, lean_passes=True)
    loss, found = loss_and_gradients(overlaid)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
    assert relative_error(found, plain) < 1e-5
    assert bool(lean_modules(overlaid, lean._mlp_forward)) == (family not in WITHOUT_LEAN_MLP)
    assert bool(lean_modules(overlaid, lean._norm_forward)) == (family not in WITHOUT_LEAN_NORM)


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_layers_give_the_same_gradients(family, monkeypatch):
    _, kept = loss_and_gradients(lay_on(small_model(family), monkeypatch, lean_passes=True))
    _, made_again = loss_and_gradients(lay_on(small_model(family), monkeypatch, lean_passes=True), checkpointed=2)
    assert all(torch.equal(made_again[name], kept[name]) for name in kept)


@pytest.mark.parametrize(("family", "times"), [("llama", 1), ("granite", 1), ("gemma2", 2), ("olmo2", 2)])
def test_the_last_product_of_a_block_is_made_again_only_where_it_is_read(family, times, monkeypatch):
    """Gemma 2 and OLMo 2 norm what their MLPs give back: its value is needed a second time."""
    overlaid = lay_on(small_model(family), monkeypatch, lean_passes=True)
    calls = []
    for name, module in overlaid.named_modules():
        if name.endswith(("gate_proj.base_layer", "down_proj.base_layer")):
            module.register_forward_hook(lambda *_, name=name: calls.append(name.split(".")[-2]))
    loss_and_gradients(overlaid, checkpointed=2)
    assert (calls.count("gate_proj"), calls.count("down_proj")) == (2 * 2, 2 * times)


def test_of_an_unknown_family_everything_is_made_again(monkeypatch):
    model = small_model("llama")
    model.config.model_type = "llama_of_somebody"
    assert not any(m.ends_block for m in lean_modules(lay_on(model, monkeypatch, True), lean._mlp_forward))


@pytest.mark.parametrize("targets", ["attention", ("down_proj",), ("gate_proj", "q_proj")])
def test_an_overlay_on_some_layers_only(targets, monkeypatch):
    plain_loss, plain = loss_and_gradients(lay_on(small_model("llama"), monkeypatch, False, targets=targets))
    loss, found = loss_and_gradients(lay_on(small_model("llama"), monkeypatch, True, targets=targets))
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
    assert relative_error(found, plain) < 1e-5


@pytest.mark.parametrize("changes", [{"dora": True}, {"dropout": 0.5}])
def test_what_is_not_covered_is_left_to_peft(changes, monkeypatch):
    torch.manual_seed(3)
    plain_loss, plain = loss_and_gradients(lay_on(small_model("llama"), monkeypatch, False, **changes))
    overlaid = lay_on(small_model("llama"), monkeypatch, True, **changes)
    loss, found = loss_and_gradients(overlaid)
    if changes.get("dropout"):
        # Other draws, so other numbers: what matters is that something was dropped.
        assert not torch.equal(loss, loss_and_gradients(overlaid)[0])
    else:
        torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
        assert relative_error(found, plain) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_overlay_changes_no_bit_of_the_answers(family, dtype):
    model = small_model(family, dtype).eval()
    ids = batch().ids_BT
    with torch.no_grad():
        wanted = model(input_ids=ids, use_cache=False).logits
        overlaid = overlay.lay_on(model, Adapter(rank=4), seed=0).eval()
        assert torch.equal(overlaid(input_ids=ids, use_cache=False).logits, wanted)


def test_the_base_alone_and_a_second_overlay_go_through_peft(monkeypatch):
    model = small_model("llama").eval()
    ids = batch().ids_BT
    with torch.no_grad():
        base_logits = model(input_ids=ids).logits
        overlaid = lay_on(model, monkeypatch, lean_passes=True).eval()
        own_logits = overlaid(input_ids=ids).logits
        with overlaid.disable_adapter():
            assert torch.equal(overlaid(input_ids=ids).logits, base_logits)
        overlaid.add_adapter("second", overlaid.peft_config["default"])
        overlaid.set_adapter("second")
        assert torch.equal(overlaid(input_ids=ids).logits, base_logits), "its B is zero"
        overlaid.set_adapter("default")
        assert torch.equal(overlaid(input_ids=ids).logits, own_logits)
        bare = overlay.take_off(overlaid)
        assert torch.equal(bare(input_ids=ids).logits, base_logits)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_overlay_is_held_and_learnt_in_the_type_of_the_recipe(dtype, monkeypatch):
    overlaid = lay_on(small_model("llama", torch.bfloat16), monkeypatch, True, dtype=dtype)
    _, found = loss_and_gradients(overlaid)
    types = {p.dtype for p in overlay.trainable(overlaid).values()} | {gradient.dtype for gradient in found.values()}
    assert types == {getattr(torch, dtype)}
    wide = lay_on(small_model("llama", torch.bfloat16), monkeypatch, True, dtype="float32")
    # The products are in the base's type either way: what is held has its own, and no more than its rounding differs.
    assert relative_error(found, loss_and_gradients(wide)[1]) < 0.05


def test_four_bit_layers_learn_the_same(tiny_base, monkeypatch):
    spec = Base(id="x", quantisation="nf4", compute_dtype="float32")

    def learnt(lean_passes):
        model = load_base(tiny_base, spec, torch.device("cpu")).model
        return loss_and_gradients(lay_on(model, monkeypatch, lean_passes))

    (plain_loss, plain), (loss, found) = learnt(False), learnt(True)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
    assert relative_error(found, plain) < 1e-5


def test_laying_on_twice_changes_nothing(monkeypatch):
    overlaid = lay_on(small_model("llama"), monkeypatch, lean_passes=True)
    before = {id(module): vars(module).get("forward") for module in overlaid.modules()}
    lean.make_lean(overlaid)
    assert {id(module): vars(module).get("forward") for module in overlaid.modules()} == before


class Residual(torch.nn.Module):
    """Parts of an MLP put together in another way."""

    def __init__(self, mlp):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj, self.act_fn = (
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
            mlp.act_fn,
        )

    def forward(self, x):
        return x + self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def test_an_mlp_that_does_more_is_left_alone():
    model = small_model("llama")
    layer = model.model.layers[0]
    layer.mlp = Residual(layer.mlp)
    x = torch.randn(1, 4, 64)
    wanted = layer.mlp(x)
    lean.make_lean(layer)
    assert torch.equal(layer.mlp(x), wanted)
    assert not lean_modules(layer, lean._mlp_forward)


class CentredRMSNorm(torch.nn.Module):
    """Called like one, and no such thing."""

    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(torch.ones(width), requires_grad=False), eps

    def forward(self, x):
        return torch.nn.functional.layer_norm(x, self.weight.shape, self.weight, eps=self.eps)


def test_a_norm_that_does_something_else_is_left_alone():
    norm = torch.nn.Sequential(CentredRMSNorm(8))
    lean.make_lean(norm)
    assert not lean_modules(norm, lean._norm_forward)


def test_a_norm_that_learns_is_left_alone():
    norm = torch.nn.Sequential(torch.nn.RMSNorm(8))
    lean.make_lean(norm)
    x = torch.randn(2, 8)
    norm(x).sum().backward()
    assert norm[0].weight.grad is not None
