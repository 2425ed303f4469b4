"""The chat template that an adapter brings along: a base without one of its own speaks by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from studio import files

TEMPLATE = "chat_template.jinja"


def kept_template(adapter: Path) -> str:
    """The template in an adapter's folder, "" if there is none. Older tools keep it in `tokenizer_config.json`."""
    try:
        if (adapter / TEMPLATE).is_file():
            return (adapter / TEMPLATE).read_text(encoding="utf-8")
        told = json.loads((adapter / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    found = told.get("chat_template") if isinstance(told, dict) else None
    return found if isinstance(found, str) else ""


def lane_templates(lanes: Sequence[str | None]) -> list[str]:
    """What each lane of a chat speaks by. The base alone takes what the first adapter beside it has: it is to be compared."""
    kept = [kept_template(Path(folder)) if folder else "" for folder in lanes]
    first = next(filter(None, kept), "")
    return [template if folder else first for folder, template in zip(lanes, kept, strict=True)]


def write_template(folder: Path, template: str) -> None:
    """Have the model or adapter in `folder` bring this template along."""
    files.write_text(folder / TEMPLATE, template)
