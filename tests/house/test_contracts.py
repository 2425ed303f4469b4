"""The import contracts of pyproject.toml hold, and each one is able to break."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["contracts"]}
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# contract, module, the line that breaks it
VIOLATIONS = [
    ("no-qt-in-core", "studio/files.py", "import PySide6"),
    ("no-qt-in-core", "studio/planted.py", "import ui.widgets"),
    ("heavy-only-in-engine", "studio/runs/planted.py", "import torch"),
    ("heavy-only-in-engine", "ui/widgets/planted.py", "import transformers"),
    ("heavy-only-in-engine", "ui/pages/train.py", "import studio.engine"),
    ("core-layers", "studio/recipe/planted.py", "import studio.runs"),
    ("core-layers", "studio/files.py", "import studio.library"),
    ("window-without-commands", "ui/facts.py", "import studio.cli.output"),
    ("window-layers", "ui/form_controls.py", "import ui.form"),
    ("window-layers", "ui/pages/home.py", "import ui.pages.train"),
    ("window-layers", "ui/widgets/planted.py", "import ui.pages.chat"),
]


def modules_of(contract: dict[str, Any]) -> list[str]:
    """Our own modules that a contract names."""
    layers = [name.strip() for layer in contract.get("layers", []) for name in layer.split("|")]
    return [*layers, *contract.get("source_modules", [])]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages. A module that a contract names and nobody has written yet is empty here."""
    ours = shutil.ignore_patterns("__pycache__")
    for package in SETTINGS["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ours)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in {name for contract in CONTRACTS.values() for name in modules_of(contract)}:
        path = tmp_path / name.replace(".", "/")
        if not path.exists() and not path.with_suffix(".py").exists():
            path.with_suffix(".py").touch()
    return tmp_path


def broken(tree: Path) -> set[str]:
    """The ids of the contracts that do not hold in `tree`."""
    command = [sys.executable, "-c", LINT, "--no-cache"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    verdicts = {key: f"{contract['name']} BROKEN" in output for key, contract in CONTRACTS.items()}
    assert all(verdicts[key] or f"{contract['name']} KEPT" in output for key, contract in CONTRACTS.items()), output
    assert (done.returncode != 0) == any(verdicts.values()), output
    return {key for key, verdict in verdicts.items() if verdict}


def test_all_contracts_hold(tree: Path) -> None:
    assert broken(tree) == set()


@pytest.mark.parametrize(("contract", "module", "line"), VIOLATIONS, ids=[f"{v[1]}: {v[2]}" for v in VIOLATIONS])
def test_a_violation_breaks_its_contract(tree: Path, contract: str, module: str, line: str) -> None:
    path = tree / module
    path.write_text((path.read_text(encoding="utf-8") if path.exists() else "") + f"\n{line}\n", encoding="utf-8")
    assert contract in broken(tree)


def test_each_contract_has_been_broken_once() -> None:
    assert {contract for contract, _, _ in VIOLATIONS} == set(CONTRACTS)
