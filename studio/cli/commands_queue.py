"""`overlay queue`: runs that wait for the card, who works through them, and what became of those that are done."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.cli.data_source import with_rows_here
from studio.cli.output import Output, table
from studio.cli.parser import Commands, UsageError, add_command, whole_number
from studio.errors import DamagedError, NotFoundError, StudioError
from studio.files import readable_bytes
from studio.memory.device import choose_device
from studio.memory.waiting import Card, Need
from studio.places import Workspace
from studio.recipe.toml import load
from studio.runs import driver
from studio.runs import queue as q
from studio.runs.create import read_job
from studio.runs.engine import running_engine
from studio.runs.folder import RunFolder, find_run
from studio.runs.report import Report, write_report

_MOST = 100_000
_RUN = "the run's id or name"


@dataclass(frozen=True)
class _Entry:
    """A run of the queue; position 0 is the one being done."""

    run: RunFolder
    position: int
    need: Need
    base: str
    dataset: str

    def document(self) -> dict[str, Any]:
        return {
            "run": self.run.id,
            "name": self.run.name if self.run.is_readable else self.run.id,
            "position": self.position,
            "state": str(self.run.bury().status),
            "fits": self.need.fits,
            "needs_bytes": self.need.bytes,
            "base": self.base,
            "dataset": self.dataset,
        }


def register(commands: Commands) -> None:
    """Add the command and its actions."""
    parser = add_command(
        commands,
        "queue",
        show,
        "runs that wait for the card",
        details="Lists them in their order; position 0 is the one being done. They are done one at a time, by a process of "
        "their own that needs no terminal and no window. A run that diverges is stopped and saved, one that fails or is stopped "
        "makes way for the next; a pause, a full disk or a lost card halts the queue.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    adding = add_command(
        actions,
        "add",
        add,
        "line up a new run",
        details="Also lines up a run that stands still, to go on with it. Nothing is begun by this.",
        uses_device=True,
    )
    adding.add_argument("what", metavar="RECIPE", help="a recipe file (.toml), or the name of a run that stands still")
    adding.add_argument("--name", help="what the run and its adapter are to be called (default: as in the recipe)")
    editing = add_command(
        actions, "edit", edit, "give a waiting run another recipe", details="Only one that was never begun."
    )
    editing.add_argument("run_name", metavar="RUN", help=_RUN)
    editing.add_argument("recipe", metavar="RECIPE", type=Path, help="a recipe file (.toml)")
    moving = add_command(actions, "move", move, "change the order")
    moving.add_argument("run_name", metavar="RUN", help=_RUN)
    moving.add_argument("position", metavar="N", type=whole_number(1, _MOST), help="its new position, 1 being the next")
    removing = add_command(
        actions,
        "remove",
        remove,
        "take a waiting run off the list",
        details="One that was never begun goes to the trash.",
    )
    removing.add_argument("run_name", metavar="RUN", help=_RUN)
    _add_doing(actions)


def _add_doing(actions: Commands) -> None:
    """What is done with the list as a whole."""
    starting = add_command(
        actions,
        "start",
        start,
        "do the waiting runs one after the other",
        details="Returns at once, with the list as ever: the work goes on by itself when this terminal closes. `overlay runs` "
        "tells how it goes, `overlay queue report` what came of it.",
    )
    starting.add_argument("--let-sleep", action="store_true", help="let the computer fall asleep meanwhile")
    add_command(
        actions,
        "stop",
        stop,
        "begin no other run after the one in hand",
        details="The one in hand goes on; `overlay stop` or `overlay pause` ends it.",
    )
    add_command(
        actions,
        "report",
        report,
        "what the queue has done since it was last started",
        details="Also writes it into the workspace as a Markdown file. Once read, the next start begins a new report.",
    )


def show(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the list."""
    documents = [entry.document() for entry in _entries(workspace)]
    output.result(documents, _text(documents, q.read_queue(workspace)))


def add(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Create a run that waits, or line up one that stands still."""
    path = Path(options.what)
    if path.suffix == ".toml" or path.is_file():
        recipe, folder = with_rows_here(load(path), output, workspace), path.resolve().parent
        device = choose_device(options.device)
        run = q.add(workspace, recipe, device=device, recipe_folder=folder, name=options.name)
    else:
        run = _run_or_recipe(workspace, options.what)
        if options.name:
            raise UsageError("A run that is there has its name already.", "Leave --name out.")
        q.add_run(workspace, run)
    if not q.read_queue(workspace).is_driven:
        output.note(f"{run.id} waits. `overlay queue start` begins.")
    show(options, output, workspace)


def edit(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Put another recipe into a waiting run."""
    recipe = with_rows_here(load(options.recipe), output, workspace)
    folder = options.recipe.resolve().parent
    q.edit(workspace, _waiting(workspace, options.run_name), recipe, folder)
    show(options, output, workspace)


def move(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Change the order."""
    q.move(workspace, _waiting(workspace, options.run_name), options.position)
    show(options, output, workspace)


def remove(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Take a run off the list."""
    run = _waiting(workspace, options.run_name)
    lies = q.remove(workspace, run)
    output.note(f"{run.id} is in the trash: {lies}" if lies else f"{run.id} waits no more; its checkpoints stay.")
    show(options, output, workspace)


def start(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Have the queue worked through."""
    driver.start(workspace, options.let_sleep)
    show(options, output, workspace)


def stop(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Have no other run begun."""
    q.hold(workspace)
    show(options, output, workspace)


def report(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print what was done, and keep it as a file."""
    queue = q.read_queue(workspace)
    found = Report.of(workspace, queue)
    path = write_report(workspace, queue) if found.lines else None
    kept = f"\n\nThis report is kept as {path}" if path else ""
    output.result({**found.to_dict(), "path": str(path) if path else None}, found.text + kept)
    q.mark_seen(workspace)


# --- entries ---------------------------------------------------------------------------------------------------------


def _entries(workspace: Workspace) -> list[_Entry]:
    queue = q.read_queue(workspace)
    engine = running_engine(workspace, "cuda-0")
    card = Card.here(workspace, {engine.pid} if engine else ())
    runs = [(position, run) for position, run in enumerate(queue.waiting, 1)]
    runs[:0] = [(0, queue.turn.run)] if queue.turn else []
    return [_entry(RunFolder(workspace.runs / run), position, card) for position, run in runs]


def _entry(run: RunFolder, position: int, card: Card | None) -> _Entry:
    try:
        job = read_job(run)
    except DamagedError:
        return _Entry(run, position, Need(), "", "")
    need = card.need(job.base, job.recipe) if card and job.device != "cpu" else Need()
    return _Entry(run, position, need, job.recipe.base.id, job.data.name)


def _waiting(workspace: Workspace, name: str) -> RunFolder:
    """The waiting run of this id or name, the first of several. Raises `NotFoundError`."""
    for run in (RunFolder(workspace.runs / waiting) for waiting in q.read_queue(workspace).waiting):
        if name == run.id or (run.is_readable and name == run.name):
            return run
    raise NotFoundError(f"No run called {name} waits for its turn.", "`overlay queue` lists those that do.")


def _run_or_recipe(workspace: Workspace, name: str) -> RunFolder:
    try:
        return find_run(workspace, name)
    except NotFoundError as error:
        message = f"{name} is neither a recipe file nor a run."
        raise StudioError(message, "Recipes end in .toml; `overlay runs` lists the runs.") from error


def _text(documents: list[dict[str, Any]], queue: q.Queue) -> str:
    lines = [_status(queue)]
    if documents:
        rows = [
            (str(d["position"]) if d["position"] else "now", d["run"], d["state"], d["base"], d["dataset"], _fits(d))
            for d in documents
        ]
        lines.insert(0, table(("", "RUN", "STATE", "BASE", "DATASET", "FITS"), rows))
    return "\n".join(lines)


def _fits(document: dict[str, Any]) -> str:
    if document["fits"] is None:
        return "-"
    return f"{'yes' if document['fits'] else 'no'}, \u2248 {readable_bytes(document['needs_bytes'])}"


def _status(queue: q.Queue) -> str:
    if queue.is_driven:
        after = "" if queue.is_started else " No other is begun after the run in hand."
        return f"The queue is being worked through.{after}"
    if queue.is_started:
        return "The queue was interrupted: its process is gone. `overlay queue start` goes on where it stood."
    if queue.halt[0]:
        return " ".join(filter(None, ("The queue stopped.", *queue.halt)))
    return (
        "`overlay queue start` begins." if queue.waiting else "No run waits. `overlay queue add RECIPE` lines one up."
    )
