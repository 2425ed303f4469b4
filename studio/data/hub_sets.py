"""Datasets on the Hugging Face hub by name, and what their repositories offer.

Nothing of a repository is ever executed: a set that is made by a script is taken as the hub itself has converted it, or refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from studio.data.hub_layout import DEFAULT, TRAIN, Layout, converted_layouts, layouts
from studio.errors import DataError
from studio.hub import DATASETS, Hub, HubError

PREFIX = "hub:"
CONVERTED = "refs/convert/parquet"
COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = r"(?P<id>[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?)"
_WORD = re.compile(rf"{_ID}(:(?P<subset>[^:@]+)(:(?P<split>[^:@]+))?)?(@(?P<revision>[A-Za-z0-9][\w./-]{{0,127}}))?")
_ADDRESS = re.compile(
    rf"/datasets/{_ID}(/viewer/(?P<subset>[^/]+)(/(?P<split>[^/]+))?|/(tree|blob|resolve)/(?P<revision>[^/]+).*)?/?"
)


@dataclass(frozen=True)
class HubName:
    """What somebody asks for. Empty parts are left to the repository: its default subset, the split train, its main branch."""

    id: str
    subset: str = ""
    split: str = ""
    revision: str = ""


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. `sha256` is known of large files, `blob` (git's sum) of small ones."""

    path: str
    num_bytes: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Offer:
    """What a repository offers at the commit that a revision stands for. `files_revision` is the commit that the files are of:
    another one if `is_converted`, which means that the hub has made Parquet of them."""

    id: str
    revision: str
    commit: str
    files_revision: str
    licence: str
    is_gated: bool
    is_converted: bool
    subsets: tuple[Layout, ...]
    files: dict[str, HubFile] = field(repr=False)
    num_rows: dict[str, int] = field(default_factory=dict)
    """By `subset/split`, where the card tells it."""


@dataclass(frozen=True)
class Choice:
    """One split of one subset of an offer."""

    offer: Offer
    subset: str
    split: str

    @property
    def files(self) -> list[HubFile]:
        """In the order in which their rows are read."""
        layout = next(layout for layout in self.offer.subsets if layout.name == self.subset)
        return [self.offer.files[path] for path in layout.splits[self.split]]

    @property
    def num_bytes(self) -> int:
        """Of all files together, as they lie on the hub."""
        return sum(file.num_bytes for file in self.files)

    @property
    def num_rows(self) -> int:
        """As the card tells it; 0 if it does not."""
        return self.offer.num_rows.get(f"{self.subset}/{self.split}", 0)

    @property
    def source(self) -> dict[str, str]:
        """Where it comes from, as it is written beside the data and into whatever is made of it."""
        offer = self.offer
        return {
            "hub_id": offer.id,
            "revision": offer.revision,
            "commit": offer.commit,
            "subset": self.subset,
            "split": self.split,
            "licence": offer.licence,
        }


def parse(text: str) -> HubName:
    """`owner/name`, `owner/name:subset:split@revision` (with or without `hub:`) or the address of a dataset's page.

    Raises `DataError` for anything else.
    """
    text = text.strip().removeprefix(PREFIX)
    place = urlsplit(text) if "://" in text else None
    match = _ADDRESS.fullmatch(unquote(place.path)) if place else _WORD.fullmatch(text)
    if match is None or ".." in match["id"] or "--" in match["id"]:
        raise DataError(
            f"{text[:100]!r} names no dataset on the hub.",
            "Write owner/name, owner/name:subset:split@revision, or paste the address of its page.",
        )
    return HubName(match["id"], match["subset"] or "", match["split"] or "", match["revision"] or "")


# --- on the hub ------------------------------------------------------------------------------------------------------


def look_up(name: HubName) -> Offer:
    """Ask the hub, once or twice. Raises `HubError` if it cannot be asked, or has no such set for us; `DataError` if the set
    has no files that can be read."""
    hub = Hub.of_environment()
    told = hub.listing(DATASETS + name.id, name.revision or "main")
    card = told.get("cardData")
    card = card if isinstance(card, dict) else {}
    commit, known = _commit(told, name), _files(told)
    found, files_revision, is_converted = layouts(list(known), card), commit, False
    if not found:
        known, files_revision = _converted(hub, name, list(known))
        found, is_converted = converted_layouts(list(known)), True
    if not found:
        raise _nothing_to_read(name.id, [])
    return Offer(
        id=str(told.get("id") or name.id),
        revision=name.revision or "main",
        commit=commit,
        files_revision=files_revision,
        licence=_licence(card.get("license")),
        is_gated=bool(told.get("gated")),
        is_converted=is_converted,
        subsets=tuple(found),
        files=known,
        num_rows=_num_rows(card.get("dataset_info")),
    )


def choose(offer: Offer, subset: str = "", split: str = "") -> Choice:
    """Raises `DataError`, which tells what there is, if one has to be named or has been misspelt."""
    named = [one for one in offer.subsets if one.name == subset] if subset else list(offer.subsets)
    usual = [one for one in named if one.is_default] if not subset and len(named) > 1 else named
    if len(usual) != 1:
        raise _which("subset", subset, offer.id, [one.name for one in offer.subsets])
    splits = usual[0].splits
    found = split or (TRAIN if TRAIN in splits else next(iter(splits)) if len(splits) == 1 else "")
    if found not in splits:
        raise _which("split", split, offer.id, list(splits))
    return Choice(offer, usual[0].name, found)


def goes_without_saying(choice: Choice) -> tuple[bool, bool]:
    """Whether this is what is meant where no subset is named, and where no split is."""

    def is_chosen(subset: str, split: str) -> bool:
        try:
            return choose(choice.offer, subset, split) == choice
        except DataError:
            return False

    return is_chosen("", choice.split), is_chosen(choice.subset, "")


def _which(what: str, given: str, hub_id: str, known: list[str]) -> DataError:
    told = f"{hub_id} has no {what} {given[:60]!r}." if given else f"{hub_id} has several {what}s."
    return DataError(told, f"Name one of these: {', '.join(known[:30])}{', ...' if len(known) > 30 else '.'}")


def _converted(hub: Hub, name: HubName, paths: list[str]) -> tuple[dict[str, HubFile], str]:
    try:
        told = hub.listing(DATASETS + name.id, CONVERTED)
    except HubError as error:
        if error.is_connection:
            raise
        raise _nothing_to_read(name.id, paths) from error
    return _files(told), _commit(told, name)


def _nothing_to_read(hub_id: str, paths: list[str]) -> DataError:
    scripts = [path for path in paths if path.endswith(".py") and "/" not in path]
    why = (
        f"It is made by a program ({scripts[0]}), which is never run here"
        if scripts
        else "None of its files can be read"
    )
    return DataError(
        f"{hub_id} has no rows for us. {why}, and the hub has not converted it.",
        "Choose an upload with JSON, CSV, Parquet, Arrow or text files.",
    )


def _commit(told: dict[str, Any], name: HubName) -> str:
    if not COMMIT.fullmatch(str(told.get("sha"))):
        raise DataError(f"The hub does not say which commit of {name.id} this is.", "Check HF_ENDPOINT.")
    return str(told["sha"])


def _files(told: dict[str, Any]) -> dict[str, HubFile]:
    siblings = told.get("siblings")
    found = {}
    for one in siblings if isinstance(siblings, list) else []:
        if not isinstance(one, dict):
            continue
        lfs = one.get("lfs")
        large: dict[str, Any] = lfs if isinstance(lfs, dict) else {}
        size, path = large.get("size", one.get("size")), str(one.get("rfilename", ""))
        if path and isinstance(size, int) and size > 0 and ".." not in path.split("/"):
            blob = "" if large else str(one.get("blobId") or "")
            found[path] = HubFile(path, size, str(large.get("sha256", "")), blob)
    return found


def _licence(told: Any) -> str:
    return ", ".join(str(one) for one in told) if isinstance(told, list) else str(told or "")


def _num_rows(told: Any) -> dict[str, int]:
    infos = [info for info in (told if isinstance(told, list) else [told]) if isinstance(info, dict)]
    return {
        f"{info.get('config_name') or DEFAULT}/{split.get('name')}": split["num_examples"]
        for info in infos
        for split in info.get("splits") or []
        if isinstance(split, dict) and isinstance(split.get("num_examples"), int)
    }
