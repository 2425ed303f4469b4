"""`overlay runs`, `overlay stop`, `overlay pause`: runs on disk, and how to end one from another terminal."""

from __future__ import annotations

import argparse
import threading
from typing import Any

from studio.cli.follow import POLL_SECONDS
from studio.cli.output import Output, table
from studio.cli.parser import Commands, add_command, whole_number
from studio.errors import DamagedError, EngineError, NotFoundError
from studio.files import readable_seconds
from studio.library.promote import promote
from studio.places import Workspace
from studio.runs import wishes as w
from studio.runs.engine import running_engine
from studio.runs.folder import RunFolder, find_run, list_runs
from studio.runs.hints import Hint, hints
from studio.runs.state import RunState


def register(commands: Commands) -> None:
    """Add the commands."""
    parser = add_command(
        commands,
        "runs",
        list_them,
        "training runs on disk",
        details="A run whose engine was killed shows as interrupted; `overlay resume` goes on with it.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    one = add_command(actions, "show", show_one, "one run with its curve")
    one.add_argument("run_name", metavar="RUN", help="the run's id or name")
    using = add_command(
        actions,
        "promote",
        promote_one,
        "take a checkpoint into the library",
        details="Any checkpoint that is still kept becomes an adapter of its own; the run and its adapter stay as they are. "
        "`overlay runs show RUN` lists the checkpoints and says which was best.",
    )
    using.add_argument("run_name", metavar="RUN", help="the run's id or name")
    using.add_argument(
        "--step", type=whole_number(1, 10_000_000), help="the checkpoint's step (default: the best one's)"
    )
    stopping = add_command(
        commands,
        "stop",
        stop,
        "end a run, keeping its adapter",
        details="It saves the last whole step and ends within seconds; on several cards after the step in hand.",
    )
    stopping.add_argument("run_name", metavar="RUN", help="the run's id or name")
    pausing = add_command(
        commands, "pause", pause, "end a run for now", details="It saves a checkpoint and gives the card back."
    )
    pausing.add_argument("run_name", metavar="RUN", help="the run's id or name")


def list_them(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print all runs, newest first."""
    records = []
    for run in list_runs(workspace):
        try:
            records.append(record(run, run.bury()))
        except DamagedError as error:
            output.note(f"Left out: {error.message} {error.hint}")
    rows = [
        (r["run"], r["state"], f"{r['step']}/{r['num_steps'] or '?'}", r["base"], r["adapter"] or "-") for r in records
    ]
    empty = "There is no run yet. `overlay demo` makes one."
    output.result(records, table(("RUN", "STATE", "STEP", "BASE", "ADAPTER"), rows) if rows else empty)


def show_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print one run with its losses."""
    run = find_run(workspace, options.run_name)
    state = run.bury()
    best = state.best_evaluation
    document = {
        **record(run, state),
        "path": str(run.path),
        "device": state.device or run.job.get("device", ""),
        "losses": [[step, loss] for step, loss in state.losses],
        "evaluations": [[found.step, found.loss] for found in state.evaluations],
        "best": {"step": best.step, "loss": best.loss} if best else None,
        "ended_early": state.ended_early is not None,
        "worst_rows": state.worst_rows,
        "hints": [_hint_record(hint) for hint in hints(state)],
        "samples": [{"step": s.step, "prompt": s.prompt, "text": s.text} for s in state.samples],
        "checkpoints": [step for step, _ in run.checkpoints()],
        "warnings": [{"message": warned.message, "hint": warned.hint} for warned in state.warnings],
        "ending": {"message": state.ending.message, "hint": state.ending.hint} if state.ending else None,
        "seconds": state.ended - state.began if state.ended and state.began else None,
        "seconds_left": state.seconds_left if state.status.is_live else None,
    }
    output.result(document, _show_text(document))


def promote_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Make a checkpoint an adapter, and print its record."""
    run = find_run(workspace, options.run_name)
    best = run.state().best_checkpoint
    if options.step is None and best is None:
        raise NotFoundError(f"No checkpoint of {run.id} is known to be the best.", "Name one with --step.")
    adapter = promote(workspace, run, options.step or (best.step if best else 0))
    output.result(adapter.record(), f"{adapter.name} is in the library.")


def stop(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Stop a run with its adapter saved."""
    run = find_run(workspace, options.run_name)
    _end(run, w.Stop(run=run.id, save=True), output, workspace)


def pause(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Pause a run."""
    run = find_run(workspace, options.run_name)
    _end(run, w.Pause(run=run.id), output, workspace)


def record(run: RunFolder, state: RunState) -> dict[str, Any]:
    """A run as lists show it. Raises `DamagedError` if its job cannot be read."""
    base = run.job.get("base")
    return {
        "run": run.id,
        "name": run.name,
        "state": str(state.status),
        "step": state.step,
        "num_steps": state.num_steps,
        "base": str(base.get("id", "")) if isinstance(base, dict) else "",
        "adapter": state.adapter,
    }


def _end(run: RunFolder, wish: w.Wish, output: Output, workspace: Workspace) -> None:
    """Post the wish and wait until the run stands still. A run that stands still already is left as it is."""
    state = run.bury()
    if state.status.is_live:
        engine = running_engine(workspace, state.device)
        if engine is None or engine.pid != state.pid:
            raise EngineError(
                f"The engine that is at {run.id} does not answer.", f"End the process {state.pid}, then resume the run."
            )
        engine.post(wish)
        while state.status.is_live:
            threading.Event().wait(POLL_SECONDS)
            state = run.bury()
    output.result({"run": run.id, "state": str(state.status)}, f"{run.id} is {state.status}.")


def _hint_record(hint: Hint) -> dict[str, Any]:
    return {**vars(hint), "kind": str(hint.kind)}


def _show_text(document: dict[str, Any]) -> str:
    lines = [
        f"{document['run']}: {document['state']}, step {document['step']} of {document['num_steps'] or '?'}",
        f"Base {document['base']}, adapter {document['adapter'] or '-'}, on {document['device']}",
    ]
    losses = document["losses"]
    if losses:
        lines.append(f"Loss {losses[0][1]:.3f} at step {losses[0][0]}, {losses[-1][1]:.3f} at step {losses[-1][0]}")
    lines += [f"Held-out loss {loss:.3f} at step {step}" for step, loss in document["evaluations"]]
    if document["best"]:
        best = f"Best held-out loss {document['best']['loss']:.3f} at step {document['best']['step']}"
        lines.append(f"{best}; the run ended early" if document["ended_early"] else best)
    if document["worst_rows"]:
        rows = [f"{one['row'] + 1} ({one['loss']:.2f})" for one in document["worst_rows"][:5]]
        lines.append(f"Hardest rows: {', '.join(rows)}")
    lines += [f"{hint['message']} {hint['reason']} {hint['advice']}" for hint in document["hints"]]
    if document["seconds"] is not None:
        lines.append(f"Took {readable_seconds(document['seconds'])}")
    if document["ending"]:
        lines.append(f"{document['ending']['message']} {document['ending']['hint']}".rstrip())
    lines.append(f"Folder {document['path']}")
    return "\n".join(lines)
