"""An engine is found or started, whoever else comes and goes meanwhile."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from filelock import FileLock

from studio.errors import BusyError, EngineError
from studio.places import Workspace
from studio.runs import engine
from studio.runs.engine import await_engine, new_session, running_engine, start_engine
from studio.runs.events import Failed, event_file
from studio.runs.wishes import Release


def test_whoever_held_the_device_may_go_while_ours_comes_up(
    scripted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours finds the device taken and ends; by the time we look, nobody holds it any more: another try is due."""
    scripted.engine("cpu").mkdir(parents=True)
    other = FileLock(scripted.engine("cpu") / "lock")
    other.acquire()
    spawned: list[subprocess.Popen[bytes]] = []
    real = engine.spawn_python

    def spawn(*arguments: Any) -> subprocess.Popen[bytes]:
        if spawned:
            other.release()
        spawned.append(real(*arguments))
        return spawned[-1]

    monkeypatch.setattr(engine, "spawn_python", spawn)
    found = start_engine(scripted, "cpu")
    assert [process.poll() for process in spawned] == [engine.EXIT_BUSY, None]
    assert found.process is spawned[1]
    assert running_engine(scripted, "cpu") is not None
    found.post(Release())
    assert found.wait(60)


def test_a_device_that_stays_taken_by_nobody_knows_whom_is_told_of_in_the_end(
    scripted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_START_SECONDS", 3.0)
    scripted.engine("cpu").mkdir(parents=True)
    with FileLock(scripted.engine("cpu") / "lock"), pytest.raises(EngineError, match="did not start"):
        start_engine(scripted, "cpu")


def test_a_card_that_is_held_from_another_workspace_is_told_of_at_once(scripted: Workspace) -> None:
    session = new_session(scripted, "cuda-0")
    words = ("The engine of another workspace, /there, holds the card cuda-0.", "Pause its run.")
    event_file(session / "events.jsonl").post(Failed(kind="busy", message=words[0], hint=words[1]))
    late = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({engine.EXIT_BUSY})"])
    with late, pytest.raises(BusyError) as told:
        await_engine(scripted, "cuda-0", session, late)
    assert (told.value.message, told.value.hint) == words
