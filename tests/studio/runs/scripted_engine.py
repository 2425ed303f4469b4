"""An engine without a model for the tests of the queue: real lease, real mailboxes, and an ending that a run's name asks for.

`short` takes five steps; `long` goes on until it is told to end; `climbs` too, but its loss climbs from step 41 on; `nan` fails
as diverged; `bad` for its rows; `fills` pauses for want of room while there is a file called `full` in the workspace; `lost`
loses the card; `dies` kills its process; `halves` runs out of memory once. Anything may follow the word: `short-2`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from filelock import FileLock, Timeout

from studio import files
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.endings import CARD_TRACES
from studio.runs.engine import CURRENT, EXIT_BUSY
from studio.runs.folder import RunFolder
from studio.runs.processes import is_alive, own_start

PAUSE = threading.Event()
ENDLESS = 100_000


class ScriptedEngine:
    def __init__(self, device: str, session: Path) -> None:
        self.device, self.session = device, session
        self.inbox = w.wish_file(session / "wishes.jsonl")
        self.backlog: list[w.Wish] = []
        self.attendants: list[w.Attend] = []
        self.is_released = False

    def serve(self) -> None:
        pid, started = own_start()
        current = {"session": self.session.name, "pid": pid, "process_started": started}
        files.write_json(self.session.parent / CURRENT, current)
        e.event_file(self.session / "events.jsonl").post(
            e.EngineReady(pid=pid, process_started=started, device=self.device)
        )
        while not self.is_released:
            self.collect()
            if self.backlog:
                wish = self.backlog.pop(0)
                if isinstance(wish, w.Train):
                    self.train(RunFolder(Path(wish.folder)))
            elif not any(is_alive(one.pid, one.process_started) for one in self.attendants):
                return
            PAUSE.wait(0.01)

    def collect(self) -> None:
        for wish in self.inbox.read():
            if isinstance(wish, w.Attend):
                self.attendants.append(wish)
            elif isinstance(wish, w.Release):
                self.is_released = True
            else:
                self.backlog.append(wish)

    def train(self, run: RunFolder) -> None:
        word, before = run.name.split("-")[0], run.state()
        pid, started = own_start()
        run.events.post(e.Started(pid=pid, process_started=started, device=self.device, from_step=before.step))
        num_steps = ENDLESS if word in ("long", "climbs") else 5
        sizes = dict.fromkeys(("num_held_out", "num_cut", "num_dropped"), 0)
        counts = {
            "tokens_per_epoch": 90,
            "supervised_tokens_per_epoch": 50,
            "num_trainable": 10,
            "num_parameters": 1000,
        }
        run.events.post(e.Prepared(num_steps=num_steps, num_rows=10, **sizes, **counts))
        for step in range(before.step + 1, num_steps + 1):
            loss = 3.0 / step if word != "climbs" or step <= 40 else 8.0
            run.events.post(taken(step, loss))
            ending = self.wished(step) or (self.scripted(run, before) if step == 3 else None)
            if ending is not None:
                run.events.post(ending)
                return
            PAUSE.wait(0.005)
        run.events.post(e.Evaluated(step=num_steps, loss=0.5, num_supervised=9))
        run.events.post(e.MemoryMeasured(step=num_steps, process_bytes=6_000_000_000))
        run.events.post(e.Finished(run=run.id, adapter=f"{run.name}-adapter"))

    def wished(self, step: int) -> e.Event | None:
        self.collect()
        for wish in [one for one in self.backlog if not isinstance(one, w.Train)]:
            self.backlog.remove(wish)
            if isinstance(wish, w.Stop):
                return e.Stopped(step=step, saved=wish.save, adapter="kept")
            if isinstance(wish, w.Pause):
                return e.Paused(step=step)
        return e.Paused(step=step) if self.is_released else None

    def scripted(self, run: RunFolder, before: object) -> e.Event | None:
        first = getattr(before, "began", None) is None
        match run.name.split("-"):
            case ["nan", *_]:
                return e.Failed(kind="diverged", message="The loss became NaN at step 3.", hint="A third of the rate.")
            case ["fills", *_] if (Workspace.default().root / "full").exists():
                return e.Paused(step=0, cause="The disk is full.", hint="Free 1 GB.", folder="x", needs_bytes=1)
            case ["lost", *_] if first:
                return e.Failed(kind="engine", message=CARD_TRACES[0].cause, hint=CARD_TRACES[0].hint)
            case ["bad", *_]:
                return e.Failed(kind="data", message="No row is whole.", hint="Mend one.")
            case ["dies", *_]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["halves", *_] if first:
                self.is_released = True
                return e.MicroBatchHalved(step=4, cause="The card is full", unit="tokens", was=256, now=128)
        return None


def taken(step: int, loss: float) -> e.StepTaken:
    numbers = {"learning_rate": 1e-3, "grad_norm": 1.0, "num_tokens": 9, "num_supervised": 5, "seconds": 0.01}
    return e.StepTaken(step=step, epoch=step / 10, loss=loss, **numbers)


if __name__ == "__main__":
    _, _, device, session = sys.argv
    try:
        with FileLock(Workspace.default().engine(device) / "lock", timeout=0):
            ScriptedEngine(device, Path(session)).serve()
    except Timeout:
        sys.exit(EXIT_BUSY)
