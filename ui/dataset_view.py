"""What is known of the dataset that is looked at, and its rows in a few words each. No Qt, no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from studio.data.conversation import Conversation, RawRow, RowProblem
from studio.data.detection import Detection
from studio.data.formats import Mapping
from studio.data.lengths import Lengths
from studio.data.row_table import RowTable
from studio.data.rows import judge
from studio.data.versions import Version
from studio.errors import NotFoundError
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


@dataclass
class DatasetView:
    """A dataset, as far as it is known; grows in place. `path` is the user's own file or folder, never written to."""

    path: str
    size_bytes: int = 0
    origin: dict[str, str] = field(default_factory=dict)
    """The set on the hub that it was fetched from, as `studio.data.fetched` tells it; empty for other files."""
    busy: str = ""
    """What is going on: opening, unpacking, looking, mending, measuring, searching, writing; empty if nothing is."""
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
    version: Version | None = None
    """The one in force: the user's own file, or what mends made of it."""
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
    steps: list[str] = field(default_factory=list)
    """What was done to the user's file to make the version in force, first to last."""

    @property
    def guess(self) -> Mapping | None:
        """Which column is what as it seems, where the user has still to confirm it."""
        return self.detection.mapping if self.detection is not None and self.mapping is None else None

    @property
    def reading(self) -> Mapping | None:
        """The mapping that rows are shown by: the user's, or the one that he is asked about."""
        return self.mapping or self.guess
