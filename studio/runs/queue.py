"""Runs that wait for the card: an order kept in a file, which any window and any command may change at any time.

A run that waits is a run folder like any other, with a job and without events: it survives whatever the list does not. The file
says in which order they are due, which one is being done, and what became of those done since the queue was last started. It
is replaced as a whole, under a lock that nobody holds for longer than that takes (`changing`).

There is one list for the whole computer, worked through one run at a time, each on the device that its job names, and not a
list for each device. A run on the processor beside one on the card would take the cores that tokenise for it and the main
memory that its paged states and offloaded layers lie in; whoever has several cards shares a run among them. That no two runs
share a device does not rest on this: an engine holds its device by a lease, whoever has asked for the run.

Who works through the list is `runs/driver.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from studio import files
from studio.errors import BusyError, DamagedError, NotFoundError, StudioError
from studio.places import Workspace
from studio.recipe.recipe import Recipe
from studio.runs.create import create_run, job_instead
from studio.runs.folder import RunFolder
from studio.runs.processes import is_alive
from studio.runs.state import Status

_LOCK_SECONDS = 10.0
STANDS_STILL = (Status.WAITING, Status.PAUSED, Status.STOPPED, Status.INTERRUPTED, Status.FAILED)


@dataclass(frozen=True)
class Turn:
    """The run that is being done, since `took_up` (seconds since 1970).

    `takes` counts how often it was begun: more than once if driver and engine were killed together. `diverged` says why it is
    being stopped, if that is so.
    """

    run: str
    took_up: float
    takes: int = 1
    diverged: str = ""


@dataclass(frozen=True)
class Done:
    """How a run's turn ended, at `ended`: finished, diverged, stopped, paused, failed or interrupted; `message` says why."""

    run: str
    ending: str
    took_up: float
    ended: float
    message: str = ""
    hint: str = ""


@dataclass
class Queue:
    """What the file says.

    `is_started` while the next one is to be begun when its turn comes. `halt` says why the queue stopped by itself and what to
    do about it. `done` are the endings since `began`, when it was started; they are news until `is_seen`. `driver` is
    (pid, start time) of the process that works through it.
    """

    waiting: list[str] = field(default_factory=list)
    turn: Turn | None = None
    driver: tuple[int, float] | None = None
    is_started: bool = False
    halt: tuple[str, str] = ("", "")
    began: float = 0.0
    done: list[Done] = field(default_factory=list)
    is_seen: bool = True

    @property
    def is_driven(self) -> bool:
        """Whether a process is at work on it."""
        return self.driver is not None and is_alive(*self.driver)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Queue:
        """What `asdict` gave. Raises `DamagedError`."""
        try:
            driver, halt = value["driver"], value["halt"]
            return cls(
                waiting=[str(run) for run in value["waiting"]],
                turn=Turn(**value["turn"]) if value["turn"] else None,
                driver=(int(driver[0]), float(driver[1])) if driver else None,
                is_started=bool(value["is_started"]),
                halt=(str(halt[0]), str(halt[1])),
                began=float(value["began"]),
                done=[Done(**one) for one in value["done"]],
                is_seen=bool(value["is_seen"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DamagedError(
                "The list of waiting runs cannot be understood.",
                "Remove queue/queue.json from the workspace; `overlay queue add RUN` lines the runs up again.",
            ) from error


# --- the file --------------------------------------------------------------------------------------------------------


def queue_file(workspace: Workspace) -> Path:
    """Where the list is kept."""
    return workspace.queue / "queue.json"


def read_queue(workspace: Workspace) -> Queue:
    """The list as it is now; runs whose folders are gone are left out. Raises `DamagedError`."""
    try:
        queue = Queue.from_dict(files.read_json(queue_file(workspace)))
    except FileNotFoundError:
        return Queue()
    queue.waiting = [run for run in queue.waiting if (workspace.runs / run / "job.json").is_file()]
    return queue


@contextlib.contextmanager
def changing(workspace: Workspace) -> Iterator[Queue]:
    """The list, while nobody else can change it; written when the block is left without an error."""
    workspace.queue.mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.queue / "lock", timeout=_LOCK_SECONDS):
        queue = read_queue(workspace)
        before = asdict(queue)
        yield queue
        if asdict(queue) != before or not queue_file(workspace).exists():
            files.write_json(queue_file(workspace), asdict(queue))


# --- what users do with it -------------------------------------------------------------------------------------------


def add(
    workspace: Workspace, recipe: Recipe, *, device: str, recipe_folder: Path | None = None, name: str | None = None
) -> RunFolder:
    """A new run by `recipe` at the end of the list. Raises what `create_run` raises."""
    run = create_run(workspace, recipe, device=device, recipe_folder=recipe_folder, name=name)
    add_run(workspace, run)
    return run


def add_run(workspace: Workspace, run: RunFolder) -> None:
    """Line up a run that is there already and stands still; one that waits already stays where it is.

    Raises `StudioError` if it is finished, `BusyError` if it is being done.
    """
    status = run.bury().status
    with changing(workspace) as queue:
        if status.is_live or (queue.turn is not None and queue.turn.run == run.id):
            raise BusyError(f"{run.name} is being done.", "It need not wait.")
        if status not in STANDS_STILL:
            raise StudioError(f"{run.name} is finished: there is nothing left to do.", "Add its recipe for a new run.")
        if run.id not in queue.waiting:
            queue.waiting.append(run.id)


def move(workspace: Workspace, run: RunFolder, position: int) -> None:
    """Put a waiting run at `position`, 1 being the next; beyond the end it is the last. Raises `NotFoundError`."""
    with changing(workspace) as queue:
        _need_waiting(queue, run)
        queue.waiting.remove(run.id)
        queue.waiting.insert(max(position, 1) - 1, run.id)


def remove(workspace: Workspace, run: RunFolder) -> Path | None:
    """Take a run off the list. One that never began goes to the trash, and where it lies there is returned; one that did is a
    run with checkpoints and stays. Raises `NotFoundError` if it does not wait."""
    with changing(workspace) as queue:
        _need_waiting(queue, run)
        queue.waiting.remove(run.id)
        return files.move_to(run.path, workspace.trash) if run.state().began is None else None


def take_out(workspace: Workspace, run: RunFolder) -> None:
    """Take a run off the list because somebody begins it by hand. One that does not wait is none of the queue's business."""
    if run.id in read_queue(workspace).waiting:
        with changing(workspace) as queue:
            queue.waiting = [other for other in queue.waiting if other != run.id]


def edit(workspace: Workspace, run: RunFolder, recipe: Recipe, recipe_folder: Path | None = None) -> RunFolder:
    """Give a waiting run another recipe, its inputs pinned down anew; returns the run as it is then.

    Raises what `create_run` raises, `NotFoundError` if the run does not wait, `BusyError` if it was begun once.
    """
    job = job_instead(workspace, run, recipe, recipe_folder)
    # The driver takes a run off the list under the same lock, and whoever begins it by hand, too: nobody reads the job now.
    with changing(workspace) as queue:
        _need_waiting(queue, run)
        if run.state().status is not Status.WAITING:
            raise BusyError(f"{run.name} was begun: its recipe is settled.", "Add a new run with the other recipe.")
        files.write_json(run.path / "job.json", job)
    return RunFolder(run.path)


def hold(workspace: Workspace) -> None:
    """Begin no other run after the one in hand."""
    with changing(workspace) as queue:
        queue.is_started = False


def mark_seen(workspace: Workspace) -> None:
    """What was done is no news any more; the next start begins a new report."""
    with changing(workspace) as queue:
        queue.is_seen = True


def begin_report(queue: Queue) -> None:
    """The queue is being started: what was done before is forgotten, unless nobody has seen it yet."""
    queue.is_started, queue.halt = True, ("", "")
    if queue.turn is None and queue.is_seen:
        queue.began, queue.done = time.time(), []


def _need_waiting(queue: Queue, run: RunFolder) -> None:
    if run.id not in queue.waiting:
        raise NotFoundError(f"{run.name} does not wait for its turn.", "`overlay queue` lists those that do.")
