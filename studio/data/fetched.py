"""Sets from the hub that are on this computer: where each is kept, what is here, and where a file comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.data.hub_sets import COMMIT, Choice, HubName, goes_without_saying
from studio.data.versions import HISTORY
from studio.errors import DamagedError
from studio.places import Workspace

SOURCE = "source.json"


@dataclass(frozen=True)
class Fetched:
    """A set that is here: where its rows lie, what `Choice.source` said, and whether subset and split go without saying."""

    path: Path
    source: dict[str, str]
    is_usual_subset: bool
    is_usual_split: bool


def folder_of(workspace: Workspace, choice: Choice) -> Path:
    """Where this very split of this very commit is kept."""
    told = "\n".join((choice.offer.id, choice.offer.files_revision, choice.subset, choice.split))
    parent = workspace.fetched / files.safe_name(choice.offer.id.replace("/", "--"))
    return parent / hashlib.sha256(told.encode()).hexdigest()[:12]


def fetched(workspace: Workspace, name: HubName, *, any_part: bool = False) -> list[Fetched]:
    """What is here of what somebody asks for, the latest first. A branch is taken for whatever commit it was then.

    Subset and split that are not named are the usual ones, or `any_part` of the set.
    """
    folder = workspace.fetched / files.safe_name(name.id.replace("/", "--"))
    found = sorted(folder.glob(f"*/{SOURCE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [one for path in found if (one := _read(path)) is not None and _is_meant(one, name, any_part)]


def note_source(folder: Path, place: str, choice: Choice) -> None:
    """Write down in `folder` where the rows at `place` in it come from. Raises `DiskFullError`."""
    told = {"path": place, "source": choice.source, "usual": goes_without_saying(choice), "fetched": files.now()}
    files.write_json(folder / SOURCE, told)


def source_of(path: Path) -> dict[str, str]:
    """Where a dataset comes from if it was fetched from the hub, or is a mended version of one that was; else empty."""
    if (path.parent / HISTORY).is_file():
        try:
            path = Path(files.read_json(path.parent / HISTORY)["source"]["path"])
        except (DamagedError, KeyError, TypeError):
            return {}
    found = _read(path.parent / SOURCE)
    return found.source if found is not None and found.path.resolve() == path.resolve() else {}


def _read(path: Path) -> Fetched | None:
    try:
        told = files.read_json(path)
        source = {str(key): str(value) for key, value in told["source"].items()}
        is_usual_subset, is_usual_split = told["usual"]
        found = Fetched(path.parent / told["path"], source, is_usual_subset, is_usual_split)
    except (OSError, DamagedError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return found if found.path.exists() else None


def _is_meant(found: Fetched, name: HubName, any_part: bool) -> bool:
    source, is_commit = found.source, COMMIT.fullmatch(name.revision) is not None
    return (
        source.get("hub_id") == name.id
        and (name.subset == source.get("subset") if name.subset else any_part or found.is_usual_subset)
        and (name.split == source.get("split") if name.split else any_part or found.is_usual_split)
        and (name.revision or "main") == source.get("commit" if is_commit else "revision")
    )
