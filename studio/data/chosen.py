"""A dataset that was chosen to learn from: its bytes by their hash, and which column is what where its names do not tell."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from studio.data.detection import Detection, detect
from studio.data.formats import Mapping
from studio.data.mappings import recall
from studio.data.opening import readable, sha256
from studio.errors import DataError
from studio.places import Workspace


@dataclass(frozen=True)
class Chosen:
    """The dataset at `path` whose bytes have this SHA-256, read as the user has said, or by its own names for None."""

    path: Path
    sha256: str
    mapping: Mapping | None = None


def choose(workspace: Workspace, path: Path, before: Chosen | None = None) -> Chosen:
    """The dataset at `path` with what its user has confirmed of it, here or for the same bytes `before`.

    Raises `DataError` if it cannot be read, or if which column is what has still to be confirmed.
    """
    with readable(path):
        fingerprint = sha256(path)
    mapping = recall(workspace, fingerprint)
    if mapping is None and before is not None and before.sha256 == fingerprint:
        mapping = before.mapping
    if mapping is None:
        detection = detect(path)
        if detection.mapping is not None:
            raise unsure(path, detection)
    return Chosen(path, fingerprint, mapping)


def unsure(path: Path, detection: Detection) -> DataError:
    """Why a dataset is not read by a guess, and how its user says that the guess is right."""
    told = {what: column for what, column in vars(detection.mapping).items() if isinstance(column, str) and column}
    defaults = vars(Mapping())
    words = " ".join(f"--map {what}={column!r}" for what, column in told.items() if defaults[what] != column)
    return DataError(
        f"{path.name}: which column is what cannot be told for certain: {detection.reason.removesuffix('; please confirm')}.",
        f"If that is right, confirm it on the Datasets page, or with: overlay data {shlex.quote(str(path))} {words}",
    )
