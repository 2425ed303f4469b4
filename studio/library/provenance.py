"""What goes with the adapter of a run: the sidecar that says where it comes from, and its model card.

No path of this computer goes into either.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from studio.models.templates import OFFERED, OWN
from studio.runs.folder import RunFolder


def public_base(run: RunFolder) -> str:
    """What the base is called elsewhere: its hub id if it has one, else the name it has here."""
    return str(run.job["base"].get("hub_id") or Path(str(run.job["base"]["id"])).name)


def facts(run: RunFolder, step: int) -> dict[str, Any]:
    """The sidecar: where the adapter of `step` comes from, and the figures of the run until then."""
    state, job = run.state(), run.job
    losses = [loss for number, loss in state.losses if number <= step]
    evaluations = [found.loss for found in state.evaluations if found.step <= step]
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
        "data": {
            "name": Path(job["data"]["path"]).name,
            "sha256": job["inputs"]["dataset"],
            "mapping": job["data"].get("mapping"),
            **job["data"].get("source", {}),
        },
        "template_sha256": job["inputs"]["chat template"],
        "recipe": recipe,
        "versions": job["versions"],
        "metrics": {
            "steps": step,
            "first_loss": losses[0] if losses else None,
            "loss": losses[-1] if losses else None,
            "first_evaluation_loss": evaluations[0] if evaluations else None,
            "evaluation_loss": evaluations[-1] if evaluations else None,
        },
        "parent": job.get("parent"),
        "tags": [],
        "note": "",
    }


def card(run: RunFolder) -> str:
    """The model card, with the front matter that hubs and tools read."""
    base, recipe = public_base(run), run.job["recipe"]
    source = run.job["data"].get("source")
    datasets = f"\ndatasets: [{json.dumps(source['hub_id'])}]" if source else ""
    template = recipe["data"].get("chat_template", OWN)
    spoken = "" if template == OWN else f"\nChats are written as in `chat_template.jinja` ({OFFERED[template]}).\n"
    # JSON strings are YAML strings: a name cannot break out of the front matter.
    return f"""---
library_name: peft
base_model: {json.dumps(base)}
base_model_relation: adapter
pipeline_tag: text-generation
tags: [lora, qlora, sft]{datasets}
---

# {run.name}

A LoRA adapter for `{base}`: rank {recipe["adapter"]["rank"]}, alpha {recipe["adapter"]["alpha"]}, trained with Overlay Studio.
{spoken}
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({json.dumps(base)}), "path/to/this/folder")
```

`overlay.json` beside this file has the recipe, the data's fingerprint and the figures of the run.
"""
