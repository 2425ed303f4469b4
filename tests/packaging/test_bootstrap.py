"""The decisions of bootstrap.py, each at its narrowest seam. Nothing is installed here."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "packaging" / "bootstrap.py"
PIN_TEXT = {
    "torch": "torch==2.13.0\n",
    "window": "# Qt\nPySide6_Essentials==6.11.3\n",
    "engine": "peft==0.21.2\n",
    "dev": "pytest==9.2.0\n",
}


# By path: `packaging` itself is somebody else's library.
spec = importlib.util.spec_from_file_location("overlay_bootstrap", SOURCE)
assert spec is not None
assert spec.loader is not None
bootstrap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bootstrap)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with pin files and an empty environment folder."""
    (tmp_path / "packaging").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for group, text in PIN_TEXT.items():
        (tmp_path / "packaging" / f"requirements-{group}.txt").write_text(text)
    return tmp_path


# --- Python --------------------------------------------------------------------------------------------------------


def test_an_old_python_can_read_the_file_that_tells_it_to_go() -> None:
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_only_the_standard_library_is_imported() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in found} <= set(sys.stdlib_module_names)


def test_the_one_file_needs_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    command = [sys.executable, "-I", shutil.copy(SOURCE, folder)]
    told = subprocess.run([*command, "--help"], cwd=folder, capture_output=True, text=True, check=True)
    assert "bootstrap.py run" in told.stderr
    listed = subprocess.run([*command, "--installed"], cwd=folder, capture_output=True, text=True, check=True)
    assert "pytest" in json.loads(listed.stdout)["found"]
    assert list(tmp_path.rglob("*")) == [folder, folder / SOURCE.name]


def test_too_old_a_python_gets_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 0))
    assert bootstrap.main(["run"]) == 2
    assert "needs Python" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 0), (["launch"], 2)])
def test_help_names_every_command_on_stderr(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert all(f"bootstrap.py {command}" in output.err for command in ("run", "demo", "cli", "test", "repair"))


# --- pins ----------------------------------------------------------------------------------------------------------


def test_pins_are_read_under_one_spelling(project: Path) -> None:
    groups = bootstrap.pin_groups(project)
    assert groups["window"] == {"pyside6-essentials": "6.11.3"}
    assert set(bootstrap.all_pins(groups)) == {"torch", "pyside6-essentials", "peft", "pytest"}


@pytest.mark.parametrize("line", ["peft>=0.21", "peft", "--extra-index-url somewhere", "peft==0.21.*"])
def test_a_line_that_pins_nothing_is_refused(project: Path, line: str) -> None:
    path = project / "packaging" / "requirements-engine.txt"
    path.write_text(f"numpy==2.4.6\n{line}\n")
    with pytest.raises(bootstrap.BootstrapError, match="no exact pin"):
        bootstrap.read_pins(path)


def report(**found: list[str]) -> dict[str, Any]:
    return {"found": found, "damaged": [], "unfinished": [], "python": "3.11", "project": None}


def test_another_build_of_the_pinned_version_is_right() -> None:
    assert bootstrap.wrong_packages(report(torch=["2.13.0+cpu"]), {"torch": "2.13.0"}) == []


def test_missing_older_doubled_and_damaged_packages_are_all_wrong() -> None:
    wanted = dict.fromkeys(["absent", "older", "twice", "damaged", "right"], "2.0")
    state = report(older=["1.9"], twice=["1.9", "2.0"], damaged=["2.0"], right=["2.0"])
    state["damaged"] = ["damaged"]
    assert bootstrap.wrong_packages(state, wanted) == ["absent", "older", "twice", "damaged"]


# --- the stamp -----------------------------------------------------------------------------------------------------


def complete(project: Path, **changes: str) -> dict[str, Any]:
    stamp = {"state": "complete", "fingerprint": bootstrap.fingerprint(project), "python": "3.11", "torch": "pip"}
    return {**stamp, **changes}


def test_a_stamp_that_was_written_is_trusted_when_read(project: Path) -> None:
    bootstrap.write_stamp(complete(project), project / ".venv")
    stamp = bootstrap.read_stamp(project / ".venv")
    assert bootstrap.why_not_trusted(stamp, bootstrap.fingerprint(project), None) is None


@pytest.mark.parametrize(
    "changed", ["packaging/requirements-window.txt", "packaging/requirements-dev.txt", "pyproject.toml"]
)
def test_a_changed_pin_file_makes_the_stamp_stale(project: Path, changed: str) -> None:
    stamp = complete(project)
    path = project / changed
    path.write_text(path.read_text() + "numpy==2.4.6\n")
    assert "other packages" in bootstrap.why_not_trusted(stamp, bootstrap.fingerprint(project), None)


def test_an_interrupted_set_up_is_not_trusted(project: Path) -> None:
    stamp = complete(project, state="incomplete")
    assert "interrupted" in bootstrap.why_not_trusted(stamp, bootstrap.fingerprint(project), None)


@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_no_stamp_or_a_torn_one_means_not_set_up(project: Path, content: str | None) -> None:
    if content is not None:
        (project / ".venv" / "bootstrap.json").write_text(content)
    stamp = bootstrap.read_stamp(project / ".venv")
    assert "not set up" in bootstrap.why_not_trusted(stamp, bootstrap.fingerprint(project), None)


def test_a_card_that_came_later_asks_for_the_build_that_uses_it(project: Path) -> None:
    wanted = bootstrap.fingerprint(project)
    assert "NVIDIA" in bootstrap.why_not_trusted(complete(project, torch="cpu"), wanted, "cu130")
    assert bootstrap.why_not_trusted(complete(project, torch="cu130"), wanted, None) is None


# --- PyTorch's build -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("smi", "loads", "build"),
    [
        (None, False, None),
        (None, True, "cu130"),
        ("9.0, 580.65.06\n", True, "cu130"),
        ("6.1, 580.65.06\n", True, "cu126"),
        ("8.6, 550.54.14\n", True, "cu126"),
        ("8.6, 590.10\n7.0, 590.10\n", True, "cu126"),
        ("12.0, 600.1\n", False, "cu130"),
        ("", True, "cu130"),
    ],
)
def test_the_cuda_build_fits_the_oldest_card_and_its_driver(smi: str | None, loads: bool, build: str | None) -> None:
    assert bootstrap.cuda_build(smi, loads) == build


@pytest.mark.parametrize(
    ("cuda", "configured", "windows", "build", "index"),
    [
        (None, False, False, "cpu", "cpu"),
        (None, False, True, "cpu", None),
        ("cu130", False, False, "cu130", None),
        ("cu130", False, True, "cu130", "cu130"),
        ("cu126", False, False, "cu126", "cu126"),
        (None, True, False, "pip", None),
        ("cu130", True, True, "pip", None),
    ],
)
def test_where_torch_comes_from(
    cuda: str | None, configured: bool, windows: bool, build: str, index: str | None
) -> None:
    source, arguments = bootstrap.torch_source("2.13.0", cuda, configured, windows)
    assert source == build
    if index is None:
        assert arguments == ["torch==2.13.0"]
    else:
        assert arguments[0] == f"torch==2.13.0+{index}"
        assert arguments[-1].endswith(f"/whl/{index}")


@pytest.mark.parametrize(
    ("listing", "configured"),
    [
        ("", False),
        (":env:.default-timeout='60'\nglobal.cert='ca.pem'\n", False),
        (":env:.find-links='wheels'\n", True),
        ("global.index-url='https://mirror.example/simple'\n", True),
        ("install.extra-index-url='https://mirror.example/simple'\n", True),
    ],
)
def test_pip_settings_that_name_a_source_are_respected(listing: str, configured: bool) -> None:
    assert bootstrap.has_own_index(listing) is configured


def test_torch_is_installed_first_and_nothing_later_may_pull_another(project: Path) -> None:
    groups = bootstrap.pin_groups(project)
    source = bootstrap.torch_source("2.13.0", None, False, False)
    steps = [
        arguments for _, arguments in bootstrap.install_steps(list(bootstrap.all_pins(groups)), groups, {}, source)
    ]
    assert steps[0][0] == "torch==2.13.0+cpu"
    assert len(steps) == 4
    for arguments in steps[1:]:
        assert arguments[0] == "--no-deps"
        assert not any(argument.startswith("torch") for argument in arguments)


def test_a_repair_installs_what_is_wrong_and_nothing_else(project: Path) -> None:
    groups = bootstrap.pin_groups(project)
    steps = list(bootstrap.install_steps(["peft", "nvidia-cublas"], groups, {"nvidia-cublas": "13.0"}, ("cpu", [])))
    assert [arguments for _, arguments in steps] == [
        ["--no-deps", "peft==0.21.2"],
        ["--no-deps", "nvidia-cublas==13.0"],
    ]


# --- the system's libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("installer", "line"),
    [
        ("apt-get", "apt-get install -y --no-install-recommends libxcb-icccm4 libxcb-shape0 xvfb"),
        ("dnf", "dnf install -y xcb-util-wm libxcb xorg-x11-server-Xvfb"),
        ("pacman", "pacman -S --needed xcb-util-wm libxcb xorg-server-xvfb"),
    ],
)
def test_one_command_installs_what_is_missing(installer: str, line: str) -> None:
    assert bootstrap.install_command(["libxcb-icccm.so.4", "libxcb-shape.so.0", "Xvfb"], installer) == line


def test_an_unknown_distribution_gets_the_names() -> None:
    assert "libEGL.so.1" in bootstrap.install_command(["libEGL.so.1"], None)


def test_a_package_that_holds_two_missing_libraries_is_named_once() -> None:
    assert bootstrap.install_command(["libxcb-shape.so.0", "libxcb-shm.so.0"], "dnf").split().count("libxcb") == 1


def test_the_demo_needs_no_window_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LIBRARIES", {"libnowhere-at-all.so.9": ("a", "b", "c")})
    assert bootstrap.missing_from_system("demo", has_environment=True) == []
    assert bootstrap.missing_from_system("run", has_environment=True) == ["libnowhere-at-all.so.9"]


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NameResolutionError: Temporary failure\nERROR: No matching distribution found for peft", "internet"),
        ("ERROR: No matching distribution found for torch==2.13.0", "Python 3.11"),
        ("something else", ".venv"),
    ],
)
def test_each_failure_gets_its_remedy(log: str, advice: str) -> None:
    assert advice in bootstrap.remedy(log)


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    program = [sys.executable, "-c", "print('no room: No space left on device'); raise SystemExit(1)"]
    with pytest.raises(bootstrap.BootstrapError, match="no room") as caught:
        bootstrap.run_logged(program, "Installing the engine")
    assert "disk is full" in caught.value.hint
    assert "no room" in (tmp_path / "bootstrap.log").read_text()


def test_too_little_room_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    monkeypatch.setattr(bootstrap, "GB", 10**30)
    with pytest.raises(bootstrap.BootstrapError, match="not enough room"):
        bootstrap.need_room("cpu", torch_missing=True, cuda=None)


# --- the lock ------------------------------------------------------------------------------------------------------


def test_the_lock_keeps_another_process_out_until_it_is_free(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import bootstrap\n"
        "with open(sys.argv[2], 'a+b') as file: print(bootstrap.try_lock(file))"
    )
    other = [sys.executable, "-c", code, str(SOURCE.parent), str(tmp_path / "bootstrap.lock")]
    with bootstrap.only_one(tmp_path):
        assert subprocess.run(other, capture_output=True, text=True, check=True).stdout.strip() == "False"
    assert subprocess.run(other, capture_output=True, text=True, check=True).stdout.strip() == "True"


# --- what is installed ---------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder with one sound package, `Some_Thing` 1.0; returns its one module."""
    site = tmp_path / "site-packages"
    info = site / "some_thing-1.0.dist-info"
    info.mkdir(parents=True)
    module = site / "some_thing.py"
    module.write_bytes(b"x = 1\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0\n")
    checksum = base64.urlsafe_b64encode(hashlib.sha256(module.read_bytes()).digest()).decode().rstrip("=")
    (info / "RECORD").write_text(f"some_thing.py,sha256={checksum},6\nsome_thing-1.0.dist-info/RECORD,,\n")
    monkeypatch.setattr(sys, "path", [str(site)])
    return module


def test_a_sound_package_is_found(package: Path) -> None:
    state = bootstrap.report_installed(deep=True)
    assert state["found"] == {"some-thing": ["1.0"]}
    assert state["damaged"] == state["unfinished"] == []


def test_a_lost_or_torn_file_is_damage(package: Path) -> None:
    package.write_bytes(b"x")
    assert bootstrap.report_installed(deep=False)["damaged"] == ["some-thing"]
    package.unlink()
    assert bootstrap.report_installed(deep=False)["damaged"] == ["some-thing"]


def test_only_the_deep_look_reads_contents(package: Path) -> None:
    package.write_bytes(b"x = 2\n")
    assert bootstrap.report_installed(deep=False)["damaged"] == []
    assert bootstrap.report_installed(deep=True)["damaged"] == ["some-thing"]


def test_a_package_that_pip_did_not_finish_is_not_found(package: Path) -> None:
    info = package.parent / "some_thing-1.0.dist-info"
    (info / "RECORD").unlink()
    state = bootstrap.report_installed(deep=False)
    assert state["found"] == {}
    assert state["unfinished"] == [str(info)]


def test_what_pip_set_aside_is_no_second_copy(package: Path) -> None:
    (package.parent / "some_thing-1.0.dist-info").rename(package.parent / "~ome_thing-1.0.dist-info")
    assert bootstrap.report_installed(deep=False)["found"] == {}


@pytest.mark.parametrize("record", ["some_thing.py,sha256=x,6\0", "some_thing.py,sha256=x,six"])
def test_a_torn_record_is_damage(package: Path, record: str) -> None:
    (package.parent / "some_thing-1.0.dist-info" / "RECORD").write_text(record)
    assert bootstrap.report_installed(deep=False)["damaged"] == ["some-thing"]


@pytest.mark.parametrize(
    ("direct_url", "project"), [('{"url": "file:///here"}', "file:///here"), ("{", None), (None, None)]
)
def test_the_folder_that_the_project_was_installed_from_is_told(
    package: Path, direct_url: str | None, project: str | None
) -> None:
    info = package.parent / "overlay_studio-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: overlay-studio\nVersion: 0.1\n\nName: of the text below\n")
    (info / "RECORD").touch()
    if direct_url is not None:
        (info / "direct_url.json").write_text(direct_url)
    state = bootstrap.report_installed(deep=False)
    assert state["found"]["overlay-studio"] == ["0.1"]
    assert state["project"] == project
