"""Small model folders, written byte by byte as the safetensors format says, so that no heavy library is needed."""

import json
import struct
from pathlib import Path
from typing import Any

Tensors = dict[str, tuple[tuple[int, ...], bytes]]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def tensors(seed: int = 1) -> Tensors:
    """Three BF16 tensors; the largest is 32 KiB, so that its sampled parts do not cover it."""
    shapes = {
        "model.embed_tokens.weight": (256, 64),
        "model.layers.0.q_proj.weight": (64, 64),
        "model.norm.weight": (64,),
    }
    made: Tensors = {}
    for number, (name, shape) in enumerate(shapes.items()):
        num_bytes = 2 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        made[name] = (shape, bytes((seed + number + 7 * position) % 251 for position in range(num_bytes)))
    return made


def safetensors(content: Tensors) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, (shape, values) in content.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    return with_header(header, data)


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_base(
    folder: Path, content: Tensors | None = None, num_files: int = 1, config: dict[str, Any] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    content = content or tensors()
    if num_files == 1:
        (folder / "model.safetensors").write_bytes(safetensors(content))
        return folder
    weight_map: dict[str, str] = {}
    for number, name in enumerate(sorted(content)):
        weight_map[name] = f"model-{number % num_files + 1:05d}-of-{num_files:05d}.safetensors"
    for file_name in set(weight_map.values()):
        part = {name: content[name] for name in content if weight_map[name] == file_name}
        (folder / file_name).write_bytes(safetensors(part))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
