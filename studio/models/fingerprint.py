"""One short name for a set of weights, so that an adapter meets the base it was trained on and no other.

The sum covers the architecture's numbers and, per tensor in the order of names: name, dtype, shape and the first, middle
and last 4 KiB. It therefore does not depend on how the weights are spread over files, and takes well under a second for
16 GB. It tells models apart; it is no proof that a download is undamaged (that is what manifests are for).
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from studio.errors import BaseModelError, DamagedError
from studio.files import read_json
from studio.models.facts import CONFIG, ModelFacts
from studio.models.headers import read_chunks, read_headers

SIDECAR = "base.json"
SAMPLE_BYTES = 4096

FileStamp = tuple[str, int, int]


def fingerprint(folder: Path) -> str:
    """`sha256:<hex>` of the model in `folder`. Raises `BaseModelError` if it is missing or damaged.

    A sum noted in the folder's sidecar is taken only while size and time of every weights file are as noted with it.
    """
    now = stamps(folder)
    noted = _noted(folder, now)
    return noted if noted else _compute_once(folder, now)


def stamps(folder: Path) -> tuple[FileStamp, ...]:
    """Name, size in bytes and modification time in nanoseconds of every file that the fingerprint depends on."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json"), *folder.glob(CONFIG)])
    try:
        return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    except OSError as error:
        raise BaseModelError(
            f"The files of {folder.name} cannot be read: {error.strerror}.", "Download the model again."
        ) from error


@lru_cache(maxsize=64)
def _compute_once(folder: Path, _now: tuple[FileStamp, ...]) -> str:
    return compute(folder)


def compute(folder: Path) -> str:
    """The fingerprint from the files themselves, whatever is noted anywhere."""
    facts = ModelFacts.from_folder(folder)
    # Only what fixes the arithmetic: re-saving a model with another library version rewrites the rest of config.json.
    identity = {
        "family": facts.family,
        "hidden_size": facts.hidden_size,
        "num_layers": facts.num_layers,
        "num_heads": facts.num_heads,
        "num_kv_heads": facts.num_kv_heads,
        "head_dim": facts.head_dim,
        "intermediate_size": facts.intermediate_size,
        "vocab_size": facts.vocab_size,
        "tied_embeddings": facts.tied_embeddings,
        "hidden_act": facts.hidden_act,
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode("utf-8"))
    tensors = read_headers(folder)
    try:
        for name in sorted(tensors):
            tensor = tensors[name]
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode("utf-8"))
            for chunk in read_chunks(tensor, SAMPLE_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise BaseModelError(
            f"The weights of {folder.name} cannot be read: {error.strerror}.", "Download the model again."
        ) from error
    return f"sha256:{digest.hexdigest()}"


def _noted(folder: Path, now: tuple[FileStamp, ...]) -> str:
    try:
        sidecar = read_json(folder / SIDECAR)
    except (OSError, DamagedError):
        return ""
    noted, files = sidecar.get("fingerprint"), sidecar.get("fingerprint_of")
    matches = isinstance(files, list) and files == [list(stamp) for stamp in now]
    return noted if matches and isinstance(noted, str) and noted.startswith("sha256:") else ""
