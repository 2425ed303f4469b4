"""A process is ended by its number and its start time, and no other one ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from studio.runs.processes import is_alive, kill


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    yield process
    process.kill()
    process.wait()


def test_that_very_process_is_ended(child: subprocess.Popen[bytes]) -> None:
    started = psutil.Process(child.pid).create_time()
    assert kill(child.pid, started)
    assert child.wait(20) != 0
    assert not is_alive(child.pid, started)
    assert not kill(child.pid, started), "it is gone"


def test_another_one_by_the_same_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    started = psutil.Process(child.pid).create_time()
    assert not kill(child.pid, started - 60)
    assert is_alive(child.pid, started)
