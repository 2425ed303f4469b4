"""Base models on this computer: imported ones in the workspace and those in the Hugging Face cache.

Nothing that came with a model is ever executed: folders that ask for code of their own, or that hold their weights in
pickle files, are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import BaseModelError, DamagedError
from studio.files import read_json, write_json
from studio.models.facts import CONFIG, ModelFacts, read_config
from studio.models.fingerprint import SIDECAR, compute, fingerprint, stamps
from studio.models.headers import INDEX, read_headers, weight_files
from studio.models.hub_cache import Snapshot, find_snapshot, snapshots
from studio.places import Workspace

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_CARD_CHARACTERS = 65_536
_GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_LICENCE = re.compile(r"^license(_name)?:[ \t]*(\S.*)$", re.MULTILINE)
_ADD_HINT = (
    "Add one with `overlay bases add starter`, or with a folder, a .gguf file or a hub id in place of `starter`."
)


@dataclass(frozen=True)
class Base:
    """One base model that can be trained on. `id` is what a recipe writes; `num_parameters` counts a tied head once."""

    id: str
    path: Path
    architecture: str
    num_parameters: int
    context_tokens: int
    licence: str
    fingerprint: str
    dtype: str = ""
    hub_id: str = ""
    revision: str = ""

    def record(self) -> dict[str, Any]:
        """The base as the command line prints it."""
        return {**vars(self), "path": str(self.path)}


@dataclass(frozen=True)
class BaseProblem:
    """A folder that looks like a base but cannot be used."""

    path: Path
    message: str
    hint: str


def list_bases(workspace: Workspace) -> list[Base]:
    """Every usable base, imported ones first, each group by name. Damaged folders are left to `list_problems`."""
    return [found for found in _scan(workspace) if isinstance(found, Base)]


def list_problems(workspace: Workspace) -> list[BaseProblem]:
    """What `list_bases` left out, and why."""
    return [found for found in _scan(workspace) if isinstance(found, BaseProblem)]


def locate(workspace: Workspace, id_or_path: str) -> Path:
    """The folder that a recipe's `base.id` means: an imported name, a folder, or a hub id in the cache, in that order.

    The folder holds at least a config.json (enough for an estimate). Raises `BaseModelError` if there is nothing.
    """
    return _locate(workspace, id_or_path)[0]


def find_base(workspace: Workspace, id_or_path: str) -> Base:
    """The base that a recipe's `base.id` means. Raises `BaseModelError` if it is missing, damaged or not trusted."""
    folder, snapshot = _locate(workspace, id_or_path)
    return read_base(folder, id_or_path, snapshot)


def read_base(folder: Path, name: str, snapshot: Snapshot | None = None) -> Base:
    """The base in `folder`, to be known as `name`. Raises `BaseModelError` if it cannot be used."""
    config = read_config(folder)
    refuse_foreign_code(folder.name if snapshot is None else name, config)
    refuse_other_tasks(name, config)
    _check_weights(name, folder)
    facts = ModelFacts.from_config(config)
    tensors = read_headers(folder)
    sidecar = read_sidecar(folder)
    counted = sum(math.prod(tensor.shape) for tensor in tensors.values())
    return Base(
        id=name,
        path=folder,
        architecture=facts.architecture,
        num_parameters=counted if facts.is_guess else facts.num_parameters,
        context_tokens=facts.context_tokens,
        licence=str(sidecar.get("licence") or licence_of(folder)),
        fingerprint=fingerprint(folder),
        dtype=facts.dtype,
        hub_id=snapshot.hub_id if snapshot else str(sidecar.get("hub_id") or ""),
        revision=snapshot.revision if snapshot else str(sidecar.get("revision") or ""),
    )


def refuse_foreign_code(name: str, config: dict[str, Any]) -> None:
    """Raise `BaseModelError` if `config` would make a loader fetch or run code that came with the model."""
    key = _foreign_code(config)
    if key:
        raise BaseModelError(
            f"{name} asks to run program code that came with it ({key} in {CONFIG}). Overlay Studio never does that.",
            "Choose a model that needs no code of its own, for instance a newer upload of the same model.",
        )


def refuse_other_tasks(name: str, config: dict[str, Any]) -> None:
    """Raise `BaseModelError` if `config` is that of a model that does not continue text (an encoder, a translator)."""
    if not _generates_text(config):
        raise BaseModelError(
            f"{name} is not a model that continues text, so it cannot be trained here.",
            "Choose a decoder-only language model (its architecture ends in ForCausalLM).",
        )


def write_sidecar(
    folder: Path, *, name: str, source: str, licence: str, imported: str, hub_id: str = "", revision: str = ""
) -> None:
    """Note where an imported base came from, with its fingerprint, in `base.json`; call it when all files are in place.

    `imported` is the time in ISO 8601; `source` never a path of this computer. Raises `BaseModelError` if damaged.
    """
    write_json(
        folder / SIDECAR,
        {
            "name": name,
            "source": source,
            "hub_id": hub_id,
            "revision": revision,
            "licence": licence,
            "imported": imported,
            "fingerprint": compute(folder),
            "fingerprint_of": [list(stamp) for stamp in stamps(folder)],
        },
    )


def read_sidecar(folder: Path) -> dict[str, Any]:
    """What `write_sidecar` noted; empty for a folder that is not ours. Raises `BaseModelError` if it is unreadable."""
    try:
        return read_json(folder / SIDECAR)
    except FileNotFoundError:
        return {}
    except (OSError, DamagedError) as error:
        raise BaseModelError(
            f"{folder.name}/{SIDECAR} cannot be read.", f"Delete {SIDECAR}: it is optional."
        ) from error


def licence_of(folder: Path) -> str:
    """The licence that the model card (README.md) states at its head, or `unknown`."""
    try:
        with open(folder / "README.md", encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_CARD_CHARACTERS)
    except OSError:
        return "unknown"
    parts = text.split("---", 2)
    if parts[0].strip() or len(parts) < 3:
        return "unknown"
    stated: dict[bool, str] = {bool(own): value.strip().strip("\"'") for own, value in _LICENCE.findall(parts[1])}
    licence: str = stated.get(False, "unknown")
    # `license: other` means that the licence's own name stands in `license_name`.
    return stated.get(True, licence) if licence == "other" else licence


# --- parts ---------------------------------------------------------------------------------------------------------


def _scan(workspace: Workspace) -> Iterator[Base | BaseProblem]:
    try:
        folders = sorted(path for path in workspace.bases.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        folders = []
    for folder in folders:
        yield _read_or_tell(folder, folder.name, None)
    for snapshot in snapshots():
        if _could_be_base(snapshot.path):
            yield _read_or_tell(snapshot.path, snapshot.hub_id, snapshot)


def _read_or_tell(folder: Path, name: str, snapshot: Snapshot | None) -> Base | BaseProblem:
    try:
        return read_base(folder, name, snapshot)
    except BaseModelError as error:
        return BaseProblem(folder, error.message, error.hint)


def _could_be_base(folder: Path) -> bool:
    """The cache also holds tokenizers, encoders and image models: they are no problem, they are just not for us."""
    try:
        config = read_config(folder)
    except BaseModelError:
        return True
    has_weights = any(any(folder.glob(pattern)) for pattern in ("*.safetensors", INDEX, *_PICKLES))
    return has_weights and _generates_text(config)


def _locate(workspace: Workspace, id_or_path: str) -> tuple[Path, Snapshot | None]:
    if not id_or_path.strip() or "\0" in id_or_path:
        raise BaseModelError("No base model is named.", _ADD_HINT)
    plain = not any(separator in id_or_path for separator in "/\\") and id_or_path not in (".", "..")
    imported = workspace.bases / id_or_path
    if plain and imported.is_dir():
        return imported, None
    folder = Path(id_or_path).expanduser()
    if folder.is_dir():
        return folder.resolve(), None
    if folder.is_file():
        raise BaseModelError(
            f"{folder.name} is a file, not a model folder.", f"Import it first: `overlay bases add {folder.name}`."
        )
    snapshot = find_snapshot(id_or_path)
    if snapshot is None:
        raise BaseModelError(f"There is no base model {id_or_path!r} on this computer.", _ADD_HINT)
    return snapshot.path, snapshot


def _foreign_code(value: Any) -> str:
    """The key under which a configuration asks for foreign code, at any depth; empty if it asks for none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            if (key == "auto_map" and inner) or (key == "trust_remote_code" and inner):
                return str(key)
            if key.endswith("_implementation") and _names_a_repository(inner):
                return str(key)
            waiting.append(inner)
    return ""


def _names_a_repository(implementation: Any) -> bool:
    """`owner/kernel` makes a loader download compiled code; it may also be given per part of the model."""
    names = implementation.values() if isinstance(implementation, dict) else [implementation]
    return any(isinstance(name, str) and "/" in name for name in names)


def _generates_text(config: dict[str, Any]) -> bool:
    names = config.get("architectures")
    stated = [str(name) for name in names] if isinstance(names, list) else []
    return not config.get("is_encoder_decoder") and (not stated or any(name.endswith(_GENERATORS) for name in stated))


def _check_weights(name: str, folder: Path) -> None:
    if (folder / INDEX).is_file() or weight_files(folder):
        return
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise BaseModelError(
            f"{name} holds its weights only in pickle files (.bin, .pt), and opening such a file can run any program.",
            "Choose an upload with *.safetensors files.",
        )
    raise BaseModelError(
        f"{name} has a {CONFIG} but no weights.",
        "Download the whole model: at least one *.safetensors file is missing.",
    )
