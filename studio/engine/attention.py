"""Attention over packed rows without a mask: each conversation attends to itself alone.

transformers turns restarting positions into a dense mask of T x T entries, which costs time and memory that grow with the
square of the row and shuts out the fast kernels. Boundaries say the same: on NVIDIA cards from Ampere on PyTorch's
variable-length kernel takes them, on a CPU `studio.engine.cpu_attention` does. Older cards keep the mask.

Shapes: B rows, T tokens per row, N query heads, K key-value heads, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn as _card_kernel
from transformers import AttentionInterface, PreTrainedModel

from studio.engine.batches import Boundaries
from studio.engine.cpu_attention import attend_within
from studio.models.families import FAMILIES

VARLEN = "varlen"
_MAX_HEAD_SIZE = 256
_OLDEST_CAPABILITY = (8, 0)


def varlen_attn(
    query_XND: Tensor,
    key_XKD: Tensor,
    value_XKD: Tensor,
    starts_S: Tensor,
    starts_of_keys_S: Tensor,
    longest: int,
    longest_of_keys: int,
    **options: Any,
) -> Tensor:
    """PyTorch's kernel on a card; on a CPU the same from one conversation to the next. X = B x T; returns (X, N, D)."""
    if query_XND.is_cuda:
        out = _card_kernel(
            query_XND, key_XKD, value_XKD, starts_S, starts_of_keys_S, longest, longest_of_keys, **options
        )
        assert isinstance(out, Tensor)
        return out
    lengths = tuple(starts_S.diff().tolist())
    return attend_within(query_XND, key_XKD, value_XKD, lengths, options["scale"], options["window_size"])


def attend(
    _module: nn.Module,
    query_BNTD: Tensor,
    key_BKTD: Tensor,
    value_BKTD: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    boundaries: Boundaries | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each stretch of `boundaries`; what transformers calls an attention function.

    Returns (B, T, N, D). A window of w tokens reaches w - 1 back. Scores are never dropped out: LoRA's dropout lies elsewhere.
    """
    assert boundaries is not None, "chat goes through another attention function"
    assert attention_mask is None, "the boundaries say all that a mask would"
    rows, _, length, _ = query_BNTD.shape
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query_BNTD, key_BKTD, value_BKTD))
    starts = boundaries.starts_S.to(query.device, non_blocking=True)
    out = varlen_attn(
        query,
        key,
        value,
        starts,
        starts,
        boundaries.longest,
        boundaries.longest,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.unflatten(0, (rows, length)), None


AttentionInterface.register(VARLEN, attend)


def prefer_varlen(model: PreTrainedModel) -> None:
    """Train with `attend` where this device, this model and its data type allow it; else leave the model as it is."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        allowed = suits(model) and torch.cuda.get_device_capability(device) >= _OLDEST_CAPABILITY
    else:
        allowed = hands_boundaries_through(model)
    if allowed:
        model.config._attn_implementation = VARLEN


def forget_boundaries(model: nn.Module) -> None:
    """Training is over: whoever calls the model now hands no boundaries over."""
    config: Any = model.config
    if config._attn_implementation == VARLEN:
        config._attn_implementation = "sdpa"


def suits(model: PreTrainedModel) -> bool:
    """Whether a card's kernel can stand in for the model's attention: 16 bit, and heads that it takes."""
    text = model.config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    is_half = model.dtype in (torch.bfloat16, torch.float16)
    return hands_boundaries_through(model) and is_half and size <= _MAX_HEAD_SIZE


def hands_boundaries_through(model: PreTrainedModel) -> bool:
    """Whether the model's attention is fused already, and of a family that is known to pass on what it does not know.

    Some do not, and Qwen2-MoE's keeps its windows to itself.
    """
    text = model.config.get_text_config()
    hides_windows = text.model_type == "qwen2_moe" and "sliding_attention" in (text.layer_types or ())
    if text.model_type not in FAMILIES or hides_windows:
        return False
    return bool(model.config._attn_implementation == "sdpa")


@contextmanager
def for_answers(model: nn.Module) -> Iterator[None]:
    """The model's usual attention, which knows key-value caches, for as long as it answers."""
    config: Any = model.config
    if config._attn_implementation != VARLEN:
        yield
        return
    config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = VARLEN
