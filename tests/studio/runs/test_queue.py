"""The order of waiting runs: a file that survives, and what may be done to a run that has not begun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from studio.errors import BusyError, DamagedError, DataError, NotFoundError, StudioError
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs import queue as q
from studio.runs.create import read_job, refuse_changes
from studio.runs.folder import RunFolder, list_runs
from studio.runs.processes import own_start
from tests.studio.library.folders import make_base

LINE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "home")
    make_base(made.bases / "small")
    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    data = tmp_path / "rows.jsonl"
    data.write_text(LINE * 4, encoding="utf-8")
    made = Recipe()
    for path, value in (("base.id", "small"), ("data.path", str(data)), ("name", "try"), ("training.steps", 4)):
        made = replaced(made, path, value)
    for path in ("data.max_tokens", "training.micro_batch_tokens"):
        made = replaced(made, path, 64)
    return made


def add(workspace: Workspace, recipe: Recipe, *names: str) -> list[RunFolder]:
    return [q.add(workspace, recipe, device="cpu", name=name) for name in names]


def waiting(workspace: Workspace) -> list[str]:
    return [RunFolder(workspace.runs / run).name for run in q.read_queue(workspace).waiting]


def test_runs_wait_in_the_order_they_were_added_and_can_be_moved(workspace: Workspace, recipe: Recipe) -> None:
    a, b, c = add(workspace, recipe, "a", "b", "c")
    assert waiting(workspace) == ["a", "b", "c"]
    q.move(workspace, c, 1)
    assert waiting(workspace) == ["c", "a", "b"]
    q.move(workspace, c, 2)
    assert waiting(workspace) == ["a", "c", "b"]
    q.move(workspace, a, 99)
    assert waiting(workspace) == ["c", "b", "a"]
    q.move(workspace, b, -5)
    assert waiting(workspace) == ["b", "c", "a"]


def test_a_waiting_run_is_a_run_folder_before_its_turn(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    # The list may be lost: the run is not.
    q.queue_file(workspace).unlink()
    assert q.read_queue(workspace).waiting == []
    assert [found.id for found in list_runs(workspace)] == [run.id]
    q.add_run(workspace, run)
    q.add_run(workspace, run)
    assert waiting(workspace) == ["a"]


def test_a_recipe_that_cannot_be_run_never_enters_the_queue(workspace: Workspace, recipe: Recipe) -> None:
    with pytest.raises(DataError):
        q.add(workspace, replaced(recipe, "data.path", "nowhere.jsonl"), device="cpu")
    assert waiting(workspace) == []
    assert list(list_runs(workspace)) == []


def test_a_run_that_is_done_or_being_done_does_not_wait(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    q.take_out(workspace, run)
    pid, started = own_start()
    run.events.post(e.Started(pid=pid, process_started=started, device="cpu"))
    with pytest.raises(BusyError):
        q.add_run(workspace, run)
    run.events.post(e.Finished(run=run.id, adapter="a"))
    with pytest.raises(StudioError, match="finished"):
        q.add_run(workspace, run)


def test_a_run_that_never_began_goes_to_the_trash_and_one_that_did_stays(workspace: Workspace, recipe: Recipe) -> None:
    a, b = add(workspace, recipe, "a", "b")
    lies = q.remove(workspace, a)
    assert lies is not None
    assert lies.parent == workspace.trash
    assert RunFolder(lies).name == "a"
    pid, started = own_start()
    b.events.post(e.Started(pid=pid, process_started=started, device="cpu"))
    b.events.post(e.Paused(step=1, cause="The disk is full."))
    assert q.remove(workspace, b) is None
    assert b.path.is_dir()
    assert waiting(workspace) == []
    with pytest.raises(NotFoundError, match="does not wait"):
        q.remove(workspace, b)


def test_an_edited_run_is_done_by_its_new_recipe_with_new_hashes(
    workspace: Workspace, recipe: Recipe, tmp_path: Path
) -> None:
    run = q.add(workspace, recipe, device="cpu")
    other = tmp_path / "other.jsonl"
    other.write_text(LINE * 9, encoding="utf-8")
    changed = replaced(replaced(replaced(recipe, "training.steps", 7), "data.path", str(other)), "name", "better")
    edited = q.edit(workspace, run, changed)
    assert read_job(edited).recipe == changed
    assert edited.name == "better"
    assert edited.job["created"] == run.job["created"]
    refuse_changes(workspace, edited)  # the hashes are those of the new file
    assert q.read_queue(workspace).waiting == [run.id]


def test_a_name_given_by_hand_outlives_an_edit(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "mine")
    assert q.edit(workspace, run, replaced(recipe, "training.steps", 9)).name == "mine"


def test_an_edit_that_is_refused_leaves_the_run_as_it_was(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    before = (run.path / "job.json").read_bytes()
    with pytest.raises(DataError):
        q.edit(workspace, run, replaced(recipe, "data.path", "nowhere.jsonl"))
    q.take_out(workspace, run)
    with pytest.raises(NotFoundError, match="does not wait"):
        q.edit(workspace, run, recipe)
    assert (run.path / "job.json").read_bytes() == before


def test_a_run_that_was_begun_keeps_its_recipe(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    pid, started = own_start()
    run.events.post(e.Started(pid=pid, process_started=started, device="cpu"))
    run.events.post(e.Paused(step=1, cause="The disk is full."))
    with pytest.raises(BusyError, match="was begun"):
        q.edit(workspace, run, replaced(recipe, "training.steps", 9))


def test_a_run_whose_folder_is_gone_waits_no_more(workspace: Workspace, recipe: Recipe) -> None:
    a, b = add(workspace, recipe, "a", "b")
    a.path.rename(workspace.root / "elsewhere")
    assert q.read_queue(workspace).waiting == [b.id]


def test_what_cannot_be_read_is_told_and_nothing_is_written_over_it(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    for broken in ("{", '{"schema": 1}', '{"schema": 1, "waiting": 5}'):
        q.queue_file(workspace).write_text(broken)
        with pytest.raises(DamagedError):
            q.hold(workspace)
        assert q.queue_file(workspace).read_text() == broken
    assert run.path.is_dir()


def test_everything_in_the_file_is_read_back(workspace: Workspace) -> None:
    with q.changing(workspace) as queue:
        queue.turn = q.Turn("r", 5.0, 2, "It climbs.")
        queue.driver, queue.is_started, queue.halt = own_start(), True, ("Full.", "Make room.")
        queue.began, queue.is_seen = 4.0, False
        queue.done.append(q.Done("d", "failed", 1.0, 2.0, "why", "what"))
        assert queue.is_driven
    read = q.read_queue(workspace)
    assert read == queue
    assert json.loads(q.queue_file(workspace).read_text())["schema"] == 1


def test_a_start_forgets_what_was_seen_and_nothing_else(workspace: Workspace) -> None:
    queue = q.Queue(done=[q.Done("d", "failed", 1.0, 2.0)], began=1.0, halt=("Full.", ""), is_seen=False)
    q.begin_report(queue)
    assert (len(queue.done), queue.began, queue.halt, queue.is_started) == (1, 1.0, ("", ""), True)
    queue.is_seen = True
    q.begin_report(queue)
    assert queue.done == []
    assert queue.began > 1.0


ADDER = """
import sys
from studio.places import Workspace
from studio.runs.queue import add_run
from studio.runs.folder import RunFolder
workspace = Workspace.default()
for run in sys.argv[1:]:
    add_run(workspace, RunFolder(workspace.runs / run))
"""


def test_two_that_add_at_once_lose_nothing(workspace: Workspace, recipe: Recipe) -> None:
    runs = [RunFolder.create(workspace, f"r{number}", {}).id for number in range(40)]
    environment = {**os.environ, "OVERLAY_HOME": str(workspace.root)}
    processes = [
        subprocess.Popen([sys.executable, "-c", ADDER, *part], env=environment) for part in (runs[::2], runs[1::2])
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert sorted(q.read_queue(workspace).waiting) == sorted(runs)


def test_a_reader_beside_a_writer_sees_a_whole_list(workspace: Workspace, recipe: Recipe) -> None:
    (run,) = add(workspace, recipe, "a")
    done = threading.Event()

    def write() -> None:
        for position in range(60):
            q.move(workspace, run, position)
            with q.changing(workspace) as queue:
                queue.began += 1
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert q.read_queue(workspace).waiting == [run.id]
    writer.join()
