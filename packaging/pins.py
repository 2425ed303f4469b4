"""What should be installed, and whether it is: pins, the stamp, the verdict. Part of `bootstrap.py`, standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

PIN_GROUPS = ("torch", "window", "engine", "dev")


class BootstrapError(Exception):
    """Something the user can mend: what happened, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# --- what should be there ------------------------------------------------------------------------------------------


def canonical(name: str) -> str:
    """`PySide6_Essentials` and `pyside6-essentials` are one package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, str]:
    """Canonical name -> exact version. Raises `BootstrapError` on a line that pins nothing."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", text)
        if not match:
            raise BootstrapError(f"{path.name} has a line that is no exact pin: {text}", "Write it as name==version.")
        pins[canonical(match[1])] = match[2]
    return pins


def pin_groups(root: Path) -> dict[str, dict[str, str]]:
    """The pins of each file: torch, window, engine, dev."""
    return {group: read_pins(root / "packaging" / f"requirements-{group}.txt") for group in PIN_GROUPS}


def all_pins(groups: dict[str, dict[str, str]]) -> dict[str, str]:
    """The pins of all files in one."""
    return {name: version for pins in groups.values() for name, version in pins.items()}


def fingerprint(root: Path) -> str:
    """SHA-256 over everything that decides what is installed."""
    digest = hashlib.sha256()
    for path in [*(root / "packaging" / f"requirements-{group}.txt" for group in PIN_GROUPS), root / "pyproject.toml"]:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def same_version(found: str, wanted: str) -> bool:
    """`2.13.0+cpu` satisfies the pin `2.13.0`: the build is chosen elsewhere."""
    return found == wanted or ("+" not in wanted and found.split("+")[0] == wanted)


def wrong_packages(report: dict, pins: dict[str, str]) -> list[str]:
    """Pinned packages that are missing, of another version, there twice, or damaged."""
    wrong = []
    for name, version in pins.items():
        versions = report["found"].get(name, [])
        if len(versions) != 1 or not same_version(versions[0], version) or name in report["damaged"]:
            wrong.append(name)
    return wrong


# --- the stamp -----------------------------------------------------------------------------------------------------


def read_stamp(venv: Path) -> dict:
    """What the last bootstrap wrote; empty if there was none or it is unreadable."""
    try:
        stamp = json.loads((venv / "bootstrap.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(stamp: dict, venv: Path) -> None:
    """Replace the stamp in one move."""
    temporary = venv / "bootstrap.json.new"
    temporary.write_text(json.dumps(stamp, indent=2), encoding="utf-8")
    os.replace(temporary, venv / "bootstrap.json")


def why_not_trusted(stamp: dict, wanted: str, cuda: str | None) -> str | None:
    """The reason to look closer at an environment with this stamp, as a sentence; None if the stamp is good.

    `wanted` is today's `fingerprint`, `cuda` the CUDA build for this computer's card, None without a card.
    """
    if not stamp:
        return "Overlay Studio is not set up yet."
    if stamp.get("state") != "complete":
        return "The last set-up was interrupted."
    if stamp.get("fingerprint") != wanted:
        return "Overlay Studio needs other packages than when it was set up."
    if stamp.get("torch") == "cpu" and cuda:
        return "There is an NVIDIA card now: PyTorch is replaced by the build that uses it."
    return None
