from types import SimpleNamespace

import pynvml
import pytest

from studio.errors import StudioError
from studio.memory import device
from studio.memory.device import (
    CardLoad,
    CardUse,
    card_loads,
    card_uses,
    choose_device,
    has_nvidia_driver,
    is_busy,
    survey,
)


def test_the_survey_tells_what_the_driver_tells_or_nothing() -> None:
    cards = survey()
    if not has_nvidia_driver():
        assert cards == []
    for card in cards:
        assert card.name
        assert card.driver
        assert 0 <= card.free_bytes <= card.total_bytes
    assert [card.index for card in cards] == sorted(card.index for card in cards)


def test_asking_twice_leaves_the_driver_as_it_was() -> None:
    assert [card.name for card in survey()] == [card.name for card in survey()]


def test_a_card_is_chosen_where_there_is_one_and_refused_where_there_is_none() -> None:
    assert choose_device("cpu") == "cpu"
    if survey():
        assert choose_device("auto") == choose_device("cuda") == "cuda-0"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(StudioError, match="no NVIDIA card"):
            choose_device("cuda")


def test_the_use_of_each_card_is_told_by_uuid_or_not_at_all() -> None:
    uses = card_uses()
    assert [use.name for use in uses.values()] == [card.name for card in survey()]
    for uuid, use in uses.items():
        assert uuid.startswith("GPU-")
        assert 0 < use.used_bytes <= use.total_bytes


def used(*processes: tuple[int, int | None]) -> CardUse:
    """An RTX 4090 with 9.4 GB in use, 0.9 GB of them by a desktop before a process of ours came."""
    return CardUse("NVIDIA GeForce RTX 4090", "550.54.15", 25_757_220_864, 9_400_000_000, processes)


@pytest.mark.parametrize(
    ("use", "bytes_"),
    [
        # Linux: the driver tells by process, contexts included; a game beside us is none of ours.
        (used((2210, 310_000_000), (31337, 7_916_748_800)), 7_916_748_800),
        # Windows: a process is named, its memory is not.
        (used((2210, None), (31337, None)), 8_500_000_000),
        # A container that may not see processes, or only the host's numbers.
        (used(), 8_500_000_000),
        (used((991337, 7_916_748_800)), 8_500_000_000),
        # Another process happens to have our number on the host: it holds less than our allocator does.
        (used((31337, 310_000_000)), 8_500_000_000),
    ],
)
def test_what_a_process_holds_is_told_by_the_driver_or_is_what_came_on_top(use: CardUse, bytes_: int) -> None:
    assert use.own_bytes(31337, before_bytes=900_000_000, least_bytes=7_100_000_000) == bytes_


def test_a_process_holds_at_least_what_its_allocator_has_reserved() -> None:
    """A program that has left since our beginning must not be taken off our share."""
    assert used().own_bytes(31337, before_bytes=6_000_000_000, least_bytes=7_100_000_000) == 7_100_000_000


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A driver that knows of one card, an RTX 3090 at work."""
    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: f"card {index}",
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle[-1]}".encode(),
        "nvmlDeviceGetTemperature": lambda _handle, _sensor: 71,
        "nvmlDeviceGetPowerUsage": lambda _: 290_400,
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=98, memory=60),
        "nvmlDeviceGetTotalEnergyConsumption": lambda _: 5_000_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return monkeypatch


def test_the_load_of_a_card_is_told_in_units_of_people(driver: pytest.MonkeyPatch) -> None:
    assert card_loads() == {"GPU-0": CardLoad(71, 290.4, 0.98, 5000.0)}


def test_what_a_card_does_not_know_is_none_and_costs_nothing_else(driver: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    driver.setattr(pynvml, "nvmlDeviceGetPowerUsage", unknown)
    driver.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", unknown)
    assert card_loads() == {"GPU-0": CardLoad(71, None, 0.98, None)}
    driver.setattr(pynvml, "nvmlDeviceGetHandleByIndex", unknown)
    assert card_loads() == {}


@pytest.mark.parametrize(("percent", "busy"), [(0, False), (1, True), (100, True), (None, False)])
def test_a_card_is_busy_if_the_driver_says_that_it_has_computed(
    monkeypatch: pytest.MonkeyPatch, percent: int | None, busy: bool
) -> None:
    class Rates:
        gpu = percent

    def rates(_handle: object) -> Rates:
        if percent is None:
            raise device.pynvml.NVMLError(device.pynvml.NVML_ERROR_GPU_IS_LOST)
        return Rates()

    monkeypatch.setattr(device.pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(device.pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(device.pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(device.pynvml, "nvmlDeviceGetUtilizationRates", rates)
    assert is_busy("cuda-0") is busy
    assert not is_busy("cpu")
