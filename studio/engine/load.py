"""A base model in memory: frozen, quantised if wished, ready to carry overlays.

What QLoRA means by quantised (arXiv 2305.14314, section 3): weights of all linear layers but the head are stored in 4-bit
NormalFloat, their block constants quantised once more, and dequantised to `compute_dtype` at each use. Norms, embeddings and
head stay in 16 bit. They are *not* raised to fp32 as `peft.prepare_model_for_kbit_training` does: that costs a quarter of the
memory and a fifth of the speed, and the gradient has no use for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from studio.engine.tokenizing import load_tokenizer
from studio.errors import BaseModelError, OutOfMemoryError
from studio.recipe.recipe import Base as BaseSpec

_DROPOUTS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "embd_dropout", "hidden_dropout", "resid_pdrop")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass
class LoadedBase:
    """A base model in memory. `key` says what it was loaded from and how: the same key need not be loaded again."""

    key: tuple[str, ...]
    path: Path
    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Bytes that its weights hold in memory, quantisation constants not counted."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())


def base_key(path: Path, spec: BaseSpec) -> tuple[str, ...]:
    """What makes two loaded bases the same."""
    return (str(path.resolve()), spec.quantisation, str(spec.double_quantisation), spec.compute_dtype)


def load_base(path: Path, spec: BaseSpec, device: torch.device, to_shard: bool = False) -> LoadedBase:
    """Load the base in `path` as `spec` says, frozen, in evaluation mode; `to_shard`: as `engine/sharded.py` needs it.

    Raises `BaseModelError` if transformers cannot make sense of it, `OutOfMemoryError` if it does not fit.
    """
    transformers_logging.disable_progress_bar()
    began = time.perf_counter()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            config=config_of(path),
            quantization_config=quantisation_of(spec, to_shard),
            dtype=DTYPES[spec.compute_dtype],
            device_map={"": device},
            attn_implementation=attention_of(path),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The base {path.name} does not fit on {device}.",
            "Close other programs, or choose 4-bit or a smaller base.",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseModelError(
            f"The base {path.name} cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Check that the folder is complete, or add the base again.",
        ) from error
    model.requires_grad_(False)
    model.eval()
    keep_packed_weights(model)
    return LoadedBase(base_key(path, spec), path, model, load_tokenizer(path), device, time.perf_counter() - began)


def config_of(path: Path) -> Any:
    """The base's configuration, its own dropout switched off: that was for its pretraining, an overlay's is the recipe's."""
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    text = config.get_text_config()
    for name in _DROPOUTS:
        if hasattr(text, name):
            setattr(text, name, 0.0)
    return config


def attention_of(path: Path) -> str:
    """PyTorch's fused attention, or the plain one for the families that it cannot serve (Gemma 2 caps its scores)."""
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return "sdpa" if getattr(kind, "_supports_sdpa", True) else "eager"


def quantisation_of(spec: BaseSpec, to_shard: bool = False) -> BitsAndBytesConfig | None:
    """What transformers is told; None for 16 bit. To be sharded, packed weights are stored under a floating-point type."""
    if spec.quantisation == "none":
        return None
    if spec.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.quantisation,
        bnb_4bit_use_double_quant=spec.double_quantisation,
        bnb_4bit_compute_dtype=DTYPES[spec.compute_dtype],
        bnb_4bit_quant_storage=DTYPES[spec.compute_dtype] if to_shard else torch.uint8,
    )


def keep_packed_weights(model: torch.nn.Module) -> None:
    """Keep the 4-bit weights in the layout that the backward pass and every dequantiser understand.

    WORKAROUND bitsandbytes 0.50: on a CPU with AVX512-BF16, a forward pass in evaluation mode re-packs the weights in place.
    A later training pass still answers, but no gradient passes through the layer, without a word.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def pick_device(name: str) -> torch.device:
    """`cpu`, or `cuda-0` as torch spells it. Raises `BaseModelError` if there is no such card."""
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BaseModelError("PyTorch finds no usable NVIDIA card.", "Choose the CPU, or run `overlay doctor`.")
    device = torch.device(name.replace("-", ":"))
    # accelerate and bitsandbytes work on the current card.
    torch.cuda.set_device(device)
    return device
