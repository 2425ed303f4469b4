"""Holding a device: what makes a process the one engine of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock

from studio import files
from studio.engine.measure import card_uuid, remember_cards
from studio.errors import BusyError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.card_lease import card_lease
from studio.runs.engine import CURRENT
from studio.runs.processes import own_start
from studio.runs.sweep import is_old


@contextlib.contextmanager
def lease(workspace: Workspace, device: str, session: Path) -> Iterator[None]:
    """Be the one engine of `device` for as long as the block lasts.

    Raises `filelock.Timeout` if another one of this workspace is, `BusyError` if one of another workspace is.
    """
    home, news = workspace.engine(device), e.event_file(session / "events.jsonl")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(device_held(workspace, device))
        except BusyError as error:
            # Whoever has started this process follows its session: there it is told why it gets no engine.
            news.post(e.Failed(kind=error.kind, message=error.message, hint=error.hint))
            raise
        pid, process_started = own_start()
        files.write_json(home / CURRENT, {"session": session.name, "pid": pid, "process_started": process_started})
        news.post(e.EngineReady(pid=pid, process_started=process_started, device=device))
        for old in home.iterdir():
            # A young one may be that of an engine which is coming up, only to find that it came too late.
            if old.is_dir() and old != session and is_old(old):
                files.remove(old)
        yield


@contextlib.contextmanager
def device_held(workspace: Workspace, device: str) -> Iterator[None]:
    """Have `device` to this process alone: in the workspace and, if it is a card, on this computer. Raises as `lease` does."""
    with FileLock(workspace.engine(device) / "lock", timeout=0):
        remember_cards()
        with card_lease(card_uuid(torch.device(device.replace("-", ":"))), workspace, device):
            yield
