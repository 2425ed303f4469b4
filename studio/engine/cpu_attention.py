"""Attention within each conversation of a packed row, on a processor.

PyTorch's fused kernel is made for long rows: on chats of a hundred tokens its backward pass in 16 bit takes three times as long
as the products need. Short conversations are therefore laid side by side, padded to the longest of their like, and attended to
in a few batched products; their scores are small enough to exist as a whole, and are made again for the gradient. Long ones go
through the kernel, one by one.

Shapes: X tokens, S conversations of up to M tokens, P = S x M places, N query heads, K key-value heads, G = N / K, D head size.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate, chain, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from studio.engine.recompute import is_forgotten

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
    """Conversations of like length: the token at each place, and the places that are nobody's.

    A place behind a conversation's end repeats its last token: no token before it looks there.
    """

    places_P: Tensor
    idle: Tensor
    longest: int


class _Plan(NamedTuple):
    """All groups of a packed row, and the place of each token among those of all groups."""

    groups: tuple[_Group, ...]
    where_X: Tensor


@lru_cache(maxsize=8)
def _plan(lengths: tuple[int, ...]) -> _Plan:
    starts = [0, *accumulate(lengths)]
    groups = tuple(_group([(starts[i], lengths[i]) for i in members]) for members in _alike(lengths))
    where_X, offset = torch.empty(starts[-1], dtype=torch.int64), 0
    for group in groups:
        is_owned = torch.ones(len(group.places_P), dtype=torch.bool).index_fill_(0, group.idle, False)
        where_X[group.places_P[is_owned]] = offset + is_owned.nonzero().squeeze(1)
        offset += len(group.places_P)
    return _Plan(groups, where_X)


def _alike(lengths: tuple[int, ...]) -> list[list[int]]:
    """Which conversations, longest first, share a group."""
    members: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = [*members[-1], i] if members else []
        if group and len(group) * lengths[group[0]] <= _MOST_PADDING * sum(lengths[j] for j in group):
            members[-1] = group
        else:
            members.append([i])
    return members


def _group(stretches: list[tuple[int, int]]) -> _Group:
    longest = stretches[0][1]
    places = torch.arange(longest)
    return _Group(
        places_P=torch.cat([start + places.clamp_max(length - 1) for start, length in stretches]),
        idle=torch.cat([i * longest + places[length:] for i, (_, length) in enumerate(stretches)]),
        longest=longest,
    )


class _Laid(NamedTuple):
    """A group as the products take it: queries, keys and values side by side, and each token's shares of the others."""

    query: Tensor
    key: Tensor
    value: Tensor
    shares: Tensor


class _ShortRows(torch.autograd.Function):
    """Scores, softmax and sum as batched products over conversations and key-value heads.

    Saves its inputs alone and makes the rest again, unless what it saves is as short-lived as that (`is_forgotten`).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float, reach: int
    ) -> Tensor:
        ctx.settings, ctx.num_kv_heads, ctx.is_laid = (lengths, scale, reach), key.shape[1], is_forgotten()
        if not ctx.is_laid:
            ctx.save_for_backward(query, key, value)
            return attend_side_by_side(query, key, value, list(lengths), scale, reach)
        laid = _lay(query, key, value, lengths, scale, reach)
        ctx.save_for_backward(*chain.from_iterable(laid))
        return _attended(laid, query.shape[1], lengths)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        lengths, scale, _ = ctx.settings
        saved = ctx.saved_tensors
        laid = (
            [_Laid(*saved[i : i + 4]) for i in range(0, len(saved), 4)] if ctx.is_laid else _lay(*saved, *ctx.settings)
        )
        plan, num_heads = _plan(lengths), gradients[0].shape[1]
        d_queries, d_keys, d_values = [], [], []
        for group, one in zip(plan.groups, laid, strict=True):
            d_out = _side_by_side(gradients[0], group, ctx.num_kv_heads, is_gradient=True)
            d_values.append(_back(torch.bmm(one.shares.mT, d_out), group, ctx.num_kv_heads))
            d_shares = torch.bmm(d_out, one.value.mT)
            d_scores = torch.ops.aten._softmax_backward_data(d_shares, one.shares, -1, d_shares.dtype).mul_(scale)
            d_queries.append(_back(torch.bmm(d_scores, one.key), group, num_heads))
            d_keys.append(_back(torch.bmm(d_scores.mT, one.query), group, ctx.num_kv_heads))
        return *(_joined(parts, plan) for parts in (d_queries, d_keys, d_values)), None, None, None


@torch.library.custom_op("overlay::attend_side_by_side", mutates_args=())
def attend_side_by_side(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float, reach: int
) -> Tensor:
    """An operation with a name of its own, so that a checkpointed block may keep what it gave."""
    rows = tuple(lengths)
    return _attended(_lay(query, key, value, rows, scale, reach), query.shape[1], rows)


def _lay(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float, reach: int) -> list[_Laid]:
    laid = []
    for group in _plan(lengths).groups:
        q, k, v = (_side_by_side(x, group, key.shape[1]) for x in (query, key, value))
        laid.append(_Laid(q, k, v, _shares(q, k, group.longest, scale, reach)))
    return laid


def _attended(laid: list[_Laid], num_heads: int, lengths: tuple[int, ...]) -> Tensor:
    plan = _plan(lengths)
    outs = [
        _back(torch.bmm(one.shares, one.value), group, num_heads) for group, one in zip(plan.groups, laid, strict=True)
    ]
    return _joined(outs, plan)


def _side_by_side(x_XHD: Tensor, group: _Group, num_kv_heads: int, is_gradient: bool = False) -> Tensor:
    """(S x K, G x M, D): conversations side by side, the heads that share keys one below the other."""
    _, heads, size = x_XHD.shape
    x_PHD = x_XHD.index_select(0, group.places_P)
    if is_gradient:
        # What stands behind a conversation's end has none.
        x_PHD.index_fill_(0, group.idle, 0.0)
    x_SMKGD = x_PHD.view(-1, group.longest, num_kv_heads, heads // num_kv_heads, size)
    return x_SMKGD.permute(0, 2, 3, 1, 4).reshape(-1, heads // num_kv_heads * group.longest, size)


def _back(laid: Tensor, group: _Group, num_heads: int) -> Tensor:
    """The way back of `_side_by_side`, as far as the places: (P, H, D)."""
    num_conversations, size = len(group.places_P) // group.longest, laid.shape[-1]
    kv_heads = laid.shape[0] // num_conversations
    x_SKGMD = laid.view(num_conversations, kv_heads, num_heads // kv_heads, group.longest, size)
    return x_SKGMD.permute(0, 3, 1, 2, 4).reshape(-1, num_heads, size)


def _joined(parts: list[Tensor], plan: _Plan) -> Tensor:
    """The tokens of all groups in their order, (X, H, D)."""
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, plan.where_X)


def _shares(query: Tensor, key: Tensor, length: int, scale: float, reach: int) -> Tensor:
    """softmax(scale q k^T) over what each token sees."""
    mask = _mask(query.shape[1] // length, length, reach, query.dtype)
    scores = torch.baddbmm(mask, query, key.mT, alpha=scale)
    # In fp32: PyTorch's softmax of 16-bit rows takes twice as long.
    return scores.float().softmax(-1).to(query.dtype)


@lru_cache(maxsize=16)
def _mask(repeats: int, length: int, reach: int, dtype: torch.dtype) -> Tensor:
    """(G x M, M): 0 where a token sees, minus infinity where it does not."""
    return torch.zeros(length, length, dtype=dtype).masked_fill_(_hidden(length, reach), -torch.inf).repeat(repeats, 1)
