import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from studio.engine.loss import IGNORED, LogitShape, supervised_loss
from studio.engine.trace import Ledger

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


@pytest.mark.parametrize("shape", SHAPES)
def test_given_rows_are_the_found_ones(shape):
    hidden, head, targets = case()
    rows = torch.nonzero(targets.flatten() != IGNORED).squeeze(1)
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    given, found = (
        supervised_loss(ours, head, targets, shape, 7, rows=rows),
        supervised_loss(theirs, head, targets, shape, 7),
    )
    given.backward()
    found.backward()
    assert torch.equal(given.detach(), found.detach())
    assert torch.equal(ours.grad, theirs.grad)


def test_the_gradient_is_that_of_finite_differences():
    """Not only what autograd says of the same formula: (f(x + h) - f(x - h)) / 2h, in fp64."""
    hidden, head, targets = case(torch.float64, vocabulary=11, tokens=5, width=4)
    for shape in SHAPES:

        def loss(x, shape=shape):
            return functional.cross_entropy(
                shape(head(x)).reshape(-1, 11), targets.reshape(-1), ignore_index=IGNORED, reduction="sum"
            )

        ours = hidden.clone().requires_grad_()
        supervised_loss(ours, head, targets, shape).backward()
        step, expected = 1e-5, torch.zeros_like(hidden)
        for place in range(hidden.numel()):
            nudge = torch.zeros(hidden.numel(), dtype=torch.float64)
            nudge[place] = step
            nudge = nudge.reshape(hidden.shape)
            expected.view(-1)[place] = (loss(hidden + nudge) - loss(hidden - nudge)) / (2 * step)
        torch.testing.assert_close(ours.grad, expected, rtol=1e-4, atol=1e-6)


def peak_bytes(vocabulary, tokens, chunk_rows, shape, wants_gradient=True):
    """The most bytes alive beside hidden states and head, in 16 bit; real code on tensors without contents."""
    with FakeTensorMode(), Ledger() as ledger:
        hidden = torch.empty(tokens, 64, dtype=torch.bfloat16, requires_grad=wants_gradient)
        head = nn.Linear(64, vocabulary, bias=False, dtype=torch.bfloat16).requires_grad_(False)
        targets = torch.zeros(tokens, dtype=torch.long)
        ledger.own("weights", [hidden, head.weight, targets])
        ledger.begin("forward")
        supervised_loss(hidden, head, targets, shape, chunk_rows, rows=torch.arange(tokens))
    held = ledger.traced()
    return held.total_bytes - held.terms["weights"]


@pytest.mark.parametrize(
    ("shape", "bytes_per_logit"), [(LogitShape(), 6), (LogitShape(scale=0.5), 6), (LogitShape(cap=30.0), 8)]
)
def test_a_chunk_holds_six_bytes_per_logit_or_eight_where_they_are_capped(shape, bytes_per_logit):
    """What grows with the vocabulary is the chunk alone: 2 + 4, then 4 + 2; with a cap 4 + 4."""
    narrow, wide = (peak_bytes(vocabulary, 256, 32, shape) for vocabulary in (1000, 3000))
    assert wide - narrow == 32 * 2000 * bytes_per_logit


def test_more_tokens_cost_hidden_states_but_no_logits():
    """Per further token: its picked state and that state's gradient, 2 bytes each; its row number, target, and their picking."""
    short, long = (peak_bytes(2000, tokens, 32, LogitShape()) for tokens in (256, 512))
    assert 256 * 64 * (2 + 2) <= long - short <= 256 * (64 * (2 + 2) + 3 * 8)


def test_without_a_gradient_the_loss_holds_the_chunk_alone():
    """The 16-bit product and its fp32 copy; neither a gradient nor a slope."""
    narrow, wide = (peak_bytes(v, 256, 32, LogitShape(cap=30.0), wants_gradient=False) for v in (1000, 3000))
    assert wide - narrow == 32 * 2000 * 6
