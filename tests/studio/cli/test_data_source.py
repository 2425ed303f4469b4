"""Rows that are not a file yet: a set on the hub by its name, and what is pasted."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.cli.data_source import with_rows_here
from studio.cli.output import Output
from studio.library.provenance import card
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs.create import create_run
from tests.studio.cli.conftest import Overlay
from tests.studio.data.hub_rows import served
from tests.studio.models.fake_hub import COMMIT, FakeHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with served(monkeypatch) as made:
        yield made


def test_a_set_on_the_hub_is_looked_at_then_fetched_then_like_any_file(
    hub: FakeHub, overlay: Overlay, workspace: Workspace
) -> None:
    seen = overlay("data", "hub:owner/talk", "--preview", "--json").document
    assert (seen["commit"], seen["subset"], seen["split"], seen["num_rows"]) == (COMMIT, "short", "train", 42)
    assert seen["first_rows"][0]["messages"][0]["content"] == "first 0?"
    assert not workspace.fetched.exists()
    told = overlay("data", "hub:owner/talk", "--split", "test", "--json")
    assert (told.document["num_good"], told.document["format"]) == (3, "messages")
    assert "licence: apache-2.0" in told.err
    assert overlay("data", "hub:owner/talk", "--split", "tset").err.count("train, test") == 1
    assert overlay("data", "rows.jsonl", "--split", "test").code == 2


def test_a_recipe_may_name_a_set_on_the_hub_and_its_run_says_where_the_rows_come_from(
    hub: FakeHub, recipe: Path, workspace: Workspace
) -> None:
    wanted = replaced(replaced(Recipe(), "data.path", "hub:owner/talk:short:test"), "base.id", "small")
    here = with_rows_here(wanted, Output(io.StringIO(), io.StringIO()), workspace)
    run = create_run(workspace, here, device="cpu")
    source = json.loads((run.path / "job.json").read_text())["data"]["source"]
    assert (source["hub_id"], source["commit"], source["licence"]) == ("owner/talk", COMMIT, "apache-2.0")
    assert '\ndatasets: ["owner/talk"]\n' in card(run)


def test_pasted_rows_are_read_from_the_standard_input(
    overlay: Overlay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("question,answer\na,b\n"))
    assert overlay("data", "-", "--json").document["num_good"] == 1
    assert [path.suffix for path in workspace.pasted.iterdir()] == [".csv"]
