import pytest
import torch
from torch import nn
from torch.nn import functional

from studio.engine.loss import IGNORED, LogitShape, supervised_loss

SHAPES = [LogitShape(), LogitShape(scale=0.25), LogitShape(cap=5.0), LogitShape(scale=2.0, cap=30.0)]


def plain(hidden, head, targets, shape):
    logits = shape(head(hidden).float()).reshape(-1, head.out_features)
    return functional.cross_entropy(logits, targets.reshape(-1), ignore_index=IGNORED, reduction="sum")


def case(dtype=torch.float32, vocabulary=97, tokens=61, width=48):
    torch.manual_seed(1)
    hidden = torch.randn(2, tokens, width, dtype=dtype)
    head = nn.Linear(width, vocabulary, bias=False, dtype=dtype).requires_grad_(False)
    targets = torch.randint(0, vocabulary, (2, tokens))
    targets[torch.rand(2, tokens) < 0.6] = IGNORED
    return hidden, head, targets


def both(hidden, head, targets, shape, chunk_rows):
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    loss, expected = supervised_loss(ours, head, targets, shape, chunk_rows), plain(theirs, head, targets, shape)
    (loss * 0.37).backward()
    (expected * 0.37).backward()
    return loss.detach(), expected.detach(), ours.grad, theirs.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk_rows", [1, 7, 1024])
def test_equals_cross_entropy_on_full_logits(shape, chunk_rows):
    loss, expected, gradient, expected_gradient = both(*case(), shape, chunk_rows)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


def test_unsupervised_tokens_get_no_gradient():
    hidden, head, targets = case()
    _, _, gradient, _ = both(hidden, head, targets, LogitShape(), 8)
    assert torch.equal(gradient.abs().sum(-1) > 0, targets != IGNORED)


def test_sixteen_bit_stays_near_full_precision():
    hidden, head, targets = case(torch.bfloat16)
    loss, _, gradient, _ = both(hidden, head, targets, LogitShape(), 16)
    _, exact, _, exact_gradient = both(hidden.float(), head.float(), targets, LogitShape(), 16)
    assert abs(float(loss) / float(exact) - 1) < 5e-3
    assert float((gradient.float() - exact_gradient).norm() / exact_gradient.norm()) < 2e-2


def test_nothing_supervised_keeps_the_graph_alive():
    hidden, head, targets = case()
    hidden.requires_grad_()
    loss = supervised_loss(hidden, head, torch.full_like(targets, IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.equal(hidden.grad, torch.zeros_like(hidden))


def test_a_head_that_learns_gets_its_gradient():
    hidden, head, targets = case()
    head.requires_grad_(True)
    supervised_loss(hidden, head, targets).backward()
    gradient, head.weight.grad = head.weight.grad, None
    plain(hidden, head, targets, LogitShape()).backward()
    torch.testing.assert_close(gradient, head.weight.grad, rtol=1e-5, atol=1e-6)


class Config:
    def __init__(self, **values):
        self.__dict__.update(values)

    def get_text_config(self):
        return self


def test_families_that_shape_their_logits_are_known():
    assert LogitShape.of(Config(final_logit_softcapping=30.0)) == LogitShape(cap=30.0)
    assert LogitShape.of(Config(logits_scaling=8.0)) == LogitShape(scale=0.125)
    assert LogitShape.of(Config(logit_scale=0.0625)) == LogitShape(scale=0.0625)
    assert LogitShape.of(Config(final_logit_softcapping=None)) == LogitShape()
