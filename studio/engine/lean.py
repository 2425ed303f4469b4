"""The overlay's arithmetic, and what surrounds it, with backward passes written by hand.

y = W x + s B A x. Left to autograd, PEFT's layers keep a copy of x in the adapter's type for every layer that reads it, copy W x,
and hold three more tensors of the output's size. Here x is saved once, as it is; the overlay is added into the product in
place; a gated MLP makes its activation again from gate and up, which are kept anyway; a norm saves its input instead of an
fp32 copy. A checkpointed block that is run again leaves out its last product, which no gradient asks for.

The matrices A and B are cast to the base's type for the products, as autocast does, and are learnt in their own. Where no
gradient is wanted PEFT computes as ever: an overlay says the same here as in any program that loads it. Whatever does
something else (DoRA, dropout, int8, several overlays at once, GPT-2's transposed weights, an MLP or a norm that is put together
differently) is left as it was.

Shapes: T tokens, I features in, O features out, R rank, M width of the MLP, H hidden size. References: LoRA (arXiv 2106.09685),
QLoRA (arXiv 2305.14314, equation 5), RMSNorm (arXiv 1910.07467, equation 4), gated MLP (arXiv 2002.05202).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import Any, NamedTuple

import bitsandbytes as bnb
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import GELUTanh, SiLUActivation

from studio.engine.packed import frozen_product, unpacked
from studio.engine.recompute import is_second_time
from studio.models.families import FAMILIES

_MLP = "returnself.down_proj(self.act_fn(self.gate_proj(x))*self.up_proj(x))"


def make_lean(model: nn.Module) -> None:
    """Give every module of `model` that allows it the lean arithmetic. Repeating it changes nothing."""
    config: Any = getattr(model, "config", None)
    family = FAMILIES.get(config.get_text_config().model_type) if config else None
    for module in model.modules():
        if "forward" in vars(module):
            continue
        kind: Any = type(module)
        if _is_overlaid(module):
            _replace(module, _overlaid_forward)
        elif _is_gated_mlp(module):
            _replace(module, _mlp_forward)
            # Of an unknown family nobody knows what it does with what its MLP gives back.
            vars(module)["ends_block"] = family is not None and not family.norm_behind
        elif _norm_form(kind) and not module.weight.requires_grad:
            _replace(module, _norm_forward)


def _replace(module: nn.Module, forward: Callable[..., Tensor]) -> None:
    vars(module)["plain_forward"] = module.forward
    vars(module)["forward"] = MethodType(forward, module)


# --- linear layers ---------------------------------------------------------------------------------------------------


class Overlay(NamedTuple):
    """What lies on a frozen layer: A (R, I), B (O, R) and s."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float


def _is_overlaid(module: nn.Module) -> bool:
    return isinstance(module, LoraLayer) and hasattr(module, "base_layer") and _is_known(module.get_base_layer())


def _is_known(base: nn.Module) -> bool:
    return isinstance(base, bnb.nn.Linear4bit) or type(base) is nn.Linear


def _overlay(module: LoraLayer) -> Overlay | None:
    """The one overlay in force, or None if PEFT would do more than add s B A x."""
    names = module.active_adapters
    if module.disable_adapters or module.merged or len(names) != 1:
        return None
    name = names[0]
    if name not in module.lora_A or name in module.lora_variant or module.lora_bias.get(name):
        return None
    dropout: Any = module.lora_dropout[name]
    if isinstance(dropout, nn.Dropout) and dropout.p and dropout.training:
        return None
    a, b = module.lora_A[name], module.lora_B[name]
    assert isinstance(a.weight, Tensor)
    assert isinstance(b.weight, Tensor)
    return Overlay(a.weight, b.weight, float(module.scaling[name]))


def _overlaid_forward(module: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    overlay = None if args or kwargs or not torch.is_grad_enabled() else _overlay(module)
    if overlay is None:
        plain: Tensor = module.plain_forward(x, *args, **kwargs)
        return plain
    out: Tensor = _OverlaidLinear.apply(x, overlay.a_RI, overlay.b_OR, overlay.scale, module.get_base_layer())
    return out


class _Product(NamedTuple):
    """W x + s B A x; for the backward pass A x (T, R), and W (O, I) where it is kept."""

    out: Tensor
    low_TR: Tensor | None
    weight_OI: Tensor | None


def _product(x: Tensor, base: nn.Module, overlay: Overlay | None) -> _Product:
    out, weight_OI = frozen_product(x, base)
    if overlay is None:
        return _Product(out, None, weight_OI)
    low_TR = _low(x.flatten(0, -2), overlay)
    # In place: the product is nobody else's, and with B = 0 the base's own output to the last bit.
    out.flatten(0, -2).addmm_(low_TR, overlay.b_OR.to(x.dtype).T, alpha=overlay.scale)
    return _Product(out, low_TR, weight_OI)


def _low(x_TI: Tensor, overlay: Overlay) -> Tensor:
    return x_TI @ overlay.a_RI.to(x_TI.dtype).T


class _Learnt(NamedTuple):
    """Gradients of A and B in their own type, and s B^T d (T, R), of which the input's gradient needs a share."""

    a_RI: Tensor | None = None
    b_OR: Tensor | None = None
    low_TR: Tensor | None = None


def _overlay_gradients(d_out_TO: Tensor, x_TI: Tensor, low_TR: Tensor | None, overlay: Overlay | None) -> _Learnt:
    """dA = s (B^T d) x^T and dB = s d (A x)^T."""
    if overlay is None or low_TR is None:
        return _Learnt()
    d_low_TR = (d_out_TO @ overlay.b_OR.to(d_out_TO.dtype)).mul_(overlay.scale)
    d_a_RI = (d_low_TR.T @ x_TI).to(overlay.a_RI.dtype)
    # The narrow side first: on a processor the same product the other way round takes half as long again.
    d_b_OR = (low_TR.T @ d_out_TO).T.to(overlay.b_OR.dtype).mul_(overlay.scale)
    return _Learnt(d_a_RI, d_b_OR, d_low_TR)


def _input_gradient(
    d_out_TO: Tensor,
    base: nn.Module,
    overlay: Overlay | None,
    learnt: _Learnt,
    weight_OI: Tensor | None = None,
    into_TI: Tensor | None = None,
) -> Tensor:
    """W^T d + s A^T B^T d, added to `into_TI` if there is one. `weight_OI` if it was kept."""
    weight_OI = unpacked(base, d_out_TO.dtype) if weight_OI is None else weight_OI
    d_x_TI = d_out_TO @ weight_OI if into_TI is None else into_TI.addmm_(d_out_TO, weight_OI)
    if overlay is not None and learnt.low_TR is not None:
        d_x_TI.addmm_(learnt.low_TR, overlay.a_RI.to(d_out_TO.dtype))
    return d_x_TI


class _OverlaidLinear(torch.autograd.Function):
    """One layer with its overlay. Saves x, A x, and W where it is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a_RI: Tensor, b_OR: Tensor, scale: float, base: nn.Module) -> Tensor:  # type: ignore[override]
        out, low_TR, weight_OI = _product(x, base, Overlay(a_RI, b_OR, scale))
        ctx.save_for_backward(x, low_TR, weight_OI, a_RI, b_OR)
        ctx.scale, ctx.base = scale, base
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, low_TR, weight_OI, a_RI, b_OR = ctx.saved_tensors
        overlay, d_out_TO = Overlay(a_RI, b_OR, ctx.scale), gradients[0].flatten(0, -2)
        learnt = _overlay_gradients(d_out_TO, x.flatten(0, -2), low_TR, overlay)
        if not ctx.needs_input_grad[0]:
            return None, *learnt[:2], None, None
        d_x_TI = _input_gradient(d_out_TO, ctx.base, overlay, learnt, weight_OI)
        return d_x_TI.view_as(x), *learnt[:2], None, None


# --- gated MLP -------------------------------------------------------------------------------------------------------


class _Gate(NamedTuple):
    """An activation, and its gradient from (d activation, input)."""

    act: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


_SILU = _Gate(functional.silu, lambda d, x: torch.ops.aten.silu_backward(d, x))
_GELU_TANH = _Gate(
    lambda x: functional.gelu(x, approximate="tanh"),
    lambda d, x: torch.ops.aten.gelu_backward(d, x, approximate="tanh"),
)
_GATES: dict[type[nn.Module], _Gate] = {nn.SiLU: _SILU, SiLUActivation: _SILU, GELUTanh: _GELU_TANH}
_PARTS = ("gate_proj", "up_proj", "down_proj")


def _is_gated_mlp(module: nn.Module) -> bool:
    if not all(hasattr(module, part) for part in (*_PARTS, "act_fn")) or type(module.act_fn) not in _GATES:
        return False
    kind: Any = type(module)
    return _reads_like_an_mlp(kind)


@cache
def _reads_like_an_mlp(kind: Any) -> bool:
    """Whether the module computes down(act(gate(x)) * up(x)) and nothing else: its own code says so."""
    try:
        source = inspect.getsource(kind.forward)
    except (OSError, TypeError):
        return False
    body = re.sub(r"\s|#.*", "", source.split("\n", 1)[1])
    return body in (_MLP, _MLP.replace("return", "down_proj=") + "returndown_proj")


def _mlp_forward(module: Any, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _plainly(module, x)
    layers, overlays = [], []
    for part in _PARTS:
        layer = getattr(module, part)
        overlay = _overlay(layer) if _is_overlaid(layer) else None
        base = layer.get_base_layer() if _is_overlaid(layer) else layer
        if (overlay is None and base is not layer) or not _is_known(base):
            return _plainly(module, x)
        layers.append(base)
        overlays.append(overlay)
    matrices = [matrix for overlay in overlays for matrix in (overlay[:2] if overlay else (None, None))]
    scales = [overlay.scale if overlay else 0.0 for overlay in overlays]
    is_unread = module.ends_block and is_second_time()
    out: Tensor = _GatedMlp.apply(x, _GATES[type(module.act_fn)], layers, scales, is_unread, *matrices)
    return out


def _plainly(module: Any, x: Tensor) -> Tensor:
    out: Tensor = module.plain_forward(x)
    return out


def _overlays(scales: list[float], matrices: tuple[Tensor | None, ...]) -> list[Overlay | None]:
    pairs = zip(matrices[::2], matrices[1::2], scales, strict=True)
    return [None if a is None or b is None else Overlay(a, b, scale) for a, b, scale in pairs]


class _GatedMlp(torch.autograd.Function):
    """down(act(gate(x)) * up(x)). Saves x, gate, up, their overlays' A x and their W where kept; the product is made again.

    With `is_unread` nobody reads the result: anything of its shape will do. So the last W is never kept.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Tensor,
        gate: _Gate,
        layers: list[nn.Module],
        scales: list[float],
        is_unread: bool,
        *matrices: Tensor | None,
    ) -> Tensor:
        overlays = _overlays(scales, matrices)
        gated, *of_gate = _product(x, layers[0], overlays[0])
        up, *of_up = _product(x, layers[1], overlays[1])
        ctx.save_for_backward(x, gated, up, *of_gate, *of_up, *matrices)
        ctx.gate, ctx.layers, ctx.scales = gate, layers, scales
        if is_unread:
            return x.detach()
        return _product(gate.act(gated).mul_(up), layers[2], overlays[2]).out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, gated, up, low_gate, weight_gate, low_up, weight_up, *matrices = ctx.saved_tensors
        of_gate, of_up, of_down = _overlays(ctx.scales, tuple(matrices))
        x_TI, gated_TM, up_TM, d_out_TO = (tensor.flatten(0, -2) for tensor in (x, gated, up, gradients[0]))
        act_TM = ctx.gate.act(gated_TM)
        learnt_down = _Learnt()
        if of_down is not None:
            product_TM = act_TM * up_TM
            learnt_down = _overlay_gradients(d_out_TO, product_TM, _low(product_TM, of_down), of_down)
            del product_TM
        d_product_TM = _input_gradient(d_out_TO, ctx.layers[2], of_down, learnt_down)
        d_up_TM = act_TM.mul_(d_product_TM)
        d_gate_TM = ctx.gate.backward(d_product_TM.mul_(up_TM), gated_TM)
        del d_product_TM
        learnt_up = _overlay_gradients(d_up_TM, x_TI, low_up, of_up)
        d_x_TI = _input_gradient(d_up_TM, ctx.layers[1], of_up, learnt_up, weight_up)
        del act_TM, d_up_TM, weight_up
        learnt_gate = _overlay_gradients(d_gate_TM, x_TI, low_gate, of_gate)
        d_x_TI = _input_gradient(d_gate_TM, ctx.layers[0], of_gate, learnt_gate, weight_gate, d_x_TI)
        return d_x_TI.view_as(x), None, None, None, None, *learnt_gate[:2], *learnt_up[:2], *learnt_down[:2]


# --- RMSNorm ---------------------------------------------------------------------------------------------------------


class _NormForm(NamedTuple):
    """Where a family multiplies by the weight: before or after the return to 16 bit, and whether by 1 + weight."""

    widens_weight: bool
    adds_one: bool


_FORMS = (_NormForm(False, False), _NormForm(True, False), _NormForm(True, True))


@cache
def _norm_form(kind: Any) -> _NormForm | None:
    """How this class norms, found by trying it on eight numbers; None if it is no RMSNorm or does something else."""
    if not kind.__name__.endswith("RMSNorm"):
        return None
    try:
        with torch.device("cpu"):
            probe: Any = kind(8)
    except TypeError:
        return None
    epsilon = _epsilon(probe)
    if epsilon is None or getattr(probe, "weight", None) is None:
        return None
    x_TH = torch.linspace(-3, 2, 32).view(4, 8).bfloat16()
    with torch.no_grad():
        probe.weight = nn.Parameter(torch.linspace(0.5, 1.5, 8).bfloat16(), requires_grad=False)
        wanted = probe(x_TH)
        for form in _FORMS:
            if torch.equal(wanted, _normed(x_TH, probe.weight, epsilon, form)[0]):
                return form
    return None


def _epsilon(module: Any) -> float | None:
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return None if epsilon is None else float(epsilon)


def _norm_forward(module: Any, x: Tensor) -> Tensor:
    kind: Any = type(module)
    out: Tensor = _RmsNorm.apply(x, module.weight, _epsilon(module), _norm_form(kind))
    return out


def _normed(x_TH: Tensor, weight_H: Tensor, epsilon: float, form: _NormForm) -> tuple[Tensor, Tensor]:
    """x / rms(x) times the weight, in x's type, and 1 / rms(x) (T, 1) in fp32."""
    wide_TH = x_TH.float()
    scale_T1 = torch.rsqrt(wide_TH.pow(2).mean(-1, keepdim=True) + epsilon)
    wide_TH = wide_TH.mul_(scale_T1) if wide_TH is not x_TH else wide_TH * scale_T1
    if form.adds_one:
        return (wide_TH * (1.0 + weight_H.float())).to(x_TH.dtype), scale_T1
    if form.widens_weight:
        return (weight_H * wide_TH).to(x_TH.dtype), scale_T1
    return weight_H * wide_TH.to(x_TH.dtype), scale_T1


class _RmsNorm(torch.autograd.Function):
    """Saves x and 1 / rms(x); the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x_TH: Tensor, weight_H: Tensor, epsilon: float, form: _NormForm) -> Tensor:  # type: ignore[override]
        out, scale_T1 = _normed(x_TH, weight_H, epsilon, form)
        ctx.save_for_backward(x_TH, weight_H, scale_T1)
        ctx.form = form
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """d x = (g - n mean(g n)) / rms with n = x / rms and g the weighted gradient."""
        x_TH, weight_H, scale_T1 = ctx.saved_tensors
        if ctx.form.widens_weight:
            g_TH = gradients[0].float() * (weight_H.float() + (1.0 if ctx.form.adds_one else 0.0))
        else:
            g_TH = (gradients[0] * weight_H).float()
        n_TH = x_TH.float().mul_(scale_T1)
        shared_T1 = (g_TH * n_TH).mean(-1, keepdim=True)
        return g_TH.sub_(n_TH.mul_(shared_T1)).mul_(scale_T1).to(x_TH.dtype), None, None, None
