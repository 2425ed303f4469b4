"""A training engine killed again and again, at moments drawn by lot, and its curve held against an unbroken one.

    python -m tests.bench.kills --times 300
    python -m tests.bench.kills --times 20 --seed 7 --json

Each kill is a SIGKILL to a real engine process at a real run of a tiny base, which saves every other step; the next engine goes
on with the run. The moment is drawn from what can be seen of the engine from outside: so many bytes more in the event file, the
n-th change to the checkpoints' folder (one that appears half-made, is renamed, goes), or the adapter under way. After each kill
every checkpoint is verified, and none that was told of may be gone. Finished runs are compared with one that was never
disturbed, losses and adapters, bit by bit. The engines are forked from this process, which has imported their libraries and
done nothing with them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from studio import files
from studio.library import shelf
from studio.places import Workspace
from studio.recipe.fields import from_dict
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import new_session
from studio.runs.folder import RunFolder
from studio.runs.processes import own_start
from studio.runs.state import Status

NUM_STEPS = 24
MOST_BYTES = 6000
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.0005


@dataclass
class Tally:
    """What came of the kills."""

    seed: int
    kills: int = 0
    finished_runs: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    broken_checkpoints: int = 0
    lost_checkpoints: int = 0
    broken_adapters: int = 0
    differing_losses: int = 0
    differing_bits: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost and nothing came out otherwise."""
        faults = (self.broken_checkpoints, self.lost_checkpoints, self.broken_adapters)
        return not any((*faults, self.differing_losses, self.differing_bits))


def begin(workspace: Workspace, name: str) -> RunFolder:
    """A run of some steps on a base of 0.1 M parameters, with dropout, so that the generators matter too."""
    made = from_dict(
        {
            "name": name,
            "base": {"id": "tiny", "compute_dtype": "float32"},
            "data": {"path": str(workspace.root / "rows.jsonl"), "validation_fraction": 0.2, "max_tokens": 128},
            "adapter": {"rank": 4, "dropout": 0.1},
            "training": {"steps": NUM_STEPS, "batch_rows": 3, "learning_rate": 1e-2, "micro_batch_tokens": 128},
            "keep": {"checkpoint_every_steps": 2, "evaluate_every_steps": 6, "sample_prompts": []},
        }
    )
    return create_run(workspace, made, device="cpu")


def fork_engine(workspace: Workspace, run: RunFolder) -> int:
    """An engine of its own session that does `run` and ends; returns its process id."""
    session = new_session(workspace, "cpu")
    wishes = w.wish_file(session / "wishes.jsonl")
    pid, process_started = own_start()
    wishes.post(w.Attend(pid=pid, process_started=process_started))
    wishes.post(w.Train(folder=str(run.path)))
    child = os.fork()
    if child:
        return child
    try:
        from studio.engine.serve import serve

        os.setsid()
        with open(session / "log.txt", "ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        serve(workspace, "cpu", session)
    finally:
        os._exit(0)


def look(run: RunFolder) -> set[tuple[str, int]]:
    """What is in the checkpoints' folder now, whatever its name."""
    with contextlib.suppress(FileNotFoundError):
        return {(path.name, path.stat().st_ino) for path in run.checkpoint(0).parent.iterdir()}
    return set()


def draw_moment(dice: random.Random, workspace: Workspace, run: RunFolder) -> tuple[str, Callable[[], bool]]:
    """A moment by lot: its kind, and whether it has come."""
    kind = dice.choice(["bytes", "bytes", "checkpoints", "checkpoints", "adapter"])
    if kind == "bytes":
        path = run.path / "events.jsonl"
        wanted = (path.stat().st_size if path.exists() else 0) + dice.randrange(1, MOST_BYTES)
        return kind, lambda: path.exists() and path.stat().st_size >= wanted
    if kind == "checkpoints":
        left, before = dice.randrange(1, 16), look(run)

        def changed() -> bool:
            nonlocal left, before
            with contextlib.suppress(FileNotFoundError):
                now = look(run)
                left, before = left - (now != before), now
            return left <= 0

        return kind, changed
    place = dice.choice([run.path, workspace.adapters])
    return kind, lambda: any(place.glob(f".{'adapter' if place == run.path else run.name}.tmp-*"))


def kill_once(workspace: Workspace, run: RunFolder, dice: random.Random) -> str | None:
    """Have an engine go on with `run` and kill it at a moment by lot; the kind of moment, None if the run had ended first."""
    kind, has_come = draw_moment(dice, workspace, run)
    return kind if go_on(workspace, run, has_come) else None


def go_on(workspace: Workspace, run: RunFolder, has_come: Callable[[], bool]) -> bool:
    """Have an engine go on with `run`, and kill it when the moment has come; False if the run had ended first."""
    news = run.events
    news.read()
    engine = fork_engine(workspace, run)
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    came = ended = False
    while not (came or ended):
        assert time.monotonic() < deadline, f"an engine that does nothing: {run.path}"
        ended = any(isinstance(event, e.ENDINGS) for event in news.read())
        came = not ended and has_come()
        pause.wait(LOOK_SECONDS)
    os.kill(engine, signal.SIGKILL)
    os.waitpid(engine, 0)
    return came


def never() -> bool:
    """The moment of a run that is left in peace."""
    return False


def examine(workspace: Workspace, run: RunFolder, tally: Tally) -> None:
    """Look at what a killed engine has left."""
    whole = [step for step, path in run.checkpoints() if not files.damage(path)]
    tally.broken_checkpoints += len(run.checkpoints()) - len(whole)
    told = [event.step for event in run.events.read() if isinstance(event, e.CheckpointSaved)]
    tally.lost_checkpoints += max(told, default=0) > max(whole, default=0)
    broken = [adapter for adapter in shelf.list_adapters(workspace) if files.damage(adapter.path)]
    tally.broken_adapters += len(broken) + len(shelf.list_problems(workspace))


def compare(run: RunFolder, whole: RunFolder, tally: Tally) -> None:
    """Hold a run that was killed against the unbroken one."""
    state = run.state()
    assert state.status is Status.FINISHED, f"{run.path}: {state.status} {state.ending}"
    tally.finished_runs += 1
    ours, theirs = ({taken.step: taken.loss for taken in one.steps} for one in (state, whole.state()))
    tally.differing_losses += sum(ours.get(step) != theirs.get(step) for step in ours.keys() | theirs.keys())
    one, other = ((each.adapter / "adapter_model.safetensors").read_bytes() for each in (run, whole))
    tally.differing_bits += (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).bit_count()


def perform(workspace: Workspace, times: int, seed: int, show: Callable[[str], object]) -> Tally:
    """Kill engines `times` times, and finish the run at which the last one was."""
    import torch

    import studio.engine.serve  # noqa: F401 - once, for all that are forked
    from tests.studio.engine.conftest import write_rows

    torch.set_num_threads(1)
    # What all share stays shared: no engine's collector touches it.
    gc.freeze()
    began, dice, tally = time.monotonic(), random.Random(seed), Tally(seed)
    write_rows(workspace.root / "rows.jsonl")
    whole = begin(workspace, "whole")
    go_on(workspace, whole, never)
    run = begin(workspace, "killed")
    while tally.kills < times:
        kind = kill_once(workspace, run, dice)
        if kind is None:
            compare(run, whole, tally)
            run = begin(workspace, "killed")
            continue
        tally.kills += 1
        tally.moments[kind] = tally.moments.get(kind, 0) + 1
        examine(workspace, run, tally)
        state = run.bury(signal="SIGKILL")
        show(f"{tally.kills:4} of {times}: {kind:11} at step {state.step:2}, {len(run.checkpoints())} checkpoints")
    if run.state().status is not Status.FINISHED:
        go_on(workspace, run, never)
    compare(run, whole, tally)
    tally.seconds = time.monotonic() - began
    return tally


def write_base(workspace: Workspace) -> None:
    """The tiny base, made by another process: whoever forks must not have computed anything."""
    code = (
        "import sys; from pathlib import Path; from tests.studio.engine.conftest import write_base; "
        "write_base(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(workspace.bases / "tiny")], check=True, stderr=subprocess.DEVNULL)


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code is 1 if anything was lost or came out otherwise."""
    parser = argparse.ArgumentParser(description="Kill a training engine at random moments, and compare.")
    parser.add_argument("--times", type=int, default=300, help="how many kills (default: 300)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the lot")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        write_base(workspace)
        tally = perform(workspace, options.times, options.seed, lambda line: print(line, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps(asdict(tally)))
    else:
        print(
            f"{tally.kills} kills in {tally.seconds:.0f} s ({tally.moments}), {tally.finished_runs} runs finished: "
            f"{tally.broken_checkpoints} broken checkpoints, {tally.lost_checkpoints} lost, {tally.broken_adapters} broken "
            f"adapters, {tally.differing_losses} differing losses, {tally.differing_bits} differing bits. Seed {tally.seed}."
        )
    return 0 if tally.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
