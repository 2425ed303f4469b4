"""`overlay doctor`: what this machine has and lacks, without loading anything heavy."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from importlib import metadata
from typing import Any

from studio import files
from studio.cli.output import Output
from studio.cli.parser import Commands, add_command
from studio.memory.device import Gpu, has_nvidia_driver, survey
from studio.places import Workspace
from studio.runs.card_lease import holder

# The distribution's name and the module that it must bring.
_PACKAGES = {
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "bitsandbytes": "bitsandbytes",
    "accelerate": "accelerate",
    "datasets": "datasets",
    "safetensors": "safetensors",
    "gguf": "gguf",
    "pydantic": "pydantic",
    "tomlkit": "tomlkit",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
    "filelock": "filelock",
    "wakepy": "wakepy",
    "numpy": "numpy",
    "nvidia-ml-py": "pynvml",
    "PySide6-Essentials": "PySide6",
    "pyqtgraph": "pyqtgraph",
}
_LOW_DISK_BYTES = 5_000_000_000
_REPAIR = "`python3 packaging/bootstrap.py repair` mends the installation."

Finding = dict[str, str]


def register(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "doctor",
        doctor,
        "what this machine has and lacks",
        details="Looks at Python, the packages, the graphics cards and the disk, and says what to do about each problem.",
    )


def doctor(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the findings. Problems are the result, not an error: the exit code stays 0."""
    packages = {name: version for name in _PACKAGES if (version := _version(name))}
    gpus = survey()
    free = files.free_bytes(workspace.root)
    problems = [*_package_problems(packages), *_card_problems(gpus, packages), *_disk_problems(free, workspace)]
    notes = [] if gpus else ["There is no NVIDIA card: everything runs on the processor, which is slow but works."]
    document = {
        "ok": not problems,
        "python": platform.python_version(),
        "packages": packages,
        "gpus": [_gpu(gpu) for gpu in gpus],
        "disk_free_bytes": free,
        "workspace": str(workspace.root),
        "problems": problems,
        "notes": notes,
    }
    output.result(document, _text(document))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _is_there(module: str) -> bool:
    """Whether Python would find the module; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "total_bytes": gpu.total_bytes,
        "free_bytes": gpu.free_bytes,
        "driver": gpu.driver,
        "index": gpu.index,
        "held_by": _holder(gpu),
    }


def _holder(gpu: Gpu) -> str:
    """Which engine of ours has the card, "" if none."""
    found = holder(gpu.uuid) if gpu.uuid else None
    return f"the engine of {found.workspace} (process {found.pid})" if found else ""


def _package_problems(packages: dict[str, str]) -> list[Finding]:
    problems = []
    missing = [name for name in _PACKAGES if name not in packages]
    if missing:
        problems.append({"message": f"Missing: {', '.join(missing)}.", "hint": _REPAIR})
    broken = [name for name in packages if not _is_there(_PACKAGES[name])]
    if broken:
        message = f"Installed in name only: {', '.join(broken)}; the files are gone."
        problems.append({"message": message, "hint": _REPAIR})
    qt = packages.get("PySide6-Essentials", "")
    if qt.startswith("6.12.") and sys.version_info < (3, 12):
        message = f"PySide6 {qt} makes the window crash within minutes on Python {platform.python_version()}."
        problems.append({"message": message, "hint": f"Version 6.11 is sound. {_REPAIR}"})
    return problems


def _card_problems(gpus: list[Gpu], packages: dict[str, str]) -> list[Finding]:
    if gpus and packages.get("torch", "").endswith("+cpu"):
        message = f"There is a card ({gpus[0].name}), but torch is installed without support for it."
        return [{"message": message, "hint": _REPAIR}]
    if not gpus and has_nvidia_driver():
        message = "An NVIDIA driver is installed but knows of no card."
        return [{"message": message, "hint": "Restart the computer; if that does not help, reinstall the driver."}]
    return []


def _disk_problems(free_bytes: int, workspace: Workspace) -> list[Finding]:
    if free_bytes >= _LOW_DISK_BYTES:
        return []
    message = f"Only {files.readable_bytes(free_bytes)} are free on the disk that holds {workspace.root}."
    hint = f"Free {files.readable_bytes(_LOW_DISK_BYTES)}, or set OVERLAY_HOME to a folder on another disk."
    return [{"message": message, "hint": hint}]


def _text(document: dict[str, Any]) -> str:
    lines = [f"Python     {document['python']}", f"Workspace  {document['workspace']}"]
    lines.append(f"Disk       {files.readable_bytes(document['disk_free_bytes'])} free")
    for gpu in document["gpus"]:
        sizes = f"{files.readable_bytes(gpu['free_bytes'])} of {files.readable_bytes(gpu['total_bytes'])} free"
        lines.append(f"Card {gpu['index']}     {gpu['name']}, {sizes}, driver {gpu['driver']}")
        lines += [f"           held by {gpu['held_by']}"] if gpu["held_by"] else []
    lines += ["Packages", *(f"  {name} {version}" for name, version in document["packages"].items())]
    lines += [f"Note: {note}" for note in document["notes"]]
    lines += [f"Problem: {problem['message']} {problem['hint']}" for problem in document["problems"]]
    lines.append("Everything is in order." if document["ok"] else "")
    return "\n".join(lines).rstrip()
