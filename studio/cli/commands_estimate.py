"""`overlay estimate`: the memory that a recipe will need, before anything is loaded or downloaded."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from studio.cli.output import Output, table
from studio.cli.parser import Commands, UsageError, add_command, number, whole_number
from studio.cli.proofs import compare_measured, run_dry
from studio.errors import RecipeError
from studio.files import readable_bytes
from studio.memory import auto, uses
from studio.memory.budget import Budget, budget, trainable_parameters, verdict
from studio.memory.correction import Correction, correction_for
from studio.memory.device import survey
from studio.models.facts import ModelFacts
from studio.models.remote import find_facts
from studio.places import Workspace
from studio.recipe.check import check
from studio.recipe.recipe import Recipe
from studio.recipe.toml import load

_GIB = 1 << 30
_MAX_LANES = 64
_MAX_CONTEXT_TOKENS = 10_000_000
_WORDS = {"fits": "It fits", "tight": "It will be tight", "over": "It does not fit"}


@dataclass(frozen=True)
class Card:
    """The memory to fit into: of a card that was named, or of the one here with what other programs hold of it."""

    total_bytes: int | None = None
    other_bytes: int = 0
    correction: Correction | None = None

    @property
    def correction_bytes(self) -> int:
        """What earlier runs on it have taught; 0 if nothing."""
        return self.correction.bytes if self.correction else 0

    def settled(self, facts: ModelFacts, recipe: Recipe) -> Recipe:
        """The recipe with what `auto` comes to on this card; unchanged if there is none."""
        if not self.total_bytes:
            return recipe
        return auto.settled(facts, recipe, self.total_bytes, self.other_bytes, self.correction_bytes)

    def judge(self, found: Budget) -> str | None:
        """`fits`, `tight` or `over`; None if there is no card."""
        return verdict(found, self.total_bytes, self.other_bytes) if self.total_bytes else None

    def document(self, found: Budget) -> dict[str, Any]:
        """A breakdown and its verdict, as the command line prints them."""
        judged = self.judge(found)
        return {
            "total_bytes": found.total_bytes,
            "process_bytes": found.process_bytes,
            "terms": {term.name: term.bytes for term in found.terms},
            "fits": None if judged is None else judged != "over",
            "verdict": judged,
        }


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "estimate",
        estimate_memory,
        "memory that a recipe will need",
        details="Pure arithmetic: the base's config.json is enough, no weights are read. A base that is not on this "
        "computer is looked up on the Hugging Face hub if the recipe names it by its hub id: its configuration and the "
        "heads of its weight files are fetched, never the weights.",
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help="a recipe file (.toml)")
    parser.add_argument(
        "--card-gib", type=number(0.1, 10_000), metavar="N", help="size of the card in GiB (default: the one here)"
    )
    parser.add_argument(
        "--trace", action="store_true", help="also run the real code dry, on tensors without contents (half a minute)"
    )
    parser.add_argument(
        "--measured", metavar="FILE", type=Path, help="no recipe: the estimate beside a table of published measurements"
    )
    parser.add_argument("--methods", action="store_true", help="full fine-tuning, LoRA and QLoRA side by side")
    parser.add_argument("--evaluation", action="store_true", help="also taking the loss over held-out rows")
    parser.add_argument(
        "--chat", type=whole_number(1, _MAX_LANES), metavar="LANES", help="also a chat in that many lanes"
    )
    parser.add_argument(
        "--context",
        type=whole_number(1, _MAX_CONTEXT_TOKENS),
        metavar="N",
        help="tokens of a chat, with --chat (default: the recipe's max_tokens)",
    )
    parser.add_argument("--merge", action="store_true", help="also the computer's memory to merge the adapter")


def estimate_memory(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the estimate, term by term, and whether it fits the card."""
    if options.context and not options.chat:
        raise UsageError("--context says how long a chat is, and no chat is asked for.", "Give --chat LANES as well.")
    if options.measured:
        compare_measured(options.measured.expanduser(), output)
        return
    if options.recipe is None:
        raise UsageError("There is no recipe to estimate.", "Give a recipe file, or --measured FILE.")
    recipe = load(options.recipe)
    facts = find_facts(workspace, recipe.base.id, output.note)
    problems = check(recipe, facts)
    if problems:
        raise RecipeError(problems, options.recipe.name)
    card = _card(options, workspace)
    as_run = card.settled(facts, recipe)
    found = budget(facts, as_run, card.correction_bytes)
    trainable, total = trainable_parameters(facts, recipe)
    document: dict[str, Any] = {
        **card.document(found),
        "raw_process_bytes": found.raw_process_bytes,
        "correction_bytes": found.correction_bytes,
        "card_bytes": card.total_bytes,
        "other_bytes": card.other_bytes,
        "num_layers": found.num_layers,
        "num_checkpointed": found.num_checkpointed,
        "num_trainable": trainable,
        "num_parameters": total,
        "is_guess": found.is_guess,
    }
    texts = [_training_text(found, card, trainable, total, auto.words(recipe, found))]
    if options.trace:
        traced, text = run_dry(workspace, as_run, found, output)
        document["traced_bytes"] = traced["total_bytes"]
        document["traced"] = traced
        texts.append(text)
    for key, (part, text) in _other_uses(options, facts, recipe, card).items():
        document[key] = part
        texts.append(text)
    output.result(document, "\n\n".join(texts))


def _card(options: argparse.Namespace, workspace: Workspace) -> Card:
    if options.card_gib:
        return Card(round(options.card_gib * _GIB))
    cards = survey()
    if not cards:
        return Card()
    first = cards[0]
    learnt = correction_for(workspace, first.name, first.driver)
    return Card(first.total_bytes, first.total_bytes - first.free_bytes, learnt)


def _training_text(found: Budget, card: Card, trainable: int, total: int, layers: str) -> str:
    lines = [_table(found), f"Together: {readable_bytes(found.process_bytes)}"]
    if card.correction:
        lines[-1] += f", of which {readable_bytes(found.correction_bytes)} were learnt here ({card.correction.text})"
    lines.append(f"{trainable:,} of {total:,} parameters learn ({trainable / total:.2%}).")
    lines += [f"{layers[0].upper()}{layers[1:]}."] if layers else []
    if card.total_bytes:
        lines.append(f"{_WORDS[str(card.judge(found))]} on {_card_text(card)}.")
    if found.is_guess:
        lines.append("This architecture is unknown here: the estimate is that of a Llama of the same size.")
    return "\n".join(lines)


def _card_text(card: Card) -> str:
    others = f" of which other programs hold {readable_bytes(card.other_bytes)}" if card.other_bytes else ""
    return f"a card of {readable_bytes(card.total_bytes or 0)}{others}"


def _table(found: Budget) -> str:
    return table(("", "MEMORY"), [(term.label, readable_bytes(term.bytes)) for term in found.shown])


# --- other uses ------------------------------------------------------------------------------------------------------


def _other_uses(
    options: argparse.Namespace, facts: ModelFacts, recipe: Recipe, card: Card
) -> dict[str, tuple[Any, str]]:
    """What was asked for besides training: the document's key, its value, and the same as text."""
    found = {}
    if options.methods:
        found["methods"] = _methods(facts, recipe, card)
    if options.evaluation:
        taken = uses.evaluation(facts, recipe)
        found["evaluation"] = card.document(taken), _use_text("Evaluation", taken, card)
    if options.chat:
        found["chat"] = _chat(facts, recipe, card, options.chat, options.context or recipe.data.max_tokens)
    if options.merge:
        found["merge"] = _merge(facts, recipe)
    return found


def _methods(facts: ModelFacts, recipe: Recipe, card: Card) -> tuple[Any, str]:
    ways = uses.methods(facts, recipe, partial(card.settled, facts))
    document = [{"method": way.name, "num_trainable": way.num_trainable, **card.document(way.budget)} for way in ways]
    labels = [term.label for term in ways[-1].budget.shown]
    sizes = [[readable_bytes(term.bytes) for term in way.budget.shown] for way in ways]
    rows = [[label, *cells] for label, *cells in zip(labels, *sizes, strict=True)]
    rows.append(["Together", *(readable_bytes(way.budget.process_bytes) for way in ways)])
    rows.append(["Parameters that learn", *(f"{way.num_trainable:,}" for way in ways)])
    if card.total_bytes:
        rows.append([f"On {_card_text(card)}", *(str(card.judge(way.budget)) for way in ways)])
    return document, "Ways to train\n" + table(("", *(way.label for way in ways)), rows)


def _chat(facts: ModelFacts, recipe: Recipe, card: Card, lanes: int, tokens: int) -> tuple[Any, str]:
    """The base alone in one lane, an adapter like the recipe's in each of the others."""
    trainable, _ = trainable_parameters(facts, recipe)
    found = uses.chat(facts, recipe.base, lanes, tokens, [trainable] * (lanes - 1))
    title = f"Chat in {lanes} lane{'s' if lanes != 1 else ''} of {tokens:,} tokens"
    if 0 < facts.context_tokens < tokens:
        title += f" (this base was made for {facts.context_tokens:,})"
    return {"lanes": lanes, "context_tokens": tokens, **card.document(found)}, _use_text(title, found, card)


def _merge(facts: ModelFacts, recipe: Recipe) -> tuple[Any, str]:
    found = uses.merge(facts, recipe.adapter)
    available = int(psutil.virtual_memory().available)
    needed = found.process_bytes - found.term("mapped").bytes
    document = {
        "peak_rss_bytes": found.process_bytes,
        "needed_bytes": needed,
        "available_bytes": available,
        "terms": {term.name: term.bytes for term in (*found.terms, found.context)},
        "fits": needed <= available,
    }
    rows = [(term.label, readable_bytes(term.bytes)) for term in (*found.terms, found.context)]
    text = [
        "Merging, in the computer's memory",
        table(("", "MEMORY"), rows),
        f"Together: {readable_bytes(found.process_bytes)}, of which {readable_bytes(needed)} are needed; "
        f"{readable_bytes(available)} are free.",
    ]
    return document, "\n".join(text)


def _use_text(title: str, found: Budget, card: Card) -> str:
    lines = [title, _table(found), f"Together: {readable_bytes(found.process_bytes)}"]
    if card.total_bytes:
        lines.append(f"{_WORDS[str(card.judge(found))]} on {_card_text(card)}.")
    return "\n".join(lines)
