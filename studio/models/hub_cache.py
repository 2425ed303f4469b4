"""The Hugging Face cache on this computer: which models are in it, read as plain folders and never written.

Layout (huggingface_hub, "Understand caching"): `models--org--name/refs/main` holds a revision, and
`models--org--name/snapshots/<revision>/` its files as links to blobs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.models.facts import CONFIG

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_PREFIX = "models--"


@dataclass(frozen=True)
class Snapshot:
    """One revision of one hub model on this computer."""

    hub_id: str
    revision: str
    path: Path


def cache_folder() -> Path:
    """`HF_HUB_CACHE`, else `HF_HOME`/hub, else the place that Hugging Face tools use by default."""
    named = os.environ.get("HF_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def snapshots() -> Iterator[Snapshot]:
    """The current revision of each model in the cache, by hub id."""
    try:
        names = sorted(path.name for path in cache_folder().glob(f"{_PREFIX}*"))
    except OSError:
        return
    for name in names:
        snapshot = find_snapshot(name.removeprefix(_PREFIX).replace("--", "/", 1))
        if snapshot:
            yield snapshot


def find_snapshot(hub_id: str) -> Snapshot | None:
    """The revision that `main` names, else the newest one that has a config.json; None if there is none."""
    if not _HUB_ID.match(hub_id):
        return None
    folder = cache_folder() / (_PREFIX + hub_id.replace("/", "--"))
    try:
        main = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    if re.fullmatch(r"\w+", main) and (folder / "snapshots" / main / CONFIG).is_file():
        return Snapshot(hub_id, main, folder / "snapshots" / main)
    try:
        revisions = [path for path in (folder / "snapshots").iterdir() if (path / CONFIG).is_file()]
    except OSError:
        return None
    newest = max(revisions, key=lambda path: path.stat().st_mtime_ns, default=None)
    return Snapshot(hub_id, newest.name, newest) if newest else None
