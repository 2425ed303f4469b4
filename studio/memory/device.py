"""The NVIDIA cards of this computer, asked of the driver (NVML), without torch and without a CUDA context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
    uuid: str = ""


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


@dataclass(frozen=True)
class CardUse:
    """Who holds what of one card now. `processes` are (pid, bytes), None where the driver does not tell (Windows)."""

    name: str
    driver: str
    total_bytes: int
    used_bytes: int
    processes: tuple[tuple[int, int | None], ...] = ()

    def own_bytes(self, pid: int, before_bytes: int, least_bytes: int) -> int:
        """What the process `pid` holds, its CUDA context included.

        Where the driver does not tell, or tells of another process by the same number (in a container pids are the host's),
        it is what the card holds more than `before_bytes`, its use before the process touched it; other programs that came
        since are then counted in. `least_bytes` is what the process is known to hold.
        """
        told = sum(held for number, held in self.processes if number == pid and held is not None)
        if told and told >= least_bytes:
            return told
        return max(self.used_bytes - before_bytes, least_bytes)


def card_uses() -> dict[str, CardUse]:
    """The use of every card that the driver can tell about, by UUID; empty without a driver."""
    with _nvml() as running:
        if not running:
            return {}
        try:
            driver, count = _text(pynvml.nvmlSystemGetDriverVersion()), int(pynvml.nvmlDeviceGetCount())
        except pynvml.NVMLError:
            return {}
        return dict(found for index in range(count) if (found := _use(index, driver)) is not None)


@dataclass(frozen=True)
class CardLoad:
    """How hard one card works now; None where the driver does not tell. It is of the whole card, whoever uses it.

    `energy_joules` counts from when the driver was loaded: what a stretch of time took is a difference.
    """

    temperature_celsius: int | None
    power_watts: float | None
    utilisation: float | None  # share of the last moments in which it computed, 0 to 1
    energy_joules: float | None


def card_loads() -> dict[str, CardLoad]:
    """The load of every card that the driver can tell about, by UUID and in order of index; empty without a driver.

    Takes some milliseconds. A window may ask once a second: nothing of it is written down.
    """
    with _nvml() as running:
        if not running:
            return {}
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(int(pynvml.nvmlDeviceGetCount()))]
            return {_text(pynvml.nvmlDeviceGetUUID(handle)): _load(handle) for handle in handles}
        except pynvml.NVMLError:
            return {}


def is_busy(device: str) -> bool:
    """Whether the card of this name (`cuda-0`) has computed anything in the last second or so; False where nobody can tell."""
    with _nvml() as running:
        if not running or not device.startswith("cuda"):
            return False
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.rpartition("-")[2] or 0))
            return (_load(handle).utilisation or 0.0) > 0.0
        except pynvml.NVMLError:
            return False


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
        name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
        return Gpu(name, int(memory.total), int(memory.free), driver, index, uuid)
    except pynvml.NVMLError:
        return None


def _use(index: int, driver: str) -> tuple[str, CardUse] | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = _text(pynvml.nvmlDeviceGetName(handle)), _text(pynvml.nvmlDeviceGetUUID(handle))
    except pynvml.NVMLError:
        return None
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        running = []
    processes = tuple((int(process.pid), process.usedGpuMemory) for process in running)
    return uuid, CardUse(name, driver, int(memory.total), int(memory.used), processes)


def _load(handle: Any) -> CardLoad:
    temperature = _asked(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    milliwatts = _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    percent = _asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    millijoules = _asked(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    return CardLoad(
        temperature,
        None if milliwatts is None else milliwatts / 1000,
        None if percent is None else percent / 100,
        None if millijoules is None else millijoules / 1000,
    )


def _asked(question: Callable[[], int]) -> int | None:
    """The answer, or None from a card or a driver that does not know."""
    try:
        return int(question())
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    """Older bindings answer in bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
