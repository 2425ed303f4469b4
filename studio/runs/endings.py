"""The true names of endings that nobody planned: what happened, by the traces it left, and what to do next.

A process that could still speak left an error's words; one that could not, an exit code or a signal, and what the system has
counted meanwhile. A cause that is not known for sure is not named as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Ending:
    """Why a run is not running: what happened and what to do. `cause` is what made a run pause that nobody paused, `kind` the
    stable name of the error that made one fail (`StudioError.kind`)."""

    message: str
    hint: str = ""
    cause: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Trace:
    """A cause, and the words (in lower case) by which the errors of drivers and libraries give it away.

    `lasts` if the next process would not find the card usable either.
    """

    cause: str
    hint: str
    words: tuple[str, ...]
    lasts: bool = False


# The first one that fits counts. After any of these the card's context is unusable: only a new process can go on.
CARD_TRACES = (
    Trace(
        "The graphics card fell off the bus: the driver has lost it.",
        "Restart the computer, then Resume. If it happens again, look at the card's power cables, heat and seat.",
        ("fallen off the bus", "gpu is lost", "device lost", "xid 79", "(79)", "cudaerrordevicesunavailable"),
        lasts=True,
    ),
    Trace(
        "The card reported a memory error that it could not correct.",
        "Restart the computer, then Resume. If it happens again, the card is faulty.",
        ("uncorrectable ecc", "xid 48", "xid 94", "xid 95"),
        lasts=True,
    ),
    Trace(
        "The graphics driver was updated, and the old one is still at work.",
        "Restart the computer, then Resume.",
        (
            "driver/library version mismatch",
            "forward compatibility was attempted",
            "cuda driver version is insufficient",
        ),
        lasts=True,
    ),
    Trace(
        "No NVIDIA card is found any more: its driver is not loaded, or has lost it.",
        "Restart the computer, then Resume. If `nvidia-smi` finds no card then either, mend the driver.",
        ("no cuda-capable device", "no nvidia driver", "driver initialization failed", "initialization error"),
        lasts=True,
    ),
    Trace(
        "The graphics driver was reset or unloaded: after sleep, a driver update, or a program that hung the card.",
        "Resume goes on from the last checkpoint; if the card is not found, restart the computer first.",
        ("driver shutting down", "cudaerrorcudartunloading", "cuda unknown error", "unknown error", "xid "),
        lasts=True,
    ),
    Trace(
        "Another program holds the card for itself, or the card is not available.",
        "End that program (`nvidia-smi` lists them), then Resume.",
        ("busy or unavailable",),
        lasts=True,
    ),
    Trace(
        "A computation on the card was given a number that it cannot take (a device-side assert).",
        "Resume goes on from the last checkpoint. If it fails at the same step again, that step's rows or the base's files are "
        "at fault: please report it with the log.",
        ("device-side assert",),
    ),
    Trace(
        "A computation on the card crashed, or was ended by the driver.",
        "Resume goes on from the last checkpoint. If it happens again, undo any overclocking and update the driver.",
        (
            *("unspecified launch failure", "launch timed out", "illegal memory access", "misaligned address"),
            *("illegal instruction", "invalid program counter", "hardware stack error", "uncorrectable nvlink"),
        ),
    ),
)
_SPEAKS_OF_A_CARD = ("cuda", "gpu", "nvml", "xid", "nvidia")

SIGNALS = {
    "SIGKILL": "The engine was killed (by you, or by the system because memory ran out).",
    "SIGTERM": "The engine was asked to end by the system.",
    "SIGHUP": "The engine was ended because its terminal or session closed.",
    "SIGINT": "The engine was interrupted by Ctrl-C.",
    "SIGSEGV": "The engine crashed inside a library.",
    "SIGABRT": "The engine crashed inside a library.",
    "SIGBUS": "The engine crashed inside a library: a file or memory it was reading is gone (is the disk full or removed?).",
    "SIGILL": "The engine crashed inside a library that does not suit this processor.",
    "SIGFPE": "The engine crashed inside a library.",
    "SIGXCPU": "The engine was ended because it used up the processor time that it is allowed.",
    "SIGXFSZ": "The engine was ended because a file grew beyond what it is allowed.",
}
MEMORY, RESTART = "memory", "restart"
_EVIDENCE = {
    MEMORY: Ending(
        "The engine was killed by the system because the computer's main memory ran out.",
        "Close other programs, or shorten the rows.",
    ),
    RESTART: Ending("The computer was switched off or restarted while the run was at work."),
}


def card_trouble(words: str) -> Ending | None:
    """What has befallen the card, by the words of an error; None if they are of something else."""
    low = words.lower()
    if not any(name in low for name in _SPEAKS_OF_A_CARD):
        return None
    for trace in CARD_TRACES:
        if any(word in low for word in trace.words):
            return Ending(trace.cause, trace.hint)
    return None


def leaves_no_card(ending: Ending) -> bool:
    """Whether a run ended in a way after which no other run would find the card usable."""
    return any(trace.lasts and ending.message.startswith(trace.cause) for trace in CARD_TRACES)


def death(exit_code: int | None, signal: str | None, evidence: str, last_lines: list[str]) -> Ending:
    """What has ended a process that left no last word. Exit code and signal are None if nobody saw them."""
    if evidence in _EVIDENCE and signal in (None, "SIGKILL"):
        return _EVIDENCE[evidence]
    trouble = card_trouble("\n".join(last_lines))
    if trouble is not None:
        return trouble
    if signal is not None:
        return Ending(SIGNALS.get(signal, f"The engine was ended by {signal}."))
    if exit_code is not None:
        return Ending(f"The engine ended with exit code {exit_code} and no last word.")
    return Ending("The engine is gone without a last word: it was killed, or the computer was switched off.")


def memory_kills(counters: Path = Path("/proc/vmstat")) -> int | None:
    """How many processes the kernel has killed for lack of memory since the computer started; None where nobody counts."""
    try:
        lines = counters.read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def evidence(process_started: float, kills_before: int | None, signal: str | None) -> str:
    """What speaks for the cause of a death besides its signal: `memory`, `restart` or nothing ("")."""
    if signal is None and psutil.boot_time() > process_started + 1.0:
        return RESTART
    now = memory_kills()
    # That the kernel has killed some program is no proof by itself; that this one was killed too is next to one.
    if signal == "SIGKILL" and kills_before is not None and now is not None and now > kills_before:
        return MEMORY
    return ""
