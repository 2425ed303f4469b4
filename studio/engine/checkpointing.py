"""Gradient checkpointing: which blocks forget their activations and make them again in the backward pass.

A checkpointed block keeps its input alone. With offloading not even that stays on the card: it waits in main memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import varlen
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from studio.engine import offload as offloading
from studio.engine import recompute
from studio.engine.cpu_attention import attend_side_by_side
from studio.engine.offload import Ferry

# Every operation that attends in one piece: packed rows on a card, whole rows on older ones; on a CPU a long conversation, or
# many short ones.
_ATTENTION = [
    varlen._varlen_attn._opoverload,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    attend_side_by_side._opoverload,
]


def checkpoint_layers(
    model: PreTrainedModel,
    count: int,
    offload: bool = False,
    keep_attention: bool = False,
    reuse_weights: bool = False,
) -> None:
    """Have the first `count` blocks of `model` keep their input alone (Chen et al. 2016, arXiv 1604.06174).

    The first, not the last: the last blocks' activations are used first and are gone when the others are recomputed. With
    `offload` the inputs are moved to main memory between the passes; with `keep_attention` what attention gave is kept as
    well, and not computed again; with `reuse_weights` the 4-bit weights that a block unpacks when it runs again stay until its
    gradients are made. The numbers stay the same.
    """
    contexts = _attention_kept if keep_attention else recompute.contexts
    options: dict[str, Any] = {"context_fn": partial(contexts, reuse_weights)}
    model.activation_checkpointing_enable({"use_reentrant": False, **options})
    ferry = Ferry(offloading.lanes_of(model.device)) if offload else None
    for i, block in enumerate(blocks(model)):
        block.gradient_checkpointing = i < count
        if ferry is not None:
            block._gradient_checkpointing_func = partial(_offloaded_checkpoint, ferry, options)


def _attention_kept(reuse_weights: bool) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a block's first run and of its second, in which attention answers as it did in the first."""
    first, second = create_selective_checkpoint_contexts(_ATTENTION)
    return recompute.contexts_around(first, second, reuse_weights)


def stop_checkpointing(model: PreTrainedModel) -> None:
    """Training is over: no block runs again, and main memory that was held for their inputs is free."""
    checkpoint_layers(model, 0)


def blocks(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The blocks of a language model, first to last."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _offloaded_checkpoint(ferry: Ferry, options: dict[str, Any], function: Callable[..., Any], *inputs: Any) -> Any:
    # The ferry sees the block's inputs alone: what the block itself saves goes through the hooks of `checkpoint`.
    with ferry.carrying():
        return checkpoint(function, *inputs, use_reentrant=False, **options)
