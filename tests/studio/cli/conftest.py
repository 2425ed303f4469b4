from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.places import Workspace


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.out.count("\n") == 1, "one JSON document, and nothing else"
        return json.loads(self.out)


Overlay = Callable[..., Answer]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("OVERLAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    return Workspace.default()


@pytest.fixture
def overlay(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Overlay:
    def run(*arguments: str | Path) -> Answer:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def recipe(tmp_path: Path, workspace: Workspace) -> Path:
    """A recipe for a base of one layer that is there, and a dataset beside the recipe."""
    from tests.studio.library.folders import make_base

    make_base(workspace.bases / "small")
    (tmp_path / "rows.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 4
    )
    path = tmp_path / "recipe.toml"
    path.write_text(
        'schema = 1\nname = "try"\n[base]\nid = "small"\n[data]\npath = "rows.jsonl"\nmax_tokens = 64\n'
        "[adapter]\nrank = 2\n[training]\nsteps = 4\n"
    )
    return path
