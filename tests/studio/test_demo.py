"""The main job on the embedded base, as the README's first command does it; only shorter."""

import json
import os
import subprocess
import sys

import pytest

from studio.places import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_demo_changes_the_answers_and_merges_to_the_word(tmp_path):
    workspace = Workspace(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-m", "studio.cli", "demo", "--steps", "4", "--json", "--device", "cpu"],
        capture_output=True,
        text=True,
        env={**os.environ, "OVERLAY_HOME": str(workspace.root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events].count("Finished") == 1
    last = events[-1]
    assert last["event"] == "Finished"
    assert len(last["before"]) == len(last["after"]) == 3
    assert last["before"] != last["after"]
    assert last["merged"]["answers"] == last["merged"]["answers_unmerged"]
    assert last["merged"]["receipt"]["delta_lost"] == 0.0
    assert (workspace.adapters / last["adapter"] / "adapter_model.safetensors").is_file()
    losses = [event["loss"] for event in events if event["event"] == "StepTaken"]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    loaded = [event for event in events if event["event"] == "BaseLoaded"]
    assert len({event["base"] for event in loaded}) == len(loaded), "swapping an adapter must not load the base again"


def test_the_adapter_loads_with_plain_peft_and_says_the_same(tmp_path, monkeypatch):
    """The starter base in NF4, as PEFT's users would load it, against our own loading."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from studio.engine.desk import Desk
    from studio.engine.imports import import_base
    from studio.engine.run import perform
    from studio.engine.train import Orders
    from studio.models.bases import find_base
    from studio.recipe.fields import from_dict
    from studio.recipe.recipe import Base
    from studio.runs.create import create_run

    workspace = Workspace(tmp_path / "home")
    import_base(workspace, "starter", None, lambda *_: None)
    recipe = from_dict(
        {
            "base": {"id": "starter"},
            "data": {"path": "examples/laconic.jsonl"},
            "training": {"steps": 2, "batch_rows": 4, "learning_rate": 1e-2},
            "keep": {"sample_prompts": []},
        }
    )
    run = create_run(workspace, recipe, device="cpu")
    perform(run, workspace, Desk(torch.device("cpu")), Orders(), run.events.post)
    folder = workspace.adapters / run.state().adapter

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    theirs = AutoModelForCausalLM.from_pretrained(
        workspace.bases / "starter", quantization_config=four_bits, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    for module in theirs.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # the same kernel on both sides
    theirs = PeftModel.from_pretrained(theirs, str(folder)).eval()
    desk = Desk(torch.device("cpu"))
    desk.lay_base(find_base(workspace, "starter"), Base(id="starter"))
    ids = torch.arange(100, 180)[None]
    with torch.no_grad(), desk.lane(folder) as (ours, _, _):
        assert torch.equal(ours(input_ids=ids, use_cache=False).logits, theirs(input_ids=ids, use_cache=False).logits)
    with torch.no_grad(), desk.lane(None) as (alone, _, _):
        assert not torch.equal(
            alone(input_ids=ids, use_cache=False).logits, theirs(input_ids=ids, use_cache=False).logits
        )
