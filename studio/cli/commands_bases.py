"""`overlay bases`: the base models on this computer, and one more."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio.cli.follow import follow_job
from studio.cli.output import Output, table
from studio.cli.parser import Commands, add_command
from studio.errors import BaseModelError
from studio.models.bases import Base, find_base, list_bases, list_problems
from studio.models.hub_cache import find_snapshot
from studio.places import Workspace
from studio.recipe.presets import STARTER
from studio.runs.jobs import start_job


def register(commands: Commands) -> None:
    """Add the command and what belongs to it."""
    parser = add_command(
        commands,
        "bases",
        list_them,
        "base models on this computer",
        details="Lists imported bases and those in the Hugging Face cache. `overlay bases add starter` adds the small one "
        "that comes with the studio.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    add = add_command(
        actions,
        "add",
        add_base,
        "add a base",
        details="Nothing is downloaded that was not asked for by name.",
    )
    add.add_argument("source", metavar="SOURCE", help="`starter`, a model folder, or a .gguf file")
    add.add_argument("--name", help="what the base is to be called here")


def list_them(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print every usable base; folders that cannot be used are told on stderr."""
    bases = list_bases(workspace)
    for problem in list_problems(workspace):
        output.note(f"Left out: {problem.message} {problem.hint}")
    rows = [
        (base.id, base.architecture, f"{base.num_parameters / 1e6:,.0f} M", str(base.context_tokens), base.licence)
        for base in bases
    ]
    empty = "There is no base yet. `overlay bases add starter` adds the small one that comes with the studio."
    text = table(("NAME", "ARCHITECTURE", "PARAMETERS", "CONTEXT", "LICENCE"), rows) if rows else empty
    output.result([base.record() for base in bases], text)


def add_base(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Import SOURCE and print its record."""
    cached = None if _is_local(options.source) else find_snapshot(options.source)
    base = (
        find_base(workspace, options.source) if cached else import_base(workspace, options.source, options.name, output)
    )
    where = "was here already, in the Hugging Face cache" if cached else f"is now in {base.path}"
    output.result(base.record(), f"{base.id} ({base.num_parameters / 1e6:,.0f} million parameters) {where}.")


def import_base(workspace: Workspace, source: str, name: str | None, output: Output) -> Base:
    """Have a worker import `source` under `name` (None: its own); returns the new base. Raises `BaseModelError`."""
    arguments: dict[str, Any] = {"source": _source(source), "name": name}
    finished = follow_job(start_job(workspace, "import", arguments), output, f"Adding {source}")
    return find_base(workspace, str(finished.result.get("id") or finished.result["path"]))


def _is_local(source: str) -> bool:
    return source == STARTER or Path(source).expanduser().exists()


def _source(source: str) -> str:
    """What the worker is told: an absolute path, since it works in another folder. Raises `BaseModelError`."""
    if source == STARTER:
        return STARTER
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".gguf"):
        return str(path.resolve())
    if path.is_file():
        raise BaseModelError(
            f"{path.name} is neither a model folder nor a .gguf file.", "Give the folder that holds config.json."
        )
    raise BaseModelError(
        f"There is no folder or .gguf file {source} on this computer, and no such model in the Hugging Face cache.",
        f"If {source} is a hub id: fetch it once with `hf download {source}`, and it appears in `overlay bases`.",
    )
