"""The engine seen from outside: find the one that holds a device, or start it; post wishes; follow its events.

One engine per device, kept so by an operating-system lock that ends with its holder. Each engine has a session folder
with its wishes, events and log. Nothing here waits for a reader: an engine whose window hangs or dies works on, and the next
window finds it through `current.json`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from studio import files
from studio.errors import BusyError, DamagedError, EngineError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.allocator import allocator_settings
from studio.runs.lines import Mailbox
from studio.runs.processes import is_alive, own_start, signal_name

CURRENT = "current.json"
EXIT_BUSY = 75  # EX_TEMPFAIL: another engine holds the device
_START_SECONDS = 60.0


# Python complains when the last reference to a living child goes.
_left_running: list[subprocess.Popen[bytes]] = []


@dataclass
class Engine:
    """A running engine. `process` is None for one that somebody else started."""

    device: str
    session: Path
    pid: int
    process_started: float
    process: subprocess.Popen[bytes] | None = None
    news: Mailbox[e.Event] = field(init=False)
    inbox: Mailbox[w.Wish] = field(init=False)

    def __post_init__(self) -> None:
        self.news = e.event_file(self.session / "events.jsonl")
        self.inbox = w.wish_file(self.session / "wishes.jsonl")

    def post(self, wish: w.Wish) -> None:
        """Ask for something. The engine reads it within 50 ms when idle, at the next step or token when busy; what ends a run
        within a fraction of a second, as far as the run is in one process."""
        self.inbox.post(wish)

    @property
    def exit_code(self) -> int | None:
        """How it ended, if it was ours; None while it lives or if nobody saw it."""
        return self.process.poll() if self.process else None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        if self.process is not None:
            return self.process.poll() is None
        return is_alive(self.pid, self.process_started)

    @property
    def end_signal(self) -> str | None:
        """The signal that ended it, if it was ours and a signal did."""
        return signal_name(self.exit_code)

    def let_go(self) -> None:
        """Part from an engine that is to live on without us."""
        if self.process is not None:
            _left_running.append(self.process)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it still lives after `seconds`."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while self.is_alive:
            if time.monotonic() > deadline:
                return False
            pause.wait(0.02)
        return True


def running_engine(workspace: Workspace, device: str) -> Engine | None:
    """The engine that holds `device` now, if any."""
    try:
        current = files.read_json(workspace.engine(device) / CURRENT)
        session = files.inside(workspace.engine(device), str(current["session"]))
        engine = Engine(device, session, int(current["pid"]), float(current["process_started"]))
    except (FileNotFoundError, DamagedError, KeyError, ValueError):
        return None
    return engine if engine.is_alive else None


def start_engine(workspace: Workspace, device: str) -> Engine:
    """The engine that holds `device`, started if there is none, attended by this process.

    Raises `EngineError` if it does not come up, `BusyError` if one of another workspace holds the card.
    """
    engine = running_engine(workspace, device) or _spawn(workspace, device)
    pid, process_started = own_start()
    engine.post(w.Attend(pid=pid, process_started=process_started))
    return engine


class _MissedError(EngineError):
    """The device was taken when our engine came up, and whoever held it is gone since, or has not said yet who it is."""


def _spawn(workspace: Workspace, device: str) -> Engine:
    deadline = time.monotonic() + _START_SECONDS
    pid, process_started = own_start()
    while True:
        session = new_session(workspace, device)
        w.wish_file(session / "wishes.jsonl").post(w.Attend(pid=pid, process_started=process_started))
        process = spawn_python(["studio.engine", "serve", device, str(session)], session / "log.txt", workspace)
        try:
            return await_engine(workspace, device, session, process)
        except _MissedError:
            if time.monotonic() > deadline:
                raise
            engine = running_engine(workspace, device)
            if engine is not None:
                return engine


def new_session(workspace: Workspace, device: str) -> Path:
    """A new folder for the wishes, events and log of an engine of `device`."""
    session = workspace.engine(device) / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
    session.mkdir(parents=True)
    return session


def await_engine(workspace: Workspace, device: str, session: Path, process: subprocess.Popen[bytes]) -> Engine:
    """The engine that `process` becomes, once it holds its lease, or the one that was quicker.

    Raises `EngineError`, and `BusyError` if an engine of another workspace holds the card.
    """
    news = e.event_file(session / "events.jsonl")
    deadline, pause = time.monotonic() + _START_SECONDS, threading.Event()
    while time.monotonic() < deadline:
        code = process.poll()  # before its news are read: what it has said last must not be missed
        for event in news.read():
            if isinstance(event, e.EngineReady):
                return Engine(device, session, event.pid, event.process_started, process)
            if isinstance(event, e.Failed):
                process.wait()
                raise BusyError(event.message, event.hint)
        if code == EXIT_BUSY and (engine := running_engine(workspace, device)):
            return engine
        if code is not None:
            break
        pause.wait(0.02)
    process.kill()
    process.wait()
    kind = _MissedError if process.returncode == EXIT_BUSY else EngineError
    raise kind(
        f"The engine did not start (exit code {process.returncode}).",
        f"Its log says why: {session / 'log.txt'}. `python3 packaging/bootstrap.py repair` mends the installation.",
    )


def spawn_python(arguments: list[str], log: Path, workspace: Workspace) -> subprocess.Popen[bytes]:
    """Start one of our modules in a session of its own, so that neither Ctrl-C nor a dying window takes it along."""
    environment = dict(os.environ)
    environment["OVERLAY_HOME"] = str(workspace.root)
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # so that card 0 is the driver's card 0
    environment.update(allocator_settings(environment))
    environment["PYTHONUNBUFFERED"] = "1"
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    on_windows = os.name == "nt"
    with open(log, "ab") as output:
        return subprocess.Popen(
            # -P: a file called torch.py in the workspace must not be imported in torch's place.
            [sys.executable, "-P", "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.root,
            env=environment,
            start_new_session=not on_windows,
            creationflags=0x00000208 if on_windows else 0,  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        )


def hand_on(workspace: Workspace, device: str, run: Path) -> None:
    """Leave `run` to a new engine that nobody attends: it does that one thing. The caller must have let go of `device`."""
    session = new_session(workspace, device)
    w.wish_file(session / "wishes.jsonl").post(w.Train(folder=str(run)))
    _left_running.append(spawn_python(["studio.engine", "serve", device, str(session)], session / "log.txt", workspace))


def busy_with(engine: Engine, workspace: Workspace) -> str | None:
    """The id of the run that the engine is at, if any."""
    from studio.runs.folder import list_runs

    for run in list_runs(workspace):
        state = run.state()
        if state.status.is_live and state.pid == engine.pid:
            return run.id
    return None


def refuse_busy(engine: Engine, workspace: Workspace) -> None:
    """Raise `BusyError` if the engine is at a run."""
    run = busy_with(engine, workspace)
    if run is not None:
        raise BusyError(
            f"{engine.device} is busy with the run {run}.",
            f"Wait for its end, or `overlay stop {run}` (it saves first).",
        )
