"""Small real adapters in PEFT's format, and a small base for them, written with the standard library."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

HIDDEN, RANK = 8, 2
LAYER = "model.layers.0.self_attn.q_proj"
Shapes = dict[str, tuple[int, ...]]
LORA: Shapes = {
    f"base_model.model.{LAYER}.lora_A.weight": (RANK, HIDDEN),
    f"base_model.model.{LAYER}.lora_B.weight": (HIDDEN, RANK),
}
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "someone/small-model",
    "r": RANK,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "target_modules": ["q_proj"],
    "use_rslora": False,
    "use_dora": False,
    "bias": "none",
    "inference_mode": True,
}
BASE_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "dtype": "float32",
}
_BASE: Shapes = {
    "model.embed_tokens.weight": (32, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "model.layers.0.input_layernorm.weight": (HIDDEN,),
    "model.layers.0.post_attention_layernorm.weight": (HIDDEN,),
    **{f"model.layers.0.self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"},
    **{f"model.layers.0.mlp.{name}_proj.weight": (16, HIDDEN) for name in ("gate", "up")},
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, 16),
}


def write_safetensors(path: Path, shapes: Shapes, *, seed: int = 0, dtype: str = "F32") -> None:
    """Tensors of these shapes with numbers that depend on `seed`, in the safetensors format."""
    header, data = {}, b""
    for name, shape in shapes.items():
        count = math.prod(shape)
        values = struct.pack(f"<{count}f", *(math.sin(seed + len(data) + i) for i in range(count)))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def make_adapter(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    shapes: Shapes | None = None,
    sidecar: dict[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """A PEFT folder; with `sidecar` one of ours, without it one from elsewhere."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    write_safetensors(folder / "adapter_model.safetensors", LORA if shapes is None else shapes, seed=seed)
    if sidecar is not None:
        (folder / "overlay.json").write_text(json.dumps({"schema": 1, **sidecar}))
    return folder


def make_base(folder: Path, *, seed: int = 0, config: dict[str, Any] | None = None) -> Path:
    """A Llama with one layer; `seed` makes it another one of the same shape."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**BASE_CONFIG, **(config or {})}))
    write_safetensors(folder / "model.safetensors", _BASE, seed=seed)
    return folder


def facts(fingerprint: str, **more: Any) -> dict[str, Any]:
    """A sidecar as a training run writes it."""
    return {
        "created": 1000.0,
        "run": "2026-01-01_000000_first",
        "base": {"id": "small", "hub_id": "someone/small-model", "revision": "", "fingerprint": fingerprint},
        "recipe": {"base": {"quantisation": "nf4"}},
        "metrics": {"steps": 12, "loss": 1.5, "evaluation_loss": None},
        "tags": [],
        "note": "",
        **more,
    }
