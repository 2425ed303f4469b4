"""Jobs on datasets of the hub: a look at what a repository offers, and fetching one split of it. In processes of their own,
because a server may be slow for as long as it likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from studio import files
from studio.data.conversation import RawRow, RowProblem
from studio.data.fetched import SOURCE, fetched, folder_of
from studio.data.hub_download import fetch_named
from studio.data.hub_layout import TRAIN
from studio.data.hub_preview import NUM_ROWS, first_rows
from studio.data.hub_sets import Choice, HubName, Offer, choose, look_up, parse
from studio.data.reading import raw_rows
from studio.errors import DataError
from studio.hub import HubError
from studio.places import Workspace

DOWNLOADING = "downloading"
_Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class HubLook:
    """A `Choice` in plain values, with its first rows. `here` is where it lies if it has been fetched; `why` tells why the hub
    could not be asked, and then there is nothing to choose from; `rows_error` why there are no rows."""

    name: HubName
    source: dict[str, str]
    subsets: dict[str, list[str]]
    rows: tuple[RawRow | RowProblem, ...] = ()
    num_bytes: int = 0
    num_rows: int = 0
    is_gated: bool = False
    is_converted: bool = False
    here: str = ""
    why: str = ""
    rows_error: str = ""

    def save(self, path: Path) -> None:
        """Keep it. Raises `DiskFullError`."""
        # Foreign text may hold halves of letters, which UTF-8 cannot: they travel escaped, as text in text.
        rows = [{"is_row": isinstance(row, RawRow), **asdict(row)} for row in self.rows]
        files.write_json(path, {"look": json.dumps({**asdict(self), "rows": rows})})

    @classmethod
    def load(cls, path: Path) -> HubLook:
        """What `save` kept. Raises `DamagedError` if it is no JSON."""
        told = json.loads(files.read_json(path)["look"])
        rows = [RawRow(**row) if row.pop("is_row") else RowProblem(**row) for row in told["rows"]]
        return cls(**{**told, "name": HubName(**told["name"]), "rows": tuple(rows)})


def look(workspace: Workspace, folder: Path, arguments: dict[str, Any], _told: _Told) -> dict[str, Any]:
    """What there is under `name`; without a network, what is here of it."""
    name = parse(arguments["name"])
    if "subset" in arguments:
        name = HubName(name.id, arguments["subset"], arguments["split"], name.revision)
    try:
        found = _look(workspace, name, nearest(look_up(name), name))
    except HubError as error:
        here = fetched(workspace, name, any_part=True) if error.is_connection else []
        if not here:
            raise
        rows = tuple(islice(raw_rows(here[0].path), NUM_ROWS))
        found = HubLook(name, here[0].source, {}, rows, here=str(here[0].path), why=error.message)
    found.save(folder / "look.json")
    return {"look": str(folder / "look.json")}


def fetch(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    """The rows of one split, on this computer."""
    told(DOWNLOADING, 0, 1)
    name = HubName(**arguments["name"])
    path = fetch_named(workspace, name, lambda _: None, lambda done, total: told(DOWNLOADING, done, total))
    return {"path": str(path)}


def nearest(offer: Offer, name: HubName) -> Choice:
    """As `choose`, but where a choice is left open something is taken, so that there is something to look at.

    Raises `DataError` only for what is not there.
    """
    subset = name.subset
    if not subset:
        subset = next((one.name for one in offer.subsets if one.is_default), offer.subsets[0].name)
    splits = next((one.splits for one in offer.subsets if one.name == subset), {TRAIN: ()})
    return choose(offer, subset, name.split or (TRAIN if TRAIN in splits else next(iter(splits))))


def _look(workspace: Workspace, name: HubName, choice: Choice) -> HubLook:
    offer, target = choice.offer, folder_of(workspace, choice)
    rows: tuple[RawRow | RowProblem, ...] = ()
    rows_error = ""
    try:
        rows = tuple(first_rows(choice))
    except DataError as error:
        rows_error = f"{error.message} {error.hint}".strip()
    return HubLook(
        name=HubName(name.id, choice.subset, choice.split, name.revision),
        source=choice.source,
        subsets={layout.name: list(layout.splits) for layout in offer.subsets},
        rows=rows,
        num_bytes=choice.num_bytes,
        num_rows=choice.num_rows,
        is_gated=offer.is_gated,
        is_converted=offer.is_converted,
        here=str(target / files.read_json(target / SOURCE)["path"]) if (target / SOURCE).is_file() else "",
        rows_error=rows_error,
    )
