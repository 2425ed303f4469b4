"""A pytest plugin that hides Qt: `-p tests.no_qt -p no:pytest-qt` proves that the core runs where it is not installed."""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

HIDDEN = {"PySide6", "shiboken6", "pyqtgraph"}


class HideQt(importlib.abc.MetaPathFinder):
    """Answers for Qt's modules as if they were not there."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {fullname!r} (hidden by tests.no_qt)", name=fullname)
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest-qt, which is off here, would have declared the setting in pyproject.toml.
    parser.addini("qt_api", "unused: Qt is hidden")


def pytest_configure() -> None:
    already = HIDDEN & set(sys.modules)
    assert not already, f"{already} were imported before they could be hidden"
    sys.meta_path.insert(0, HideQt())
