"""Which process does what for which dataset."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from studio.runs import events as e
from ui.dataset_view import DatasetView
from ui.training_thread import TrainingThread

# Kinds of work, and what a dataset is busy with meanwhile.
BUSY = {
    "survey": "opening",
    "mend": "mending",
    "edit": "editing",
    "lengths": "measuring",
    "search": "searching",
}
# What makes a new version: it goes on to its end though another dataset is opened.
CHANGING = ("mend", "edit")


@dataclass
class Work:
    """A job in a process of its own, and the dataset that it is for."""

    kind: str
    view: DatasetView
    is_opening_table: bool = False
    sides_of: tuple[int, str] = (0, "")


class Works:
    """All work that is going on, by the keys of its jobs."""

    def __init__(self, thread: TrainingThread) -> None:
        self._thread = thread
        self._works: dict[str, Work] = {}

    def start(
        self, view: DatasetView, kind: str, arguments: dict[str, object], sides_of: tuple[int, str] = (0, "")
    ) -> str:
        """Begin a job for `view`, which is busy from now on; returns its key."""
        key = uuid4().hex
        self._works[key] = Work(kind, view, sides_of=sides_of)
        view.busy, view.done, view.total, view.error, view.hint = BUSY[kind], 0, 0, "", ""
        self._thread.start_job(key, kind, {**arguments, "mapping": vars(view.mapping) if view.mapping else None})
        return key

    def end(self, view: DatasetView, *kinds: str) -> None:
        """Have the jobs of these kinds end; each will say so."""
        for key, work in self._works.items():
            if work.view is view and work.kind in kinds:
                self._thread.cancel_job(key)

    def give_up(self, view: DatasetView) -> None:
        """Have all jobs for `view` end, whatever they still say."""
        for key in [key for key, work in self._works.items() if work.view is view]:
            self._thread.cancel_job(key)
            del self._works[key]
        view.busy = ""

    def kinds(self, view: DatasetView) -> list[str]:
        """What is going on for `view`, in the order in which it began."""
        return [work.kind for work in self._works.values() if work.view is view]

    def rest(self, view: DatasetView) -> None:
        """One piece of work has ended: `view` is busy with the next, if there is one."""
        going_on = self.kinds(view)
        view.busy = BUSY[going_on[0]] if going_on else ""
        view.done = view.total = 0

    def heard(self, key: str, event: e.Event) -> Work | None:
        """The work that `event` is about, if it is one of these. One that has ended is going on no more."""
        return self._works.pop(key, None) if isinstance(event, e.ENDINGS) else self._works.get(key)

    def close(self) -> None:
        """Nobody will look at the answers any more."""
        for key in self._works:
            self._thread.cancel_job(key)
