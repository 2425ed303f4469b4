"""An engine without a model: it speaks the protocol through the real mailboxes and takes steps out of thin air.

Started in the place of `studio.engine` by the `fake_engine` fixture. What it does follows from the run's name: `short` takes
five steps, `halves` too, but runs out of memory once after two; `floods` takes fifty thousand at once, `dawdles` heeds a wish
only at every twentieth step, and `rubbish` writes some into its event file and its log. After three steps `dies` kills itself,
`aborts` does so with a word in its log, `silent` neither takes another step nor hears anything, and the names of `LAST_WORDS`
end as an engine would that knows why. Anything else goes on until it is told to end.

A fit test has an answer at once, unless its recipe is called `dies`, `broken`, or `long`: that one goes on until it is told to
end.
"""

import os
import resource
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from studio import files
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.engine import CURRENT
from studio.runs.folder import RunFolder
from studio.runs.processes import is_alive, own_start

PAUSE = threading.Event()
ENDLESS, FLOOD = 100_000, 50_000
LAST_WORDS: dict[str, e.Event] = {
    "bad-data": e.Failed(kind="data", message="rows.jsonl has no row that can be used.", hint="Look at line 3.", step=3),
    "out-of-memory": e.Failed(
        kind="outofmemory", message="The card is full: 1.4 GB more were needed.", hint="Shorten the rows.", step=4
    ),
    "nan": e.Failed(
        kind="diverged",
        message="The loss became infinite or not a number at step 4 (rows 7, 12).",
        hint="Nothing was spoilt: the last checkpoint is good. Try a learning rate of 6.7e-05.",
        step=4,
    ),
    "full-disk": e.Paused(
        step=0, cause="The disk is full.", hint="Free 120 MB in checkpoints.", folder="checkpoints", needs_bytes=120 << 20
    ),
    "lost-card": e.Failed(
        kind="engine",
        message="The graphics card fell off the bus: the driver has lost it.",
        hint="Restart the computer, then Resume.",
        step=4,
    ),
}  # fmt: skip


class FakeEngine:
    """Reads wishes and does them."""

    def __init__(self, device: str, session: Path) -> None:
        self.device, self.session = device, session
        self.inbox = w.wish_file(session / "wishes.jsonl")
        self.news = e.event_file(session / "events.jsonl")
        self.attendants: list[w.Attend] = []
        self.unheard: deque[w.Wish] = deque()
        self.released = False

    def serve(self) -> None:
        pid, started = own_start()
        current = {"session": self.session.name, "pid": pid, "process_started": started}
        files.write_json(self.session.parent / CURRENT, current)
        self.news.post(e.EngineReady(pid=pid, process_started=started, device=self.device))
        while not self.released:
            self.unheard += self.inbox.read()
            while self.unheard:
                wish = self.unheard.popleft()
                match wish:
                    case w.Release():
                        self.released = True
                    case w.Attend():
                        self.attendants.append(wish)
                    case w.Train(folder=folder):
                        self.train(RunFolder(Path(folder)))
                    case w.Say():
                        self.answer(wish)
                    case w.TestFit():
                        self.test_fit(wish)
            if not any(is_alive(one.pid, one.process_started) for one in self.attendants):
                return
            PAUSE.wait(0.01)

    def answer(self, wish: w.Say) -> None:
        for lane, folder in enumerate(wish.lanes):
            self.news.post(e.TextStreamed(ask=wish.ask, lane=lane, text=str(folder)))
            self.news.post(e.Answered(ask=wish.ask, lane=lane, text=str(folder), adapter="", num_tokens=1, seconds=0.1))

    def test_fit(self, wish: w.TestFit) -> None:
        name = wish.recipe["name"]
        for phase in ("checking", "loading", "tokenising", "training"):
            self.news.post(e.FitTestProgressed(test=wish.test, phase=phase))
        if name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "broken":
            self.news.post(e.FitTestFailed(test=wish.test, kind="data", message="No row is whole.", hint="Mend one."))
            return
        step = 0
        while name == "long" or step < 3:
            step += 1
            self.news.post(e.FitTestProgressed(test=wish.test, phase="training", step=min(step, 3)))
            heard = self.heard()
            self.released = any(isinstance(other, w.Release) for other in heard)
            if self.released or any(isinstance(other, w.Hush) and other.ask == wish.test for other in heard):
                self.news.post(e.FitTestStopped(test=wish.test))
                return
            PAUSE.wait(0.01)
        self.news.post(
            e.FitTested(
                test=wish.test,
                fits=True,
                device=self.device,
                base="sha256:1",
                micro_batch_tokens=256,
                process_bytes=3 << 30,
                estimated_total_bytes=1 << 30,
                estimated_process_bytes=2 << 30,
                num_steps=40,
                step_seconds=[0.2, 0.1, 0.1],
                seconds_per_step=0.05,
                seconds_expected=2.0,
            )
        )

    def train(self, run: RunFolder) -> None:
        events, first = run.events, run.state().step
        pid, started = own_start()
        num_steps = 5 if run.name in ("short", "halves", "rubbish") else FLOOD if run.name == "floods" else ENDLESS
        is_short_of_memory = run.name == "halves" and not run.state().halvings
        events.post(e.Started(pid=pid, process_started=started, device=self.device, from_step=first))
        sizes = dict.fromkeys(("num_held_out", "num_cut", "num_dropped"), 0)
        tokens = {"tokens_per_epoch": 90, "supervised_tokens_per_epoch": 50}
        parameters = {"num_trainable": 1000, "num_parameters": 100_000}
        events.post(e.Prepared(num_steps=num_steps, num_rows=10, **sizes, **tokens, **parameters))
        if run.name == "floods":
            flood(run, num_steps)
        for step in range(first + 1, num_steps + 1 if run.name != "floods" else 0):
            events.post(taken(step))
            if is_short_of_memory and step == 2:
                events.post(e.MicroBatchHalved(step=3, cause="The card is full", unit="tokens", was=256, now=128))
                self.released = True
                return
            if step == 3 and run.name in MISHAPS:
                MISHAPS[run.name](run)
            if step == 3 and run.name in LAST_WORDS:
                events.post(LAST_WORDS[run.name])
                return
            ending = self.ending(step) if run.name != "dawdles" or step % 20 == 0 else None
            if ending is not None:
                events.post(ending)
                return
            PAUSE.wait(0.01)
        events.post(e.Finished(run=run.id, adapter=""))

    def heard(self) -> list[w.Wish]:
        """What was wished since somebody listened last, also in the same breath as what is being done."""
        found = [*self.unheard, *self.inbox.read()]
        self.unheard.clear()
        return found

    def ending(self, step: int) -> e.Event | None:
        for wish in self.heard():
            match wish:
                case w.Stop(save=save):
                    return e.Stopped(step=step, saved=save)
                case w.Pause() | w.Release():
                    self.released = isinstance(wish, w.Release)
                    return e.Paused(step=step)
        return None


def taken(step: int) -> e.StepTaken:
    return e.StepTaken(
        step=step,
        epoch=step / 10,
        loss=3.0 / step,
        learning_rate=1e-3,
        grad_norm=1.0,
        num_tokens=9,
        num_supervised=5,
        seconds=0.01,
    )


def flood(run: RunFolder, num_steps: int) -> None:
    """All steps at once: what a fast engine writes while nobody reads."""
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b"".join(f"{e.EVENTS.to_line(taken(step))}\n".encode() for step in range(1, num_steps + 1)))


def abort(run: RunFolder) -> None:
    run.log.write_text("terminate called after throwing an instance of 'std::bad_alloc'\n", "utf-8")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def print_rubbish(run: RunFolder) -> None:
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(
            b'\x00\xff{"event":\n[1, 2]\nnull\n{"event": "Unheard", "x": 1}\n{"event": "StepTaken", "step": "many"}\n'
        )
    run.log.write_bytes(b"\x1b[31mred\x1b[0m \x00\xff <b>bold</b>\r100 %\n" + b"x" * 100_000 + b"\n")


MISHAPS: dict[str, Callable[[RunFolder], object]] = {
    "dies": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "aborts": abort,
    "silent": lambda _: threading.Event().wait(),
    "rubbish": print_rubbish,
}


def work(folder: Path) -> None:
    """An import copies a folder; one of a base called `slow` waits to be ended."""
    job = files.read_json(folder / "job.json")
    events = e.event_file(folder / "events.jsonl")
    source = Path(job["arguments"]["source"])
    events.post(e.Progressed(what="reading", done=1, total=4))
    if source.name == "slow":
        PAUSE.wait()
    target = Workspace.default().bases / source.name
    shutil.copytree(source, target)
    events.post(e.Finished(result={"id": source.name, "path": str(target)}))


if __name__ == "__main__":
    # As the entry of a module of ours it is not told whose place it takes.
    kind, *arguments = [argument for argument in sys.argv[1:] if argument != "studio.engine"]
    if kind == "serve":
        FakeEngine(arguments[0], Path(arguments[1])).serve()
    else:
        work(Path(arguments[0]))
