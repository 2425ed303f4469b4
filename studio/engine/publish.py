"""An adapter as the world expects it: a plain PEFT folder, a model card, and one sidecar with everything else we know.

No path of this computer goes into any of them: PEFT writes the folder a base was loaded from where others look for its hub id.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from studio import files
from studio.engine.overlay import NAME, all_finite
from studio.errors import DivergedError
from studio.library.adapter import CONFIG, write_sidecar
from studio.library.provenance import card, facts, public_base
from studio.runs.folder import RunFolder


def save_adapter(run: RunFolder, overlaid: PeftModel, tokenizer: Any, step: int) -> None:
    """Write `run.adapter`, which is that of `step`. Raises `DivergedError` rather than keep a NaN in it, `DiskFullError`."""
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous()
        for name, value in get_peft_model_state_dict(overlaid, adapter_name=NAME).items()
    }
    if not all_finite(tensors):
        raise DivergedError("The adapter holds numbers that are none.", "Go on from an earlier checkpoint.")
    with files.new_folder(run.adapter, needs_bytes=_needed_bytes(run, tensors)) as folder:
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        files.write_text(folder / CONFIG, json.dumps(_config(run, overlaid), indent=2) + "\n")
        tokenizer.save_pretrained(folder)
        files.write_text(folder / "README.md", card(run))
        write_sidecar(folder, **facts(run, step))


def write_config(run: RunFolder, overlaid: PeftModel) -> None:
    """Leave the adapter's configuration in the run's folder: with it any checkpoint can be made an adapter, without PEFT."""
    files.write_text(run.path / CONFIG, json.dumps(_config(run, overlaid), indent=2) + "\n")


def _needed_bytes(run: RunFolder, tensors: dict[str, torch.Tensor]) -> int:
    tokenizer = Path(str(run.job["base"]["path"])).glob("tokenizer*")
    return sum(tensor.nbytes for tensor in tensors.values()) + sum(path.stat().st_size for path in tokenizer)


def _config(run: RunFolder, overlaid: PeftModel) -> dict[str, Any]:
    """PEFT's own description of the adapter, with sets as lists and the base by its public name."""
    config = overlaid.peft_config[NAME].to_dict()
    config["base_model_name_or_path"] = public_base(run)
    config["revision"] = run.job["base"].get("revision") or None
    config["inference_mode"] = True
    return {key: _plain(value) for key, value in sorted(config.items())}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: sets sorted (so that equal adapters have equal files), enums by value."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return getattr(value, "value", value)
