"""`overlay data` and `overlay estimate`: look before you train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio import files
from studio.cli.output import Output, table
from studio.cli.parser import Commands, add_command, number
from studio.data import rows
from studio.data.conversation import Dataset
from studio.data.survey import Survey, survey
from studio.errors import RecipeError
from studio.memory.budget import Budget, budget, trainable_parameters, verdict
from studio.memory.device import survey as survey_cards
from studio.models.bases import locate
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.check import check
from studio.recipe.toml import load

_GIB = 1 << 30
_MAX_SHOWN = 10


def register(commands: Commands) -> None:
    """Add both commands."""
    data = add_command(
        commands,
        "data",
        survey_data,
        "check a dataset",
        details="Detects the format, counts the rows and names each row that cannot be used, with its line.",
    )
    data.add_argument("file", metavar="FILE", type=Path, help="JSON lines, a JSON array, CSV or TSV")
    estimate = add_command(
        commands,
        "estimate",
        estimate_memory,
        "memory that a recipe will need",
        details="Pure arithmetic: the base's config.json is enough, no weights are read.",
    )
    estimate.add_argument("recipe", metavar="RECIPE", type=Path, help="a recipe file (.toml)")
    estimate.add_argument(
        "--card-gib", type=number(0.1, 10_000), metavar="N", help="size of the card in GiB (default: the one here)"
    )


def survey_data(options: argparse.Namespace, output: Output, _workspace: Workspace) -> None:
    """Print what is in the file."""
    dataset = rows.read(options.file.expanduser())
    found = survey(dataset)
    document = {
        "format": dataset.format,
        "num_rows": found.num_rows,
        "num_good": found.num_good,
        "num_duplicates": found.num_duplicates,
        "problems": [
            {"row": p.row, "line": p.line, "kind": p.kind, "message": p.message, "fix": p.fix} for p in dataset.problems
        ],
        "characters": vars(found.characters),
        "turns": vars(found.turns),
    }
    output.result(document, _data_text(options.file.name, dataset, found))


def estimate_memory(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the estimate, term by term, and whether it fits the card."""
    recipe = load(options.recipe)
    facts = ModelFacts.from_folder(locate(workspace, recipe.base.id))
    problems = check(recipe, facts)
    if problems:
        raise RecipeError(problems, options.recipe.name)
    found = budget(facts, recipe)
    card_bytes = round(options.card_gib * _GIB) if options.card_gib else _card_bytes()
    judged = verdict(found, card_bytes) if card_bytes else None
    trainable, total = trainable_parameters(facts, recipe)
    document: dict[str, Any] = {
        "total_bytes": found.total_bytes,
        # The overhead term holds the CUDA context, so this is what the driver's tool would show.
        "process_bytes": found.total_bytes,
        "allocated_bytes": found.allocated_bytes,
        "terms": {term.name: term.bytes for term in found.terms},
        "card_bytes": card_bytes,
        "fits": None if judged is None else judged != "over",
        "verdict": judged,
        "num_trainable": trainable,
        "num_parameters": total,
        "is_guess": found.is_guess,
    }
    output.result(document, _estimate_text(found, card_bytes, judged, trainable, total))


def _card_bytes() -> int | None:
    cards = survey_cards()
    return cards[0].total_bytes if cards else None


def _data_text(name: str, dataset: Dataset, found: Survey) -> str:
    lines = [
        f"{name}: format {dataset.format}, {found.num_good} of {found.num_rows} rows can be used.",
        f"Characters per row: median {found.characters.p50}, at most {found.characters.max}.",
    ]
    if found.num_duplicates:
        lines.append(f"{found.num_duplicates} rows repeat others.")
    lines += [str(problem) for problem in dataset.problems[:_MAX_SHOWN]]
    if len(dataset.problems) > _MAX_SHOWN:
        lines.append(f"... and {len(dataset.problems) - _MAX_SHOWN} more problems (all of them with --json).")
    return "\n".join(lines)


def _estimate_text(found: Budget, card_bytes: int | None, judged: str | None, trainable: int, total: int) -> str:
    text = table(("", "MEMORY"), [(term.label, files.readable_bytes(term.bytes)) for term in found.terms])
    lines = [text, f"Together: {files.readable_bytes(found.total_bytes)}"]
    lines.append(f"{trainable:,} of {total:,} parameters learn ({trainable / total:.2%}).")
    if card_bytes:
        words = {"fits": "It fits", "tight": "It will be tight", "over": "It does not fit"}
        lines.append(f"{words[str(judged)]} on a card of {files.readable_bytes(card_bytes)}.")
    if found.is_guess:
        lines.append("This architecture is unknown here: the estimate is that of a Llama of the same size.")
    return "\n".join(lines)
