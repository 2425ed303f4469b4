"""Gradient checkpointing: which blocks forget their activations and make them again in the backward pass.

A checkpointed block keeps its input alone. With offloading not even that stays on the card: it waits in main memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from studio.engine import recompute


def checkpoint_layers(model: PreTrainedModel, count: int, offload: bool = False) -> None:
    """Have the first `count` blocks of `model` keep their input alone (Chen et al. 2016, arXiv 1604.06174).

    The first, not the last: the last blocks' activations are used first and are gone when the others are recomputed. With
    `offload` the inputs are moved to main memory between the passes; the numbers stay the same.
    """
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": recompute.contexts})
    for i, block in enumerate(blocks(model)):
        block.gradient_checkpointing = i < count
        if offload:
            block._gradient_checkpointing_func = _offloaded_checkpoint


def blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The blocks of a language model, first to last."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _offloaded_checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    # These hooks see the block's inputs alone: what the block itself saves goes through the hooks of `checkpoint`.
    with saved_tensors_hooks(to_main_memory, from_main_memory):
        return checkpoint(function, *inputs, use_reentrant=False, context_fn=recompute.contexts)


def to_main_memory(tensor: Tensor) -> tuple[torch.device, Tensor]:
    """A copy in page-locked memory, which a card reads and writes by itself while it computes."""
    is_card = tensor.device.type == "cuda"
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_card)
    return tensor.device, copy.copy_(tensor, non_blocking=is_card)


def from_main_memory(packed: tuple[torch.device, Tensor]) -> Tensor:
    """Back to where it came from."""
    device, copy = packed
    return copy.to(device, non_blocking=True)
