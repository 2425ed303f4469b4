"""What a process holds that is the one engine of a device, and what it says that comes too late."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import Timeout

from studio.engine import lease as leases
from studio.engine.lease import lease
from studio.engine.serve import serve
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.engine import EXIT_BUSY, new_session, running_engine
from studio.runs.sweep import YOUNG_SECONDS


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "two")


def told(session: Path) -> list[e.Event]:
    return e.event_file(session / "events.jsonl").read()


def test_two_workspaces_never_share_a_card(workspace, two, tmp_path, monkeypatch):
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr(leases, "card_uuid", lambda device: f"GPU-{device.type}-{device.index}")
    late = new_session(two, "cuda-0")
    with lease(workspace, "cuda-0", new_session(workspace, "cuda-0")):
        assert serve(two, "cuda-0", late) == EXIT_BUSY
        (refused,) = told(late)
        assert isinstance(refused, e.Failed)
        assert refused.kind == "busy"
        assert str(workspace.root) in refused.message
        assert running_engine(two, "cuda-0") is None
        with lease(two, "cuda-1", new_session(two, "cuda-1")):
            pass
    with lease(two, "cuda-0", late):
        assert isinstance(told(late)[-1], e.EngineReady)


def test_on_a_cpu_each_workspace_has_its_own_engine_and_only_one(workspace, two):
    late = new_session(workspace, "cpu")
    with lease(workspace, "cpu", new_session(workspace, "cpu")), lease(two, "cpu", new_session(two, "cpu")):
        with pytest.raises(Timeout), lease(workspace, "cpu", late):
            pass
        assert told(late) == []


def test_whoever_comes_up_clears_old_sessions_away_and_leaves_a_young_siblings(workspace):
    old, young, own = (new_session(workspace, "cpu") for _ in range(3))
    past = time.time() - 2 * YOUNG_SECONDS
    os.utime(old, (past, past))
    with lease(workspace, "cpu", own):
        assert [path.exists() for path in (old, young, own)] == [False, True, True]
