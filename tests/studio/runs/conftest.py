"""A workspace in which every engine that is started, by whatever process, is the scripted one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from studio.places import Workspace
from studio.runs.engine import running_engine
from studio.runs.queue import read_queue

ENGINE = Path(__file__).with_name("scripted_engine.py")
# Read by every Python that starts with this folder on its path: `python -m studio.engine` is another program then.
SITE = """
import importlib.abc, importlib.util, sys

class InItsPlace(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "studio.engine.__main__":
            return importlib.util.spec_from_file_location(name, {engine!r})
        return None

sys.meta_path.insert(0, InItsPlace())
"""


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace. Whatever engine or driver is left at the end is killed."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(engine=str(ENGINE)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    workspace = Workspace(tmp_path / "home")
    workspace.root.mkdir()
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    yield workspace
    driver, engine = read_queue(workspace).driver, running_engine(workspace, "cpu")
    for pid in filter(None, [driver and driver[0], engine and engine.pid]):
        kill(pid)


def kill(pid: int) -> None:
    """Nobody's last word is waited for."""
    try:
        process = psutil.Process(pid)
        if "python" in process.name() and pid != os.getpid():
            process.kill()
            process.wait(10)
    except psutil.NoSuchProcess:
        pass
