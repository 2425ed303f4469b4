"""`overlay train` and `overlay resume`: begin a run, or go on with one, and follow it to its end."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from studio.cli.changes import add_changes, changed
from studio.cli.data_source import with_rows_here
from studio.cli.follow import RELEASE_SECONDS, RunReporter, engine_for, follow_run, sent_home
from studio.cli.output import Output
from studio.cli.parser import ArgumentParser, Commands, UsageError, add_command, whole_number
from studio.errors import BusyError, ChangedError, StudioError
from studio.library.lineage import find_parent
from studio.memory.device import choose_device, survey
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.recipe.toml import load
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.again import recipe_of
from studio.runs.awake import ASLEEP, ASLEEP_HINT, kept_awake
from studio.runs.create import create_run, read_job, refuse_changes
from studio.runs.engine import Engine, refuse_busy, running_engine
from studio.runs.folder import RunFolder, find_run
from studio.runs.launch import launch
from studio.runs.lines import Mailbox
from studio.runs.queue import take_out
from studio.runs.state import Status


def register(commands: Commands) -> None:
    """Add both commands."""
    begin = add_command(
        commands,
        "train",
        train,
        "train an adapter by a recipe",
        details="Ctrl-C stops the run and saves it as it was after its last whole step; `overlay resume` goes on from there. "
        "With --from the overlay begins as another one is now; the optimizer and the order of rows are fresh all the same.",
        uses_device=True,
    )
    begin.add_argument(
        "recipe",
        metavar="RECIPE",
        type=Path,
        nargs="?",
        help="a recipe file (.toml); left out: that of the run in --from",
    )
    begin.add_argument("--name", help="what the run and its adapter are to be called (default: as in the recipe)")
    begin.add_argument(
        "--from",
        dest="parent",
        metavar="RUN_OR_ADAPTER",
        help="begin with the overlay of an adapter, or of a run's last good checkpoint",
    )
    begin.add_argument("--data", metavar="FILE", type=Path, help="learn from this dataset instead of the recipe's")
    add_changes(begin)
    _add_common(begin)
    go_on = add_command(
        commands,
        "resume",
        resume,
        "go on with a run",
        details="Goes on from the last checkpoint, exactly as if the run had never stopped.",
        uses_device=True,
    )
    go_on.add_argument("run_name", metavar="RUN", help="the run's id or name, as `overlay runs` lists them")
    _add_common(go_on)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument("--let-sleep", action="store_true", help="let the computer fall asleep meanwhile")
    parser.add_argument(
        "--processes",
        metavar="N",
        type=whole_number(1, 64),
        default=1,
        help="share the run among N processes, each on a card of its own (default: 1)",
    )


def train(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Create a run and do it."""
    parent, origin = find_parent(workspace, options.parent) if options.parent else (None, None)
    recipe, folder = _recipe(options, parent)
    if options.data is not None:
        recipe = replaced(recipe, "data.path", str(options.data.expanduser().absolute()))
    device = resume_device(parent, options.device) if parent else choose_device(options.device)
    need_devices(workspace, device, options.processes)
    recipe = with_rows_here(recipe, output, workspace)
    name = options.name or (parent.name if parent and folder is None else None)
    before = read_job(parent).chosen if parent else None
    run = create_run(workspace, recipe, device=device, recipe_folder=folder, name=name, origin=origin, before=before)
    if origin is not None:
        output.say(f"The overlay begins as that of {origin.name}{f' at step {origin.step}' if origin.step else ''}.")
    elif parent is not None:
        output.say(f"{parent.id} has no checkpoint yet: the new run begins from nothing.")
    with _awake(options.let_sleep, output):
        do_run(workspace, run, device, output, options.processes)


def _recipe(options: argparse.Namespace, parent: RunFolder | None) -> tuple[Recipe, Path | None]:
    """The recipe as told, and the folder that its dataset may be named from."""
    if options.recipe is not None:
        return changed(load(options.recipe), options.changes), options.recipe.resolve().parent
    if parent is not None:
        return changed(recipe_of(parent), options.changes), None
    raise UsageError("There is no RECIPE.", "Name a recipe file, or with --from a run that is still here.")


def resume(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Go on with a run that stands still."""
    run = find_run(workspace, options.run_name)
    status = run.bury().status
    if status.is_live:
        raise BusyError(f"{run.id} is in progress.", f"`overlay stop {run.id}` stops it; it saves first.")
    if status is Status.FINISHED:
        raise StudioError(f"{run.id} is finished: there is nothing left to do.", "Train again with more steps.")
    try:
        refuse_changes(workspace, run)
    except ChangedError as error:
        begin = f"`overlay train --from {run.id}` begins one with the overlay of this one."
        raise ChangedError(error.message, f"{error.hint} {begin}", run=run.id) from error
    device = resume_device(run, options.device)
    need_devices(workspace, device, options.processes)
    take_out(workspace, run)
    with _awake(options.let_sleep, output):
        do_run(workspace, run, device, output, options.processes)


@contextlib.contextmanager
def _awake(let_sleep: bool, output: Output) -> Iterator[None]:
    """Keep the computer from falling asleep, unless it may; say if that cannot be had."""
    with contextlib.nullcontext(True) if let_sleep else kept_awake() as could_be_had:
        if not could_be_had:
            output.note(f"{ASLEEP} {ASLEEP_HINT}")
        yield


def do_run(workspace: Workspace, run: RunFolder, device: str, output: Output, num_processes: int = 1) -> None:
    """Have the engine of `device`, or several processes, do `run`, telling how it goes. Raises `StudioError` if it does not
    end well."""
    if num_processes > 1:
        ending = _follow_shared(workspace, run, device, output, num_processes)
    else:
        with engine_for(workspace, device) as engine:
            refuse_busy(engine, workspace)
            ending = follow_rescued(workspace, run, engine, output)
    tell_ending(ending, run, output)


def _follow_shared(workspace: Workspace, run: RunFolder, device: str, output: Output, num_processes: int) -> e.Event:
    """Launch the run, once more for each time that memory ran out, and follow it."""
    while True:
        events, show = _listening(run, output)
        output.say(f"Run {run.id} on {num_processes} {'processes' if device == 'cpu' else 'cards'}.")
        with sent_home(launch(workspace, run, device, num_processes)) as engine:
            ending = follow_run(run, events, engine, output, show)
            if not isinstance(ending, e.MicroBatchHalved):
                return ending
            # Its ranks give their cards back only when they are gone.
            engine.wait(RELEASE_SECONDS)


def follow_rescued(
    workspace: Workspace, run: RunFolder, engine: Engine, output: Output, leave_out: type[e.Event] | None = None
) -> e.Event:
    """Ask `engine` for the run and follow it through as many more as it takes: one that runs out of memory leaves it to the
    next. Returns its last event. Events of the kind `leave_out` are not printed for programs."""
    ending = _follow_from_here(run, engine, output, leave_out)
    while isinstance(ending, e.MicroBatchHalved):
        # One that is not ours ends by itself all the same, and gives its memory back only then.
        engine.wait(RELEASE_SECONDS)
        with engine_for(workspace, engine.device) as engine:
            ending = _follow_from_here(run, engine, output, leave_out)
    return ending


def _follow_from_here(run: RunFolder, engine: Engine, output: Output, leave_out: type[e.Event] | None) -> e.Event:
    events, show = _listening(run, output, leave_out)
    output.say(f"Run {run.id} on {engine.device}.")
    engine.post(w.Train(folder=str(run.path)))
    return follow_run(run, events, engine, output, show)


def _listening(
    run: RunFolder, output: Output, leave_out: type[e.Event] | None = None
) -> tuple[Mailbox[e.Event], Callable[[e.Event], None]]:
    """The run's events from now on, and what shows one of them."""
    events, state = run.events, run.state()
    events.read()
    report = RunReporter(output, state)

    def show(event: e.Event) -> None:
        report(event)
        if leave_out is None or not isinstance(event, leave_out):
            output.event(e.EVENTS.to_dict(event))

    return events, show


def tell_ending(ending: e.Event, run: RunFolder, output: Output) -> None:
    """Say how a run that ended well did end, and what can be done next."""
    match ending:
        case e.Finished(adapter=adapter):
            output.say(f"Finished. The adapter is {adapter}: try `overlay chat --lanes base,{adapter} --prompt ...`.")
        case e.Stopped(adapter=adapter) if adapter:
            output.say(f"Stopped and saved as {adapter}. `overlay resume {run.id}` goes on.")
        case _:
            output.say(f"The run stands still. `overlay resume {run.id}` goes on.")


def resume_device(run: RunFolder, option: str) -> str:
    """Where to go on: as told, else where the run began, unless that card is gone."""
    began_on = read_job(run).device
    return "cpu" if option == "auto" and began_on == "cpu" else choose_device(option)


def need_devices(workspace: Workspace, device: str, num_processes: int) -> None:
    """See that each process can have a device to itself: an engine without a run is sent home if the run is to be shared.

    Raises `BusyError` before anything is written if one is at a run already, `StudioError` if there are too few cards.
    """
    cards = len(survey()) if device != "cpu" and num_processes > 1 else num_processes
    if num_processes > cards:
        raise StudioError(
            f"{num_processes} processes need {num_processes} cards; this computer has {cards}.",
            f"Give --processes {cards}, or --device cpu.",
        )
    devices = [f"cuda-{index}" for index in range(num_processes)] if device != "cpu" else [device]
    for each in [device] if num_processes == 1 else devices:
        refuse_if_busy(workspace, each)
        if num_processes > 1:
            _free(workspace, each)


def _free(workspace: Workspace, device: str) -> None:
    engine = running_engine(workspace, device)
    if engine is not None:
        engine.post(w.Release())
        if not engine.wait(RELEASE_SECONDS):
            raise BusyError(f"The engine that holds {device} does not end.", f"End the process {engine.pid}.")


def refuse_if_busy(workspace: Workspace, device: str) -> None:
    """Raise `BusyError` before anything is written if the device is at a run already."""
    engine = running_engine(workspace, device)
    if engine is not None:
        refuse_busy(engine, workspace)
