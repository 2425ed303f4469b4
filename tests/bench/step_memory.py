"""What one training step holds on a card beyond base and adapter: ours, TRL's, and the stock one of transformers and PEFT.

    python -m tests.bench.step_memory                  Llama-3.1-8B, NF4, rank 16, 4,096 tokens, every layer checkpointed
    python -m tests.bench.step_memory --tokens 8192

All three run dry (`studio.engine.trace`): their own code, on tensors without contents, with every living storage counted. The
stock step is `model(input_ids, labels=...)` with fp32 adapters under autocast, as transformers' Trainer takes it; TRL's its own
head (`trl.trainer.utils.add_fused_lm_head`) with its 16-bit adapters. TRL is no dependency of the studio: `pip install trl`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.places import RESOURCES

GIB = 1 << 30
RANK = 16


def main() -> int:
    """Trace the three and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument(
        "--model", default="meta-llama/Llama-3.1-8B-Instruct", help="a model of resources/catalogue.json"
    )
    options = parser.parse_args()
    known = json.loads((RESOURCES / "catalogue.json").read_text(encoding="utf-8"))["models"]
    config = next(model["config"] for model in known if model["id"] == options.model)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        found = {"ours": _ours(Path(folder), options.tokens)}
        for name, step in (("transformers and PEFT", _stock), ("TRL", _trl)):
            with contextlib.suppress(ModuleNotFoundError):
                found[name] = _others(Path(folder), options.tokens, step)
    for name, size in found.items():
        share = found["ours"] / size
        print(f"{name:20} {size / GIB:6.2f} GiB beyond base, adapter, gradients and optimizer | ours: {share:4.2f} x")
    return 0


def _recipe(tokens: int) -> Any:
    from studio.recipe.fields import from_dict

    return from_dict(
        {
            "schema": 1,
            "name": "bench",
            "base": {"id": "model"},
            "data": {"path": "rows.jsonl", "max_tokens": tokens},
            "adapter": {"rank": RANK, "alpha": 2 * RANK},
            "training": {"steps": 1, "micro_batch_tokens": tokens, "optimizer": "adamw_torch"},
            "memory": {"checkpointing": "all"},
        }
    )


def _ours(folder: Path, tokens: int) -> int:
    from studio.engine.trace import trace

    return _dynamic(trace(folder, _recipe(tokens)))


def _dynamic(traced: Any) -> int:
    static = sum(traced.held["update"].get(owner, 0) for owner in ("weights", "adapter", "gradients", "optimizer"))
    return int(traced.total_bytes - static)


def _others(folder: Path, tokens: int, make_step: Callable[[Any, Any], Callable[[Any, Any], Any]]) -> int:
    """The same model without our passes, with another step. `make_step` turns (model, LoraConfig) into (overlaid, step)."""
    import torch
    from bitsandbytes import functional as bnb_functional
    from peft import LoraConfig
    from torch._subclasses.fake_tensor import FakeTensorMode

    from studio.engine import trace as tracing
    from studio.engine.overlay import trainable

    recipe = _recipe(tokens)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = tracing._on_meta(folder, recipe, None)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    overlaid, step = make_step(model, lora)
    table = bnb_functional.create_dynamic_map()
    boundaries = tracing.Boundaries.of([tokens])
    with FakeTensorMode(allow_non_fake_inputs=True), tracing._standing_in(table), tracing.Ledger() as ledger:
        tracing._give_shapes(overlaid, recipe)
        parameters = list(trainable(overlaid).values())
        frozen = [p for p in [*overlaid.parameters(), *overlaid.buffers()] if not p.requires_grad]
        ledger.own("weights", [*frozen, *tracing._constants(overlaid)])
        ledger.own("adapter", parameters)
        overlaid.train()
        ids = torch.zeros(1, tokens, dtype=torch.long)
        for _ in range(2):
            ledger.begin("forward")
            loss = step(ids, boundaries)
            ledger.enter("backward")
            loss.backward()
            del loss
            ledger.own("gradients", [p.grad for p in parameters if p.grad is not None])
            ledger.enter("update")
        return _dynamic(ledger.traced())


def _stock(model: Any, lora: Any) -> Any:
    import torch
    from peft import get_peft_model

    overlaid = get_peft_model(model, lora)

    def step(ids: Any, boundaries: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return overlaid(input_ids=ids, labels=ids, boundaries=boundaries, use_cache=False).loss

    return overlaid, step


def _trl(model: Any, lora: Any) -> Any:
    import torch
    from peft import get_peft_model
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    overlaid = get_peft_model(model, lora)
    for parameter in overlaid.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)

    def step(ids: Any, boundaries: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return overlaid(input_ids=ids, labels=ids, boundaries=boundaries, use_cache=False, fused_lm_head=True).loss

    return overlaid, step


if __name__ == "__main__":
    sys.exit(main())
