"""Settings that are each sound and do not go together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from studio.errors import Problem
from studio.recipe.recipe import Recipe

# Beyond this the overlay drowns the base in the first steps; the usual scale is 1 to 2.
LARGEST_SCALE = 128


class Facts(Protocol):
    """What a check asks about the base model."""

    @property
    def context_tokens(self) -> int:
        """The longest text that the base was made for, in tokens; 0 if it does not say."""

    @property
    def tied_embeddings(self) -> bool:
        """Whether its head is the table of its input embeddings."""


@dataclass(frozen=True)
class Contradiction:
    """A problem between settings. The first of `fields` is where it is shown."""

    fields: tuple[str, ...]
    message: str
    fix: str

    @property
    def problem(self) -> Problem:
        """The same, as it is told."""
        return Problem(field=self.fields[0], message=self.message, fix=self.fix)


def check(recipe: Recipe, facts: Facts | None = None, num_rows: int | None = None) -> list[Problem]:
    """All contradictions at once, none if the recipe can run. Pure and fast enough for each key press; never raises.

    `facts` (of the base) and `num_rows` (good rows of the dataset) add what can be told once they are known.
    """
    found = [*contradictions(recipe)]
    if facts is not None:
        found += _against_base(recipe, facts)
    if num_rows is not None:
        found += _against_data(recipe, num_rows)
    return [contradiction.problem for contradiction in found]


def contradictions(recipe: Recipe) -> Iterator[Contradiction]:
    """What the recipe alone shows."""
    yield from _in_batches(recipe)
    yield from _in_adapter(recipe)
    yield from _in_memory(recipe)
    yield from _in_keep(recipe)


def _in_batches(recipe: Recipe) -> Iterator[Contradiction]:
    training, max_tokens = recipe.training, recipe.data.max_tokens
    if training.micro_batch_rows is not None and training.micro_batch_rows > training.batch_rows:
        yield Contradiction(
            ("training.micro_batch_rows", "training.batch_rows"),
            f"{training.micro_batch_rows} rows at once are more than the {training.batch_rows} of a whole step",
            f"Lower training.micro_batch_rows to {training.batch_rows}, or raise training.batch_rows.",
        )
    if recipe.data.packing and training.micro_batch_tokens is not None and max_tokens > training.micro_batch_tokens:
        yield Contradiction(
            ("training.micro_batch_tokens", "data.max_tokens", "data.packing"),
            f"a row of {max_tokens} tokens does not fit into a micro-batch of {training.micro_batch_tokens}",
            f"Raise training.micro_batch_tokens to {max_tokens}, or lower data.max_tokens.",
        )


def _in_adapter(recipe: Recipe) -> Iterator[Contradiction]:
    adapter = recipe.adapter
    divisor = math.sqrt(adapter.rank) if adapter.rslora else adapter.rank
    if adapter.alpha / divisor > LARGEST_SCALE:
        formula = "alpha / sqrt(rank)" if adapter.rslora else "alpha / rank"
        yield Contradiction(
            ("adapter.alpha", "adapter.rank", "adapter.rslora"),
            f"{adapter.alpha} makes the overlay {adapter.alpha / divisor:.0f} times as loud ({formula}); "
            "it would drown the base",
            f"Lower adapter.alpha to {2 * adapter.rank}, twice the rank.",
        )
    groups = [name for name in adapter.targets if name in ("all-linear", "attention")]
    if not isinstance(adapter.targets, str) and groups:
        yield Contradiction(
            ("adapter.targets",),
            f'"{groups[0]}" stands for many modules and cannot be one of a list',
            f'Write targets = "{groups[0]}", or list module names only.',
        )


def _in_memory(recipe: Recipe) -> Iterator[Contradiction]:
    if recipe.memory.offload and recipe.memory.checkpointing == "none":
        yield Contradiction(
            ("memory.offload", "memory.checkpointing"),
            "it moves what checkpointing keeps, and checkpointing is off",
            'Set memory.checkpointing to "auto" or "all", or memory.offload to false.',
        )
    if recipe.memory.keep_attention and recipe.memory.checkpointing == "none":
        yield Contradiction(
            ("memory.keep_attention", "memory.checkpointing"),
            "it spares checkpointed layers some of their work, and checkpointing is off",
            'Set memory.checkpointing to "auto" or "all", or memory.keep_attention to false.',
        )


def _in_keep(recipe: Recipe) -> Iterator[Contradiction]:
    keep = recipe.keep
    if keep.evaluate_every_steps > 0 and recipe.data.validation_fraction == 0:
        yield Contradiction(
            ("keep.evaluate_every_steps", "data.validation_fraction"),
            "there is nothing to evaluate on: no rows are held out",
            "Set data.validation_fraction to 0.05, or keep.evaluate_every_steps to 0.",
        )
    needs = [
        ("keep.stop_after_worse_evaluations", keep.stop_after_worse_evaluations > 0, "0"),
        ("keep.adapter_from", keep.adapter_from == "best", '"last"'),
    ]
    for field, is_wanted, neutral in needs:
        if is_wanted and keep.evaluate_every_steps == 0:
            yield Contradiction(
                (field, "keep.evaluate_every_steps", "data.validation_fraction"),
                "it goes by evaluations in mid-run, and there are none",
                f"Set keep.evaluate_every_steps to 50 (and hold rows out), or {field} to {neutral}.",
            )
    if keep.sample_every_steps > 0 and not keep.sample_prompts:
        yield Contradiction(
            ("keep.sample_every_steps", "keep.sample_prompts"),
            "there is nothing to ask: keep.sample_prompts is empty",
            "Add a prompt to keep.sample_prompts, or set keep.sample_every_steps to 0.",
        )


def _against_base(recipe: Recipe, facts: Facts) -> Iterator[Contradiction]:
    if 0 < facts.context_tokens < recipe.data.max_tokens:
        yield Contradiction(
            ("data.max_tokens",),
            f"{recipe.data.max_tokens} tokens are more than the {facts.context_tokens} this base can read at once",
            f"Lower data.max_tokens to {facts.context_tokens} or less.",
        )
    if recipe.memory.embeddings_on_cpu and facts.tied_embeddings:
        yield Contradiction(
            ("memory.embeddings_on_cpu",),
            "the head of this base is the same table, which it needs on the card: nothing would be saved",
            "Set memory.embeddings_on_cpu to false.",
        )


def _against_data(recipe: Recipe, num_rows: int) -> Iterator[Contradiction]:
    if num_rows < 1:
        yield Contradiction(
            ("data.path",),
            "the dataset has no row that can be learnt from",
            "Choose another dataset, or mend this one.",
        )
    elif num_rows == 1 and recipe.data.validation_fraction > 0:
        yield Contradiction(
            ("data.validation_fraction",),
            "the only row of the dataset cannot be held out and learnt from",
            "Set data.validation_fraction and keep.evaluate_every_steps to 0, or add rows.",
        )
