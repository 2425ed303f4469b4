"""The NVIDIA cards of this computer, asked of the driver (NVML), without torch and without a CUDA context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pynvml

from studio.errors import StudioError


@dataclass(frozen=True)
class Gpu:
    """One card. `free_bytes` is what no program holds at this moment, the desktop included."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str
    index: int


def survey() -> list[Gpu]:
    """Every card that the driver can tell about, by index; empty without a driver. Takes some ten milliseconds."""
    with _nvml() as running:
        if not running:
            return []
        try:
            driver, count = _text(pynvml.nvmlSystemGetDriverVersion()), int(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError:
            return []
        cards = (_card(index, driver) for index in range(count))
        return [card for card in cards if card is not None]


def choose_device(option: str) -> str:
    """The engine's name for `auto`, `cuda` or `cpu` on this computer. Raises `StudioError` for a card that is not there."""
    if option == "cpu":
        return "cpu"
    if survey():
        return "cuda-0"
    if option == "cuda":
        raise StudioError("There is no NVIDIA card that the driver knows of.", "Use --device cpu, or mend the driver.")
    return "cpu"


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is installed and answers, even if it knows of no card."""
    with _nvml() as running:
        return running


@contextmanager
def _nvml() -> Iterator[bool]:
    """The library for one question; False where there is no driver, or one too old or too new to be spoken to."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _card(index: int, driver: str) -> Gpu | None:
    """None for a card that has fallen off the bus, or has no memory of its own to tell about."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(_text(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free), driver, index)
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
