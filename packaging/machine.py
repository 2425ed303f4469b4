"""What this computer has and lacks: a card, shared libraries, programs. Part of `bootstrap.py`, standard library only."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess

PYTORCH_WHEELS = "https://download.pytorch.org/whl/"

# Shared library -> the package that holds it, for apt, dnf and pacman. Read off PySide6's QtWidgets and xcb plugin.
LIBRARIES = {
    "libEGL.so.1": ("libegl1", "libglvnd-egl", "libglvnd"),
    "libGL.so.1": ("libgl1", "libglvnd-glx", "libglvnd"),
    "libX11-xcb.so.1": ("libx11-xcb1", "libX11-xcb", "libx11"),
    "libdbus-1.so.3": ("libdbus-1-3", "dbus-libs", "dbus"),
    "libfontconfig.so.1": ("libfontconfig1", "fontconfig", "fontconfig"),
    "libfreetype.so.6": ("libfreetype6", "freetype", "freetype2"),
    "libglib-2.0.so.0": ("libglib2.0-0", "glib2", "glib2"),
    "libgssapi_krb5.so.2": ("libgssapi-krb5-2", "krb5-libs", "krb5"),
    "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon", "libxkbcommon"),
    "libxkbcommon-x11.so.0": ("libxkbcommon-x11-0", "libxkbcommon-x11", "libxkbcommon-x11"),
    "libxcb-cursor.so.0": ("libxcb-cursor0", "xcb-util-cursor", "xcb-util-cursor"),
    "libxcb-icccm.so.4": ("libxcb-icccm4", "xcb-util-wm", "xcb-util-wm"),
    "libxcb-image.so.0": ("libxcb-image0", "xcb-util-image", "xcb-util-image"),
    "libxcb-keysyms.so.1": ("libxcb-keysyms1", "xcb-util-keysyms", "xcb-util-keysyms"),
    "libxcb-render-util.so.0": ("libxcb-render-util0", "xcb-util-renderutil", "xcb-util-renderutil"),
    "libxcb-randr.so.0": ("libxcb-randr0", "libxcb", "libxcb"),
    "libxcb-shape.so.0": ("libxcb-shape0", "libxcb", "libxcb"),
    "libxcb-shm.so.0": ("libxcb-shm0", "libxcb", "libxcb"),
    "libxcb-sync.so.1": ("libxcb-sync1", "libxcb", "libxcb"),
    "libxcb-xfixes.so.0": ("libxcb-xfixes0", "libxcb", "libxcb"),
    "libxcb-xkb.so.1": ("libxcb-xkb1", "libxcb", "libxcb"),
    "Xvfb": ("xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb"),
    "ensurepip": ("python3-venv", "python3-pip", "python-pip"),
}
INSTALLERS = {
    "apt-get": "apt-get install -y --no-install-recommends",
    "dnf": "dnf install -y",
    "pacman": "pacman -S --needed",
}


# --- the card ------------------------------------------------------------------------------------------------------


def cuda_build(smi_output: str | None, driver_loads: bool) -> str | None:
    """The CUDA build for the slowest card that `nvidia-smi` lists, None without a driver.

    `smi_output` has one line `compute capability, driver version` per card; None when there is no such program.
    CUDA 13 needs a card from 2018 on (capability 7.5) and driver 580; older ones still have CUDA 12.6.
    """
    cards = re.findall(r"^(\d+)\.(\d+), *(\d+)\.", smi_output or "", re.MULTILINE)
    if not cards:
        return "cu130" if driver_loads or smi_output is not None else None
    recent = all((int(major), int(minor)) >= (7, 5) and int(driver) >= 580 for major, minor, driver in cards)
    return "cu130" if recent else "cu126"


def detect_cuda() -> str | None:
    """`cuda_build` for this computer."""
    loads = loadable("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    program = shutil.which("nvidia-smi")
    if not program:
        return cuda_build(None, loads)
    query = [program, "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    return cuda_build(answer, loads)


def torch_source(version: str, cuda: str | None, pip_configured: bool, windows: bool) -> tuple[str, list[str]]:
    """Which build to take and pip's arguments for it. Whoever configured pip knows better than we do."""
    plain = [f"torch=={version}"]
    if pip_configured:
        return "pip", plain
    build = cuda or "cpu"
    # PyPI carries CUDA 13.0 for Linux and the processor-only build for Windows; PyTorch's own index carries all.
    if build == ("cpu" if windows else "cu130"):
        return build, plain
    return build, [f"torch=={version}+{build}", "--extra-index-url", PYTORCH_WHEELS + build]


def has_own_index(config_list: str) -> bool:
    """Whether `pip config list` names an index or a folder of wheels."""
    return bool(re.search(r"\.(index-url|extra-index-url|find-links|no-index)=", config_list))


# --- system libraries (Linux) --------------------------------------------------------------------------------------


def loadable(library: str) -> bool:
    """Whether the system's loader finds this shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_from_system(command: str, has_environment: bool) -> list[str]:
    """Keys of `LIBRARIES` that `command` needs and this Linux lacks."""
    missing = [] if has_environment or importlib.util.find_spec("ensurepip") else ["ensurepip"]
    if command in ("run", "test"):
        missing += [name for name in LIBRARIES if name.startswith("lib") and not loadable(name)]
    if command == "test" and not shutil.which("Xvfb"):
        missing.append("Xvfb")
    return missing


def install_command(missing: list[str], installer: str | None) -> str:
    """The one command that installs what is missing, or the plain list where the installer is unknown."""
    if installer not in INSTALLERS:
        return "Install these with your system's package manager: " + ", ".join(missing)
    column = list(INSTALLERS).index(installer)
    packages = dict.fromkeys(LIBRARIES[name][column] for name in missing)
    return f"{INSTALLERS[installer]} {' '.join(packages)}"
