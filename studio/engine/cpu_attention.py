"""Attention within each conversation of a packed row, on a processor.

PyTorch's fused kernel is made for long rows: on chats of a hundred tokens its backward pass in 16 bit takes three times as long
as the products need. Short conversations are therefore laid side by side, padded to the longest of their like, and attended to
in a few batched products; their scores are small enough to exist as a whole, and are made again for the gradient. Long ones go
through the kernel, one by one.

Shapes: X tokens, S conversations of up to M tokens, P = S x M places, N query heads, K key-value heads, G = N / K, D head size.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_SHORT = 256
_MOST_PADDING = 1.25  # places to tokens: what a group of unequal lengths may cost


def attend_within(
    query_XND: Tensor,
    key_XKD: Tensor,
    value_XKD: Tensor,
    lengths: tuple[int, ...],
    scale: float | None,
    window_size: tuple[int, int],
) -> Tensor:
    """Causal attention of each of these stretches to itself, (X, N, D); a token sees `window_size[0]` back, -1 for all."""
    runs = [tuple(run) for _, run in groupby(lengths, lambda length: length <= _SHORT)]
    pieces = [piece for run in runs for piece in ([run] if run[0] <= _SHORT else [(length,) for length in run])]
    parts = zip(*(x.split([sum(piece) for piece in pieces]) for x in (query_XND, key_XKD, value_XKD)), strict=True)
    scale = query_XND.shape[-1] ** -0.5 if scale is None else scale
    outs = [
        _ShortRows.apply(query, key, value, piece, scale, window_size[0])
        if piece[0] <= _SHORT
        else _attend_to_one(query, key, value, scale, window_size[0])
        for piece, (query, key, value) in zip(pieces, parts, strict=True)
    ]
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _attend_to_one(query_TND: Tensor, key_TKD: Tensor, value_TKD: Tensor, scale: float, reach: int) -> Tensor:
    length = query_TND.shape[0]
    query, key, value = (x.transpose(0, 1)[None] for x in (query_TND, key_TKD, value_TKD))
    mask = ~_hidden(length, reach) if 0 <= reach < length - 1 else None
    is_grouped = query.shape[1] != key.shape[1]
    out = functional.scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=is_grouped
    )
    return out[0].transpose(0, 1)


def _hidden(length: int, reach: int) -> Tensor:
    """What a token does not see: those after it, and those more than `reach` before it."""
    ages = torch.arange(length)[:, None] - torch.arange(length)
    return (ages < 0) | (ages > reach) if reach >= 0 else ages < 0


# --- short conversations, side by side -------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Conversations of like length: the tokens that are theirs, the place of each, and the token at each place.

    A place behind a conversation's end repeats its last token: no token before it looks there.
    """

    tokens_X: Tensor
    where_X: Tensor
    places_P: Tensor
    longest: int


@lru_cache(maxsize=8)
def _groups(lengths: tuple[int, ...]) -> tuple[_Group, ...]:
    starts = [0, *accumulate(lengths)]
    members: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = [*members[-1], i] if members else []
        if group and len(group) * lengths[group[0]] <= _MOST_PADDING * sum(lengths[j] for j in group):
            members[-1] = group
        else:
            members.append([i])
    return tuple(_group([(starts[i], lengths[i]) for i in group]) for group in members)


def _group(stretches: list[tuple[int, int]]) -> _Group:
    longest = stretches[0][1]
    places = torch.arange(longest)
    return _Group(
        tokens_X=torch.cat([start + places[:length] for start, length in stretches]),
        where_X=torch.cat([i * longest + places[:length] for i, (_, length) in enumerate(stretches)]),
        places_P=torch.cat([start + places.clamp_max(length - 1) for start, length in stretches]),
        longest=longest,
    )


class _ShortRows(torch.autograd.Function):
    """Scores, softmax and sum as batched products over conversations and key-value heads. Saves its inputs alone."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float, reach: int
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.settings = lengths, scale, reach
        return attend_side_by_side(query, key, value, list(lengths), scale, reach)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value = ctx.saved_tensors
        lengths, scale, reach = ctx.settings
        d_query, d_key, d_value = (torch.empty_like(x) for x in (query, key, value))
        for group in _groups(lengths):
            q, k, v = (_laid(x, group, key.shape[1]) for x in (query, key, value))
            d_out = _laid(gradients[0], group, key.shape[1], is_gradient=True)
            shares = _shares(q, k, group.longest, scale, reach)
            _put(d_value, torch.bmm(shares.mT, d_out), group)
            d_shares = torch.bmm(d_out, v.mT)
            d_scores = torch.ops.aten._softmax_backward_data(d_shares, shares, -1, shares.dtype).mul_(scale)
            _put(d_query, torch.bmm(d_scores, k), group)
            _put(d_key, torch.bmm(d_scores.mT, q), group)
        return d_query, d_key, d_value, None, None, None


@torch.library.custom_op("overlay::attend_side_by_side", mutates_args=())
def attend_side_by_side(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float, reach: int
) -> Tensor:
    """An operation with a name of its own, so that a checkpointed block may keep what it gave."""
    out_XND = torch.empty_like(query)
    for group in _groups(tuple(lengths)):
        q, k, v = (_laid(x, group, key.shape[1]) for x in (query, key, value))
        _put(out_XND, torch.bmm(_shares(q, k, group.longest, scale, reach), v), group)
    return out_XND


def _laid(x_XHD: Tensor, group: _Group, num_kv_heads: int, is_gradient: bool = False) -> Tensor:
    """(S x K, G x M, D): conversations side by side, the heads that share keys one below the other."""
    _, heads, size = x_XHD.shape
    if is_gradient:
        # What stands behind a conversation's end has none.
        x_PHD = x_XHD.new_zeros(len(group.places_P), heads, size)
        x_PHD.index_copy_(0, group.where_X, x_XHD.index_select(0, group.tokens_X))
    else:
        x_PHD = x_XHD.index_select(0, group.places_P)
    x_SMKGD = x_PHD.view(-1, group.longest, num_kv_heads, heads // num_kv_heads, size)
    return x_SMKGD.permute(0, 2, 3, 1, 4).reshape(-1, heads // num_kv_heads * group.longest, size)


def _put(into_XHD: Tensor, laid: Tensor, group: _Group) -> None:
    """The way back of `_laid`."""
    _, heads, size = into_XHD.shape
    num_conversations = len(group.places_P) // group.longest
    kv_heads = laid.shape[0] // num_conversations
    x_SKGMD = laid.view(num_conversations, kv_heads, heads // kv_heads, group.longest, size)
    x_PHD = x_SKGMD.permute(0, 3, 1, 2, 4).reshape(-1, heads, size)
    into_XHD.index_copy_(0, group.tokens_X, x_PHD.index_select(0, group.where_X))


def _shares(query: Tensor, key: Tensor, length: int, scale: float, reach: int) -> Tensor:
    """softmax(scale q k^T) over what each token sees."""
    mask = _mask(query.shape[1] // length, length, reach, query.dtype)
    return torch.baddbmm(mask, query, key.mT, alpha=scale).softmax(-1)


@lru_cache(maxsize=16)
def _mask(repeats: int, length: int, reach: int, dtype: torch.dtype) -> Tensor:
    """(G x M, M): 0 where a token sees, minus infinity where it does not."""
    return torch.zeros(length, length, dtype=dtype).masked_fill_(_hidden(length, reach), -torch.inf).repeat(repeats, 1)
