"""Blocks that forget: the same numbers, less memory, and what is moved to main memory is the blocks' inputs alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn
from torch.utils._python_dispatch import TorchDispatchMode

from studio.engine import checkpointing, overlay
from studio.engine import offload as offloading
from studio.engine.checkpointing import blocks, checkpoint_layers
from studio.engine.offload import PlainLanes
from studio.engine.train import Learner
from studio.models.families import FAMILIES
from studio.recipe.recipe import Adapter
from tests.studio.engine.test_attention import BATCHES, build, loss_and_gradients

pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
NUM_LAYERS, HIDDEN = 4, 64


def learner_of(model, dropout=0.0):
    overlaid = overlay.lay_on(model, Adapter(rank=4, targets="attention", dropout=dropout), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in overlay.trainable(overlaid).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return Learner(overlaid).train()


def numbers(learner, seed=7):
    torch.manual_seed(seed)  # dropout draws from here
    return loss_and_gradients(learner, BATCHES["both"])


def same(one, other):
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_blocks_of_every_family_are_found_in_order(family):
    model = build(family)
    found = blocks(model)
    numbered = [
        name for name, _ in model.named_modules() if name.rsplit(".", 1)[-1].isdigit() and "experts" not in name
    ]
    in_order = [model.get_submodule(name) for name in sorted(numbered, key=lambda name: int(name.rsplit(".", 1)[-1]))]
    assert len(found) == NUM_LAYERS
    assert all(one is other for one, other in zip(found, in_order, strict=True))
    # PEFT's wrapping hides none of them.
    overlaid = overlay.lay_on(model, Adapter(rank=4, targets="attention"), seed=3)
    assert blocks(overlaid) == found


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "phi3", "qwen3_moe"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_forgetting_changes_no_number(family, dropout):
    model = build(family)
    learner = learner_of(model, dropout)
    expected = numbers(learner)
    for count, offload in ((NUM_LAYERS, False), (1, False), (0, False), (NUM_LAYERS, True), (2, True)):
        checkpoint_layers(model, count, offload)
        assert [block.gradient_checkpointing for block in blocks(model)] == [i < count for i in range(NUM_LAYERS)]
        assert same(numbers(learner), expected), (count, offload)


def test_dropout_is_really_on_in_that_comparison():
    learner = learner_of(build("llama"), dropout=0.3)
    assert not same(numbers(learner, seed=7), numbers(learner, seed=8))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
def test_only_the_inputs_of_forgetful_blocks_are_moved(family, monkeypatch):
    model = build(family)
    learner, batch = learner_of(model), BATCHES["both"]
    there, back = [], []

    class Noting(PlainLanes):
        def send(self, source, into, after):
            there.append(source)
            return super().send(source, into, after)

        def fetch(self, source, device, after):
            back.append(source)
            return super().fetch(source, device, after)

    monkeypatch.setattr(offloading, "lanes_of", lambda _device: Noting())
    inputs = []

    def noted(_module, args):
        inputs.append(args[0])

    hooks = [block.register_forward_pre_hook(noted) for block in blocks(model)]
    checkpoint_layers(model, 3, offload=True)
    loss = learner(batch)
    for hook in hooks:
        hook.remove()
    assert back == []
    assert len(there) == 3
    assert all(one is inputs[i] for i, one in enumerate(there))
    assert sum(tensor.nbytes for tensor in there) == 3 * batch.ids_BT.numel() * HIDDEN * 4
    loss.backward()
    # The last one has not yet been let go when it is wanted again.
    assert len(back) == 2
    # The next run on the same base may want them on the card again.
    there.clear()
    checkpoint_layers(model, 3)
    learner(batch).backward()
    assert there == []


# --- what attention gave is kept ------------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """How often attention was computed, forwards."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func in checkpointing._ATTENTION
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "phi3"])
@pytest.mark.parametrize("offload", [False, True])
def test_attention_that_is_kept_is_computed_once_and_no_number_changes(family, offload):
    model = build(family)
    learner = learner_of(model, dropout=0.3)
    found = []
    for count, keep in ((0, False), (3, False), (3, True)):
        checkpoint_layers(model, count, offload, keep)
        with Calls() as calls:
            found.append((numbers(learner), calls.number))
    (expected, once), (again, twice), (kept, spared) = found
    assert once
    assert once % NUM_LAYERS == 0
    assert (twice, spared) == (once + 3 * once // NUM_LAYERS, once)
    assert same(again, expected)
    assert same(kept, expected)


def test_scores_in_full_are_computed_again_all_the_same():
    model = build("gemma2")
    learner = learner_of(model)
    expected = numbers(learner)
    checkpoint_layers(model, 3, keep_attention=True)
    assert same(numbers(learner), expected)


def test_the_kernel_for_packed_rows_on_a_card_is_among_those_that_are_kept():
    query = torch.randn(6, 2, 8, device="meta", requires_grad=True)
    starts = torch.tensor([0, 6], dtype=torch.int32, device="meta")
    with Calls() as calls:
        varlen_attn(query, query, query, starts, starts, 6, 6, window_size=(-1, 0))
    assert calls.number == 1
