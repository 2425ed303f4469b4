"""What the process holds, as the operating system and the allocator tell it."""

from __future__ import annotations

import sys

import psutil
import torch

from studio.runs.events import MemoryMeasured


def memory(step: int, device: torch.device) -> MemoryMeasured:
    """Peaks of the card's allocator, and what this process holds now (on the card if there is one)."""
    if device.type != "cuda":
        return MemoryMeasured(step=step, process_bytes=psutil.Process().memory_info().rss)
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return MemoryMeasured(
        step=step,
        process_bytes=total_bytes - free_bytes,
        allocated_bytes=torch.cuda.max_memory_allocated(device),
        reserved_bytes=torch.cuda.max_memory_reserved(device),
    )


def peak_rss_bytes() -> int:
    """The most memory this process has ever held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes
