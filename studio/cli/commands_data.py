"""`overlay data`: look before you train."""

from __future__ import annotations

import argparse
from pathlib import Path

from studio.cli.output import Output
from studio.cli.parser import Commands, add_command
from studio.data import rows
from studio.data.conversation import Dataset
from studio.data.survey import Survey, survey
from studio.places import Workspace

_MAX_SHOWN = 10


def register(commands: Commands) -> None:
    """Add the command."""
    data = add_command(
        commands,
        "data",
        survey_data,
        "check a dataset",
        details="Detects the format, counts the rows and names each row that cannot be used, with its line.",
    )
    data.add_argument("file", metavar="FILE", type=Path, help="JSON lines, a JSON array, CSV or TSV")


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
