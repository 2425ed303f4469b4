"""A workspace with a base, a dataset and a fake engine behind it, and the conductor that drives them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.runs import engine, jobs
from studio.runs.engine import running_engine
from studio.runs.folder import RunFolder
from studio.runs.wishes import Release
from tests.studio.models.folders import write_base
from ui.conductor import Conductor
from ui.settings import Settings
from ui.state import AppState, RunView

FAKE = Path(__file__).with_name("fake_engine.py")
ROWS = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "arr"}]} for n in range(8)]
WAIT_MS = 20_000


@dataclasses.dataclass
class Desk:
    """What a test works with."""

    workspace: Workspace
    data: Path
    bot: QtBot
    monkeypatch: pytest.MonkeyPatch
    conductors: list[Conductor] = dataclasses.field(default_factory=list)

    @contextmanager
    def open(self, settings: Settings | None = None) -> Iterator[AppState]:
        """A state with a conductor that has gathered; closed afterwards, whatever happens."""
        state = AppState()
        conductor = Conductor(self.workspace, state, "cpu", settings)
        self.conductors.append(conductor)
        conductor.start()
        try:
            self.wait(lambda: state.is_gathered)
            yield state
        finally:
            conductor.close()

    def wait(self, condition: Callable[[], Any]) -> None:
        self.bot.waitUntil(lambda: bool(condition()), timeout=WAIT_MS)

    def set_recipe(self, state: AppState, name: str) -> None:
        """A recipe on the workspace's base and data, judged and without problems."""
        recipe = state.recipe
        for path, value in (("name", name), ("base.id", "tiny"), ("data.path", str(self.data))):
            recipe = replaced(recipe, path, value)
        for path in ("data.max_tokens", "training.micro_batch_tokens"):
            recipe = replaced(recipe, path, 256)
        state.recipe_edited.emit(recipe)
        self.wait(lambda: state.data.num_good == len(ROWS) and state.budget is not None)
        assert state.problems == []

    def begin(self, state: AppState, name: str) -> RunView:
        """Start a run of that name; returns once it has been taken up."""
        self.set_recipe(state, name)
        state.train_requested.emit()
        self.wait(lambda: any(view.folder.name == name and view.state.began for view in state.runs.values()))
        return next(view for view in state.runs.values() if view.folder.name == name)

    def release(self) -> None:
        """End the engine, if one is there."""
        found = running_engine(self.workspace, "cpu")
        if found is not None:
            found.post(Release())
            assert found.wait(20)

    def only_run(self) -> RunFolder:
        (path,) = [path for path in self.workspace.runs.iterdir() if path.is_dir()]
        return RunFolder(path)


def make_desk(folder: Path, bot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The body of the `desk` fixture."""
    workspace = Workspace(folder / "home")
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    monkeypatch.setenv("HF_HOME", str(folder / "hub"))
    write_base(workspace.bases / "tiny")
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    real, started = engine.spawn_python, []

    def spawn(arguments: list[str], log: Path, place: Workspace) -> Any:
        # The narrowest seam there is: another script is started, everything around it is real.
        shim = folder / "shim"
        shim.mkdir(exist_ok=True)
        (shim / "fake_engine_entry.py").write_text(
            f"import runpy\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
        )
        paths = [str(shim), os.environ.get("PYTHONPATH", "")]
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
            process = real(["fake_engine_entry", *arguments], log, place)
        started.append(process)
        return process

    monkeypatch.setattr(engine, "spawn_python", spawn)
    monkeypatch.setattr(jobs, "spawn_python", spawn)
    desk = Desk(workspace, data, bot, monkeypatch)
    yield desk
    desk.release()
    for process in started:
        process.kill()
        process.wait()


def named(parent: QWidget, kind: type[QWidget], name: str) -> Any:
    """The one visible widget of that kind with that accessible name, as a user would find it."""
    found = [one for one in parent.findChildren(kind) if one.accessibleName() == name and not one.isHidden()]
    assert len(found) == 1, f"{len(found)} widgets called {name!r}"
    return found[0]
