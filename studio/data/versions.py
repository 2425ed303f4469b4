"""Versions of a dataset: each mend, and each edit by hand, makes a new one beside the others in the workspace, and undo goes back
to the one before.

The user's file is version 0 and is only ever read. `history.json` says which mends made which version of which, which rows were
edited, and what became of the rows; it is written last, so that a version is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio import files
from studio.data.canonical import to_line, write_lines
from studio.data.edits import EDITED, Edit, Edits, EditTally, edited_lines
from studio.data.examine import Options, examine
from studio.data.formats import Mapping
from studio.data.mappings import recall, remember
from studio.data.mends import Tally, mended, named
from studio.data.opening import num_bytes, readable, sha256
from studio.data.reading import Progress, raw_rows
from studio.errors import ChangedError, DamagedError, DataError
from studio.places import Workspace

HISTORY = "history.json"
NEAR = "near"
CANONICAL = "messages"  # the mend after which no mapping is needed


@dataclass(frozen=True)
class Version:
    """`number` 0 is the user's own file. `parent` is the version that the mends were applied to; `tally` says what they did.

    `edits` has the rows of the parent that were removed, replaced or put before, as ranges [first, last], if it was made by hand.
    """

    number: int
    parent: int
    mends: tuple[str, ...]
    tally: dict[str, Any]
    path: Path
    edits: dict[str, list[list[int]]] = field(default_factory=dict)


class VersionedSet:
    """All versions of one dataset. Every method that changes something writes it down before it returns."""

    def __init__(self, workspace: Workspace, source: Path) -> None:
        """Of the dataset at `source`; one with the same contents and name has the same versions.

        Raises `DataError` if it cannot be read, `DamagedError` if its history cannot.
        """
        with readable(source):
            self._source, self._sha256 = source.resolve(), sha256(source)
        self._workspace = workspace
        self.folder = workspace.datasets / f"{files.safe_name(source.stem)}-{self._sha256[:12]}"
        try:
            told = files.read_json(self.folder / HISTORY)
            self._versions: list[dict[str, Any]] = list(told["versions"])
            self._current = int(told["current"])
        except FileNotFoundError:
            self._versions, self._current = [], 0
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(
                f"{HISTORY} of {self.folder.name} cannot be understood.", "Remove the folder."
            ) from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the user's own dataset."""
        return self._sha256

    @property
    def can_redo(self) -> bool:
        """Whether a version was made of the one in force."""
        return any(version.parent == self._current for version in self.versions[1:])

    @property
    def current(self) -> Version:
        """The version in force."""
        return self.version(self._current)

    @property
    def versions(self) -> list[Version]:
        """All that were ever made, the user's own first."""
        return [self.version(number) for number in range(len(self._versions) + 1)]

    def version(self, number: int) -> Version:
        """One of them."""
        if number == 0:
            return Version(0, 0, (), {}, self._source)
        told = self._versions[number - 1]
        path, edits = self.folder / told["file"], told.get("edits", {})
        return Version(number, told["parent"], tuple(told["mends"]), told["tally"], path, edits)

    def mend(
        self, names: Sequence[str], mapping: Mapping | None = None, progress: Progress | None = None, fallback: str = ""
    ) -> Version:
        """Apply mends to the version in force (`near` among them leaves out rows that nearly repeat an earlier one), and put
        the new one in force. Lines that are not UTF-8 are read in the encoding `fallback`, if one is given.

        Raises `DataError` for an unknown name or if nothing is left, `DiskFullError` if there is no room.
        """
        old = self.current
        mends = named([name for name in names if name != NEAR], mapping)
        dropped: dict[int, str] = {}
        if NEAR in names:
            found = examine(old.path, Options(), mapping).near
            dropped = dict.fromkeys(found.rows.tolist(), NEAR)
        tally = Tally()
        rows = mended(raw_rows(old.path, progress, fallback), mends, tally, dropped)
        made = self._keep(old, names, map(to_line, rows), tally.told)
        if mapping is not None and CANONICAL not in names:
            remember(self._workspace, sha256(made.path), mapping)
        return made

    def edit(self, edits: Iterable[Edit], of: int = -1, progress: Progress | None = None) -> Version:
        """Make edits by hand to the version in force, and put the new one in force. All of them count its rows.

        Raises `ChangedError` if that is not version `of`, if one is given, `DataError` if a row is not there or nothing is left.
        """
        old, all_edits, tally = self.current, Edits.of(edits), EditTally()
        if of not in (-1, old.number):
            raise ChangedError("The dataset was changed elsewhere meanwhile.", "Open it again, then edit the row.")
        lines = edited_lines(old.path, all_edits, tally, progress)
        made = self._keep(old, [EDITED], lines, tally.told, all_edits.told())
        mapping = recall(self._workspace, sha256(old.path))
        if mapping is not None:
            remember(self._workspace, sha256(made.path), mapping)
        return made

    def replace(self, rows: Iterable[Any], name: str) -> Version:
        """A new version that holds these values, made by something called `name` (a merge)."""
        return self._keep(self.current, [name], map(to_line, rows), dict)

    def undo(self) -> Version:
        """Back to the version that the one in force was made of. Raises `DataError` if that is the user's own."""
        if self._current == 0:
            raise DataError("There is nothing to undo: this is the file as it came.", "Mend something first.")
        self._put_in_force(self.current.parent)
        return self.current

    def redo(self) -> Version:
        """Forward to the last version that was made of the one in force. Raises `DataError` if there is none."""
        made = [version.number for version in self.versions[1:] if version.parent == self._current]
        if not made:
            raise DataError("There is nothing to redo.", "Undo something first.")
        self._put_in_force(made[-1])
        return self.current

    def _keep(
        self,
        old: Version,
        names: Sequence[str],
        lines: Iterable[bytes],
        tally: Callable[[], dict[str, Any]],
        edits: dict[str, list[list[int]]] | None = None,
    ) -> Version:
        number = len(self._versions) + 1
        path = self.folder / f"version-{number:04}.jsonl"
        count = write_lines(path, lines, needs_bytes=num_bytes(old.path))
        if not count:
            files.remove(path)
            raise DataError("No row would be left.", "Keep at least one; nothing was changed.")
        if sha256(self._source) != self._sha256:
            files.remove(path)
            raise ChangedError(
                f"{self._source.name} changed while it was being mended.", "Start again with the new file."
            )
        self._versions.append(
            {
                "file": path.name,
                "parent": old.number,
                "mends": list(names),
                "tally": {**tally(), "num_written": count},
                "created": files.now(),
                **({"edits": edits} if edits else {}),
            }
        )
        self._put_in_force(number)
        return self.current

    def _put_in_force(self, number: int) -> None:
        self._current = number
        source = {"path": str(self._source), "sha256": self._sha256}
        files.write_json(self.folder / HISTORY, {"source": source, "current": number, "versions": self._versions})
