"""An adapter as the world expects it: a plain PEFT folder, a model card, and one sidecar with everything else we know.

No path of this computer goes into any of them: PEFT writes the folder a base was loaded from where others look for its hub id.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from studio import files
from studio.engine.overlay import NAME, all_finite
from studio.errors import DivergedError
from studio.library.adapter import write_sidecar
from studio.runs.folder import RunFolder


def save_adapter(run: RunFolder, overlaid: PeftModel, tokenizer: Any) -> None:
    """Write `run.adapter`. Raises `DivergedError` rather than keep an adapter with a NaN in it, `DiskFullError`."""
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous()
        for name, value in get_peft_model_state_dict(overlaid, adapter_name=NAME).items()
    }
    if not all_finite(tensors):
        raise DivergedError("The adapter holds numbers that are none.", "Go on from an earlier checkpoint.")
    with files.new_folder(run.adapter, needs_bytes=_needed_bytes(run, tensors)) as folder:
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        files.write_text(folder / "adapter_config.json", json.dumps(_config(run, overlaid), indent=2) + "\n")
        tokenizer.save_pretrained(folder)
        files.write_text(folder / "README.md", card(run))
        write_sidecar(folder, **facts(run))


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


def public_base(run: RunFolder) -> str:
    """What the base is called elsewhere: its hub id if it has one, else the name it has here."""
    return str(run.job["base"].get("hub_id") or Path(str(run.job["base"]["id"])).name)


def facts(run: RunFolder) -> dict[str, Any]:
    """The sidecar: where this adapter comes from."""
    state, job = run.state(), run.job
    recipe = dict(job["recipe"])
    recipe["data"] = {**recipe["data"], "path": Path(job["data"]["path"]).name}
    recipe["base"] = {**recipe["base"], "id": public_base(run)}
    return {
        "name": run.name,
        "run": run.id,
        "created": time.time(),
        "base": {
            "id": Path(str(job["base"]["id"])).name,
            "hub_id": job["base"].get("hub_id", ""),
            "revision": job["base"].get("revision", ""),
            "fingerprint": job["inputs"]["base"],
        },
        "data": {"name": Path(job["data"]["path"]).name, "sha256": job["inputs"]["dataset"]},
        "template_sha256": job["inputs"]["chat template"],
        "recipe": recipe,
        "versions": job["versions"],
        "metrics": {
            "steps": state.step,
            "first_loss": state.losses[0][1] if state.losses else None,
            "loss": state.losses[-1][1] if state.losses else None,
            "first_evaluation_loss": state.evaluations[0].loss if state.evaluations else None,
            "evaluation_loss": state.evaluations[-1].loss if state.evaluations else None,
        },
        "parent": job.get("parent"),
        "tags": [],
        "note": "",
    }


def card(run: RunFolder) -> str:
    """The model card, with the front matter that hubs and tools read."""
    base, recipe = public_base(run), run.job["recipe"]
    # JSON strings are YAML strings: a name cannot break out of the front matter.
    return f"""---
library_name: peft
base_model: {json.dumps(base)}
base_model_relation: adapter
pipeline_tag: text-generation
tags: [lora, qlora, sft]
---

# {run.name}

A LoRA adapter for `{base}`: rank {recipe["adapter"]["rank"]}, alpha {recipe["adapter"]["alpha"]}, trained with Overlay Studio.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({json.dumps(base)}), "path/to/this/folder")
```

`overlay.json` beside this file has the recipe, the data's fingerprint and the figures of the run.
"""
