"""What the disk says of a dataset: free functions for the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from studio.data.conversation import RawRow, RowProblem
from studio.data.detection import SAMPLE_ROWS, Detection, detect_rows
from studio.data.fetched import source_of
from studio.data.formats import Mapping
from studio.data.mappings import recall, remember
from studio.data.opening import num_bytes
from studio.data.reading import raw_rows
from studio.data.versions import Version, VersionedSet
from studio.errors import DataError
from studio.places import Workspace

CANONICAL = "messages"  # the mend after which no mapping is needed


@dataclass(frozen=True)
class Opened:
    """The first rows of a dataset, and what follows from them. `steps` names the mends that made the version,
    `origin` the set on the hub that it comes from, if any."""

    size_bytes: int
    first_rows: list[RawRow | RowProblem]
    detection: Detection
    mapping: Mapping | None = None
    version: Version | None = None
    can_redo: bool = False
    steps: tuple[str, ...] = ()
    origin: dict[str, str] = field(default_factory=dict)


def columns_of(rows: Sequence[RawRow | RowProblem]) -> tuple[str, ...]:
    """Names of all columns of these rows."""
    values = [raw.value for raw in rows if isinstance(raw, RawRow) and isinstance(raw.value, dict)]
    return tuple(dict.fromkeys(str(name) for value in values for name in value))


def first_look(path: Path) -> Opened:
    """The first rows of the user's own file, at once however large it is. Raises `DataError` if it cannot be read."""
    if not path.exists():
        raise DataError(f"{path.name} is not there any more.", "Choose another file.")
    rows = list(islice(raw_rows(path), SAMPLE_ROWS))
    if not rows:
        raise DataError(f"{path.name} is empty.", "Choose a file with at least one row.")
    return Opened(num_bytes(path), rows, detect_rows(rows), origin=source_of(path))


def look_at_version(workspace: Workspace, path: Path) -> Opened:
    """The version that is in force. The whole file is hashed, which takes a second for each gigabyte."""
    versions = VersionedSet(workspace, path)
    steps: list[str] = []
    number = versions.current.number
    while number:
        version = versions.version(number)
        steps[:0] = version.mends
        number = version.parent
    first = first_look(versions.current.path)
    mapping = None if CANONICAL in steps else recall(workspace, versions.fingerprint)
    return Opened(
        first.size_bytes,
        first.first_rows,
        first.detection,
        mapping,
        versions.current,
        versions.can_redo,
        tuple(steps),
        first.origin,
    )


def remember_mapping(workspace: Workspace, path: Path, mapping: Mapping) -> None:
    """The user has confirmed which column is what."""
    remember(workspace, VersionedSet(workspace, path).fingerprint, mapping)


def undone(workspace: Workspace, path: Path, *, forward: bool) -> None:
    """Back to the version before, or `forward` again."""
    versions = VersionedSet(workspace, path)
    if forward:
        versions.redo()
    else:
        versions.undo()
