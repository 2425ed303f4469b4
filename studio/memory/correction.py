"""What this computer has taught about the part of the memory that no tensor accounts for.

The tensors of a run can be reckoned; the CUDA context, its libraries and what the allocator holds without using it differ
from card to card and from driver to driver. Each run and each fit test on a card leaves a line in the workspace: what was
estimated, and what the allocator and the driver said. Their median is added to the next estimate, and shown beside it.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from studio import files
from studio.memory.device import survey
from studio.places import Workspace

BOUND_BYTES = 1_000_000_000
"""No run counts as further off than this, so that none moves the correction by more (see `learn`)."""
NEWEST = 200
"""Lines that are read; older ones stay in the file and are passed over."""
LEAST_STEPS = 3
"""The first step allocates what the second finds; the optimizer's states exist from the second on."""
_TAIL_BYTES = NEWEST * 1024


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Peaks of one run or fit test on a card, beside what was estimated for it. `run` names it: of several lines with
    one name the newest counts. `driver` is the driver's version, `time` seconds since 1970."""

    run: str
    card: str
    driver: str
    total_estimated_bytes: int
    context_estimated_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    process_bytes: int
    micro_batch_tokens: int
    num_steps: int
    time: float

    @property
    def excess_bytes(self) -> int:
        """What the process held beside its tensors, less what was estimated for that."""
        return self.process_bytes - self.allocated_bytes - self.context_estimated_bytes

    @property
    def is_sound(self) -> bool:
        """Whether the figures can be true: the process holds what it has reserved, and that what is allocated."""
        ordered = 0 < self.allocated_bytes <= self.reserved_bytes <= self.process_bytes
        return ordered and self.context_estimated_bytes >= 0 and self.num_steps >= LEAST_STEPS


@dataclass(frozen=True)
class Correction:
    """What to add to an estimate on one card: the median of `num_runs` runs, half of which lie within `spread_bytes` of it."""

    bytes: int
    num_runs: int
    spread_bytes: int

    @property
    def text(self) -> str:
        """`this card: +0.3 GB, from 4 runs`."""
        return f"this card: {self.bytes / 1e9:+.1f} GB, from {self.num_runs} run{'s' if self.num_runs != 1 else ''}"


def learn(measurements: Iterable[Measurement]) -> Correction | None:
    """The correction that these runs of one card and driver teach; None if there is none to learn from.

    Each run's excess is first brought within `BOUND_BYTES` of zero. As the median of values between -b and b moves by at most
    half the gap between neighbours, a single run more moves the result by at most b, however weird it is.
    """
    newest = {one.run: one for one in sorted(measurements, key=lambda one: one.time) if one.is_sound}
    if not newest:
        return None
    excess = [max(-BOUND_BYTES, min(BOUND_BYTES, one.excess_bytes)) for one in newest.values()]
    middle = statistics.median(excess)
    spread = statistics.median(abs(one - middle) for one in excess)
    return Correction(round(middle), len(excess), round(spread))


def correction_for(workspace: Workspace, card: str, driver: str | None = None) -> Correction | None:
    """What has been learnt about `card` under `driver` (None: the driver's version is asked for); None if nothing.

    Reads one small file. Another card's or another driver's runs say nothing about this one.
    """
    if driver is None:
        driver = next((gpu.driver for gpu in survey() if gpu.name == card), "")
    return learn(one for one in read(workspace) if (one.card, one.driver) == (card, driver))


def keep(workspace: Workspace, measurement: Measurement) -> None:
    """Add a measurement to the workspace. Raises `DiskFullError`."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    files.append_line(workspace.measurements, json.dumps(vars(measurement), allow_nan=False))


def read(workspace: Workspace) -> list[Measurement]:
    """The newest measurements, oldest first. Damaged lines, and those of a newer program, are passed over."""
    found = (_measurement(line) for line in _last_lines(workspace.measurements))
    return [one for one in found if one is not None]


def _last_lines(path: Path) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            lines = file.read().split(b"\n")
    except OSError:
        return []
    # A cut in the middle of a line makes it a damaged one.
    return [line for line in lines if line.strip()][-NEWEST:]


def _measurement(line: bytes) -> Measurement | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kinds = {"str": str, "int": int, "float": int | float}
    known = {item.name: kinds[str(item.type)] for item in fields(Measurement)}
    # `bool` is an `int` to Python and to nobody else.
    if any(isinstance(value.get(name), bool) or not isinstance(value.get(name), kind) for name, kind in known.items()):
        return None
    return Measurement(**{name: value[name] for name in known})
