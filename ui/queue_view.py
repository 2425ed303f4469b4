"""The queue of runs as the pages show it. Plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from studio.runs.report import Line


@dataclass(frozen=True)
class QueueEntry:
    """A run that waits. `needs_bytes` is an estimate, `verdict` as in `studio.memory.waiting`; both empty if not known.

    `is_begun` if it has a past: then it goes on from there when its turn comes, and its recipe is settled.
    """

    run_id: str
    name: str
    base: str
    dataset: str
    needs_bytes: int | None = None
    verdict: str = ""
    is_begun: bool = False


@dataclass(frozen=True)
class QueueView:
    """The list, who works through it, and what was done since it was started.

    `current` is the run that is being done. `lines` are news until the user has put them away; `is_away` if all of them ended
    while no window was open. `halt` says why the queue stopped by itself, and what to do.
    """

    entries: tuple[QueueEntry, ...] = ()
    current: str = ""
    is_driven: bool = False
    is_started: bool = False
    halt: tuple[str, str] = ("", "")
    lines: tuple[Line, ...] = ()
    is_away: bool = False

    @property
    def is_interrupted(self) -> bool:
        """Whether it was to be worked through and nobody does: its process was killed."""
        return self.is_started and not self.is_driven

    @property
    def counts(self) -> list[tuple[str, int]]:
        """(ending, how many of the news ended so), the most frequent first."""
        return Counter(line.ending for line in self.lines).most_common()

    def entry(self, run_id: str) -> QueueEntry | None:
        """The waiting run of that id."""
        return next((entry for entry in self.entries if entry.run_id == run_id), None)
