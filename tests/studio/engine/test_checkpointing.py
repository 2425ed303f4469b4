"""Blocks that forget: the same numbers, less memory, and what is moved to main memory is the blocks' inputs alone."""

from __future__ import annotations

import pytest
import torch

from studio.engine import checkpointing, overlay
from studio.engine.checkpointing import blocks, checkpoint_layers
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
    real_to, real_from = checkpointing.to_main_memory, checkpointing.from_main_memory
    monkeypatch.setattr(checkpointing, "to_main_memory", lambda tensor: there.append(tensor) or real_to(tensor))
    monkeypatch.setattr(checkpointing, "from_main_memory", lambda packed: back.append(packed[1]) or real_from(packed))
    inputs = []

    def noted(_module, args):
        inputs.append(args[0])

    hooks = [block.register_forward_pre_hook(noted) for block in blocks(model)]
    checkpoint_layers(model, 3, offload=True)
    loss = learner(batch)
    for hook in hooks:
        hook.remove()
    assert back == []
    # Where there is no kernel for packed rows, GPT-2 is called with its mask as well.
    moved = [tensor for tensor in there if tensor.numel() and tensor.is_floating_point()]
    assert len(moved) == 3
    assert all(one is inputs[i] for i, one in enumerate(moved))
    assert sum(tensor.nbytes for tensor in moved) == 3 * batch.ids_BT.numel() * HIDDEN * 4
    loss.backward()
    assert len(there) == len(back)
    # The next run on the same base may want them on the card again.
    there.clear()
    checkpoint_layers(model, 3)
    learner(batch).backward()
    assert there == []


def test_a_moved_tensor_comes_back_as_it_was():
    for tensor in (torch.randn(3, 5).bfloat16(), torch.randn(4, 6).T, torch.arange(3)):
        packed = checkpointing.to_main_memory(tensor)
        assert packed[1].data_ptr() != tensor.data_ptr()
        found = checkpointing.from_main_memory(packed)
        assert torch.equal(found, tensor)
        assert (found.dtype, found.device) == (tensor.dtype, tensor.device)
