"""Processes by pid *and* start time: a number alone may belong to somebody else by now. Nothing is ever found by name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import psutil

from studio.runs.watchdog import Pulse, Silence, Watchdog

_PR_SET_PDEATHSIG = 1


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


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `by` as soon as `parent`, which has started it, ends in whatever way.

    Linux alone can do that (prctl(2), PR_SET_PDEATHSIG); elsewhere an orphan is left to the next sweep. To be called first of
    all: a parent that has ended before is noticed by there being another one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(by))
        if os.getppid() != parent:
            os.kill(os.getpid(), by)


def pulse(pid: int, process_started: float, *, is_shared: bool = False) -> Pulse | None:
    """What that very process is seen to do now, its children included, and where the work is shared, its siblings; None if it is
    gone or may not be looked at."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - process_started) >= 1.0:
            return None
        head = (process.parent() if is_shared else None) or process
        family = [head, *head.children(recursive=True)]
        is_stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        return Pulse(time.monotonic(), _asleep(), sum(map(_cpu_seconds, family)), is_stopped)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def silence(
    dog: Watchdog, pid: int | None, process_started: float, card_is_busy: Callable[[], bool] = lambda: False
) -> Silence | None:
    """What `dog` makes of that process as it is now; None while all is well, or while there is none. The card is asked about only
    if it matters."""
    seen = pulse(pid, process_started, is_shared=dog.is_shared) if pid is not None else None
    if seen is None:
        return None
    if not dog.is_patient(seen.at) and card_is_busy():
        seen = replace(seen, card_is_busy=True)
    return dog.judge(seen)


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0  # a child that has ended meanwhile
    return float(used.user + used.system)


def _asleep() -> float:
    """How long the computer has slept so far, up to a constant: what one clock counts and the other does not."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux: unlike the time of day, nobody sets it
    now = time.time() if clock is None else time.clock_gettime(clock)
    return now - time.monotonic()


def signal_name(exit_code: int | None) -> str | None:
    """`-9` as `SIGKILL`; None for an ordinary exit code."""
    if exit_code is None or exit_code >= 0:
        return None
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
