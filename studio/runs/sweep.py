"""What an earlier window, command or engine has left behind is cleared away at the start of the next one.

A leftover is known by the process that made it, by pid *and* start time; what a living process works at stays, and so does what
is too young to tell. The only processes ended here are jobs whose asker is gone, where the system could not do that by itself
(`die_with_parent`).
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from filelock import FileLock, Timeout

from studio import files
from studio.errors import DamagedError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.jobs import PROCESS
from studio.runs.processes import is_alive, kill

# Younger ones may belong to a process that is only just coming up.
YOUNG_SECONDS = 120.0
# The log of a job that failed is of use for a while.
JOBS_KEPT_SECONDS = 14 * 24 * 3600.0


def sweep(workspace: Workspace) -> list[Path]:
    """Clear away sessions, jobs and temporary folders of processes that are gone; returns what was removed.

    What cannot be removed stays for the next time.
    """
    for job in _folders(workspace.jobs):
        _end_orphan(job)
    idle = [job for job in _folders(workspace.jobs) if not _is_at_work(job)]
    found = [*_sessions(workspace), *(path for job in idle for path in _half_made(job))]
    found += [job for job in idle if is_old(job, JOBS_KEPT_SECONDS)]
    # Files and run folders are written within seconds; bases and exports take longer, but are made by jobs alone.
    places = [workspace.root, workspace.recipes, workspace.runs]
    if len(idle) == len(_folders(workspace.jobs)):
        places += [workspace.bases, workspace.exports, *_folders(workspace.datasets)]
    found += [path for place in places for path in files.leftovers(place) if is_old(path)]
    return [path for path in dict.fromkeys(found) if _removed(path)]


def _sessions(workspace: Workspace) -> list[Path]:
    """Those of devices that no engine holds: one that comes up clears its own device's."""
    found = []
    for home in _folders(workspace.root / "engine"):
        old = [path for path in _folders(home) if is_old(path)]
        try:
            # Held for a moment, and only where there is something: an engine that starts just now would be sent away.
            with FileLock(home / "lock", timeout=0) if old else contextlib.nullcontext():
                found += old
        except Timeout:
            continue
    return found


def _half_made(job: Path) -> list[Path]:
    """What a merge was building wherever its user wanted it."""
    try:
        out = Path(files.read_json(job / "job.json")["arguments"]["out"])
    except (OSError, DamagedError, KeyError, TypeError):
        return []
    return [path for path in files.leftovers(out.parent) if path.name.startswith(f".{out.name}.tmp-")]


def _end_orphan(job: Path) -> None:
    try:
        told = files.read_json(job / PROCESS)
        worker, asker = told["worker"], told["asker"]
        if not is_alive(int(asker[0]), float(asker[1])):
            kill(int(worker[0]), float(worker[1]))
    except (OSError, DamagedError, KeyError, TypeError, ValueError, IndexError):
        return  # it never came so far as to say who it is


def _is_at_work(job: Path) -> bool:
    """Whether the job has not ended, as far as anybody can tell."""
    if any(isinstance(event, e.ENDINGS) for event in e.event_file(job / "events.jsonl").read()):
        return False
    try:
        worker = files.read_json(job / PROCESS)["worker"]
        return is_alive(int(worker[0]), float(worker[1]))
    except (OSError, DamagedError, KeyError, TypeError, ValueError, IndexError):
        return not is_old(job)


def _folders(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_dir() and not path.is_symlink()] if place.is_dir() else []


def is_old(path: Path, seconds: float = YOUNG_SECONDS) -> bool:
    """Whether nothing was made in a folder, or written to a file, for so long."""
    try:
        return time.time() - path.stat().st_mtime > seconds
    except FileNotFoundError:
        return False


def _removed(path: Path) -> bool:
    try:
        files.remove(path)
    except OSError:
        return False
    return True
