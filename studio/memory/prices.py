"""What a change of the recipe costs, or brings, in words that need no knowledge of the machinery.

A number in them is always reckoned from the model and the recipe, never looked up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio.files import readable_bytes
from studio.memory.budget import trainable_parameters
from studio.memory.setup import Setup, checkpointed_layers, micro_batch_tokens
from studio.models.facts import ModelFacts
from studio.recipe.recipe import Recipe


@dataclass(frozen=True)
class _Trade:
    """A recipe before and after one change. `row_tokens` are the lengths of the dataset's rows, if they are known."""

    facts: ModelFacts
    before: Recipe
    after: Recipe
    row_tokens: Sequence[int] | None


def price(facts: ModelFacts, before: Recipe, after: Recipe, field: str, row_tokens: Sequence[int] | None = None) -> str:
    """What going from one recipe to the other costs, for a change of `field`; what it brings, if it takes more memory."""
    return _WORDS[field](_Trade(facts, before, after, row_tokens))


def step_flops(facts: ModelFacts, num_checkpointed: int) -> float:
    """Arithmetic of one training step per token, in multiply-adds.

    Each weight of a frozen block is used once forwards and once backwards (there is no gradient of the weight itself),
    and once more where the block is recomputed; the head is used forwards and backwards.
    """
    blocks = facts.num_linear_parameters + facts.num_expert_parameters / max(facts.num_experts, 1)
    recomputed = num_checkpointed / facts.num_layers
    return blocks * (2 + recomputed) + 2 * facts.hidden_size * facts.vocab_size


def _micro_batch(trade: _Trade) -> str:
    before, after = _passes(trade.before), _passes(trade.after)
    if after == before:
        return "Same result, hardly any difference in speed"
    passes = f"{after:,} {'pass' if after == 1 else 'passes'} per step instead of {before:,}"
    return f"Same result, a little {'faster' if after < before else 'slower'}: {passes} where all rows are long"


def _passes(recipe: Recipe) -> int:
    """Micro-batches in a step whose rows are all of full length."""
    rows_at_once = max(1, micro_batch_tokens(recipe) // recipe.data.max_tokens)
    return math.ceil(recipe.training.batch_rows / rows_at_once)


def _checkpointing(trade: _Trade) -> str:
    work_before, work_after = (
        step_flops(trade.facts, checkpointed_layers(trade.facts, recipe.memory.checkpointing))
        for recipe in (trade.before, trade.after)
    )
    if work_after > work_before:
        return f"Same result, up to {max(1, round(100 * (1 - work_before / work_after)))} % slower"
    return f"Same result, up to {max(1, round(100 * (work_before / work_after - 1)))} % faster"


def _optimizer(trade: _Trade) -> str:
    if trade.after.training.optimizer == "paged_adamw_32bit":
        return "Same result; slower only while the card is full"
    return "Nearly the same result: the optimiser remembers in 8 bits"


def _quantisation(trade: _Trade) -> str:
    weights = trade.before.base.quantisation
    held = "8" if weights == "int8" else "32" if trade.before.base.compute_dtype == "float32" else "16"
    return f"Nearly the same result: the base is held in 4 bits instead of {held}"


def _double_quantisation(_trade: _Trade) -> str:
    return "No loss that can be measured"


def _compute_dtype(_trade: _Trade) -> str:
    return "Nearly the same result: arithmetic in 16 bits instead of 32, and faster"


def _offload(trade: _Trade) -> str:
    setup = Setup.of(trade.facts, trade.after)
    moved = setup.checkpointed_layers * setup.tokens * trade.facts.hidden_size * setup.residual_bytes
    return f"Same result, slower: {readable_bytes(moved)} go to main memory and back in each pass"


def _reuse_weights(_trade: _Trade) -> str:
    return "Same result, hardly slower: weights are unpacked three times in each pass instead of twice"


def _keep_attention(_trade: _Trade) -> str:
    return "Same result, slower with long rows: attention is computed twice"


def _embeddings(trade: _Trade) -> str:
    setup = Setup.of(trade.facts, trade.after)
    moved = setup.tokens * trade.facts.hidden_size * setup.compute_bytes
    return f"Same result, hardly slower: {readable_bytes(moved)} come from main memory in each pass"


def _dora(_trade: _Trade) -> str:
    return "Plain LoRA instead of DoRA: faster, may learn a little less at a low rank"


def _max_tokens(trade: _Trade) -> str:
    before, after = trade.before.data.max_tokens, trade.after.data.max_tokens
    text = f"Rows of up to {after:,} tokens stay whole" if after > before else f"Cuts rows longer than {after:,} tokens"
    if not trade.row_tokens:
        return text
    if after > before:
        return f"{text}; {_share_cut(trade.row_tokens, before)} of the rows are cut now"
    return f"{text}: {_share_cut(trade.row_tokens, after)} of the rows"


def _share_cut(row_tokens: Sequence[int], max_tokens: int) -> str:
    share = 100 * sum(tokens > max_tokens for tokens in row_tokens) / len(row_tokens)
    return f"{share:.1f} %" if share >= 0.05 or share == 0 else "less than 0.1 %"


def _room_to_learn(trade: _Trade) -> str:
    before, after = (trainable_parameters(trade.facts, recipe)[0] for recipe in (trade.before, trade.after))
    return f"Less room to learn: {_millions(after)} parameters instead of {_millions(before)}"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 100_000 else f"{count:,}"


_WORDS: dict[str, Callable[[_Trade], str]] = {
    "training.micro_batch_rows": _micro_batch,
    "training.micro_batch_tokens": _micro_batch,
    "memory.checkpointing": _checkpointing,
    "training.optimizer": _optimizer,
    "base.quantisation": _quantisation,
    "base.double_quantisation": _double_quantisation,
    "base.compute_dtype": _compute_dtype,
    "memory.reuse_weights": _reuse_weights,
    "memory.keep_attention": _keep_attention,
    "memory.embeddings_on_cpu": _embeddings,
    "memory.offload": _offload,
    "adapter.dora": _dora,
    "data.max_tokens": _max_tokens,
    "adapter.targets": _room_to_learn,
    "adapter.rank": _room_to_learn,
}
