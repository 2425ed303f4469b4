"""`overlay preferences`: which answers were thought the better ones, as rows to train on."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from studio.cli.output import Output
from studio.cli.parser import Commands, add_command
from studio.data.preferences import export, rows, votes_path
from studio.places import Workspace


def register(commands: Commands) -> None:
    """Add the command."""
    preferences = add_command(
        commands,
        "preferences",
        run,
        "votes for the better of two answers",
        details="Votes are rows of prompt, chosen and rejected in one JSON-lines file of the workspace, which `overlay data` "
        "reads like any other and trainers of preferences take as it is.",
    )
    preferences.add_argument("--export", type=Path, metavar="OUT", help="write all of them to this new file")


def run(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Tell what there is, or write it out."""
    path = votes_path(workspace)
    if options.export:
        out = options.export.expanduser()
        count = export(workspace, out)
        output.result({"path": str(out), "num_rows": count}, f"{count} rows are now in {out}.")
        return
    won: Counter[str] = Counter(str(row.get("chosen_by") or "") for row in rows(workspace))
    count = sum(won.values())
    names = ", ".join(f"{name or 'the base alone'} {number}" for name, number in won.most_common())
    text = f"{count} votes in {path}. The better one was: {names}." if count else "There are no votes yet."
    output.result({"path": str(path), "num_rows": count, "won": dict(won)}, text)
