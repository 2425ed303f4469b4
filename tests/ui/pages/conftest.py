"""What the tests of several pages begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.pages.dataset_bench import Bench


@pytest.fixture
def bench(tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The Datasets page, with a workspace of its own."""
    monkeypatch.setenv("OVERLAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    made = Bench(tmp_path, qtbot)
    yield made
    made.close()
