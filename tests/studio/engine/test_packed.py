"""Weights that a block keeps from its second run to its gradients: the same numbers, unpacked once less, and gone afterwards."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from studio.engine import overlay, packed
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.load import load_base
from studio.engine.train import Learner
from studio.recipe.recipe import Adapter, Base
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.test_checkpointing import same
from tests.studio.engine.test_lean import FAMILIES, SIZES, batch

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
NUM_LAYERS = SIZES["num_hidden_layers"]
# Queries, keys, values, what attention gave, gate and up: all but the last, which the second run leaves out.
NUM_KEPT = 6


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Quantised bases, made on first use."""
    folders = {}

    def loaded(family, quantisation="nf4", dtype="bfloat16"):
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp("bases") / family
            sizes = {name: value for name, value in (SIZES | FAMILIES[family]).items() if value is not None}
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**sizes))
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name.endswith("bias"):
                        parameter.normal_(std=0.1)
            model.save_pretrained(folders[family])
            make_tokenizer().save_pretrained(folders[family])
        spec = Base(id="x", quantisation=quantisation, compute_dtype=dtype)
        return load_base(folders[family], spec, torch.device("cpu")).model

    return loaded


def overlaid_on(model, **changes):
    overlaid = overlay.lay_on(model, Adapter(rank=4, alpha=8, **changes), seed=0)
    torch.manual_seed(1)
    for name, parameter in overlay.trainable(overlaid).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return overlaid


def numbers(overlaid, num_layers=NUM_LAYERS, **kept):
    checkpoint_layers(overlaid.get_base_model(), num_layers, **kept)
    parameters = list(overlay.trainable(overlaid).values())
    for parameter in parameters:
        parameter.grad = None
    torch.manual_seed(2)  # dropout draws from here
    loss = Learner(overlaid).train()(batch())
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in parameters]


class Unpacked(TorchDispatchMode):
    """How often a weight is unpacked, by itself or within a product, and which of those weights are there."""

    def __init__(self):
        super().__init__()
        self.number = self.most = 0
        self._seen = []

    @property
    def alive(self):
        return sum(seen() is not None for seen in self._seen)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        self.number += name in ("bitsandbytes.dequantize_4bit", "bitsandbytes.gemm_4bit")
        if name == "bitsandbytes.dequantize_4bit":
            self._seen.append(weakref.ref(result.untyped_storage()))
        self.most = max(self.most, self.alive)
        return result


@pytest.mark.parametrize("kept", [{}, {"offload": True}, {"keep_attention": True}, {"num_layers": 1}],
                         ids=lambda kept: "-".join(kept) or "all")  # fmt: skip
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3", "gpt_neox", "gpt2"])
def test_no_bit_of_any_gradient_changes(base_of, family, kept):
    """Among them biases, norms behind the MLP, fused layers, and MLPs without a gate."""
    overlaid = overlaid_on(base_of(family))
    with Unpacked() as before:
        expected = numbers(overlaid, **kept)
    with Unpacked() as after:
        found = numbers(overlaid, **kept, reuse_weights=True)
    assert same(found, expected)
    assert after.number < before.number


@pytest.mark.parametrize(("quantisation", "dtype"), [("fp4", "bfloat16"), ("nf4", "float32"), ("nf4", "float16")])
def test_other_types_likewise(base_of, quantisation, dtype):
    overlaid = overlaid_on(base_of("llama", quantisation, dtype))
    assert same(numbers(overlaid, reuse_weights=True), numbers(overlaid))


def test_every_weight_of_a_layer_but_the_last_is_unpacked_once_less(base_of):
    overlaid = overlaid_on(base_of("llama"))
    counts = []
    for num_layers, reuse in ((0, False), (0, True), (1, False), (1, True), (2, False), (2, True)):
        with Unpacked() as unpacked:
            numbers(overlaid, num_layers, reuse_weights=reuse)
        counts.append(unpacked.number)
    once = 2 * 7 * NUM_LAYERS
    assert counts == [once, once, once + NUM_KEPT, once, once + 2 * NUM_KEPT, once]


def test_the_weights_of_one_layer_are_there_at_a_time_and_none_after_the_step(base_of):
    overlaid = overlaid_on(base_of("llama"))
    with Unpacked() as unpacked:
        numbers(overlaid, reuse_weights=True)
    assert unpacked.most == NUM_KEPT + 1  # the last is unpacked for its own gradient
    assert unpacked.alive == 0


def test_a_pass_that_goes_no_further_or_fails_leaves_no_weight_behind(base_of):
    overlaid = overlaid_on(base_of("llama"))
    model, learner = overlaid.get_base_model(), Learner(overlaid).train()
    checkpoint_layers(model, NUM_LAYERS, reuse_weights=True)
    with Unpacked() as unpacked:
        loss = learner(batch())
        assert (unpacked.number, unpacked.alive) == (7 * NUM_LAYERS, 0)

        def fail(_gradient):
            raise RuntimeError("no more")

        # Between the gradients of the MLP, whose weights are used by then, and those of attention.
        norm = model.model.layers[0].post_attention_layernorm
        norm.register_forward_hook(lambda _module, _args, out: out.register_hook(fail) and None)
        loss = learner(batch())
        with pytest.raises(RuntimeError, match="no more"):
            loss.backward()
        assert unpacked.alive
        del loss
    assert unpacked.alive == 0


@pytest.mark.parametrize("changes", [{"dora": True}, {"dropout": 0.5}])
def test_layers_that_peft_computes_go_on_as_ever(base_of, changes):
    overlaid = overlaid_on(base_of("llama"), targets="attention", **changes)
    assert same(numbers(overlaid, reuse_weights=True), numbers(overlaid))


@pytest.mark.parametrize("quantisation", ["none", "int8"])
def test_without_four_bits_there_is_nothing_to_keep(base_of, quantisation):
    overlaid = overlaid_on(base_of("llama", quantisation))
    assert same(numbers(overlaid, reuse_weights=True), numbers(overlaid))


@pytest.mark.parametrize(
    ("num_tokens", "num_weights", "is_fused"),
    [(512, 4096 * 1024, True), (513, 4096 * 1024, False), (1536, 4096 * 1023, True), (1537, 64, False)],
)
def test_on_a_card_few_tokens_are_left_to_the_kernel_that_unpacks_nothing(num_tokens, num_weights, is_fused):
    """bitsandbytes' own limits: there an unpacked weight would be more work, and round in another way."""
    assert packed._is_fused("cuda", num_tokens, num_weights) is is_fused
    assert not packed._is_fused("cpu", num_tokens, num_weights)


def test_a_product_that_is_left_to_that_kernel_keeps_nothing(base_of, monkeypatch):
    overlaid = overlaid_on(base_of("llama"))
    with Unpacked() as before:
        expected = numbers(overlaid)
    monkeypatch.setattr(packed, "_is_fused", lambda _device, num_tokens, _weights: num_tokens == batch().num_tokens)
    with Unpacked() as after:
        assert same(numbers(overlaid, reuse_weights=True), expected)
    assert after.number == before.number
