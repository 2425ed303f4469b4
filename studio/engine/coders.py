"""How a base encodes, kept for the next time: to ask transformers takes seconds, to read what it said a fraction of one.

What is kept is its own answer, known by a hash of all files that it could have been made from and by the libraries' versions. So
what is read is what would be said, for every kind of tokenizer, and nothing of transformers' ways is written a second time.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from studio import files
from studio.engine.template import Coder, template_for, told_of
from studio.errors import DamagedError
from studio.models.templates import OWN
from studio.places import Workspace

MOST_KEPT = 8
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_DECIDING = ("transformers", "tokenizers")


def coder_of(workspace: Workspace, base: Path, train_on: str, template: str = OWN) -> Coder:
    """How the base in this folder sees rows, `template` being one of those offered if it has none of its own.

    Raises `BaseModelError` if it has no tokenizer, or if that is not the case.
    """
    told = said_of(workspace, base)
    return Coder(json.dumps({"train_on": train_on, **told, "template": template_for(told["template"], template)}))


def said_of(workspace: Workspace, base: Path) -> dict[str, Any]:
    """`told_of` the base's tokenizer: as it is kept, else asked for now and kept. Raises `BaseModelError` if it has none."""
    kept = workspace.coders / f"{_key(base)}.json"
    try:
        told: dict[str, Any] = files.read_json(kept)["told"]
        with suppress(OSError):
            os.utime(kept)
    except (FileNotFoundError, DamagedError, KeyError):
        told = _asked(base)
        files.write_json(kept, {"told": told})
        _make_room(workspace.coders)
    return told


def _asked(base: Path) -> dict[str, Any]:
    from studio.engine.tokenizing import load_tokenizer  # which brings transformers' models along

    return told_of(load_tokenizer(base))


def _key(base: Path) -> str:
    """Of all files in the folder but the weights."""
    digest = hashlib.sha256(json.dumps([metadata.version(package) for package in _DECIDING]).encode("ascii"))
    for path in sorted(base.rglob("*")):
        if path.is_file() and path.suffix not in _WEIGHTS:
            digest.update(f"{path.relative_to(base).as_posix()}\0{files.sha256(path)}\0".encode())
    return digest.hexdigest()[:32]


def _make_room(folder: Path) -> None:
    """Remove what was used longest ago."""
    with suppress(OSError):  # another worker does the same
        for old in sorted(folder.glob("*.json"), key=lambda path: -path.stat().st_mtime)[MOST_KEPT:]:
            files.remove(old)
