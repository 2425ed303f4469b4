"""Which columns the user said are question and answer, remembered by the contents of the file and not by its name."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import Any

from studio import files
from studio.data.formats import Mapping
from studio.errors import DamagedError, DataError
from studio.places import Workspace


def remember(workspace: Workspace, fingerprint: str, mapping: Mapping) -> None:
    """Keep the mapping of the dataset whose bytes have this SHA-256 (`studio.data.opening.sha256`)."""
    files.write_json(workspace.mappings / f"{fingerprint}.json", {"mapping": asdict(mapping)})


def recall(workspace: Workspace, fingerprint: str) -> Mapping | None:
    """What was remembered of it; None also if that cannot be understood any more: then the user is asked again."""
    with suppress(FileNotFoundError, DamagedError, TypeError, KeyError):
        return Mapping(**files.read_json(workspace.mappings / f"{fingerprint}.json")["mapping"])
    return None


def mapping_of(pairs: list[str]) -> Mapping:
    """From words like `question=Frage answer=Antwort`. Raises `DataError` for other words."""
    known = {field.name for field in fields(Mapping)} - {"roles"}
    found: dict[str, Any] = dict(pair.partition("=")[::2] for pair in pairs)
    unknown = [name for name, column in found.items() if name not in known or not column]
    if unknown or not (found.get("answer") or found.get("conversation")):
        raise DataError(
            "The columns are not mapped to an answer, or to a conversation.",
            f"Write question=COLUMN answer=COLUMN, or conversation=COLUMN; known: {', '.join(sorted(known))}.",
        )
    return replace(Mapping(), **found)
