"""What the disk says of a dataset: free functions for the background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from studio.data.conversation import RawRow, RowProblem
from studio.data.detection import SAMPLE_ROWS, Detection, detect_rows
from studio.data.edits import BY_HAND
from studio.data.fetched import source_of
from studio.data.formats import Mapping
from studio.data.mappings import recall, remember
from studio.data.opening import num_bytes, sha256
from studio.data.reading import raw_rows
from studio.data.row_table import RowTable, open_table
from studio.data.sides import Sides
from studio.data.versions import CANONICAL, Version, VersionedSet
from studio.errors import DataError
from studio.places import Workspace
from studio.runs.dataset_jobs import Survey


@dataclass(frozen=True)
class Opened:
    """The first rows of a dataset, and what follows from them. `steps` names the mends that made the version, `num_edited` counts
    the rows that were replaced, removed and put in by hand. `table` has all its rows, where they were asked for. `origin` is the
    set on the hub that it comes from, if any."""

    size_bytes: int
    first_rows: list[RawRow | RowProblem]
    detection: Detection
    mapping: Mapping | None = None
    version: Version | None = None
    can_redo: bool = False
    steps: tuple[str, ...] = ()
    num_edited: tuple[int, int, int] = (0, 0, 0)
    table: RowTable | None = None
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


def look_at_version(workspace: Workspace, path: Path, *, whole: bool = False) -> Opened:
    """The version that is in force; if `whole`, with all its rows. The file is hashed, a second for each gigabyte."""
    versions = VersionedSet(workspace, path)
    way = list(_way_to(versions))
    steps = [step for version in reversed(way) for step in version.mends]
    edited = [_num_edited(version) for version in way if version.edits]
    first = first_look(versions.current.path)
    mapping = None if CANONICAL in steps else recall(workspace, versions.fingerprint)
    return replace(
        first,
        mapping=mapping,
        origin=source_of(path),
        version=versions.current,
        can_redo=versions.can_redo,
        steps=tuple(steps),
        num_edited=(sum(one[0] for one in edited), sum(one[1] for one in edited), sum(one[2] for one in edited)),
        table=open_table(workspace, versions.current.path) if whole else None,
    )


def _way_to(versions: VersionedSet) -> Iterator[Version]:
    """The version in force, and those it was made of, without the user's own."""
    version = versions.current
    while version.number:
        yield version
        version = versions.version(version.parent)


def _num_edited(version: Version) -> tuple[int, int, int]:
    tally = version.tally
    return tally["changed"].get(BY_HAND, 0), tally["removed"].get(BY_HAND, 0), tally["inserted"]


def remember_mapping(workspace: Workspace, path: Path, mapping: Mapping) -> None:
    """The user has confirmed which column is what."""
    remember(workspace, VersionedSet(workspace, path).fingerprint, mapping)


def remember_for_training(workspace: Workspace, path: Path, mapping: Mapping) -> None:
    """The version at `path` is learnt from as its rows were shown: who trains knows it by its own bytes alone."""
    remember(workspace, sha256(path), mapping)


def undone(workspace: Workspace, path: Path, *, forward: bool) -> None:
    """Back to the version before, or `forward` again."""
    versions = VersionedSet(workspace, path)
    if forward:
        versions.redo()
    else:
        versions.undo()


def read_survey(result: dict[str, Any]) -> tuple[Survey, Sides]:
    """What a survey has found, and which row falls on which side."""
    return Survey.load(Path(result["survey"])), Sides.load(Path(result["sides"]))
