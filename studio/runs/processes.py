"""Processes by pid *and* start time: a number alone may belong to somebody else by now. Nothing is ever found by name."""

from __future__ import annotations

import os
import signal

import psutil


def own_start() -> tuple[int, float]:
    """This process's pid and start time."""
    return os.getpid(), psutil.Process().create_time()


def is_alive(pid: int, process_started: float) -> bool:
    """Whether that very process still runs. A zombie does not: it only waits to be counted."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - process_started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int, process_started: float) -> bool:
    """End that very process at once, without asking it; False if it is gone, or is not ours to end."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - process_started) >= 1.0:
            return False
        process.kill()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return True


def signal_name(exit_code: int | None) -> str | None:
    """`-9` as `SIGKILL`; None for an ordinary exit code."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
