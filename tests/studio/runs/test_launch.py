"""The command for several cards: it means the recipe as it was, wherever it is typed. What it does: `test_launched.py`."""

import shlex
from pathlib import Path

import pytest

from studio.cli import build_parser
from studio.errors import DataError
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.recipe.toml import load
from studio.runs.launch import command_for


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("OVERLAY_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    return Workspace(tmp_path / "my work")


RECIPE = replaced(replaced(Recipe(), "name", "a b"), "data.path", "rows.jsonl")


def typed(command):
    words = shlex.split(command)
    return build_parser().parse_args(words[words.index("train") :])


def test_the_command_parses_and_means_the_recipe_from_any_folder(workspace, tmp_path):
    options = typed(command_for(workspace, RECIPE, 3))
    assert options.processes == 3
    assert options.recipe.is_absolute()
    assert load(options.recipe) == replaced(RECIPE, "data.path", str(tmp_path / "rows.jsonl"))
    assert typed(command_for(workspace, RECIPE, 1)).processes == 1


def test_a_recipe_is_kept_once_and_never_in_the_place_of_another(workspace):
    first = typed(command_for(workspace, RECIPE, 2)).recipe
    assert typed(command_for(workspace, RECIPE, 2)).recipe == first
    other = typed(command_for(workspace, replaced(RECIPE, "training.seed", 7), 2)).recipe
    first.write_text("no recipe")
    third = typed(command_for(workspace, RECIPE, 2)).recipe
    assert len({first, other, third}) == 3
    assert (load(other).training.seed, load(third).training.seed) == (7, RECIPE.training.seed)


def test_a_workspace_that_was_named_is_named_in_the_command(workspace, monkeypatch):
    monkeypatch.setenv("OVERLAY_HOME", str(workspace.root))
    assert f"OVERLAY_HOME={workspace.root}" in shlex.split(command_for(workspace, RECIPE, 2))


def test_a_dataset_that_is_gone_is_told_before_anything_is_copied(workspace):
    Path("rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        command_for(workspace, RECIPE, 2)
    assert not workspace.recipes.exists()
