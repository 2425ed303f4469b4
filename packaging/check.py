"""Everything that must hold before a change is accepted, in one command; run it as `bootstrap.py test`.

    test             format, lint, types, layers, then all tests
    test --fast      the same without the tests marked slow
    test -- ARGS...  ARGS are handed to each pytest call, for example -- -k recipe

All stages run even when an early one fails. The last line is `N passed, N failed`, summed over all tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5  # pytest's exit code when it has found none
NO_DISPLAY = 1


@dataclass(frozen=True)
class Tier:
    """One pytest call: the folders, its options, and the Qt platform (`offscreen`, `xcb`, or none at all)."""

    title: str
    folders: tuple[str, ...]
    options: tuple[str, ...]
    qt_platform: str = ""


LINTERS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "lint": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "layers": ["importlinter.cli", "lint-imports"],
}
# Whoever has done his half takes from the other's: tests differ by a factor of a thousand in how long they take.
TWO_AT_ONCE = ("-n", "2", "--dist", "worksteal")
TIERS = (
    Tier(
        "core, without Qt",
        ("tests/studio", "tests/packaging", "tests/house"),
        ("-p", "tests.no_qt", "-p", "no:pytest-qt", *TWO_AT_ONCE),
    ),
    Tier("window, offscreen", ("tests/ui",), TWO_AT_ONCE, "offscreen"),
    Tier("journeys, on a display", ("tests/journeys",), (), "xcb"),
)


def say(text: str) -> None:
    """One line, at once: the stages' own output comes between."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_linter(arguments: list[str]) -> int:
    """Exit code of one of `LINTERS`."""
    if arguments[0] == "importlinter.cli":
        code = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[:] = ['lint-imports']; run()"
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False).returncode


def environment_for_tests(workspace: Path, workers: int) -> dict[str, str]:
    """The caller's environment, with no network, no tokens and a workspace of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    threads = 1 if workers > 1 else min(4, os.cpu_count() or 1)
    return {
        **kept,
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HOME": str(workspace / "huggingface"),
        "OVERLAY_HOME": str(workspace / "overlay"),
    }


@contextlib.contextmanager
def display() -> Iterator[str]:
    """The name of a fresh virtual display, gone afterwards. Raises `OSError` if there is no Xvfb or it does not start."""
    program = shutil.which("Xvfb")
    if not program:
        raise OSError("Xvfb is missing (Debian and Ubuntu: apt-get install xvfb)")
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, pass_fds=(writing,), stdin=quiet, stdout=quiet, stderr=quiet)
    os.close(writing)
    try:
        # Xvfb writes its number once it accepts clients, and closes the pipe if it cannot start.
        with os.fdopen(reading) as pipe:
            number = pipe.readline().strip()
        if not number:
            raise OSError("Xvfb did not start")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()


def has_tests(tier: Tier) -> list[str]:
    """Those of the tier's folders that hold a test."""
    return [folder for folder in tier.folders if any((ROOT / folder).rglob("test_*.py"))]


def run_tier(tier: Tier, extra: list[str]) -> tuple[int, int, int]:
    """(exit code, passed, failed) of one pytest call."""
    folders = has_tests(tier)
    if not folders:
        return NO_TESTS, 0, 0
    with tempfile.TemporaryDirectory(prefix="overlay-check-") as name, contextlib.ExitStack() as stack:
        environment = environment_for_tests(Path(name), workers=2 if "-n" in tier.options else 1)
        if tier.qt_platform:
            environment["QT_QPA_PLATFORM"] = tier.qt_platform
        if tier.qt_platform == "xcb":
            if sys.platform == "linux":
                environment["DISPLAY"] = stack.enter_context(display())
                environment.pop("WAYLAND_DISPLAY", None)
            else:
                del environment["QT_QPA_PLATFORM"]
        results = Path(name) / "results.xml"
        command = [sys.executable, "-m", "pytest", *folders, *tier.options, f"--junitxml={results}", *extra]
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        passed, failed = count(results)
    return code, passed, failed or int(code not in (0, NO_TESTS))


def count(results: Path) -> tuple[int, int]:
    """(passed, failed) of a JUnit file; an error in a fixture or while collecting counts as failed."""
    passed = failed = 0
    with contextlib.suppress(OSError, ElementTree.ParseError):
        for suite in ElementTree.parse(results).iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            failed += bad
            passed += int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0))
    return passed, failed


def main(arguments: list[str]) -> int:
    """0 if every stage passed, else 1; 2 for an unknown option."""
    options, extra = arguments, []
    if "--" in arguments:
        split = arguments.index("--")
        options, extra = arguments[:split], arguments[split + 1 :]
    if set(options) - {"--fast"}:
        say((__doc__ or "").strip())
        return 0 if set(options) <= {"--help", "-h", "--fast"} else 2
    if "--fast" in options:
        extra = ["-m", "not slow", *extra]
    bad_stages = []
    for title, linter in LINTERS.items():
        started = time.monotonic()
        code = run_linter(linter)
        say(f"== {title}: {'ok' if code == 0 else 'FAILED'}, {time.monotonic() - started:.1f} s")
        if code:
            bad_stages.append(title)
    passed, failed, bad_tiers = run_tiers(extra)
    if bad_stages + bad_tiers:
        say("Failed: " + "; ".join(bad_stages + bad_tiers))
    say(f"{passed} passed, {failed} failed")
    return 1 if bad_stages + bad_tiers else 0


def run_tiers(extra: list[str]) -> tuple[int, int, list[str]]:
    """(passed, failed, titles of the tiers that failed)."""
    passed = failed = 0
    bad = []
    for tier in TIERS:
        started = time.monotonic()
        try:
            code, good, wrong = run_tier(tier, extra)
        except OSError as error:
            say(f"{tier.title}: {error}")
            code, good, wrong = NO_DISPLAY, 0, 1
        state = {0: "ok", NO_TESTS: "no tests yet"}.get(code, "FAILED")
        say(f"== {tier.title}: {state}, {time.monotonic() - started:.1f} s")
        passed, failed = passed + good, failed + wrong
        if code not in (0, NO_TESTS):
            bad.append(tier.title)
    return passed, failed, bad


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)
