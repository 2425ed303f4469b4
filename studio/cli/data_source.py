"""Where the rows of a command come from: a file, a set on the hub that is fetched by its name, or what is pasted (`-`)."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.cli.output import Output
from studio.cli.parser import ArgumentParser, UsageError
from studio.data.conversation import RawRow
from studio.data.hub_download import fetch_named
from studio.data.hub_preview import first_rows
from studio.data.hub_sets import PREFIX, Choice, HubName, choose, look_up, parse
from studio.data.pasted import keep
from studio.files import readable_bytes
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe

PASTED = "-"
_MOST_CHARACTERS = 200


def add_hub_options(parser: ArgumentParser) -> None:
    """Add what names a part of a set on the hub, and the look at it before it is fetched."""
    parser.add_argument("--subset", metavar="S", help="of a set on the hub (default: the one that its card calls so)")
    parser.add_argument("--split", metavar="S", help="of a set on the hub (default: train)")
    parser.add_argument("--revision", metavar="R", help="of a set on the hub: a branch, tag or commit (default: main)")
    parser.add_argument(
        "--preview", action="store_true", help="show what a set on the hub offers and its first rows; nothing is kept"
    )


def is_on_hub(source: str) -> bool:
    """Whether a command means a set on the hub: `hub:owner/name` or the address of its page."""
    return source.startswith((PREFIX, "https://", "http://"))


def local_path(source: str, output: Output, workspace: Workspace, name: HubName | None = None) -> Path:
    """The file or folder on this computer that holds the rows, fetched or pasted if need be. Raises `DataError` and what else
    the hub may answer."""
    if source == PASTED:
        if sys.stdin.isatty():
            output.note("Paste the rows here, then press Ctrl-D on a line of its own.")
        return keep(workspace, sys.stdin.read())
    if not is_on_hub(source):
        return Path(source).expanduser()
    output.bar.begin()
    path = fetch_named(
        workspace,
        name or parse(source),
        lambda choice: output.note(_announced(choice)),
        lambda done, total: output.bar.update(done, total, "bytes downloaded"),
    )
    output.bar.clear()
    return path


def hub_name(source: str, subset: str | None, split: str | None, revision: str | None) -> HubName | None:
    """What the options make of a set on the hub; None for anything else. Raises `UsageError` if they mean nothing."""
    if not is_on_hub(source):
        if subset or split or revision:
            raise UsageError("A subset, split or revision is of a set on the hub.", f"Name one: {PREFIX}owner/name.")
        return None
    name = parse(source)
    return replace(name, subset=subset or name.subset, split=split or name.split, revision=revision or name.revision)


def with_rows_here(recipe: Recipe, output: Output, workspace: Workspace) -> Recipe:
    """The recipe, its dataset fetched if it is one of the hub's."""
    path = recipe.data.path
    return replaced(recipe, "data.path", str(local_path(path, output, workspace))) if is_on_hub(path) else recipe


def show_preview(name: HubName | None, output: Output) -> None:
    """Print what the hub offers under this name, and the first rows of what is meant."""
    if name is None:
        raise UsageError("Only a set on the hub is previewed; a file can be read as it is.", "Leave out --preview.")
    choice = choose(look_up(name), name.subset, name.split)
    offer, rows = choice.offer, first_rows(choice)
    shown = [row.value if isinstance(row, RawRow) else None for row in rows]
    document: dict[str, Any] = {
        **choice.source,
        "is_gated": offer.is_gated,
        "is_converted": offer.is_converted,
        "bytes": choice.num_bytes,
        "num_rows": choice.num_rows or None,
        "subsets": {layout.name: list(layout.splits) for layout in offer.subsets},
        "first_rows": shown,
    }
    lines = [f"{row.row + 1}: {_short(row)}" for row in rows if isinstance(row, RawRow)]
    offered = [f"  {layout.name}: {', '.join(layout.splits)}" for layout in offer.subsets]
    output.result(document, "\n".join([_announced(choice), "Subsets and splits:", *offered, "First rows:", *lines]))


def _announced(choice: Choice) -> str:
    offer = choice.offer
    count = f", {choice.num_rows:,} rows" if choice.num_rows else ""
    made = ", as Parquet made by the hub" if offer.is_converted else ""
    return (
        f"{offer.id} ({choice.subset}, {choice.split}) at {offer.commit[:8]}: {readable_bytes(choice.num_bytes)}"
        f"{count}{made}; licence: {offer.licence or 'not stated'}."
    )


def _short(row: RawRow) -> str:
    text = json.dumps(row.value, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "\u2026"
