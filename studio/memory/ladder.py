"""The settings that save memory, in the order in which they are given up: what costs least quality first.

A rung is one setting with its milder and stronger choices. How much a choice saves is never written down here: it is
the difference of two estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from studio.memory.setup import checkpointed_layers
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.recipe.setting import MAX_CONTEXT_TOKENS

GRID_TOKENS = 256
_FINE_GRID_TOKENS = 64  # for rows of up to 1024 tokens
_SHORTEST_TOKENS = 256
_LOWEST_RANK = 4
_MOST_LAYERS = 1000  # the largest number that `memory.checkpointing` takes
_MILDER_OPTIMIZERS = {
    "adamw_torch": ("paged_adamw_32bit", "paged_adamw_8bit"),
    "paged_adamw_32bit": ("paged_adamw_8bit",),
    "adamw_8bit": ("paged_adamw_8bit",),
}


@dataclass(frozen=True)
class Change:
    """One setting changed. `saves_bytes` is the estimate before less the estimate after, negative where memory is
    spent; `price` says in plain words what it costs, or what it brings.

    Apply it with `applied_to`, not by setting the field: some settings take others along.
    """

    field: str
    before: Any
    after: Any
    saves_bytes: int
    price: str

    @property
    def costs_quality(self) -> bool:
        """Whether the adapter may learn less for it; otherwise it costs time at most."""
        return any(rung.field == self.field for rung in QUALITY)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """The recipe with this change, and with what follows the setting."""
        return applied(recipe, self.field, self.after)


@dataclass(frozen=True)
class Rung:
    """One setting of the ladder. `choices` are its values from the mildest to the strongest, none if there is nothing
    to gain; each takes no more memory than the one before it."""

    field: str
    choices: Callable[[ModelFacts, Recipe], Sequence[Any]]


def applied(recipe: Recipe, field: str, value: Any) -> Recipe:
    """The recipe with one setting changed, and what follows it.

    A micro-batch counted in tokens stays one row if it was one, and holds one row at least. Alpha keeps the loudness of
    the overlay when the rank changes: alpha / rank, or alpha / sqrt(rank) if rank-stabilised.
    """
    changed = replaced(recipe, field, value)
    if field == "data.max_tokens":
        return _with_whole_rows(recipe, changed)
    if field == "adapter.rank":
        return _as_loud(recipe, changed)
    return changed


def _with_whole_rows(old: Recipe, new: Recipe) -> Recipe:
    tokens, longest = old.training.micro_batch_tokens, new.data.max_tokens
    if tokens is None:
        return new
    was_one_row = tokens <= old.data.max_tokens
    if (new.data.packing and tokens < longest) or (was_one_row and tokens > longest):
        return replaced(new, "training.micro_batch_tokens", longest)
    return new


def _as_loud(old: Recipe, new: Recipe) -> Recipe:
    if old.adapter.alpha == 2 * old.adapter.rank:
        return new
    ratio = new.adapter.rank / old.adapter.rank
    ratio = math.sqrt(ratio) if old.adapter.rslora else ratio
    return replaced(new, "adapter.alpha", max(1, round(old.adapter.alpha * ratio)))


# --- what each setting can still give -----------------------------------------------------------------------------------


def _fewer_rows(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    return range((recipe.training.micro_batch_rows or 1) - 1, 0, -1)


def _fewer_tokens(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    tokens, longest = recipe.training.micro_batch_tokens or 0, recipe.data.max_tokens
    return (*_grid_below(tokens, longest + 1), longest) if tokens > longest else ()


def _more_checkpointing(facts: ModelFacts, recipe: Recipe) -> Sequence[int | str]:
    now = checkpointed_layers(facts, recipe.memory.checkpointing)
    if now >= facts.num_layers:
        return ()
    return (*range(now + 1, min(facts.num_layers, _MOST_LAYERS + 1)), "all")


def _smaller_optimizer(_facts: ModelFacts, recipe: Recipe) -> Sequence[str]:
    return _MILDER_OPTIMIZERS.get(recipe.training.optimizer, ())


def _four_bits(_facts: ModelFacts, recipe: Recipe) -> Sequence[str]:
    return ("nf4",) if recipe.base.quantisation in ("none", "int8") else ()


def _double(_facts: ModelFacts, recipe: Recipe) -> Sequence[bool]:
    return (True,) if recipe.base.quantisation in ("nf4", "fp4") and not recipe.base.double_quantisation else ()


def _half_precision(_facts: ModelFacts, recipe: Recipe) -> Sequence[str]:
    return ("bfloat16",) if recipe.base.compute_dtype == "float32" else ()


def _offload(facts: ModelFacts, recipe: Recipe) -> Sequence[bool]:
    keeps = checkpointed_layers(facts, recipe.memory.checkpointing) > 0
    return (True,) if keeps and not recipe.memory.offload else ()


def _weights_again(_facts: ModelFacts, recipe: Recipe) -> Sequence[str]:
    return ("auto",) if recipe.memory.reuse_weights == "always" else ()


def _attention_again(_facts: ModelFacts, recipe: Recipe) -> Sequence[bool]:
    return (False,) if recipe.memory.keep_attention else ()


def _embeddings_elsewhere(facts: ModelFacts, recipe: Recipe) -> Sequence[bool]:
    return () if recipe.memory.embeddings_on_cpu or facts.tied_embeddings else (True,)


def _no_dora(_facts: ModelFacts, recipe: Recipe) -> Sequence[bool]:
    return (False,) if recipe.adapter.dora else ()


def _shorter_rows(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    longest = recipe.data.max_tokens
    return _grid_below(longest, _SHORTEST_TOKENS, GRID_TOKENS if longest > 1024 else _FINE_GRID_TOKENS)


def _fewer_targets(facts: ModelFacts, recipe: Recipe) -> Sequence[str]:
    targets, attention = recipe.adapter.targets, set(facts.attention_modules)
    if targets == "all-linear":
        return ("attention",)
    names = set() if isinstance(targets, str) else {target.rsplit(".", 1)[-1] for target in targets}
    return ("attention",) if attention < names else ()


def _lower_rank(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    halves = (recipe.adapter.rank >> times for times in range(1, recipe.adapter.rank.bit_length()))
    return tuple(rank for rank in halves if rank >= _LOWEST_RANK)


def _grid_below(value: int, lowest: int, step: int = GRID_TOKENS) -> Sequence[int]:
    """Multiples of `step` below `value`, down to `lowest`."""
    return range((value - 1) // step * step, lowest - 1, -step)


# Two ways to say the micro-batch; a recipe uses one of them. NF4 counts among the free ones because fine-tuning on it
# was found to match 16 bit (Dettmers et al. 2023, section 4), 8-bit states likewise (Dettmers et al. 2022).
FREE = (
    Rung("training.micro_batch_rows", _fewer_rows),
    Rung("training.micro_batch_tokens", _fewer_tokens),
    Rung("memory.reuse_weights", _weights_again),
    Rung("memory.checkpointing", _more_checkpointing),
    Rung("training.optimizer", _smaller_optimizer),
    Rung("base.quantisation", _four_bits),
    Rung("base.double_quantisation", _double),
    Rung("base.compute_dtype", _half_precision),
    Rung("memory.keep_attention", _attention_again),
    Rung("memory.embeddings_on_cpu", _embeddings_elsewhere),
    Rung("memory.offload", _offload),
)
"""Settings that cost time at most: the adapter learns as well as before, as far as anybody has measured."""
QUALITY = (
    Rung("adapter.dora", _no_dora),
    Rung("data.max_tokens", _shorter_rows),
    Rung("adapter.targets", _fewer_targets),
    Rung("adapter.rank", _lower_rank),
)
"""Settings that cost something of what is learnt."""
LADDER = FREE + QUALITY


# --- the other way: what memory to spare can buy ------------------------------------------------------------------------


def _longer_rows(facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    most = min(facts.context_tokens or MAX_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)
    first = recipe.data.max_tokens // GRID_TOKENS * GRID_TOKENS + GRID_TOKENS
    return range(first, most + 1, GRID_TOKENS)


def _more_rows(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    rows = recipe.training.micro_batch_rows
    return () if rows is None else range(rows + 1, recipe.training.batch_rows + 1)


def _more_tokens(_facts: ModelFacts, recipe: Recipe) -> Sequence[int]:
    tokens = recipe.training.micro_batch_tokens
    if tokens is None:
        return ()
    most = min(recipe.training.batch_rows * recipe.data.max_tokens, MAX_CONTEXT_TOKENS)
    grid = range(tokens // GRID_TOKENS * GRID_TOKENS + GRID_TOKENS, most, GRID_TOKENS)
    return (*grid, most) if most > tokens else ()


def _less_checkpointing(facts: ModelFacts, recipe: Recipe) -> Sequence[int | str]:
    if recipe.memory.checkpointing == "auto":
        return ()  # it uses what is to spare by itself
    now = checkpointed_layers(facts, recipe.memory.checkpointing)
    fewer = range(min(now - 1, _MOST_LAYERS), 0, -1)
    return (*fewer, "none") if now and not recipe.memory.offload else fewer


SPARE = (
    Rung("data.max_tokens", _longer_rows),
    Rung("training.micro_batch_rows", _more_rows),
    Rung("training.micro_batch_tokens", _more_tokens),
    Rung("memory.checkpointing", _less_checkpointing),
)
"""What to do with memory to spare; here each choice takes more of it than the one before."""
