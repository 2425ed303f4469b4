"""Cross-entropy of the supervised tokens alone, without ever holding the logits of a whole batch.

The head of a small language model is its largest matrix, and its logits the largest tensor of a training step: 12 bytes per
vocabulary entry and token at the peak of the usual implementation. Two facts make that unnecessary. Tokens without supervision
have zero gradient, so they never need reach the head. And with a frozen head the gradient with respect to the hidden states is
(softmax - onehot) W, known in the forward pass: a chunk's logits can be dropped before the next chunk's are made.

Shapes: N supervised tokens, H hidden width, V vocabulary entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100
CHUNK_ROWS = 1024
# A processor's cores are busy with fewer, and fewer logits stay in its caches.
CHUNK_ROWS_CPU = 80


@dataclass(frozen=True)
class LogitShape:
    """What a model family does to its logits after the head: `cap * tanh(scale * logits / cap)`; cap None leaves them."""

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> LogitShape:
        """Gemma 2 and 3 cap, Granite divides, Cohere multiplies."""
        text = config.get_text_config()
        scale = 1.0
        if (divisor := getattr(text, "logits_scaling", None)) is not None:
            scale = 1.0 / float(divisor)
        if (factor := getattr(text, "logit_scale", None)) is not None:
            scale = float(factor)
        cap = getattr(text, "final_logit_softcapping", None)
        return cls(scale, None if cap is None else float(cap))

    def apply_(self, logits: Tensor) -> Tensor:
        """Apply it in place."""
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def __call__(self, logits: Tensor) -> Tensor:
        """Apply it where autograd watches; returns `logits` itself where nothing is to be done."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


def supervised_loss(
    hidden: Tensor,
    head: nn.Module,
    targets: Tensor,
    shape: LogitShape = LogitShape(),
    chunk_rows: int | None = None,
    rows: Tensor | None = None,
    each: Tensor | None = None,
) -> Tensor:
    """Sum of -log p(target) over the supervised tokens, in fp32, as a scalar that carries gradient.

    Args:
        hidden: (..., H), the last hidden states.
        head: the output projection; a frozen `nn.Linear` without bias takes the lean path, anything else autograd's.
        targets: (...), the token to be predicted *at* each position, `IGNORED` where there is none.
        shape: what the family does to its logits.
        chunk_rows: tokens whose logits are in memory at once, `chunk_rows * V * 6` bytes in 16 bit; by default `CHUNK_ROWS`
            on a card and `CHUNK_ROWS_CPU` on a processor.
        rows: (N,), where targets are not `IGNORED`, as offsets into the flattened batch; looked for if not given.
        each: (N,) in fp32, to be filled with the loss of each token: NaN where the head does not take the lean path.
    """
    targets = targets.reshape(-1)
    if rows is None:
        rows = torch.nonzero(targets != IGNORED).squeeze(1)
    if rows.numel() == 0:
        # Nothing to learn here, but the graph must stay whole: a rank or a micro-batch without supervision is legal.
        return hidden.float().sum() * 0.0
    picked_NH = hidden.reshape(-1, hidden.shape[-1]).index_select(0, rows)
    picked_targets_N = targets.index_select(0, rows)
    # Exactly nn.Linear: a subclass (an adapted or quantised head) computes something else.
    if (
        type(head) is nn.Linear
        and not any(p.requires_grad for p in head.parameters())
        and len(list(head.parameters())) == 1
    ):
        chunk_rows = chunk_rows or (CHUNK_ROWS_CPU if hidden.is_cpu else CHUNK_ROWS)
        loss: Tensor = _FrozenHeadLoss.apply(picked_NH, head.weight, picked_targets_N, shape, chunk_rows, each)
        return loss
    if each is not None:
        each.fill_(torch.nan)
    return _head_loss(picked_NH, head, picked_targets_N, shape)


def _head_loss(hidden_NH: Tensor, head: nn.Module, targets_N: Tensor, shape: LogitShape) -> Tensor:
    """The plain way, for a head that learns or carries an adapter of its own."""
    return functional.cross_entropy(shape(head(hidden_NH).float()), targets_N, reduction="sum")


class _FrozenHeadLoss(torch.autograd.Function):
    """Loss and gradient in one pass over chunks of rows; saves one tensor, the gradient, of the size of the hidden states."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        targets_N: Tensor,
        shape: LogitShape,
        chunk_rows: int,
        each_N: Tensor | None = None,
    ) -> Tensor:
        gradient_NH = torch.empty_like(hidden_NH) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        for start in range(0, hidden_NH.shape[0], chunk_rows):
            chunk = slice(start, start + chunk_rows)
            each_C1, gradient_CH = _chunk_loss(
                hidden_NH[chunk], weight_VH, targets_N[chunk, None], shape, gradient_NH is not None
            )
            total += each_C1.sum()
            if each_N is not None:
                each_N[chunk, None] = each_C1
            if gradient_NH is not None and gradient_CH is not None:
                gradient_NH[chunk] = gradient_CH
        if gradient_NH is not None:
            ctx.save_for_backward(gradient_NH)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient_NH,) = ctx.saved_tensors
        return gradient_NH * grad_outputs[0].to(gradient_NH.dtype), None, None, None, None, None


def _chunk_loss(
    hidden_CH: Tensor, weight_VH: Tensor, targets_C1: Tensor, shape: LogitShape, wants_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss of some rows and, if wanted, its gradient with respect to their hidden states.

    Holds six bytes per logit in 16 bit: the product and its fp32 copy, then that copy and its 16-bit gradient. Soft-capped
    families need two more.
    """
    logits_CV = shape.apply_((hidden_CH @ weight_VH.T).float())
    wanted_C1 = logits_CV.gather(1, targets_C1)
    slope_CV = _slope(logits_CV, shape) if wants_gradient else None
    max_C1 = logits_CV.amax(dim=1, keepdim=True)
    exp_CV = logits_CV.sub_(max_C1).exp_()  # in place of the logits
    sum_C1 = exp_CV.sum(dim=1, keepdim=True)
    each_C1 = sum_C1.log() + max_C1 - wanted_C1
    if not wants_gradient:
        return each_C1, None
    d_logits_CV = exp_CV.div_(sum_C1)  # the softmax
    d_logits_CV.scatter_add_(1, targets_C1, torch.full_like(sum_C1, -1.0))
    if slope_CV is not None:
        d_logits_CV.mul_(slope_CV)
        del slope_CV
    return each_C1, d_logits_CV.to(weight_VH.dtype) @ weight_VH


def _slope(logits_CV: Tensor, shape: LogitShape) -> Tensor | float | None:
    """d shaped / d raw: `scale * (1 - tanh^2)`, from the shaped logits themselves."""
    if shape.cap is not None:
        return (logits_CV / shape.cap).square_().neg_().add_(1.0).mul_(shape.scale)
    return None if shape.scale == 1.0 else shape.scale
