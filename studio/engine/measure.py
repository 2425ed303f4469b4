"""What the process holds, as the operating system, the driver and the allocator tell it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
from pathlib import Path

import psutil
import torch

from studio.memory.device import CardUse, card_loads, card_uses
from studio.runs.events import MemoryMeasured

_STATUS = Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
# UUID of each card -> bytes in use before this process touched any: what others hold where the driver does not tell by process.
_used_before: dict[str, int] = {}


def remember_cards() -> None:
    """Note what each card holds already. To be called before the first use of CUDA, whose context takes its own share."""
    _used_before.update({uuid: use.used_bytes for uuid, use in card_uses().items()})


def card_uuid(device: torch.device) -> str:
    """The UUID of torch's `device`, as the driver spells it: the same card for all processes, whatever they can see. "" for a
    CPU, and for a card that PyTorch does not find."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return ""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def card_of(device: torch.device) -> tuple[str, CardUse] | None:
    """UUID and present use of torch's `device`, as the driver tells it; None for a CPU, or where the driver is mute."""
    if device.type != "cuda":
        return None
    uuid = card_uuid(device)
    use = card_uses().get(uuid)
    return None if use is None else (uuid, use)


def energy_joules(device: torch.device) -> float | None:
    """What `device` has taken since its driver was loaded, whoever used it; None for a CPU, or where the driver is mute."""
    if device.type != "cuda":
        return None
    load = card_loads().get(card_uuid(device))
    return None if load is None else load.energy_joules


def room(device: torch.device) -> tuple[int, int]:
    """Bytes of the memory that a run on `device` may use, and what other programs hold of it now."""
    if device.type != "cuda":
        return psutil.virtual_memory().available + psutil.Process().memory_info().rss, 0
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return total_bytes, max(0, total_bytes - free_bytes - _on_card_bytes(device))


def reset_peaks(device: torch.device) -> None:
    """Count peaks from now on: what was cached or held for an earlier job is none of this one's."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        # 5 sets the high-water mark of the resident memory back (man 5 proc). Some containers forbid it: it then stays.
        with contextlib.suppress(OSError):
            mark = os.open("/proc/self/clear_refs", os.O_WRONLY)
            try:
                os.write(mark, b"5")
            finally:
                os.close(mark)


def give_back_unused(device: torch.device, step: int = 0) -> None:
    """Have the C library hand back what it holds for nobody, at every fourth step: to take it again costs time too.

    Packed rows differ in size from step to step, and the holes that one leaves rarely suit the next: in main memory they would
    add up to a hundred megabytes. A card's allocator has its own remedy (`studio/runs/allocator.py`), other C libraries too.
    """
    if device.type == "cpu" and sys.platform == "linux" and step % 4 == 0:
        with contextlib.suppress(AttributeError):  # a C library without this
            ctypes.CDLL(None).malloc_trim(0)


def memory(step: int, device: torch.device) -> MemoryMeasured:
    """Peaks of the card's allocator, and what this process holds (on the card if there is one, else its own peak)."""
    if device.type != "cuda":
        return MemoryMeasured(step=step, process_bytes=max(psutil.Process().memory_info().rss, _resident_peak_bytes()))
    return MemoryMeasured(
        step=step,
        process_bytes=_on_card_bytes(device),
        allocated_bytes=torch.cuda.max_memory_allocated(device),
        reserved_bytes=torch.cuda.max_memory_reserved(device),
    )


def _on_card_bytes(device: torch.device) -> int:
    """What the driver counts for this process. The allocator keeps what it has reserved, so that now is the peak."""
    found = card_of(device)
    if found is None:
        free_bytes, total_bytes = torch.cuda.mem_get_info(device)
        return total_bytes - free_bytes
    uuid, use = found
    return use.own_bytes(os.getpid(), _used_before.get(uuid, 0), torch.cuda.memory_reserved(device))


def _resident_peak_bytes() -> int:
    """The most resident memory since `reset_peaks`; 0 where the system keeps no such mark."""
    try:
        found = _PEAK.search(_STATUS.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0


def peak_rss_bytes() -> int:
    """The most memory this process has held, since `reset_peaks` if that was called."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    # Rather than getrusage, whose figure survives exec: a child would report what its parent once held.
    if resident := _resident_peak_bytes():
        return resident
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes
