"""What holds for every test: patience on a machine that is busy with others, and no word to the desktop that it stay awake."""

import gc
import os

from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
# wakepy's own way to be tested; processes that are started here inherit it.
os.environ.setdefault("WAKEPY_FAKE_SUCCESS", "1")
# No test cuts the power: what is written is seen by every process, flushed or not. A descriptor that is none is still refused.
os.fsync = os.fstat  # type: ignore[assignment]


def pytest_collection_finish() -> None:
    """What the libraries have brought along stays: the collector need not go through it again with every run of a test's."""
    gc.collect()
    gc.freeze()
