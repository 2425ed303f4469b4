"""Frozen weights that may be packed in four bits: products with them, and what stays unpacked for their gradients.

bitsandbytes unpacks a weight for each product with it, and once more for the input's gradient. A block that is run again for the
sake of its gradients may keep them in between (`studio.engine.recompute`), with not a bit of any number changed: for many tokens
bitsandbytes itself does nothing but unpack and multiply, and for few, where a card has other kernels, it is left alone.

Shapes: T tokens, I features in, O features out.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor
from torch.nn import functional

from studio.engine.recompute import is_second_time, reuses_weights

# Up to so many tokens bitsandbytes (0.50, `gemm_4bit`) has kernels for a card that multiply without unpacking the weight; for
# weights below the third number, up to the second.
_FUSED_TOKENS, _FUSED_TOKENS_SMALL, _LARGE_WEIGHT = 512, 1536, 4 * 1024**2


def frozen_product(x: Tensor, base: Any) -> tuple[Tensor, Tensor | None]:
    """W x, and W (O, I) for the backward pass where it is kept.

    In a block's first run, of which nothing stays, an empty tensor stands for W: what is saved must look the same in both runs.
    """
    if not _keeps_weight(x, base):
        return base(x), None
    weight_OI = unpacked(base, x.dtype)
    out = functional.linear(x, weight_OI, None if base.bias is None else base.bias.to(x.dtype))
    return out, weight_OI if is_second_time() else x.new_empty(()).expand(weight_OI.shape)


def unpacked(base: Any, dtype: torch.dtype) -> Tensor:
    """W (O, I), unpacked if it is in four bits."""
    if isinstance(base, bnb.nn.Linear4bit):
        return dequantize_4bit(base.weight.data, _constants(base)).to(dtype)
    weight: Tensor = base.weight
    return weight


def _keeps_weight(x: Tensor, base: Any) -> bool:
    if not reuses_weights() or not isinstance(base, bnb.nn.Linear4bit):
        return False
    constants = _constants(base)
    is_whole = not _is_fused(x.device.type, x.numel() // x.shape[-1], constants.shape.numel())
    return is_whole and bool(constants.dtype == x.dtype)


def _is_fused(device: str, num_tokens: int, num_weights: int) -> bool:
    return device != "cpu" and num_tokens <= (_FUSED_TOKENS if num_weights >= _LARGE_WEIGHT else _FUSED_TOKENS_SMALL)


def _constants(base: Any) -> Any:
    # A sharded weight is an ordinary tensor while it is whole: its constants stay on the layer (`engine/sharded.py`).
    return getattr(base.weight, "quant_state", base.quant_state)
