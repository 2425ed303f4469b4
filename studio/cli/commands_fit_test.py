"""`overlay fit-test`: three real steps before a run, measured against the estimate."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

from studio.cli.data_source import with_rows_here
from studio.cli.follow import POLL_SECONDS, InternalError, Interrupts, engine_for
from studio.cli.output import Output, table
from studio.cli.parser import Commands, add_command
from studio.errors import EngineError, StudioError
from studio.files import readable_bytes, readable_seconds
from studio.memory.device import choose_device
from studio.places import Workspace
from studio.recipe.toml import load
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import fit_test_of
from studio.runs.engine import Engine, refuse_busy

_PHASES = {
    "checking": "Checking base and data",
    "loading": "Loading the base",
    "tokenising": "Preparing the data",
    "training": "Training on the longest rows",
}
_NOT_SHOWN = ("test", "time")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "fit-test",
        fit_test,
        "try whether a recipe fits, by three real steps",
        details="Trains three steps on the longest rows, measures the memory beside the estimate and the time of a step, and "
        "throws the result away. Nothing is kept. Ctrl-C ends it.",
        uses_device=True,
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="a recipe file (.toml)")


def fit_test(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Do the test and print its answer. That it does not fit is an answer too."""
    recipe = with_rows_here(load(options.recipe), output, workspace)
    wish = fit_test_of(workspace, recipe, recipe_folder=options.recipe.resolve().parent)
    with engine_for(workspace, choose_device(options.device)) as engine:
        refuse_busy(engine, workspace)
        answer = _follow(engine, wish, output)
    document: dict[str, Any] = {name: value for name, value in vars(answer).items() if name not in _NOT_SHOWN}
    output.result(document, _text(answer))


def _follow(engine: Engine, wish: w.TestFit, output: Output) -> e.FitTested:
    """Tell how it goes until the answer is there. Ctrl-C ends the test and raises `KeyboardInterrupt`."""
    engine.news.read()
    output.bar.begin()
    asked = False
    with Interrupts() as interrupts:
        engine.post(wish)
        while True:
            # Looked at before reading: what the engine wrote before its end must not be missed.
            alive = engine.is_alive
            for event in engine.news.read():
                if getattr(event, "test", None) == wish.test and (answer := _heard(event, output)) is not None:
                    return answer
            if not alive:
                raise _gone(engine)
            if interrupts.count and not asked:
                asked = True
                engine.post(w.Hush(ask=wish.test))
            threading.Event().wait(POLL_SECONDS)


def _heard(event: e.Event, output: Output) -> e.FitTested | None:
    match event:
        case e.FitTested():
            return event
        case e.FitTestProgressed(phase=phase, step=step, num_steps=num_steps) if step:
            output.bar.update(step, num_steps, _PHASES.get(phase, phase))
        case e.FitTestProgressed(phase=phase):
            output.say(f"{_PHASES.get(phase, phase)} ...")
        case e.FitTestStopped():
            raise KeyboardInterrupt
        case e.FitTestFailed(kind="internal", message=message, hint=hint):
            raise InternalError(message, hint)
        case e.FitTestFailed(message=message, hint=hint):
            raise StudioError(message, hint)
    return None


def _gone(engine: Engine) -> EngineError:
    # The system ends the process that asks for the last of its memory; on a CPU that is how it says no.
    cause = "was killed, most likely because memory ran out" if engine.end_signal == "SIGKILL" else "ended"
    return EngineError(
        f"The engine {cause} before the test had an answer.", f"Its log says more: {engine.session / 'log.txt'}"
    )


def _text(answer: e.FitTested) -> str:
    rows = [
        ("Tensors", _bytes(answer.estimated_total_bytes), _bytes(answer.allocated_bytes)),
        ("Taken by the allocator", "", _bytes(answer.reserved_bytes)),
        ("The whole process", _bytes(answer.estimated_process_bytes), _bytes(answer.process_bytes)),
    ]
    lines = [table(("", "ESTIMATED", "MEASURED"), [row for row in rows if row[2]])]
    lines.append(f"Measured over {len(answer.step_seconds)} steps of {answer.micro_batch_tokens:,} tokens at a time.")
    if answer.device == "cpu":
        lines.append("The estimate is made for graphics cards; without one, some libraries keep more than it counts.")
    if not answer.fits:
        return "\n".join([*lines, answer.message, answer.hint])
    card = f" on {answer.card}, {readable_bytes(answer.card_bytes)}" if answer.card_bytes else " on this computer"
    lines.append(f"It fits{card}.")
    if answer.seconds_per_step is not None and answer.seconds_expected is not None:
        lines.append(
            f"{answer.num_steps} steps of about {answer.seconds_per_step:.2g} s: "
            f"{readable_seconds(answer.seconds_expected)} of training, without what is done between steps."
        )
    return "\n".join(lines)


def _bytes(count: int | None) -> str:
    return "" if count is None else readable_bytes(count)
