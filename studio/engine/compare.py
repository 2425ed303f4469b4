"""Does a merged model say what the base with its overlay says? Measured, not assumed.

Both sides read the same prompts in fp32, so that only the rounding of the file shows; compared are the distributions
of the next token at every position.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel

from studio.engine.load import load_base
from studio.engine.template import dressed, prompt
from studio.library.templates import kept_template
from studio.models.bases import Base, find_base
from studio.places import Workspace
from studio.recipe.recipe import Base as BaseSpec

PROMPTS = (
    "What should I cook tonight?", "Why is the sky blue?", "Give me one tip for learning to code.", "Who are you?",
    "Write a short thank-you note.", "What is the capital of France?",
)  # fmt: skip


def agreement(workspace: Workspace, base: Base, adapter: Path, merged: Path) -> dict[str, float]:
    """`kl_mean` (nats, adapter against merged) and `top1_agreement` over all positions of the fixed prompts."""
    spec = BaseSpec(id=base.id, quantisation="none", compute_dtype="float32")
    cpu = torch.device("cpu")
    loaded = load_base(base.path, spec, cpu)
    tokenizer = dressed(loaded.tokenizer, kept_template(adapter))
    encoded = [torch.tensor([prompt(tokenizer, [{"role": "user", "content": text}])]) for text in PROMPTS]
    overlaid = PeftModel.from_pretrained(loaded.model, str(adapter))
    expected = [_log_probabilities(overlaid, ids) for ids in encoded]
    del overlaid, loaded
    plain = load_base(find_base(workspace, str(merged)).path, spec, cpu)
    kl_sum, same, positions = 0.0, 0, 0
    for ids, wanted_TV in zip(encoded, expected, strict=True):
        found_TV = _log_probabilities(plain.model, ids)
        kl_sum += float((wanted_TV.exp() * (wanted_TV - found_TV)).sum())
        same += int((wanted_TV.argmax(1) == found_TV.argmax(1)).sum())
        positions += wanted_TV.shape[0]
    # Rounding can take a divergence of nothing a hair below zero.
    return {"kl_mean": max(0.0, kl_sum / positions), "top1_agreement": same / positions}


@torch.no_grad()
def _log_probabilities(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), dim=-1)
