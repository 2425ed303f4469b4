"""What is known of the dataset that is looked at, and its rows in a few words each. No Qt, no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from studio.data.conversation import Conversation, RawRow, RowProblem
from studio.data.detection import Detection
from studio.data.formats import Mapping
from studio.data.handwritten import WrittenSet
from studio.data.lengths import Lengths
from studio.data.mixing import Weighed
from studio.data.row_table import RowTable
from studio.data.rows import judge
from studio.data.sides import Sides, Split
from studio.data.versions import Version
from studio.errors import NotFoundError, StudioError
from studio.recipe.recipe import Recipe
from studio.runs.dataset_jobs import Survey

MOST_WORDS = 160  # characters of a text that a table shows


@dataclass(frozen=True)
class RowLine:
    """One row in a table: where it stands, its turns and roles, how prompt and answer begin, and what is wrong with it."""

    row: int
    line: int
    num_turns: int = 0
    roles: str = ""
    prompt: str = ""
    answer: str = ""
    problem: str = ""


def line_of(found: RawRow | RowProblem, mapping: Mapping | None) -> RowLine:
    """A row in a few words; foreign text on one line."""
    judged = found if isinstance(found, RowProblem) else judge(found, mapping)
    if isinstance(judged, RowProblem):
        return RowLine(judged.row, judged.line, problem=judged.message)
    one = judged[1]
    roles = [message.role for message in one.messages]
    shown = ", ".join(f"{roles.count(role)} {role}" if roles.count(role) > 1 else role for role in dict.fromkeys(roles))
    return RowLine(one.row, one.line, len(roles), shown, _first(one, prompt=True), _first(one, prompt=False))


def _first(one: Conversation, *, prompt: bool) -> str:
    """How the first question, or the first answer, begins; a text that nobody says is all answer."""
    speakers = ("user",) if prompt else ("assistant", "text")
    text = next((message.content for message in one.messages if message.role in speakers), "")
    return " ".join(text[: 2 * MOST_WORDS].split())[:MOST_WORDS]


class RowSource:
    """Rows by their numbers, to be read from any thread; `is_whole` unless these are only the first ones."""

    def __init__(self, rows: Sequence[RawRow | RowProblem] | RowTable, *, is_whole: bool) -> None:
        self._rows, self._lock, self.is_whole = rows, Lock(), is_whole

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> RawRow | RowProblem:
        """One row as it stands in the file. Raises `NotFoundError` if there is none, or if they were closed meanwhile."""
        with self._lock:
            if number >= len(self._rows):
                raise NotFoundError(f"Row {number + 1} is not there any more.", "Open the dataset again.")
            return self._rows[number]

    def written(self, number: int) -> tuple[RawRow | RowProblem, str]:
        """One row, and the line that it stands on, if it stands on one."""
        raw = self.row(number)
        with self._lock:
            return raw, self._rows.line(number) if isinstance(self._rows, RowTable) else ""

    def lines(self, numbers: Sequence[int], mapping: Mapping | None) -> list[RowLine]:
        """Some rows in a few words."""
        return [line_of(self.row(number), mapping) for number in numbers]

    def close(self) -> None:
        """Let go of the file; nobody reads any more once this returns."""
        with self._lock:
            rows, self._rows = self._rows, ()
            if isinstance(rows, RowTable):
                rows.close()


@dataclass(frozen=True)
class Shown:
    """A row as a base sees it, or why it does not. `tokens` as `studio.engine.look.show` makes them."""

    row: int
    line: int = 0
    tokens: tuple[dict[str, Any], ...] = ()
    num_supervised: int = 0
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Export:
    """What is to be written: the good rows of the version in force and of `others`, each with its weight (none: all as they
    are), into the new file `out`, or into a new set of the workspace called `name`, which is then opened."""

    out: str = ""
    others: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    seed: int = 42
    name: str = ""


@dataclass
class DatasetView:
    """A dataset, as far as it is known; grows in place. `path` is the user's own file or folder, never written to."""

    path: str
    size_bytes: int = 0
    origin: dict[str, str] = field(default_factory=dict)
    """The set on the hub that it was fetched from, as `studio.data.fetched` tells it; empty for other files."""
    busy: str = ""
    """What is going on: opening, unpacking, looking, mending, editing, measuring, searching; empty if nothing is."""
    done: int = 0
    total: int = 0
    error: str = ""
    hint: str = ""
    detection: Detection | None = None
    columns: tuple[str, ...] = ()
    """Of the first rows, for a mapping that the user confirms or puts right."""
    mapping: Mapping | None = None
    """Which column is what, as the user has confirmed it."""
    rows: RowSource | None = None
    survey: Survey | None = None
    sides: Sides | None = None
    """Which rows are learnt and which are held out, for the seed and the column `sides_of`."""
    sides_of: tuple[int, str] = (0, "")
    _split: tuple[float, Split] | None = None
    version: Version | None = None
    """The one in force: the user's own file, or what mends and edits made of it."""
    num_edited: tuple[int, int, int] = (0, 0, 0)
    """Rows replaced, removed and put in by hand on the way to it."""
    can_redo: bool = False
    lengths: Lengths | None = None
    measured_for: str = ""
    """The base whose tokens `lengths` counts."""
    num_refused: int = 0
    """Rows in which that base could learn nothing."""
    found: list[int] | None = None
    """Numbers of the rows that hold the words searched for; None shows all."""
    words: str = ""
    shown: Shown | None = None
    wanted_row: int = -1
    """The row that is to be shown."""
    base: str = ""
    """The base whose eyes the rows are seen with."""
    template: str = ""
    """The chat template to see with, if that base has none of its own; "" for the recipe's."""
    weighed: dict[str, Weighed | StudioError | None] = field(default_factory=dict)
    """Sets that may be merged in, by their paths: what is in them, or why they cannot be read; None while that is found out."""
    steps: list[str] = field(default_factory=list)
    """What was done to the user's file to make the version in force, first to last."""

    def split(self, recipe: Recipe) -> Split | None:
        """The split that this recipe makes; None while that is not known."""
        fraction = recipe.data.validation_fraction
        if self.sides is None or self.sides_of != (recipe.training.seed, recipe.data.group_by):
            return None
        if self._split is None or self._split[0] != fraction:
            self._split = fraction, self.sides.at(fraction)
        return self._split[1]

    def set_sides(self, sides: Sides, seed: int, group_by: str) -> None:
        """The sides by this seed, and by this column, are known now."""
        self.sides, self.sides_of, self._split = sides, (seed, group_by), None

    @property
    def guess(self) -> Mapping | None:
        """Which column is what as it seems, where the user has still to confirm it."""
        return self.detection.mapping if self.detection is not None and self.mapping is None else None

    @property
    def reading(self) -> Mapping | None:
        """The mapping that rows are shown by: the user's, or the one that he is asked about."""
        return self.mapping or self.guess


@dataclass(frozen=True)
class WritingView:
    """The set that is written by hand, as far as it is kept. `opened` is one that was written earlier, to go on with; `sets` are
    the files that there are, the last one first."""

    path: Path | None = None
    num_rows: int = 0
    opened: WrittenSet | None = None
    sets: tuple[Path, ...] = ()
    error: str = ""
