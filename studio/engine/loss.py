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

    def __call__(self, logits: Tensor) -> Tensor:
        """Apply it; returns `logits` itself where nothing is to be done."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


def supervised_loss(
    hidden: Tensor, head: nn.Module, targets: Tensor, shape: LogitShape = LogitShape(), chunk_rows: int = CHUNK_ROWS
) -> Tensor:
    """Sum of -log p(target) over the supervised tokens, in fp32, as a scalar that carries gradient.

    Args:
        hidden: (..., H), the last hidden states.
        head: the output projection; a frozen `nn.Linear` without bias takes the lean path, anything else autograd's.
        targets: (...), the token to be predicted *at* each position, `IGNORED` where there is none.
        shape: what the family does to its logits.
        chunk_rows: tokens whose logits are in memory at once: `chunk_rows * V * 6` bytes in 16 bit.
    """
    targets = targets.reshape(-1)
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
        loss: Tensor = _FrozenHeadLoss.apply(picked_NH, head.weight, picked_targets_N, shape, chunk_rows)
        return loss
    return _head_loss(picked_NH, head, picked_targets_N, shape)


def _head_loss(hidden_NH: Tensor, head: nn.Module, targets_N: Tensor, shape: LogitShape) -> Tensor:
    """The plain way, for a head that learns or carries an adapter of its own."""
    return functional.cross_entropy(shape(head(hidden_NH).float()), targets_N, reduction="sum")


class _FrozenHeadLoss(torch.autograd.Function):
    """Loss and gradient in one pass over chunks of rows; saves one tensor, the gradient, of the size of the hidden states."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, shape: LogitShape, chunk_rows: int
    ) -> Tensor:
        wants_gradient = ctx.needs_input_grad[0]
        gradient_NH = torch.empty_like(hidden_NH) if wants_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        for start in range(0, hidden_NH.shape[0], chunk_rows):
            chunk = slice(start, start + chunk_rows)
            raw_CV = hidden_NH[chunk] @ weight_VH.T
            logits_CV = shape(raw_CV.float())
            targets_C = targets_N[chunk, None]
            log_sum_C1 = torch.logsumexp(logits_CV, dim=1, keepdim=True)
            total += (log_sum_C1 - logits_CV.gather(1, targets_C)).sum()
            if gradient_NH is None:
                continue
            slope_CV = _slope(logits_CV, shape)
            d_logits_CV = logits_CV.sub_(log_sum_C1).exp_()  # softmax, in place of the logits
            d_logits_CV.scatter_add_(1, targets_C, torch.full_like(log_sum_C1, -1.0))
            if slope_CV is not None:
                d_logits_CV.mul_(slope_CV)
            gradient_NH[chunk] = d_logits_CV.to(weight_VH.dtype) @ weight_VH
        if gradient_NH is not None:
            ctx.save_for_backward(gradient_NH)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (gradient_NH,) = ctx.saved_tensors
        return gradient_NH * grad_outputs[0].to(gradient_NH.dtype), None, None, None, None


def _slope(logits_CV: Tensor, shape: LogitShape) -> Tensor | float | None:
    """d shaped / d raw: `scale * (1 - tanh^2)`, from the shaped logits themselves."""
    if shape.cap is not None:
        return (1.0 - (logits_CV / shape.cap).square()) * shape.scale
    return None if shape.scale == 1.0 else shape.scale
