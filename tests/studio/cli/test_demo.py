"""The demo when its engine does not last, with an engine that only lacks the model."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.cli import commands_demo
from studio.cli.output import Output
from studio.errors import EngineError
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.toml import load
from studio.runs import events as e
from studio.runs.engine import Engine
from tests.studio.runs.conftest import scripted  # noqa: F401 - a fixture


@pytest.fixture
def asked(scripted: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[int]:  # noqa: F811
    """The processes that were asked the demo's questions; there is nothing that a base of no weights could answer or merge."""
    found: list[int] = []

    def answers(engine: Engine, *_: object) -> list[str]:
        assert engine.is_alive
        found.append(engine.pid)
        return ["Arrr"] * len(commands_demo.PROMPTS)

    adapter = SimpleNamespace(name="halves-adapter", path=scripted.adapters)
    monkeypatch.setattr(commands_demo, "_answers", answers)
    monkeypatch.setattr(commands_demo, "starter", lambda workspace, _output: find_base(workspace, "small"))
    monkeypatch.setattr(commands_demo.shelf, "find", lambda *_: adapter)
    monkeypatch.setattr(commands_demo, "run_merge", lambda *_, **__: e.Finished(result={"bytes": 1, "receipt": {}}))
    return found


def run_demo(workspace: Workspace, recipe: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the demo tells programs if its run is of this name."""
    monkeypatch.setattr(commands_demo, "demo_recipe", lambda *_: replaced(load(recipe), "name", name))
    monkeypatch.setattr(commands_demo.places, "RESOURCES", recipe.parent)
    output, told = Output(io.StringIO(), io.StringIO()), []
    monkeypatch.setattr(output, "event", told.append)
    commands_demo.demo(argparse.Namespace(device="cpu", example="pirate", steps=4), output, workspace)
    return told


def test_a_demo_whose_memory_runs_out_goes_on_to_its_end(
    scripted: Workspace,  # noqa: F811
    asked: list[int],
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = run_demo(scripted, recipe, "halves", monkeypatch)
    assert [event["event"] for event in told].count("MicroBatchHalved") == 1
    assert (told[-1]["event"], told[-1]["before"]) == ("Finished", ["Arrr"] * 3)
    before, *after = asked
    assert len(set(after)) == 1
    assert before not in after, "the engine whose memory ran out is gone"


@pytest.mark.usefixtures("asked")
def test_a_demo_whose_engine_is_killed_says_so(
    scripted: Workspace,  # noqa: F811
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EngineError, match="killed"):
        run_demo(scripted, recipe, "dies", monkeypatch)
