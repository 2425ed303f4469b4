"""One engine per card, whatever workspaces there are: two runs on one card would each take memory that the other counts on.

Within a workspace an engine is kept single by the lock in its mailbox. Between the workspaces of a user it is this one, which
goes by the card's own number (UUID): the card that one process calls 0 may be another's 1. The operating system lets go of it
when its holder ends, in whatever way. Other users of the computer are not seen; what they hold of a card, the estimate counts.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from studio import files
from studio.errors import BusyError, DamagedError, StudioError
from studio.places import Workspace, shared_place
from studio.runs.processes import is_alive, own_start


@dataclass(frozen=True)
class Holder:
    """The engine that holds a card: its process, its workspace, and what it calls the card (`cuda-0`)."""

    pid: int
    process_started: float
    workspace: Path
    device: str


@contextlib.contextmanager
def card_lease(uuid: str, workspace: Workspace, device: str) -> Iterator[None]:
    """Hold the card of this UUID for as long as the block lasts; without one ("": the device is no card) nothing is held.

    Raises `BusyError`, which names the holder.
    """
    if not uuid:
        yield
        return
    lock = FileLock(_private_folder(shared_place()) / f"{files.safe_name(uuid)}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise _busy(device, holder(uuid)) from error
    try:
        pid, process_started = own_start()
        told = {"pid": pid, "process_started": process_started, "workspace": str(workspace.root), "device": device}
        files.write_json(_record(uuid), told)
        yield
    finally:
        lock.release()


def holder(uuid: str) -> Holder | None:
    """Who holds the card of this UUID, as it has said itself; None for nobody."""
    try:
        told = files.read_json(_record(uuid))
        found = Holder(
            int(told["pid"]), float(told["process_started"]), Path(str(told["workspace"])), str(told["device"])
        )
    except (OSError, DamagedError, KeyError, ValueError, TypeError):
        return None
    return found if is_alive(found.pid, found.process_started) else None


def _record(uuid: str) -> Path:
    return shared_place() / f"{files.safe_name(uuid)}.json"


def _busy(device: str, found: Holder | None) -> BusyError:
    if found is None:
        return BusyError(f"Another engine of Overlay Studio holds the card {device}.", "Try again in a moment.")
    return BusyError(
        f"The engine of another workspace, {found.workspace}, holds the card {device} (process {found.pid}).",
        "Wait for the end of its run, or pause it; then close the window that shows that workspace.",
    )


def _private_folder(path: Path) -> Path:
    """Make `path` if need be, for this user alone. Raises `StudioError` if somebody else has got hold of that name."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    is_ours = sys.platform == "win32" or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    if not (stat.S_ISDIR(found.st_mode) and is_ours):
        raise StudioError(f"{path} is not a folder of yours alone.", "Remove it, or have it removed.")
    return path
