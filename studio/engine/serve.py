"""The engine's life: read wishes, do them one after another, end when nobody is left who might wish for more."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import Timeout
from peft import PeftModel

from studio import files
from studio.engine import checkpoint
from studio.engine.boundary import guarded
from studio.engine.desk import Desk, base_alone
from studio.engine.fit_test import FitTest
from studio.engine.interrupt import Interrupted
from studio.engine.lease import lease
from studio.engine.load import pick_device
from studio.engine.reply import Reply, Sampling, last_is_question, reply
from studio.engine.run import perform
from studio.engine.train import Orders
from studio.errors import BusyError, DataError, DiskFullError
from studio.library.templates import lane_templates
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.recipe import Base as BaseSpec
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.awake import kept_awake
from studio.runs.endings import memory_kills
from studio.runs.engine import EXIT_BUSY, hand_on
from studio.runs.folder import RunFolder
from studio.runs.processes import is_alive, own_start
from studio.runs.rescue import rescue

IDLE_SECONDS = 0.02
ATTENDANCE_SECONDS = 1.0


def serve(workspace: Workspace, device: str, session: Path) -> int:
    """Hold the lease of `device` and work until released; returns the exit code."""
    try:
        with lease(workspace, device, session):
            server = Server(workspace, device, session)
            server.work()
    except (Timeout, BusyError):
        return EXIT_BUSY
    # The memory comes back when this process ends, which takes less time than the next one needs to come up.
    if server.rescued is not None and not server.is_attended():
        hand_on(workspace, device, server.rescued.path)
    return 0


class Server:
    """One engine at work."""

    def __init__(self, workspace: Workspace, device: str, session: Path, to_shard: bool = False) -> None:
        self.workspace = workspace
        self.device = device
        self.inbox = w.wish_file(session / "wishes.jsonl")
        self.news = e.event_file(session / "events.jsonl")
        self.desk = Desk(pick_device(device), to_shard)
        self.backlog: deque[w.Wish] = deque()
        self.released = False
        self.rescued: RunFolder | None = None
        self._attendants: set[tuple[int, float]] = set()
        self._hushed: set[str] = set()
        self._looked = 0.0
        # What holds for as long as a run is in progress.
        self._vigil: contextlib.ExitStack | None = None
        self._is_awake = self._is_to_stay_awake = False
        self._pause = threading.Event()
        # The system asks politely before it kills: a run in progress is paused, nothing of it is lost.
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "released", True))

    def work(self) -> None:
        """Do what is wished, in order."""
        usable = True
        while usable and not self.released:
            self.collect()
            if not self.backlog:
                if not self.is_attended():
                    return
                self._pause.wait(IDLE_SECONDS)
                continue
            match self.backlog.popleft():
                case w.Train(folder=folder):
                    usable = self.train(RunFolder(Path(folder)))
                case w.Say() as say:
                    usable = self.say(say)
                case w.TestFit() as test:
                    usable = self.test_fit(test)
                case _:
                    pass  # it was for a run that has ended meanwhile

    def collect(self) -> None:
        """Read new wishes: those for the engine itself are done at once, the others join the backlog."""
        for wish in self.inbox.read():
            match wish:
                case w.Release():
                    self.released = True
                case w.Attend(pid=pid, process_started=process_started):
                    self._attendants.add((pid, process_started))
                case w.Hush(ask=ask):
                    self._hushed.add(ask)
                case w.StayAwake():
                    self._is_to_stay_awake = self._vigil is not None
                case _:
                    self.backlog.append(wish)

    def stay_awake(self) -> None:
        """Keep the computer awake until the run's end, if that was wished. On the thread that ends the run, as wakepy demands:
        while a base is loaded, another one collects the wishes."""
        if self._vigil is not None and self._is_to_stay_awake and not self._is_awake:
            self._is_awake = True
            self._vigil.enter_context(kept_awake())

    def is_attended(self) -> bool:
        """Whether anybody lives who might ask for more. Looked up once a second: it costs a system call each."""
        now = time.monotonic()
        if now - self._looked > ATTENDANCE_SECONDS:
            self._looked = now
            self._attendants = {one for one in self._attendants if is_alive(*one)}
        return bool(self._attendants)

    # --- training --------------------------------------------------------------------------------------------------

    def train(self, run: RunFolder) -> bool:
        """Do a run; returns whether this process may be used further."""
        self.begin(run)
        usable = self.carry_out(run, RunOrders(run, self), lambda failed: self._end(run, failed))
        return usable and self.rescued is None

    def _end(self, run: RunFolder, failed: e.Failed) -> None:
        """Give the run its last word; or only this process, if the next one can go on with less at a time."""
        self.collect()
        is_over = self.released or any(isinstance(wish, w.Stop | w.Pause) for wish in self.backlog)
        ending = failed if is_over else rescue(run, failed)
        run.end(ending)
        if isinstance(ending, e.MicroBatchHalved):
            self.rescued = run

    def begin(self, run: RunFolder, num_processes: int = 1) -> None:
        """Record that this process has taken the run up."""
        checkpoint.sweep(run, run.events.post)
        pid, process_started = own_start()
        saved = checkpoint.newest(run, run.events.post)
        from_step = saved[0] if saved else 0
        run.events.post(
            e.Started(
                pid=pid,
                process_started=process_started,
                device=self.device,
                from_step=from_step,
                num_processes=num_processes,
                memory_kills=memory_kills(),
            )
        )

    def carry_out(self, run: RunFolder, orders: Orders, end: Callable[[e.Failed], object] | None = None) -> bool:
        """Do a run that was begun; returns whether this process may be used further. A failure is told to `end`, if there is
        one, else to the run."""
        with log_into(run.log), contextlib.ExitStack() as self._vigil:
            self._is_awake = self._is_to_stay_awake = False
            usable = guarded(lambda: self._perform(run, orders), end or run.end)
        self._vigil = None
        self.news.post(e.RunEnded(run=run.id))
        return usable

    def _perform(self, run: RunFolder, orders: Orders) -> None:
        """Do the run. A full disk pauses it: with room, it can go on. Who wants it to end need not wait until it is loaded."""
        try:
            with files.room_for_last_words(run.path):
                perform(run, self.workspace, self.desk, orders, run.events.post)
        except DiskFullError as error:
            run.end(paused(run, error))
        except Interrupted:
            # What was loaded by half is let go of; the checkpoints are as they were.
            self.desk.clear()
            saved = checkpoint.newest(run)
            step = saved[0] if saved else 0
            run.end(e.Paused(step=step) if orders.ending == "pause" else e.Stopped(step=step, saved=False))

    def test_fit(self, wish: w.TestFit) -> bool:
        """Try whether a run fits; returns whether this process may be used further."""
        test = FitTest(wish, self.workspace, self.desk, lambda: not self._is_hushed(wish.test), self.news.post)
        return guarded(test.perform, lambda failed: self._test_failed(wish, failed))

    def refuse_test(self, wish: w.TestFit) -> None:
        """Say that there is no room for a test beside a run."""
        busy = BusyError("A run is in progress: a fit test would need its memory.", "Wait for its end, or pause it.")
        self._test_failed(wish, e.Failed(kind=busy.kind, message=busy.message, hint=busy.hint))

    def _test_failed(self, wish: w.TestFit, failed: e.Failed) -> None:
        self.news.post(e.FitTestFailed(test=wish.test, kind=failed.kind, message=failed.message, hint=failed.hint))

    # --- chat ------------------------------------------------------------------------------------------------------

    def say(self, wish: w.Say) -> bool:
        """Answer in each lane in turn; returns whether this process may be used further."""
        return guarded(lambda: self._answer(wish), lambda failed: self._ask_failed(wish, failed))

    def _answer(self, wish: w.Say) -> None:
        if "" in wish.lanes:
            raise DataError("The run whose overlay was asked has ended.", "Ask its adapter, if it was saved.")
        if not self.desk.holds(Path(wish.base), wish.quantisation, wish.compute_dtype):
            base = find_base(self.workspace, wish.base)
            dtype = wish.compute_dtype or "bfloat16"
            spec = BaseSpec(id=base.id, quantisation=wish.quantisation, compute_dtype=dtype)  # type: ignore[arg-type]
            loaded, _ = self.desk.lay_base(base, spec)
            self.news.post(e.BaseLoaded(base=Path(wish.base).name, bytes=loaded.num_bytes, seconds=loaded.seconds))
        templates = lane_templates(wish.lanes)
        for lane, (folder, turns) in enumerate(zip(wish.lanes, wish.turns, strict=True)):
            if wish.ask in self._hushed:
                return
            self.desk.speak(templates[lane])
            with self.desk.lane(Path(folder) if folder else None) as (model, fingerprint, swap_seconds):
                self._stream(wish, lane, model, turns, fingerprint, swap_seconds)

    def answer_within(self, wish: w.Say, overlaid: PeftModel, is_over: Callable[[], bool] = lambda: False) -> None:
        """Answer between two steps, with the base in training: its own lane is "", the base alone None. Who wants the run to
        end need not hear the answer out."""
        if self.desk.to_shard:
            raise BusyError(
                "A run is in progress whose base is cut up among cards: it cannot answer.",
                "Wait for its end, or pause it.",
            )
        if not self.desk.holds(Path(wish.base), wish.quantisation, wish.compute_dtype) or any(
            lane for lane in wish.lanes
        ):
            raise BusyError(
                "A run is in progress: only its own base and overlay can answer now.", "Wait for its end, or pause it."
            )
        for lane, (folder, turns) in enumerate(zip(wish.lanes, wish.turns, strict=True)):
            with base_alone(overlaid) if folder is None else contextlib.nullcontext(overlaid) as model:
                self._stream(wish, lane, model, turns, "", 0.0, is_over)

    def _stream(
        self,
        wish: w.Say,
        lane: int,
        model: object,
        turns: list[dict[str, str]],
        fingerprint: str,
        swap_seconds: float,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        assert self.desk.base is not None
        if not last_is_question(turns):
            raise DataError("There is nothing to answer.", "Write a message first.")
        answer: Reply = reply(
            model,  # type: ignore[arg-type]
            self.desk.base.tokenizer,
            turns,
            Sampling.from_dict(wish.sampling),
            on_text=lambda text: self.news.post(e.TextStreamed(ask=wish.ask, lane=lane, text=text)),
            should_stop=lambda: self._is_hushed(wish.ask) or is_over(),
        )
        self.news.post(
            e.Answered(
                ask=wish.ask,
                lane=lane,
                text=answer.text,
                adapter=fingerprint,
                num_tokens=answer.num_tokens,
                seconds=answer.seconds,
                swap_seconds=swap_seconds,
                stopped=answer.stopped,
            )
        )

    def _is_hushed(self, ask: str) -> bool:
        self.collect()
        return ask in self._hushed or self.released

    def _ask_failed(self, wish: w.Say, failed: e.Failed) -> None:
        self.news.post(e.AskFailed(ask=wish.ask, message=failed.message, hint=failed.hint))


def paused(run: RunFolder, error: DiskFullError) -> e.Paused:
    """The last word for now of a run that met a full disk: what it needs and where, and from which step it goes on."""
    saved = checkpoint.newest(run)
    return e.Paused(
        step=saved[0] if saved else 0,
        cause=error.message,
        hint=error.hint,
        folder=error.folder,
        needs_bytes=error.needs_bytes,
    )


class RunOrders(Orders):
    """The wishes for one run, read at each step boundary; those that end it, at any time."""

    def __init__(self, run: RunFolder, server: Server) -> None:
        self._run = run
        self._server = server

    def update(self, model: PeftModel) -> None:
        """Take in what was wished since the last step, and answer questions."""
        self.save_now = self.evaluate_now = self.sample_now = False
        server = self._server
        self.is_in_a_hurry()
        server.stay_awake()
        waiting, server.backlog = server.backlog, deque()
        for wish in waiting:
            self._take(wish, model)

    def is_in_a_hurry(self) -> bool:
        """Look for a wish to end the run; all others are left for the next step boundary."""
        server = self._server
        server.collect()
        for wish in list(server.backlog):
            if isinstance(wish, w.Stop | w.Pause) and wish.run == self._run.id:
                server.backlog.remove(wish)
                self._end(wish)
        if server.released:
            self.ending = "pause"
        return self.is_ending

    def _take(self, wish: w.Wish, model: PeftModel) -> None:
        server, mine = self._server, getattr(wish, "run", self._run.id) == self._run.id
        match wish:
            case w.Say():
                guarded(
                    lambda: server.answer_within(wish, model, self.is_in_a_hurry),
                    lambda failed: server._ask_failed(wish, failed),
                )
            case w.Train(folder=folder):
                # Two that followed a run may both have it go on: it is done once.
                if Path(folder) != self._run.path:
                    server.backlog.append(wish)
            case w.TestFit():
                server.refuse_test(wish)
            case w.SaveNow() if mine:
                self.save_now = True
            case w.EvaluateNow() if mine:
                self.evaluate_now = True
            case w.SampleNow() if mine:
                self.sample_now = True
            case w.AskToo(prompt=prompt) if mine and prompt.strip():
                self._run.events.post(e.PromptAdded(prompt=prompt.strip()))

    def _end(self, wish: w.Stop | w.Pause) -> None:
        match wish:
            case w.Pause():
                self.ending = "pause"
            case w.Stop(save=save):
                self.ending = "stop" if save else "discard"


@contextlib.contextmanager
def log_into(path: Path) -> Iterator[None]:
    """Send what this process and its C libraries print to `path` for the time being."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    with open(path, "ab") as log:
        for stream, _ in kept:
            os.dup2(log.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)
