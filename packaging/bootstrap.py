"""Set Overlay Studio up in `.venv` beside `pyproject.toml`, then run one command in it.

    python packaging/bootstrap.py run            open the window
    python packaging/bootstrap.py demo           the whole job on the small starter model, without a window
    python packaging/bootstrap.py cli ARGS...    the `overlay` command, for example: cli doctor
    python packaging/bootstrap.py test [--fast]  everything that must hold before a change is accepted
    python packaging/bootstrap.py repair         look at every installed file and replace what is damaged

Needs Python 3.11 or newer and nothing else. What is there already is kept; what is missing or damaged is installed.
Interrupted at any moment, it can simply be run again.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import ctypes
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SELF = Path(__file__).resolve()
ROOT = SELF.parent.parent
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
PIN_GROUPS = ("torch", "window", "engine", "dev")
# The PyTorch packages that only a CUDA build brings; they are checked like the pins once they are there.
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")
# With this hidden option the file answers, run by the environment's Python, for what is installed there.
REPORT_OPTION = "--installed"
COMMANDS = {"run": ["-m", "ui.app"], "demo": ["-m", "studio.cli", "demo"], "cli": ["-m", "studio.cli"], "test": []}
GB = 1_000_000_000


class BootstrapError(Exception):
    """Something the user can mend: what happened, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


def say(text: str = "", end: str = "\n") -> None:
    """Progress goes to stderr: stdout belongs to the command that follows."""
    print(text, end=end, file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """`75.2` as `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# --- pins and stamp ------------------------------------------------------------------------------------------------


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


def pin_files(root: Path) -> dict[str, Path]:
    """The file of each group: torch, window, engine, dev."""
    return {group: root / "packaging" / f"requirements-{group}.txt" for group in PIN_GROUPS}


def pin_groups(root: Path) -> dict[str, dict[str, str]]:
    """The pins of each file."""
    return {group: read_pins(path) for group, path in pin_files(root).items()}


def all_pins(groups: dict[str, dict[str, str]]) -> dict[str, str]:
    """The pins of all files in one."""
    return {name: version for pins in groups.values() for name, version in pins.items()}


def fingerprint(root: Path) -> str:
    """SHA-256 over everything that decides what is installed."""
    digest = hashlib.sha256()
    for path in [*pin_files(root).values(), root / "pyproject.toml"]:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


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


# --- this computer: card and system libraries ----------------------------------------------------------------------

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


def provide_system(command: str) -> None:
    """Install missing system libraries as root on Debian and Ubuntu; elsewhere say how. Raises `BootstrapError`."""
    missing = missing_from_system(command, has_environment=VENV.joinpath("pyvenv.cfg").exists())
    if not missing:
        return
    installer = next((name for name in INSTALLERS if shutil.which(name)), None)
    line = install_command(missing, installer)
    if installer == "apt-get" and os.geteuid() == 0:
        started = time.monotonic()
        say(f"Installing system libraries: {line}")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update", "-q"], line.split()):
            done = subprocess.run(step, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode == 0:
            say(f"  done in {in_words(time.monotonic() - started)}")
            return
        say("\n".join((done.stdout + done.stderr).splitlines()[-12:]))
    if command == "run" and os.environ.get("WAYLAND_DISPLAY") and "ensurepip" not in missing:
        say(f"Should the window not open, run this first: sudo {line}")
        return
    hint = f"Run this once, then try again:\n    sudo {line}" if installer else line
    raise BootstrapError("This system lacks libraries: " + ", ".join(missing), hint)


# --- what is installed ---------------------------------------------------------------------------------------------


def report_installed(deep: bool) -> dict[str, object]:
    """What is found (name -> versions), damaged, left half-written; the Python; where the project was installed from.

    Of the interpreter that runs it: one process answers for all packages, and reads the records itself, because
    `importlib.metadata` takes twice as long. `deep` compares checksums too, which takes some ten seconds.
    """
    found: dict[str, list[str]] = {}
    damaged, unfinished, project = [], [], None
    for folder in sorted(Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        # pip renames what it is about to replace to `~name`; after an interruption such folders stay behind.
        for place in sorted(path for path in folder.glob("*.dist-info") if not path.name.startswith("~")):
            try:
                metadata, record = ((place / name).read_text("utf-8", "replace") for name in ("METADATA", "RECORD"))
            except OSError:
                # pip writes RECORD last.
                unfinished.append(str(place))
                continue
            headers = dict(re.findall(r"^(Name|Version): *(.*\S)", metadata.partition("\n\n")[0], re.MULTILINE))
            name = canonical(headers.get("Name", place.name))
            found.setdefault(name, []).append(headers.get("Version", ""))
            if not is_sound(folder, record, deep):
                damaged.append(name)
            if name == "overlay-studio":
                with contextlib.suppress(OSError, ValueError):
                    project = json.loads((place / "direct_url.json").read_text("utf-8")).get("url")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"python": python, "found": found, "damaged": damaged, "unfinished": unfinished, "project": project}


def is_sound(folder: Path, record: str, deep: bool) -> bool:
    """Whether each file that a RECORD names is there with its recorded size, and with `deep` its checksum."""
    for name, checksum, size in (row for row in csv.reader(record.splitlines()) if len(row) == 3):
        if not size or name.endswith(".pyc"):
            continue
        path = os.path.join(folder, name)
        try:
            if os.stat(path).st_size != int(size):
                return False
        except (OSError, ValueError):
            return False
        if deep and checksum.startswith("sha256=") and checksum[7:] != sha256(path):
            return False
    return True


def sha256(path: str) -> str:
    """The checksum as RECORD files spell it: URL-safe base64 without padding."""
    with open(path, "rb") as file:
        return base64.urlsafe_b64encode(hashlib.file_digest(file, "sha256").digest()).decode().rstrip("=")


def inspect(deep: bool = False) -> dict | None:
    """`report_installed` of the environment's Python; None if that Python or its pip cannot be relied on."""
    command = [str(python_of()), "-I", str(SELF), REPORT_OPTION, *(["--deep"] if deep else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    return report if "pip" in report["found"] and "pip" not in report["damaged"] else None


def wrong_packages(report: dict, pins: dict[str, str]) -> list[str]:
    """Pinned packages that are missing, of another version, there twice, or damaged."""
    wrong = []
    for name, version in pins.items():
        # `2.13.0+cpu` satisfies the pin `2.13.0`: the build is chosen elsewhere.
        versions = [found if "+" in version else found.split("+")[0] for found in report["found"].get(name, [])]
        if versions != [version] or name in report["damaged"]:
            wrong.append(name)
    return wrong


# --- running pip ---------------------------------------------------------------------------------------------------

# What pip's output says -> what to do about it; the first that fits counts.
REMEDIES = (
    (
        r"No space left|not enough space|Errno 28",
        "The disk is full. Free some space (pip also uses TMPDIR), then run this again.",
    ),
    (
        r"NewConnection|NameResolution|getaddrinfo|name resolution|timed out|Connection(Reset|Refused)?Error|ProxyError",
        "The internet could not be reached. Check the connection (or the proxy settings), then run this again.",
    ),
    (
        r"SSLError|CERTIFICATE_VERIFY",
        "The secure connection was refused. Check the clock and the proxy, then run this again.",
    ),
    (
        r"No matching distribution|Could not find a version",
        "No build for this Python or this computer. Python 3.11, 3.12 and 3.13 on 64-bit Linux or Windows are sure to work.",
    ),
    (
        r"Permission denied|Access is denied|Errno 13",
        "A file is in use or protected. Close Overlay Studio, then run this again.",
    ),
)


def python_of() -> Path:
    """The environment's interpreter."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip_environment() -> dict[str, str]:
    """The caller's settings (proxies, certificates, indexes), less what would lead pip out of the environment."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run_logged(arguments: list[str], what: str) -> None:
    """Run a program with its output in `.venv/bootstrap.log`, showing that time passes. Raises `BootstrapError`."""
    path = VENV / "bootstrap.log"
    started, told = time.monotonic(), 0.0
    with path.open("ab") as log:
        log.write(("\n$ " + " ".join(arguments) + "\n").encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, env=pip_environment()
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.5)
                elapsed = time.monotonic() - started
                if sys.stderr.isatty():
                    say(f"\r      {in_words(elapsed)} ", end="")
                elif elapsed - told >= 60:
                    told = elapsed
                    say(f"      still at it, {in_words(elapsed)}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        output = path.read_bytes()[begin:].decode("utf-8", "replace").strip()
        tail = "\n".join("      " + line for line in output.splitlines()[-8:])
        raise BootstrapError(f"{what} failed. The last lines of .venv/bootstrap.log:\n{tail}", remedy(output[-8000:]))


def remedy(log: str) -> str:
    """What to do about a failed installation, read off the end of pip's output."""
    for pattern, advice in REMEDIES:
        if re.search(pattern, log, re.IGNORECASE):
            return advice
    return "Run this again; if it fails in the same way, delete the folder .venv and try once more."


def pip(arguments: list[str], what: str) -> None:
    """Run the environment's pip."""
    run_logged([str(python_of()), "-I", "-m", "pip", *arguments], what)


# --- the environment -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def only_one(venv: Path = VENV):
    """Hold the environment's lock; wait for whoever has it. The system frees it when a process dies."""
    venv.mkdir(parents=True, exist_ok=True)
    with (venv / "bootstrap.lock").open("a+b") as file:
        told = False
        while not try_lock(file):
            if not told:
                say("Another set-up is at work in this folder. Waiting for it to end.")
            told = True
            time.sleep(0.3)
        yield


def try_lock(file) -> bool:
    """Take an exclusive lock on an open file, or say that somebody has it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def create_environment() -> None:
    """An empty environment; what lies in its place goes, except our lock and log."""
    for path in VENV.iterdir():
        if path.name in ("bootstrap.lock", "bootstrap.log"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    run_logged([sys.executable, "-I", "-m", "venv", str(VENV)], "Making the environment")


def remove_packages(report: dict, names: list[str]) -> None:
    """Take wrong packages out, so that pip starts from nothing; half-written ones have no record and go by hand."""
    for folder in report["unfinished"]:
        shutil.rmtree(folder, ignore_errors=True)
    present = [name for name in names if name in report["found"]]
    for _ in range(max((len(report["found"][name]) for name in present), default=0)):
        pip(["uninstall", "-y", *present], "Removing damaged packages")


def need_room(build: str, torch_missing: bool, cuda: str | None) -> None:
    """Raise `BootstrapError` now rather than half-way through a download."""
    needed = 0.5 * GB if not torch_missing else 8 * GB if (cuda and build != "cpu") else 3 * GB
    free = shutil.disk_usage(VENV).free
    if free < needed:
        raise BootstrapError(
            f"There is not enough room on the disk: about {needed / GB:.1f} GB are needed, {free / GB:.1f} GB are free.",
            "Free some space, or move this folder to a larger disk, then run this again.",
        )


def install_steps(
    wrong: list[str], groups: dict[str, dict[str, str]], extras: dict[str, str], source: tuple[str, list[str]]
):
    """(title, pip arguments) for each part that has something missing; PyTorch first and alone."""
    build, torch_arguments = source
    constraints = [part for group in PIN_GROUPS[1:] for part in ("-c", f"packaging/requirements-{group}.txt")]
    kind = {"cpu": "for the processor, about 200 MB", "pip": "from where pip is told to look"}
    titles = {
        "torch": f"PyTorch, {kind.get(build, 'for NVIDIA cards, about 3 GB')}",
        "window": "the window: Qt and its friends, about 130 MB",
        "engine": "the engine: transformers, PEFT, bitsandbytes and the starter model, about 300 MB",
        "dev": "the checks: pytest, ruff, mypy, about 40 MB",
    }
    for group in PIN_GROUPS:
        names = [name for name in groups[group] if name in wrong]
        if group == "torch" and names:
            yield titles[group], [*torch_arguments, *constraints]
        elif names:
            part = ", ".join(names) if len(names) < min(6, len(groups[group])) else titles[group]
            yield part, ["--no-deps", *(f"{name}=={groups[group][name]}" for name in names)]
    if "torch" not in wrong and any(name in wrong for name in extras):
        yield "CUDA libraries", ["--no-deps", *(f"{name}=={extras[name]}" for name in extras if name in wrong)]


def install(reason: str, report: dict | None, stamp: dict, cuda: str | None) -> None:
    """Bring the environment to what the pins say, from whatever state it is in."""
    started = time.monotonic()
    say(f"{reason} Setting up in {VENV}; an interruption does no harm.")
    write_stamp({**stamp, "state": "incomplete"}, VENV)
    if report is None or report["python"] != stamp.get("python", report["python"]):
        say("  First a Python environment of its own")
        create_environment()
        report, stamp = inspect(), {}
        write_stamp({"state": "incomplete"}, VENV)
        if report is None:
            raise BootstrapError("The new environment's Python does not run.", "Reinstall Python, then run this again.")
    groups, extras = pin_groups(ROOT), stamp.get("extras", {})
    wrong = wrong_packages(report, {**extras, **all_pins(groups)})
    listing = [str(python_of()), "-I", "-m", "pip", "config", "list"]
    configured = has_own_index(subprocess.run(listing, capture_output=True, text=True, check=False).stdout)
    source = torch_source(groups["torch"]["torch"], cuda, configured, os.name == "nt")
    if stamp.get("torch") == "cpu" and cuda and "torch" not in wrong:
        wrong.append("torch")
    need_room(source[0], "torch" in wrong, cuda)
    remove_packages(report, wrong)
    steps = [
        *install_steps(wrong, groups, extras, source),
        ("Overlay Studio itself", ["--no-deps", "--no-build-isolation", "-e", "."]),
    ]
    for number, (title, arguments) in enumerate(steps, 1):
        begun = time.monotonic()
        say(f"  Step {number} of {len(steps)}: {title}")
        pip(["install", "--progress-bar", "off", "--no-warn-script-location", *arguments], f"Installing {title}")
        say(f"{chr(13) if sys.stderr.isatty() else ''}      done in {in_words(time.monotonic() - begun)}")
    finish(groups, source[0] if "torch" in wrong else stamp.get("torch", "kept"))
    say(f"Ready after {in_words(time.monotonic() - started)}.")


def finish(groups: dict[str, dict[str, str]], build: str) -> None:
    """Look once more at everything, then write the stamp that says so."""
    report, pinned = inspect(), all_pins(groups)
    wrong = ["Python"] if report is None else wrong_packages(report, pinned)
    if wrong or report is None:
        raise BootstrapError(
            f"Some packages are still not right: {', '.join(wrong)}.", "Delete the folder .venv, then run this again."
        )
    brought = [name for name in report["found"] if name.startswith(CUDA_PACKAGES) and name not in pinned]
    stamp = {"schema": 1, "state": "complete", "fingerprint": fingerprint(ROOT), "python": report["python"]}
    write_stamp({**stamp, "torch": build, "extras": {name: report["found"][name][0] for name in brought}}, VENV)


def ensure(deep: bool = False) -> None:
    """Make sure that the environment holds exactly what it should. Raises `BootstrapError`."""
    with only_one():
        stamp, cuda = read_stamp(VENV), detect_cuda()
        reason = why_not_trusted(stamp, fingerprint(ROOT), cuda)
        report = inspect(deep=deep) if python_of().exists() else None
        if reason is None and report is None:
            reason = "The environment's Python does not run any more."
        if reason is None:
            wrong = wrong_packages(report, {**stamp["extras"], **all_pins(pin_groups(ROOT))})
            if wrong:
                reason = f"Missing or damaged: {', '.join(wrong)}."
            elif report["python"] != stamp["python"]:
                reason = "The computer's Python has changed."
            elif report["project"] != ROOT.as_uri():
                reason = "The folder of Overlay Studio has moved."
        if reason:
            install(reason, report, stamp, cuda)


# --- the command line ----------------------------------------------------------------------------------------------


def hand_over(arguments: list[str]) -> int:
    """Run the environment's Python in the caller's folder. On Linux it takes this process's place."""
    # -P keeps the caller's folder off the import path: a file of theirs named torch.py must not be taken for PyTorch.
    command = [str(python_of()), "-P", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    if os.name != "nt":
        os.execve(command[0], command, environment)
    process = subprocess.Popen(command, env=environment)
    while True:
        # Windows sends Ctrl-C to the command as well, which ends in its own way.
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


def main(arguments: list[str]) -> int:
    """Exit code: the command's own; 2 when something must be mended first, 130 when interrupted."""
    if arguments[:1] == [REPORT_OPTION]:
        print(json.dumps(report_installed("--deep" in arguments)))
        return 0
    if sys.version_info < OLDEST_PYTHON:
        say(f"Overlay Studio needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
        say("Install a newer one from python.org, then run this again with it.")
        return 2
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if command not in (*COMMANDS, "repair"):
        say(__doc__)
        return 0 if command in ("--help", "-h", "help") else 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if sys.platform == "linux":
            provide_system(command)
        ensure(deep=command == "repair")
    except BootstrapError as error:
        say(f"\n{error.message}\n{error.hint}")
        return 2
    except KeyboardInterrupt:
        say("\nInterrupted. Nothing is lost: run the same command again and it goes on.")
        return 130
    if command == "repair":
        say("Everything is in order.")
        return 0
    start = [str(SELF.with_name("check.py"))] if command == "test" else COMMANDS[command]
    return hand_over([*start, *rest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
