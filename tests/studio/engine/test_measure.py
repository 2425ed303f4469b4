"""What the process holds, on a computer without a card."""

import subprocess
import sys

import psutil
import pytest
import torch

from studio.engine.measure import card_of, give_back_unused, memory, remember_cards, reset_peaks

CPU = torch.device("cpu")


def resident():
    return psutil.Process().memory_info().rss


def test_resident_memory_is_all_there_is_without_a_card():
    measured = memory(7, CPU)
    assert measured.step == 7
    assert measured.process_bytes >= 0.9 * resident()
    assert (measured.allocated_bytes, measured.reserved_bytes) == (None, None)
    assert card_of(CPU) is None


HIGH_AND_LOW = """
import torch
from studio.engine.measure import memory, reset_peaks
cpu = torch.device("cpu")
reset_peaks(cpu)
print(memory(0, cpu).process_bytes)
large = torch.ones(50_000_000)  # 200 MB
del large
print(memory(1, cpu).process_bytes)
reset_peaks(cpu)
print(memory(2, cpu).process_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a mark that can be set back")
def test_a_peak_is_remembered_until_it_is_reset():
    # A process of its own: in this one, earlier tests have left memory behind that would be taken up again.
    done = subprocess.run([sys.executable, "-c", HIGH_AND_LOW], capture_output=True, text=True, check=True)
    before, high, low = map(int, done.stdout.split())
    assert high > before + 150_000_000
    assert low < before + 100_000_000


def test_remembering_the_cards_needs_none():
    remember_cards()
    reset_peaks(CPU)
    assert memory(0, CPU).process_bytes > 0


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries keep to themselves what they hold")
def test_holes_between_what_is_still_held_are_given_back():
    held = [torch.ones(25_000) for _ in range(2000)]  # 100 KB each
    del held[::2]
    before = resident()
    give_back_unused(CPU)
    assert resident() < before - 60_000_000
    assert all(bool((one == 1).all()) for one in held[:50])
