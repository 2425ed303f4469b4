"""The one command of CI: what it counts, and what it hands to the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "packaging" / "check.py"
spec = importlib.util.spec_from_file_location("overlay_check", SOURCE)
assert spec is not None
assert spec.loader is not None
check = importlib.util.module_from_spec(spec)
sys.modules["overlay_check"] = check
spec.loader.exec_module(check)

PASSING = "def test_one():\n    assert True\n\ndef test_two():\n    assert True\n"
FAILING = "def test_one():\n    assert True\n\ndef test_two():\n    assert False\n"
BROKEN = "import nothing_of_that_name\n"


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, *extra: str) -> tuple[int, int, int]:
    """One tier over one test file, by a real pytest."""
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests").mkdir()
    if text is not None:
        (tmp_path / "tests" / "test_it.py").write_text(text)
    answer: tuple[int, int, int] = check.run_tier(check.Tier("t", ("tests",), ("-p", "no:pytest-qt")), list(extra))
    return answer


def test_passed_and_failed_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, monkeypatch, FAILING) == (1, 1, 1)


def test_arguments_reach_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, monkeypatch, PASSING, "-k", "two") == (0, 1, 0)


def test_a_file_that_cannot_be_collected_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, passed, failed = run(tmp_path, monkeypatch, BROKEN)
    assert code != 0
    assert (passed, failed) == (0, 1)


def test_a_folder_without_tests_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path, monkeypatch, None) == (check.NO_TESTS, 0, 0)


def test_the_core_tier_hides_qt_in_every_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests" / "core").mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copy(SOURCE.parent.parent / "tests" / "no_qt.py", tmp_path / "tests")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nqt_api = "pyside6"\naddopts = "--strict-config"\n'
    )
    (tmp_path / "tests" / "core" / "test_it.py").write_text(
        "import importlib\nimport pytest\n\n"
        "@pytest.mark.parametrize('name', ['PySide6.QtCore', 'shiboken6', 'pyqtgraph', 'json'])\n"
        "def test_it(name):\n    importlib.import_module(name)\n"
    )
    monkeypatch.setattr(check, "ROOT", tmp_path)
    tier = check.Tier("core", ("tests/core",), check.TIERS[0].options)
    assert check.run_tier(tier, []) == (1, 1, 3)


def test_tests_get_no_network_no_token_and_their_own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OVERLAY_HOME", "somewhere-real")
    environment = check.environment_for_tests(tmp_path, workers=2)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "hf_secret" not in environment.values()
    assert Path(environment["OVERLAY_HOME"]).is_relative_to(tmp_path)
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"] == os.environ["PATH"]


def test_a_missing_xvfb_is_told_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(PASSING)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "TIERS", (check.Tier("journeys", ("tests",), (), "xcb"),))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check.run_tiers([]) == (0, 1, ["journeys"])
    assert "Xvfb" in capsys.readouterr().out
