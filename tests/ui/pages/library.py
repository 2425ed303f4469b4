"""Bases and adapters as facts for the pages of the library and of the chat."""

import json
import struct
import time
from pathlib import Path
from typing import Any

from studio.library.adapter import Adapter
from studio.models.bases import Base

QWEN, LLAMA = "sha256:q", "sha256:l"


def base(name: str = "qwen", fingerprint: str = QWEN, **changes: Any) -> Base:
    facts: dict[str, Any] = {
        "id": name,
        "path": Path("/nowhere") / name,
        "architecture": "LlamaForCausalLM",
        "num_parameters": 1_000_000_000,
        "context_tokens": 4096,
        "licence": "apache-2.0",
        "fingerprint": fingerprint,
        "dtype": "bfloat16",
    }
    return Base(**{**facts, **changes})


def adapter(name: str, base: str = "qwen", base_fingerprint: str = QWEN, **changes: Any) -> Adapter:
    facts: dict[str, Any] = {
        "name": name,
        "path": Path("/nowhere") / name,
        "base": base,
        "base_fingerprint": base_fingerprint,
        "hub_id": "",
        "method": "lora",
        "rank": 8,
        "alpha": 16.0,
        "rslora": False,
        "dora": False,
        "target_modules": ("q_proj",),
        "bytes": 10_000_000,
        "created": time.time(),
        "tags": (),
        "note": "",
        "run": "",
        "quantisation": "nf4",
        "fingerprint": f"sha256:{name}",
    }
    return Adapter(**{**facts, **changes})


def on_disk(folder: Path, record: Adapter, sidecar: dict[str, Any] | None = None) -> Adapter:
    """The same adapter with real files: one module of rank 8 on 16 inputs and 32 outputs."""
    from dataclasses import replace

    path = folder / record.name
    path.mkdir()
    header: dict[str, Any] = {}
    end = 0
    for part, shape in (("lora_A", [8, 16]), ("lora_B", [32, 8])):
        begin, end = end, end + 4 * shape[0] * shape[1]
        name = f"base_model.model.model.layers.0.q_proj.{part}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    (path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(end))
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (path / "adapter_config.json").write_text(json.dumps(config))
    if sidecar is not None:
        (path / "overlay.json").write_text(json.dumps({"schema": 1, **sidecar}))
    return replace(record, path=path)
