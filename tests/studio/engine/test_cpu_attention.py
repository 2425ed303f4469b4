"""Attention on a processor: short conversations side by side, long ones through PyTorch's kernel, the same numbers either way."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from studio.engine import cpu_attention
from studio.engine.cpu_attention import attend_within
from studio.engine.recompute import contexts
from tests.studio.engine.test_attention import looped

LENGTHS = {
    "alike": (9, 8, 9, 7),
    "one": (30,),
    "single tokens": (1, 1, 5),
    "unequal": (40, 3, 17, 39, 2),  # three groups: too much padding otherwise
    "with long ones": (5, 300, 7, 6, 270, 4),
}


def inputs(lengths, heads, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shapes = [(sum(lengths), count, 16) for count in (heads[0], heads[1], heads[1])]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def reference(tensors, lengths, scale, reach):
    starts = torch.tensor([0, *lengths]).cumsum(0)
    is_grouped = tensors[0].shape[1] != tensors[1].shape[1]
    longest = max(lengths)
    options = {"scale": scale, "window_size": (reach, 0), "enable_gqa": is_grouped}
    return looped(*tensors, starts, starts, longest, longest, **options)


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize(("reach", "scale"), [(-1, None), (0, None), (6, 0.3), (1000, None)])
def test_values_and_gradients_are_those_of_plain_attention(kind, heads, reach, scale):
    lengths = LENGTHS[kind]
    ours = inputs(lengths, heads)
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    found = attend_within(*ours, lengths, scale, (reach, 0))
    expected = reference(theirs, lengths, scale, reach)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    gradients = zip(torch.autograd.grad(found, ours, slope), torch.autograd.grad(expected, theirs, slope), strict=True)
    for one, other in gradients:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", LENGTHS)
def test_in_16_bit_it_is_as_exact_as_16_bit_allows(kind):
    lengths = LENGTHS[kind]
    tensors = inputs(lengths, (4, 2), torch.bfloat16)
    found = attend_within(*tensors, lengths, None, (-1, 0))
    expected = reference([x.detach().float() for x in tensors], lengths, None, -1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


def test_no_gradient_reaches_a_neighbour():
    lengths = (9, 8, 40)
    tensors = inputs(lengths, (4, 2))
    attend_within(*tensors, lengths, None, (-1, 0))[9:17].sum().backward()
    for tensor in tensors:
        assert torch.count_nonzero(tensor.grad[9:17])
        assert not torch.count_nonzero(tensor.grad[:9])
        assert not torch.count_nonzero(tensor.grad[17:])


def test_conversations_of_like_length_share_a_group_and_little_is_padding():
    plan = cpu_attention._plan((90, 88, 91, 12, 10, 11, 89))
    assert len(plan.groups) == 2
    everywhere = torch.cat([group.places_P for group in plan.groups])
    assert everywhere[plan.where_X].tolist() == list(range(391))
    assert len(everywhere) <= 1.25 * 391


def test_what_is_kept_for_the_gradient_are_the_inputs_alone():
    lengths = (90, 88, 91)
    tensors = inputs(lengths, (4, 2))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        attend_within(*tensors, lengths, None, (-1, 0))
    assert sum(x.nbytes for x in kept) == sum(x.nbytes for x in tensors)


def test_a_block_that_runs_twice_makes_its_shares_twice_and_not_once_more_for_the_gradient(monkeypatch):
    lengths = (40, 3, 17, 39, 2)
    plain, checkpointed = inputs(lengths, (4, 2)), inputs(lengths, (4, 2))
    made = []
    monkeypatch.setattr(
        cpu_attention, "_shares", lambda *args, real=cpu_attention._shares: made.append(1) or real(*args)
    )

    def attended(*tensors):
        return attend_within(*tensors, lengths, None, (-1, 0))

    found = attended(*plain)
    again = checkpoint(attended, *checkpointed, use_reentrant=False, context_fn=contexts)
    assert torch.equal(found, again)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad(found, plain, slope)
    made.clear()
    for one, other in zip(torch.autograd.grad(again, checkpointed, slope), expected, strict=True):
        assert torch.equal(one, other)
    assert len(made) == len(cpu_attention._plan(lengths).groups)
