"""One of several processes that `accelerate launch` has started for a run.

    accelerate launch --multi_gpu --num_processes 2 -m studio.engine run FOLDER

(`overlay train RECIPE --processes 2` makes the folder, types that and follows it. For a run on the CPU `--multi_gpu` is right
too: it means no more than "several", and the run's own device counts. With `--use_fsdp` in its place the base is cut up among
the ranks: `engine/sharded.py`.) The first rank is an engine like any other, with a lease, a session and an ear for wishes; it
alone writes. The others load, learn and keep nothing.

How it ends. Wishes are read by the first rank and obeyed by all at the same step, when it is done: none is broken off here, as
one of a run in a single process is. Ctrl-C in the launcher's terminal reaches all ranks: the first one takes it for a wish to
stop and save, SIGTERM for one to pause, the others take no notice; the launcher grants them 30 seconds. A rank that fails leaves
its word in `last-words.jsonl` *before* it ends; the first rank, which then finds it gone, makes that the run's last word. If the
first rank itself was killed, whoever looks at the run next says so, as for any engine. Whoever finds another rank gone waits a
moment to leave in good order, and then leaves in bad: a rank that stands in a collective of NCCL hears neither Python's signals
nor that its peer is dead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import Timeout
from peft import PeftModel
from torch import distributed

from studio import files
from studio.engine.boundary import guarded
from studio.engine.comparison import Comparison
from studio.engine.desk import Desk
from studio.engine.lease import device_held, lease
from studio.engine.load import pick_device
from studio.engine.ranks import Ranks, check_launch, join
from studio.engine.run import begin_overlay, prepare, sampler
from studio.engine.serve import RunOrders, Server, log_into
from studio.engine.sharded import check_sharding, take_over
from studio.engine.train import Orders, train
from studio.errors import BusyError, EngineError, StudioError
from studio.models.bases import find_base
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import read_job
from studio.runs.engine import new_session
from studio.runs.folder import RunFolder
from studio.runs.processes import is_alive, own_start
from studio.runs.rescue import job_in_force, rescue
from studio.runs.state import RunState, Status

PULSE_SECONDS = 1.0
GRACE_SECONDS = 5.0
EXIT_FAILED = 2
_LAST_WORDS = "last-words.jsonl"
_ENDINGS = ("", "stop", "discard", "pause")
_log = logging.getLogger(__name__)


def take_part(workspace: Workspace, folder: Path, device: str = "", session: Path | None = None) -> int:
    """Do this process's part of the run in `folder`; returns the exit code. Any but 0 has the launcher end the other ranks.

    Without a `device` it is the one that the run was made for, without a `session` one is made.
    """
    run = RunFolder(folder.resolve())
    try:
        job = read_job(run)
        device = device or job.device
        count = check_launch(os.environ, device, torch.cuda.device_count())
        to_shard = take_over(os.environ) and count > 1
        if to_shard:
            check_sharding(job.recipe, os.environ)
        ranks = join(device, count)
        if not ranks.is_first:
            return _follow(workspace, run, ranks, device, to_shard)
        return _lead(workspace, run, ranks, device, session, to_shard)
    except StudioError as error:
        _log.error("%s %s", error.message, error.hint)
        return EXIT_FAILED


def _lead(workspace: Workspace, run: RunFolder, ranks: Ranks, device: str, session: Path | None, to_shard: bool) -> int:
    """The first rank's part: that of an engine, for one run."""
    may_go_on = session is not None  # whoever has made one follows the run, and launches it again
    session = session or new_session(workspace, device)
    try:
        with lease(workspace, device, session):
            server = Server(workspace, device, session, to_shard)
            signal.signal(signal.SIGINT, lambda *_: server.backlog.append(w.Stop(run=run.id)))
            files.remove(run.path / _LAST_WORDS)
            server.begin(run, ranks.count)
            ranks.told(0)
            _log.info("%s has begun: `overlay runs show %s` tells how it goes, its log is %s", run.id, run.id, run.log)
            with watched(ranks, lambda index: _end(run, _lost(index, ranks.count), may_go_on)):
                orders = SharedOrders(ranks, RunOrders(run, server))
                server.carry_out(run, orders, lambda failed: _end(run, failed, may_go_on))
                return EXIT_FAILED if _ended_alone(run.state()) else _leave(ranks)
    except Timeout as error:
        raise _busy(device) from error


def _follow(workspace: Workspace, run: RunFolder, ranks: Ranks, device: str, to_shard: bool) -> int:
    """Any other rank's part: load, learn, keep nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    ranks.told(0)
    failures: list[e.Failed] = []
    with log_into(run.log), watched(ranks, lambda _: None):
        guarded(lambda: _learn(workspace, run, ranks, device, to_shard), failures.append)
        if not failures:
            return _leave(ranks)
    e.event_file(run.path / _LAST_WORDS).post(failures[0])
    return EXIT_FAILED


def _learn(workspace: Workspace, run: RunFolder, ranks: Ranks, device: str, to_shard: bool) -> None:
    with _own_card(workspace, ranks, device) as card:
        job, desk = job_in_force(run), Desk(pick_device(card), to_shard)
        base = find_base(workspace, str(job.base))
        as_run = Comparison.of(workspace, base, job.recipe, desk).as_run
        desk.lay_base(base, job.recipe.base)
        loaded = desk.speak_by(job.recipe.data.chat_template)
        material, _ = prepare(job, workspace, loaded, _nothing)
        overlaid = begin_overlay(desk, as_run)
        # A sharded base answers only if all its ranks do.
        orders = SharedOrders(ranks, Orders())
        sample = sampler(run, loaded, job.recipe, orders, _nothing) if to_shard else _nothing
        train(run, job.recipe, overlaid, material, sample, orders, _nothing)


@contextlib.contextmanager
def _own_card(workspace: Workspace, ranks: Ranks, device: str) -> Iterator[str]:
    """The device of this rank; a card is leased, so that no engine is started on it. Raises `BusyError`."""
    if device == "cpu":
        yield device
        return
    card = f"cuda-{ranks.index}"
    try:
        with device_held(workspace, card):
            yield card
    except Timeout as error:
        raise _busy(card) from error


def _busy(device: str) -> BusyError:
    return BusyError(
        f"Another engine of Overlay Studio holds {device}.",
        "Wait for the end of its run, or close the window it belongs to.",
    )


def _nothing(*_: object) -> None:
    """What a rank has to say or to show that is not the first."""


def _end(run: RunFolder, failed: e.Failed, may_go_on: bool) -> None:
    """Give the run its last word: where the failure is that another rank is gone, the one which that rank has left.

    For lack of memory on any rank all of them end, and the next ones go on with less at a time, if somebody launches them.
    """
    words = [word for word in e.event_file(run.path / _LAST_WORDS).read() if isinstance(word, e.Failed)]
    word = words[0] if words and failed.kind == EngineError("").kind else failed
    run.end(rescue(run, word) if may_go_on else word)


def _ended_alone(state: RunState) -> bool:
    """Whether the first rank alone knows that the run has ended: the others then wait for it in a collective."""
    return state.status in (Status.FAILED, Status.INTERRUPTED) or bool(state.ending and state.ending.cause)


def _leave(ranks: Ranks) -> int:
    """Wait for the others, and leave with them: the exit code."""
    if ranks.count > 1:
        ranks.told(0)
        distributed.destroy_process_group()
    return 0


class SharedOrders(Orders):
    """The orders of the first rank, obeyed by every rank at the same step. `own` is heard on the first rank alone."""

    def __init__(self, ranks: Ranks, own: Orders) -> None:
        self._ranks, self._own = ranks, own

    @property
    def own(self) -> Orders:
        """Those that no other rank is asked about."""
        return self._own

    def update(self, model: PeftModel) -> None:
        """Have the first rank ask its owner; take over what it was told."""
        own = self._own
        if self._ranks.is_first:
            own.update(model)
        ending, save, evaluate, sample = self._ranks.told(
            _ENDINGS.index(own.ending), own.save_now, own.evaluate_now, own.sample_now
        )
        self.ending = _ENDINGS[ending]
        self.save_now, self.evaluate_now, self.sample_now = bool(save), bool(evaluate), bool(sample)

    def is_in_a_hurry(self) -> bool:
        """As the first rank finds it. Every rank asks, and as often."""
        if self._ranks.is_first:
            self._own.is_in_a_hurry()
        (ending,) = self._ranks.told(_ENDINGS.index(self._own.ending))
        self.ending = _ENDINGS[ending]
        return self.is_ending

    def is_to_break_off(self) -> bool:
        """Never: within a step each rank is somewhere else, and one that left would have the others wait in a collective."""
        return False


@contextlib.contextmanager
def watched(ranks: Ranks, lost: Callable[[int], object], leave: Callable[[int], object] = os._exit) -> Iterator[None]:
    """For as long as the block lasts, notice when another rank is gone: `lost` is called with its index, and `leave` with the
    exit code unless the block has ended by itself soon after."""
    peers = [(int(pid), started) for pid, started in ranks.gathered(*own_start())] if ranks.count > 1 else []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PULSE_SECONDS):
            gone = [index for index, peer in enumerate(peers) if not is_alive(*peer)]
            if gone:
                lost(gone[0])
                if not over.wait(GRACE_SECONDS):
                    leave(EXIT_FAILED)
                return

    watching = threading.Thread(target=watch, name="watch", daemon=True)
    if peers:
        watching.start()
    try:
        yield
    finally:
        over.set()
        if peers:
            watching.join()


def _lost(index: int, count: int) -> e.Failed:
    return e.Failed(
        kind="engine",
        message=f"Process {index + 1} of the {count} of this run is gone without a last word: it was killed, by you or by the "
        "system because memory ran out.",
        hint="Resume goes on from the last checkpoint. If memory is short, halve the micro-batch.",
    )
