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

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Absolute, and first: `packaging` is also the name of a library, and of no package here.
sys.path.insert(0, str(ROOT / "packaging"))

import machine  # noqa: E402
from pins import (  # noqa: E402
    PIN_GROUPS,
    BootstrapError,
    all_pins,
    fingerprint,
    pin_groups,
    read_stamp,
    why_not_trusted,
    write_stamp,
    wrong_packages,
)

VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
# The PyTorch packages that only a CUDA build brings; they are checked like the pins once they are there.
CUDA_PACKAGES = ("nvidia-", "cuda-", "triton")
COMMANDS = {"run": ["-m", "ui.app"], "demo": ["-m", "studio.cli", "demo"], "cli": ["-m", "studio.cli"], "test": []}
GB = 1_000_000_000


def say(text: str = "", end: str = "\n") -> None:
    """Progress goes to stderr: stdout belongs to the command that follows."""
    print(text, end=end, file=sys.stderr, flush=True)


# --- system libraries (Linux) --------------------------------------------------------------------------------------


def provide_system(command: str) -> None:
    """Install missing system libraries as root on Debian and Ubuntu; elsewhere say how. Raises `BootstrapError`."""
    missing = machine.missing_from_system(command, has_environment=VENV.joinpath("pyvenv.cfg").exists())
    if not missing:
        return
    installer = next((name for name in machine.INSTALLERS if shutil.which(name)), None)
    line = machine.install_command(missing, installer)
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
    known = installer in machine.INSTALLERS
    raise BootstrapError(
        "This system lacks libraries: " + ", ".join(missing),
        f"Run this once, then try again:\n    sudo {line}" if known else line,
    )


# --- running pip ---------------------------------------------------------------------------------------------------


def python_of(venv: Path = VENV) -> Path:
    """The environment's interpreter."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip_environment() -> dict[str, str]:
    """The caller's settings (proxies, certificates, indexes), less what would lead pip out of the environment."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def in_words(seconds: float) -> str:
    """`75.2` as `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def remedy(log: str) -> str:
    """What to do about a failed installation, read off the end of pip's output."""
    causes = [
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
    ]
    for pattern, advice in causes:
        if re.search(pattern, log, re.IGNORECASE):
            return advice
    return "Run this again; if it fails in the same way, delete the folder .venv and try once more."


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


def inspect(deep: bool = False) -> dict | None:
    """What `installed.py` reports; None if the environment's Python or pip cannot be relied on."""
    command = [str(python_of()), "-I", str(ROOT / "packaging" / "installed.py"), *(["--deep"] if deep else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    return report if "pip" in report["found"] and "pip" not in report["damaged"] else None


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
    configured = machine.has_own_index(subprocess.run(listing, capture_output=True, text=True, check=False).stdout)
    source = machine.torch_source(groups["torch"]["torch"], cuda, configured, os.name == "nt")
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
    report = inspect()
    wrong = ["Python"] if report is None else wrong_packages(report, all_pins(groups))
    if wrong or report is None:
        raise BootstrapError(
            f"Some packages are still not right: {', '.join(wrong)}.", "Delete the folder .venv, then run this again."
        )
    extras = {name: versions[0] for name, versions in report["found"].items() if name.startswith(CUDA_PACKAGES)}
    pinned = all_pins(groups)
    write_stamp(
        {
            "schema": 1,
            "state": "complete",
            "fingerprint": fingerprint(ROOT),
            "python": report["python"],
            "torch": build,
            "extras": {name: version for name, version in extras.items() if name not in pinned},
        },
        VENV,
    )


def ensure(deep: bool = False) -> None:
    """Make sure that the environment holds exactly what it should. Raises `BootstrapError`."""
    with only_one():
        stamp, cuda = read_stamp(VENV), machine.detect_cuda()
        reason = why_not_trusted(stamp, fingerprint(ROOT), cuda)
        report = inspect(deep=deep) if python_of().exists() else None
        if reason is None and report is None:
            reason = "The environment's Python does not run any more."
        if reason is None:
            pins = {**stamp["extras"], **all_pins(pin_groups(ROOT))}
            wrong = wrong_packages(report, pins)
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
    start = [str(ROOT / "packaging" / "check.py")] if command == "test" else COMMANDS[command]
    return hand_over([*start, *rest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
