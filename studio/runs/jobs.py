"""Imports, merges and work on datasets: a folder with a job and its events, and a worker process that needs no card."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from studio import files
from studio.errors import EngineError, StudioError
from studio.places import Workspace
from studio.runs import dataset_jobs
from studio.runs import events as e
from studio.runs.engine import spawn_python
from studio.runs.lines import Mailbox
from studio.runs.processes import own_start, signal_name

PROCESS = "process.json"


@dataclass
class Job:
    """A piece of work in a process of its own. Poll `read`; the last event is `Finished`, `Failed` or `Died`."""

    path: Path
    process: subprocess.Popen[bytes]
    events: Mailbox[e.Event]
    _ended: bool = False

    def read(self) -> list[e.Event]:
        """New events. A worker that ended without a last word is given one."""
        # Looked at before reading: what the worker wrote before its end must not be missed.
        code = self.process.poll()
        events = [] if self._ended else self.events.read()
        if any(isinstance(event, e.ENDINGS) for event in events):
            self._ended = True
            self.process.wait()  # its last word said, it only has to leave
        elif code is not None and not self._ended:
            self._ended = True
            lines = (self.path / "log.txt").read_text("utf-8", "replace").splitlines()[-12:]
            events.append(e.Died(exit_code=code, signal=signal_name(code), last_lines=lines))
        return events

    def cancel(self) -> None:
        """End it. Whatever it was building lies in a temporary folder that nobody will look at."""
        self.process.terminate()


def start_job(workspace: Workspace, kind: str, arguments: dict[str, Any]) -> Job:
    """Begin a job of `kind` with plain JSON values as arguments: one of `dataset_jobs.KINDS`, or for the engine's libraries
    `import`, `merge`, `trace`, `lengths`, `show` or `looks`."""
    path = workspace.jobs / f"{time.strftime('%Y-%m-%d_%H%M%S')}_{kind}-{uuid4().hex[:6]}"
    files.write_json(path / "job.json", {"kind": kind, "created": time.time(), "arguments": arguments})
    # Nothing that a job makes is of use to anybody but who has asked for it: it ends with us.
    module = ["studio.runs.dataset_jobs"] if kind in dataset_jobs.KINDS else ["studio.engine", "job"]
    process = spawn_python([*module, str(path), str(os.getpid())], path / "log.txt", workspace)
    return Job(path, process, e.event_file(path / "events.jsonl"))


def sign(path: Path, asker: int) -> None:
    """Note in the job's folder which process does it, and which one has asked for it. Called by the worker."""
    try:
        asked = (asker, psutil.Process(asker).create_time())
    except psutil.NoSuchProcess:
        asked = (asker, 0.0)
    files.write_json(path / PROCESS, {"worker": own_start(), "asker": asked})


def failure(event: e.Event) -> StudioError | None:
    """The error that an ending stands for, or None if it went well or is no ending."""
    match event:
        case e.Failed(message=message, hint=hint):
            return StudioError(message, hint)
        case e.Died(signal=signal, exit_code=code, last_lines=lines):
            cause = f"was ended by {signal}" if signal else f"ended with exit code {code}"
            last = f" Its last line: {lines[-1]}" if lines else ""
            return EngineError(f"The worker {cause} without a last word.{last}", "Try again; its log has more.")
        case _:
            return None
