"""`overlay queue`, as far as nothing is trained: the list, its order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.cli import commands_queue
from studio.memory import waiting
from studio.memory.device import CardUse
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.create import read_job
from studio.runs.folder import RunFolder, find_run
from studio.runs.queue import Done, changing, read_queue
from tests.studio.cli.conftest import Overlay

KEYS = {"run", "name", "position", "state", "fits"}


@pytest.fixture
def three(overlay: Overlay, recipe: Path) -> list[str]:
    """Ids of three runs that wait: a, b, c."""
    for name in "abc":
        found = overlay("queue", "add", recipe, "--name", name, "--json")
        assert found.code == 0, found.err
    return [one["run"] for one in found.document]


def order(overlay: Overlay) -> list[tuple[int, str]]:
    return [(one["position"], one["name"]) for one in overlay("queue", "--json").document]


def test_each_action_answers_with_the_list(overlay: Overlay, three: list[str]) -> None:
    found = overlay("queue", "--json").document
    assert [one["run"] for one in found] == three
    assert all(one.keys() >= KEYS and one["state"] == "waiting" for one in found)
    assert [one["name"] for one in overlay("queue", "move", "c", 1, "--json").document] == ["c", "a", "b"]
    assert [one["name"] for one in overlay("queue", "remove", three[0], "--json").document] == ["c", "b"]
    assert order(overlay) == [(1, "c"), (2, "b")]
    assert [one["name"] for one in overlay("queue", "stop", "--json").document] == ["c", "b"]


def test_a_removed_run_lies_in_the_trash_and_says_where(
    overlay: Overlay, three: list[str], workspace: Workspace
) -> None:
    removed = overlay("queue", "remove", "b")
    assert str(workspace.trash / three[1]) in removed.err
    assert (workspace.trash / three[1] / "job.json").is_file()


def test_a_waiting_run_can_be_given_another_recipe(
    overlay: Overlay, three: list[str], recipe: Path, workspace: Workspace
) -> None:
    recipe.write_text(recipe.read_text().replace("steps = 4", "steps = 9"))
    assert overlay("queue", "edit", "a", recipe).code == 0
    assert read_job(find_run(workspace, three[0])).recipe.training.steps == 9
    assert read_job(find_run(workspace, three[1])).recipe.training.steps == 4
    recipe.write_text(recipe.read_text().replace("rows.jsonl", "nowhere.jsonl"))
    refused = overlay("queue", "edit", "a", recipe)
    assert (refused.code, read_job(find_run(workspace, three[0])).recipe.training.steps) == (2, 9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("move", "a", 0), "whole number from 1"),
        (("move", "nobody", 1), "No run called nobody waits"),
        (("remove", "nobody"), "No run called nobody waits"),
        (("add", "nothing.toml"), "no recipe nothing.toml"),
        (("add", "nobody"), "neither a recipe file nor a run"),
        (("start",), "No run waits for its turn"),
    ],
)
def test_what_cannot_be_done_is_said_in_two_sentences(overlay: Overlay, arguments: tuple[str, ...], said: str) -> None:
    refused = overlay("queue", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    assert len(refused.err.splitlines()) == 2


def test_an_empty_queue_is_a_list_too(overlay: Overlay) -> None:
    assert overlay("queue", "--json").document == []
    assert "lines one up" in overlay("queue").out


def test_a_run_that_stands_still_can_be_lined_up_again(
    overlay: Overlay, three: list[str], workspace: Workspace
) -> None:
    run = RunFolder(workspace.runs / three[0])
    overlay("queue", "remove", "b")
    with changing(workspace) as queue:
        queue.waiting.remove(run.id)
    run.events.post(e.Started(pid=1, process_started=1.0, device="cpu"))
    run.events.post(e.Paused(step=2))
    assert overlay("queue", "add", "a", "--name", "other").code == 2
    assert [(one["name"], one["state"]) for one in overlay("queue", "add", "a", "--json").document] == [
        ("c", "waiting"),
        ("a", "paused"),
    ]
    run.events.post(e.Finished(run=run.id))
    assert "is finished" in overlay("queue", "add", "a").err


def test_each_run_says_whether_it_fits_the_card(
    overlay: Overlay, three: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {one["fits"] for one in overlay("queue", "--json").document} == {None}
    for total, fits in ((24 << 30, True), (1 << 28, False)):
        use = CardUse("RTX", "1", total, 0)
        monkeypatch.setattr(waiting, "card_uses", lambda use=use: {"GPU-1": use})
        monkeypatch.setattr(commands_queue, "choose_device", lambda _: "cuda-0")
        run = find_run(workspace, three[0])
        text = (run.path / "job.json").read_text().replace('"device": "cpu"', '"device": "cuda-0"')
        (run.path / "job.json").write_text(text)
        first, second, _ = overlay("queue", "--json").document
        assert (first["fits"], second["fits"]) == (fits, None)
        assert first["needs_bytes"] > 0
        assert f"{'yes' if fits else 'no'}, \u2248" in overlay("queue").out


def test_a_report_is_printed_kept_and_seen(overlay: Overlay, three: list[str], workspace: Workspace) -> None:
    assert overlay("queue", "report", "--json").document["path"] is None
    run = RunFolder(workspace.runs / three[0])
    run.events.post(e.Started(pid=1, process_started=1.0, device="cpu"))
    run.events.post(e.Finished(run=run.id, adapter="a-2"))
    with changing(workspace) as queue:
        queue.waiting.remove(run.id)
        queue.done.append(Done(run.id, "finished", 100.0, 160.0))
        queue.is_seen = False
    found = overlay("queue", "report", "--json").document
    assert [(one["name"], one["ending"], one["seconds"], one["adapter"]) for one in found["runs"]] == [
        ("a", "finished", 60.0, "a-2")
    ]
    assert "1 finished" in Path(found["path"]).read_text("utf-8")
    assert read_queue(workspace).is_seen
    assert "a (" in overlay("queue", "report").out


def test_a_queue_whose_process_is_gone_says_so(overlay: Overlay, three: list[str], workspace: Workspace) -> None:
    with changing(workspace) as queue:
        queue.driver, queue.is_started = (1, 1.0), True
    assert "was interrupted" in overlay("queue").out
    with changing(workspace) as queue:
        queue.is_started, queue.halt = False, ("The disk is full.", "Make room.")
    assert "The queue stopped. The disk is full. Make room." in overlay("queue").out
