"""A process that does one piece of work again and again, and is killed at another file operation each time.

    python -m tests.studio.engine.dying checkpoint|adapter FOLDER

It forks itself for each death, once torch is there, and looks at what the dead has left as the next engine would. Prints JSON:
the operations that the work consists of, the number of deaths, and what was wrong after which.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from studio import files
from studio.engine import checkpoint
from studio.engine.desk import Desk
from studio.engine.overlay import trainable
from studio.engine.run import begin_overlay, keep_adapter
from studio.library import adapter as library
from studio.library import shelf
from studio.models.bases import find_base
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.create import create_run
from studio.runs.folder import RunFolder
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.file_operations import BEFORE_OR_AFTER, MOMENTS, at_operation, killed, operations
from tests.studio.engine.test_checkpoint import Trainee
from tests.studio.engine.test_train import recipe

Work = Callable[[Path], object]
KEPT = 2


def deaths(folder: Path, template: Path, work: Work, check: Work) -> dict[str, object]:
    """Let `work` be killed over copies of `template` at each operation in turn, and `check` each copy."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(template, folder / name, symlinks=True))

    unharmed = copy("unharmed")
    names = operations(lambda: work(unharmed))
    count, wrong = 0, []
    for number, name in enumerate(names, 1):
        for moment in MOMENTS.get(name, BEFORE_OR_AFTER):
            place = copy(f"{number}-{moment.__name__}")
            count += 1
            try:
                assert killed(lambda: work(place), at_operation(number, moment)), "it was not killed"  # noqa: B023
                check(place)
            except Exception as error:  # noqa: BLE001
                # Told to the test, which has to say at which operation it was.
                wrong.append(f"{moment.__name__} operation {number} ({name}): {type(error).__name__} {error}")
            shutil.rmtree(place)
    return {"operations": names, "deaths": count, "wrong": wrong}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*.tmp-*")]


def checkpoints(folder: Path) -> dict[str, object]:
    """The saving of a third checkpoint, which makes the first one go."""
    workspace = Workspace(folder / "template")
    made = RunFolder.create(workspace, "x", {"inputs": {"base": "sha256:1", "dataset": "2"}})
    trainee = Trainee("torch")
    torch.manual_seed(7)
    for step in (1, 2, 3):
        trainee.steps(step - 1, step)
        if step < 3:
            checkpoint.save(made, step, trainee.model, trainee.optimizer, trainee.rate, keep=KEPT)
    state = torch.get_rng_state()
    unbroken = Trainee("torch")
    torch.manual_seed(7)
    unbroken.steps(0, 4)
    torch.set_rng_state(state)

    def work(place: Path) -> None:
        torch.set_rng_state(state)
        checkpoint.save(run_in(place), 3, trainee.model, trainee.optimizer, trainee.rate, keep=KEPT)

    def check(place: Path) -> None:
        run = run_in(place)
        told: list[e.Warned] = []
        broken = [path.name for _, path in run.checkpoints() if files.damage(path)]
        assert not broken, f"{broken} has the name of a checkpoint and is none"
        left = leftovers(run.path)
        checkpoint.sweep(run, told.append)
        found = checkpoint.newest(run, told.append)
        assert found is not None
        assert found[0] in (2, 3), f"step {found[0]} is the newest"
        assert not leftovers(run.path)
        # A file that was half-made within a half-made folder goes with it.
        named = {name[1:].split(".tmp-")[0] for name in left if name.startswith(".step-")}
        assert all(any(name in warned.message for warned in told) for name in named), f"{named} is not told of"
        resumed = Trainee("torch")
        step = checkpoint.restore(run, found[1], resumed.model, resumed.optimizer, resumed.rate)
        resumed.steps(step, 4)
        assert torch.equal(resumed.weights(), unbroken.weights()), f"going on from {step} comes out elsewhere"
        checkpoint.save(run, 4, resumed.model, resumed.optimizer, resumed.rate, keep=KEPT)
        assert len(run.checkpoints()) == KEPT

    def run_in(place: Path) -> RunFolder:
        return RunFolder(place / made.path.relative_to(workspace.root))

    return deaths(folder, workspace.root, work, check)


def adapters(folder: Path) -> dict[str, object]:
    """The keeping of a run's adapter, whose older one, from when it was stopped, is in the library."""
    workspace = Workspace(folder / "template")
    made = recipe(write_base(workspace.bases / "tiny"), write_rows(folder / "rows.jsonl"))
    first = create_run(workspace, made, device="cpu")
    desk = Desk(torch.device("cpu"))
    loaded, _ = desk.lay_base(find_base(workspace, made.base.id), made.base)
    overlaid = begin_overlay(desk, made)
    keep_adapter(first, workspace, overlaid, loaded, 1)
    old = library.read(first.adapter).fingerprint
    with torch.no_grad():
        for parameter in trainable(overlaid).values():
            parameter.add_(0.5)

    def work(place: Path) -> None:
        keep_adapter(run_in(place), Workspace(place), overlaid, loaded, 1)

    def check(place: Path) -> None:
        run, home = run_in(place), Workspace(place)
        assert not shelf.list_problems(home), shelf.list_problems(home)
        there = shelf.list_adapters(home)
        assert there, "the library has neither the old one nor the new one"
        assert not [adapter.name for adapter in there if files.damage(adapter.path)]
        assert not run.adapter.exists() or not files.damage(run.adapter), "the run's own adapter is half there"
        everything = [*there, *(library.read(path) for path in shelf.list_trash(home))]
        assert old in {adapter.fingerprint for adapter in everything}, "the old one is lost"
        checkpoint.sweep(run, lambda _: None)
        work(place)
        (only,) = shelf.list_adapters(home)
        assert (only.name, files.damage(only.path)) == ("tiny", [])
        assert only.fingerprint == library.read(run.adapter).fingerprint != old
        assert not leftovers(place), leftovers(place)

    def run_in(place: Path) -> RunFolder:
        return RunFolder(place / first.path.relative_to(workspace.root))

    return deaths(folder, workspace.root, work, check)


def main(arguments: list[str]) -> int:
    """Do what the arguments say; prints JSON."""
    # A process that has used several threads cannot fork.
    torch.set_num_threads(1)
    # What all of them share stays shared: no collector touches it.
    gc.freeze()
    # What a killed process has written stays written, flushed or not: only waiting for the disk is left out.
    os.fsync = lambda _: None
    what, folder = arguments
    print(json.dumps({"checkpoint": checkpoints, "adapter": adapters}[what](Path(folder))))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
