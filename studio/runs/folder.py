"""A run is a folder: copy it and you have the whole story.

job.json             the recipe exactly as used, hashes of base, data and template, package versions; never edited again
start.safetensors    A and B as a parent had them, if the run begins from one
events.jsonl         one event per line: the truth about the run
first_batch.json     what the first step learns from, token by token, to be looked at
adapter_config.json  PEFT's description of the overlay: with it any checkpoint can be made an adapter
log.txt              what the engine's libraries had to say
checkpoints/         step-000200/ ...: states from which the run goes on exactly
adapter/             the adapter, a plain PEFT folder
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from studio import files
from studio.errors import DamagedError, NotFoundError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.endings import evidence
from studio.runs.lines import Mailbox
from studio.runs.processes import is_alive
from studio.runs.state import RunState

_CHECKPOINT = re.compile(r"^step-(\d+)$")
_LAST_LINES = 12
_START = "start.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. The folder's name is the run's id."""

    path: Path

    @classmethod
    def create(cls, workspace: Workspace, name: str, job: dict[str, Any], start: Path | None = None) -> RunFolder:
        """A new folder for a run called `name`, holding `job`, a copy of the overlay to `start` with, and nothing else yet."""
        stamp = time.strftime("%Y-%m-%d_%H%M%S")
        workspace.runs.mkdir(parents=True, exist_ok=True)
        # Two windows may create at the same second, and a third may be listing: the folder appears with its job in it.
        with FileLock(workspace.runs / ".lock", timeout=10):
            path = files.free_name(workspace.runs, f"{stamp}_{files.safe_name(name)}")
            unborn = files.temporary_beside(path)
            try:
                files.write_json(unborn / "job.json", {"kind": "train", "name": name, "created": time.time(), **job})
                if start is not None:
                    files.copy(start, unborn / _START)
                unborn.rename(path)
            except BaseException:
                files.remove(unborn)
                raise
            files.sync_folder(workspace.runs)
        return cls(path)

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @cached_property
    def job(self) -> dict[str, Any]:
        """What is to be done. Raises `DamagedError` if the file is unreadable or gone."""
        try:
            return files.read_json(self.path / "job.json")
        except FileNotFoundError as error:
            raise DamagedError(f"{self.id} has no job.json.", "Remove the folder, or restore the file.") from error

    @property
    def is_readable(self) -> bool:
        """Whether the job can be read at all."""
        try:
            return bool(self.job)
        except DamagedError:
            return False

    @property
    def name(self) -> str:
        """The name its user gave it."""
        return str(self.job.get("name", self.id))

    @property
    def events(self) -> Mailbox[e.Event]:
        """The event file, from its beginning."""
        return e.event_file(self.path / "events.jsonl")

    @property
    def log(self) -> Path:
        """What the engine wrote to stderr while it was at this run."""
        return self.path / "log.txt"

    @property
    def start(self) -> Path:
        """The overlay that the run begins with, if it has a parent."""
        return self.path / _START

    @property
    def adapter(self) -> Path:
        """The finished adapter."""
        return self.path / "adapter"

    def state(self) -> RunState:
        """The fold of all events so far."""
        return RunState.replay(self.events.read())

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of `step` lies or will lie."""
        return self.path / "checkpoints" / f"step-{step:06d}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """(step, folder) of every checkpoint, oldest first. Unfinished ones have no such name."""
        found = [
            (match, path)
            for path in self.checkpoint(0).parent.glob("step-*")
            if (match := _CHECKPOINT.match(path.name))
        ]
        return sorted((int(match.group(1)), path) for match, path in found)

    def last_lines(self) -> list[str]:
        """The end of the log, for a report on what went wrong."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, self.log.stat().st_size - 8192))
                return file.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
        except FileNotFoundError:
            return []

    def bury(self, exit_code: int | None = None, signal: str | None = None) -> RunState:
        """Give a run whose engine is gone its last word, once, whoever notices first; returns the state after it."""
        state = self.state()
        if not state.status.is_live or (state.pid and is_alive(state.pid, state.process_started)):
            return state
        found = evidence(state.process_started, state.memory_kills, signal) if state.pid else ""
        return self.end(e.Died(exit_code=exit_code, signal=signal, last_lines=self.last_lines(), evidence=found))

    def end(self, ending: e.Event) -> RunState:
        """Give a live run this last word, unless another process has given it one before; returns the state after it."""
        with FileLock(self.path / ".bury.lock", timeout=10):
            state = self.state()
            if state.status.is_live:
                self.events.post(ending)
                state.advance(ending)
        return state


def list_runs(workspace: Workspace) -> Iterator[RunFolder]:
    """Every run on disk, newest first; folders that are none are passed over."""
    if workspace.runs.is_dir():
        for path in sorted(workspace.runs.iterdir(), reverse=True):
            if not path.name.startswith(".") and (path / "job.json").is_file():
                yield RunFolder(path)


def find_run(workspace: Workspace, name: str) -> RunFolder:
    """The run with this id, or the newest one with this name."""
    for run in list_runs(workspace):
        if name == run.id or Path(name).resolve() == run.path or (run.is_readable and name == run.name):
            return run
    raise NotFoundError(f"There is no run called {name}.", "`overlay runs` lists them.")
