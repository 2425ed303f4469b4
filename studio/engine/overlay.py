"""The overlay itself: LoRA matrices laid on a loaded base, taken off again, measured and saved.

W' = W + s B A with A: r x in, B: out x r and s = alpha/r (alpha/sqrt(r) for rsLoRA, arXiv 2312.03732). A starts random, B at
exactly zero: at step 0 the model *is* its base (LoRA, arXiv 2106.09685, section 4.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from studio.engine.attention import forget_boundaries
from studio.engine.lean import make_lean
from studio.errors import AdapterError
from studio.recipe.recipe import Adapter

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn"]
ADAPTER_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NAME = "default"  # PEFT saves an adapter of any other name into a sub-folder that no other tool looks into


def lay_on(model: PreTrainedModel, adapter: Adapter, seed: int) -> PeftModel:
    """A fresh overlay on `model`. The same seed draws the same A. Raises `AdapterError` if no module matches the targets."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=_targets(model, adapter),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        # GPT-2 keeps its weights the other way round, unless bitsandbytes has quantised them.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        overlaid = get_peft_model(model, config, adapter_name=NAME)
    except ValueError as error:
        raise AdapterError(
            f"No layer of this base is called {adapter.targets}.", 'Use targets = "all-linear", or names of its layers.'
        ) from error
    assert isinstance(overlaid, PeftModel)
    # Whatever PEFT thinks best for this base: the recipe says it.
    for parameter in trainable(overlaid).values():
        parameter.data = parameter.data.to(ADAPTER_DTYPES[adapter.dtype])
    make_lean(overlaid)
    return overlaid


def _targets(model: PreTrainedModel, adapter: Adapter) -> str | list[str]:
    if isinstance(adapter.targets, str) and adapter.targets == "attention":
        present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        return [name for name in ATTENTION if name in present]
    return adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets)


def take_off(model: nn.Module) -> PreTrainedModel:
    """The base alone, every overlay removed from it. The base's weights were never changed."""
    if isinstance(model, PeftModel):
        model = model.unload()
    assert isinstance(model, PreTrainedModel)
    forget_boundaries(model)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name, in a stable order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def delta_norm(model: nn.Module, adapter_name: str = NAME) -> Tensor:
    """Frobenius norm of the whole overlay, sqrt(sum over modules of ||s B A||^2), as a scalar on the model's device.

    ||B A||^2 = tr(A A^T B^T B): two r x r products instead of an out x in matrix.
    """
    squares = []
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLayer) and adapter_name in module.lora_A:
                a_RI = module.lora_A[adapter_name].weight.float()
                b_OR = module.lora_B[adapter_name].weight.float()
                scale = module.scaling[adapter_name]
                squares.append(((a_RI @ a_RI.T) * (b_OR.T @ b_OR)).sum() * scale**2)
    return torch.stack(squares).sum().clamp_min(0).sqrt()


def save_tensors(model: nn.Module, path: Path) -> None:
    """The learning parameters under their own names, for a checkpoint."""
    save_file({name: value.detach().cpu().contiguous() for name, value in trainable(model).items()}, path)


def load_tensors(model: nn.Module, path: Path) -> None:
    """Put back what `save_tensors` wrote. Raises `AdapterError` if names or shapes differ."""
    saved = load_file(path)
    parameters = trainable(model)
    if saved.keys() != parameters.keys() or any(saved[n].shape != p.shape for n, p in parameters.items()):
        raise AdapterError("The checkpoint's overlay has another shape than the recipe's.", "Start a new run.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def begin_from(model: nn.Module, path: Path) -> None:
    """Give a fresh overlay the matrices in `path`, a checkpoint's or those of a PEFT adapter.

    Raises `AdapterError` if they are not those of the same layers in the same shapes, or hold a number that is none.
    """
    saved = {_bare(name): value for name, value in load_file(path).items()}
    parameters = {_bare(name): parameter for name, parameter in trainable(model).items()}
    reason = _misfit(saved, parameters)
    if reason:
        raise AdapterError(
            f"The overlay to begin with does not fit the recipe's: {reason}.",
            "Leave the section [adapter] and the base as they were there, or begin from nothing.",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


def _bare(name: str) -> str:
    """A parameter's name without that of its adapter, which PEFT leaves out of its files."""
    return name.replace(f".{NAME}", "").removesuffix(".weight")


def _misfit(saved: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> str:
    missing, beyond = sorted(parameters.keys() - saved.keys()), sorted(saved.keys() - parameters.keys())
    if missing or beyond:
        layer = (missing or beyond)[0].removeprefix("base_model.model.").partition(".lora_")[0]
        return f"it {'lacks' if missing else 'has'} matrices for {layer}"
    for name, parameter in parameters.items():
        if saved[name].shape != parameter.shape:
            return f"{name} is {list(saved[name].shape)} there and {list(parameter.shape)} here"
    return "" if all_finite(saved) else "it holds numbers that are none"


def all_finite(tensors: dict[str, Any]) -> bool:
    """Whether no tensor holds a NaN or an infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
