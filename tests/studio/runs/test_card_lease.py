"""A card goes to one engine at a time, whichever workspaces there are."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from studio.errors import BusyError, StudioError
from studio.places import Workspace, shared_place
from studio.runs.card_lease import card_lease, holder
from studio.runs.processes import own_start

CARD, OTHER_CARD = "GPU-0a1b2c3d-0000-0000-0000-000000000001", "GPU-0a1b2c3d-0000-0000-0000-000000000002"
HOLDS = """
import sys
from pathlib import Path
from studio.places import Workspace
from studio.runs.card_lease import card_lease
with card_lease(sys.argv[1], Workspace(Path(sys.argv[2])), "cuda-0"):
    print("held", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def _computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on which nobody holds a card yet."""
    (tmp_path / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def one(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "one")


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "two")


def test_a_second_workspace_is_told_which_one_holds_the_card_and_gets_it_after_that(
    one: Workspace, two: Workspace
) -> None:
    with card_lease(CARD, one, "cuda-0"):
        with pytest.raises(BusyError) as told, card_lease(CARD, two, "cuda-1"):
            pass
        assert all(words in told.value.message for words in (str(one.root), "cuda-1", str(os.getpid())))
        assert "pause it" in told.value.hint
        with card_lease(OTHER_CARD, two, "cuda-0"):
            pass
    with card_lease(CARD, two, "cuda-1"):
        found = holder(CARD)
        assert found is not None
        assert (found.workspace, found.device, (found.pid, found.process_started)) == (two.root, "cuda-1", own_start())


def test_whatever_is_no_card_may_be_used_from_any_number_of_workspaces(one: Workspace, two: Workspace) -> None:
    with card_lease("", one, "cpu"), card_lease("", two, "cpu"):
        assert not shared_place().exists()


def test_the_card_of_a_killed_engine_is_free(one: Workspace, two: Workspace) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, CARD, str(one.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {other.pid}"), card_lease(CARD, two, "cuda-0"):
            pass
        other.kill()
        other.wait()
        assert holder(CARD) is None
        with card_lease(CARD, two, "cuda-0"):
            pass


# --- where it is kept ----------------------------------------------------------------------------------------------


def test_the_place_is_this_users_alone(one: Workspace) -> None:
    with card_lease(CARD, one, "cuda-0"):
        assert shared_place().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("foreign", ["a link", "open to others"])
def test_a_place_that_somebody_else_may_write_to_is_refused(one: Workspace, tmp_path: Path, foreign: str) -> None:
    if foreign == "a link":
        shared_place().symlink_to(tmp_path)
    else:
        shared_place().mkdir()
        shared_place().chmod(0o777)
    with pytest.raises(StudioError, match="yours alone"), card_lease(CARD, one, "cuda-0"):
        pass


def test_without_a_folder_of_the_session_it_is_one_named_after_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(Path(tempfile.gettempdir()) / "gone"))
    assert shared_place() == Path(tempfile.gettempdir()) / f"overlay-studio-{os.getuid()}"


def test_an_error_of_the_holder_is_its_own_and_frees_the_card(one: Workspace, two: Workspace) -> None:
    with contextlib.suppress(TimeoutError), card_lease(CARD, one, "cuda-0"):
        raise TimeoutError
    with card_lease(CARD, two, "cuda-0"):
        pass
