"""The queue seen from the window: wishes in, facts out, and a process that goes on when the window is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from studio.recipe.fields import replaced
from studio.runs import queue as q
from studio.runs.create import read_job
from studio.runs.engine import running_engine
from studio.runs.folder import RunFolder
from studio.runs.state import Status
from tests.studio.runs.conftest import SITE, kill
from tests.ui.desk import FAKE, Desk, make_desk
from tests.ui.test_conductor import notices
from ui.state import AppState

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """As ever, and the engines that the queue's own process starts are the fake one too."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(engine=str(FAKE)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    making = make_desk(tmp_path, qtbot, monkeypatch)
    made = next(making)
    yield made
    driver, engine = q.read_queue(made.workspace).driver, running_engine(made.workspace, "cpu")
    for pid in filter(None, [driver and driver[0], engine and engine.pid]):
        kill(pid)
    # One that has just done its last run is on its way out.
    psutil.wait_procs(psutil.Process().children(), timeout=20)
    next(making, None)


def add(desk: Desk, state: AppState, name: str) -> None:
    """What the button does while a run is at work."""
    count = len(state.queue.entries)
    desk.set_recipe(state, name)
    state.queue_requested.emit("add", "", None)
    desk.wait(lambda: len(state.queue.entries) > count)


def queued(desk: Desk, state: AppState, *names: str) -> list[RunFolder]:
    """Runs that wait while nobody works through the queue."""
    runs = []
    for name in names:
        desk.set_recipe(state, name)
        runs.append(q.add(desk.workspace, state.recipe, device="cpu"))
    desk.wait(lambda: len(state.queue.entries) == len(names))
    return runs


def waiting(state: AppState) -> list[str]:
    return [entry.name for entry in state.queue.entries]


def test_what_is_added_while_a_run_is_at_work_follows_it(desk: Desk) -> None:
    with desk.open() as state:
        heard = notices(state)
        first = desk.begin(state, "long")
        add(desk, state, "short")
        desk.wait(lambda: heard)
        assert heard == [("ok", "short waits for its turn.", "It begins when long has ended.")]
        desk.wait(lambda: state.queue.is_driven)
        waits = state.queue.entries[0].run_id
        assert state.queue.current == ""
        state.run_requested.emit(first.folder.id, "stop")
        # Begun by another process, and followed step by step all the same.
        desk.wait(lambda: waits in state.runs and state.runs[waits].state.status is Status.FINISHED)
        assert [taken.step for taken in state.runs[waits].state.steps] == [1, 2, 3, 4, 5]
        desk.wait(lambda: state.queue.lines and not state.queue.is_driven)
        assert [(line.name, line.ending) for line in state.queue.lines] == [("short", "finished")]
        assert not state.queue.is_away
        state.queue_requested.emit("seen", "", None)
        desk.wait(lambda: not state.queue.lines)


def test_the_windows_own_idle_engine_makes_room_without_alarm(desk: Desk) -> None:
    with desk.open() as state:
        first = desk.begin(state, "short")
        desk.wait(lambda: state.runs[first.folder.id].state.status is Status.FINISHED)
        (waits,) = queued(desk, state, "short")
        heard = notices(state)
        state.queue_requested.emit("start", "", None)
        desk.wait(lambda: waits.id in state.runs and state.runs[waits.id].state.status is Status.FINISHED)
        desk.wait(lambda: state.queue.lines and not state.queue.is_driven)
        assert {notice[0] for notice in heard} <= {"ok"}


def test_the_order_is_changed_and_runs_are_removed(desk: Desk) -> None:
    with desk.open() as state:
        a, _, c = queued(desk, state, "a", "b", "c")
        state.queue_requested.emit("move", c.id, 1)
        desk.wait(lambda: waiting(state) == ["c", "a", "b"])
        state.queue_requested.emit("remove", a.id, None)
        desk.wait(lambda: waiting(state) == ["c", "b"])
        assert (desk.workspace.trash / a.id).is_dir()
        # What another program does to the queue is seen, too.
        q.move(desk.workspace, c, 2)
        desk.wait(lambda: waiting(state) == ["b", "c"])


def test_a_waiting_run_is_edited_on_the_train_page_and_put_back(desk: Desk) -> None:
    with desk.open() as state:
        a, _ = queued(desk, state, "a", "b")
        pages: list[str] = []
        state.page_requested.connect(pages.append)
        state.queue_requested.emit("edit", a.id, None)
        desk.wait(lambda: state.edited_run == a.id and state.recipe.name == "a")
        assert pages == ["train"]
        state.recipe_edited.emit(replaced(state.recipe, "training.steps", 77))
        state.queue_requested.emit("save", a.id, None)
        desk.wait(lambda: not state.edited_run)
        assert pages == ["train", "runs"]
        assert read_job(RunFolder(a.path)).recipe.training.steps == 77
        assert waiting(state) == ["a", "b"]


def test_an_edit_whose_run_has_meanwhile_begun_becomes_a_draft(desk: Desk) -> None:
    with desk.open() as state:
        (a,) = queued(desk, state, "a")
        heard = notices(state)
        state.queue_requested.emit("edit", a.id, None)
        desk.wait(lambda: state.edited_run)
        q.take_out(desk.workspace, a)
        desk.wait(lambda: not state.edited_run)
        assert heard[-1][1] == "The run being edited waits no more."
        assert state.recipe.name == "a"


def test_a_window_that_opens_later_finds_the_queue_at_work(desk: Desk) -> None:
    with desk.open() as state:
        queued(desk, state, "long", "short")
        state.queue_requested.emit("start", "", None)
        desk.wait(lambda: state.queue.current and state.live_run)
    assert q.read_queue(desk.workspace).is_driven
    with desk.open() as state:
        desk.wait(lambda: state.live_run is not None and state.live_run.state.step > 5)
        live = state.live_run
        assert live is not None
        desk.wait(lambda: state.queue.current == live.folder.id)
        state.queue_requested.emit("stop", "", None)
        desk.wait(lambda: not state.queue.is_started)
        state.run_requested.emit(live.folder.id, "stop")
        desk.wait(lambda: state.queue.lines and not state.queue.is_driven)
        assert waiting(state) == ["short"]


def test_what_was_done_while_no_window_was_open_is_told_as_that(desk: Desk) -> None:
    with desk.open() as state:
        queued(desk, state, "short")
        state.queue_requested.emit("start", "", None)
        desk.wait(lambda: q.read_queue(desk.workspace).done)
    with desk.open() as state:
        desk.wait(lambda: state.queue.lines)
        assert state.queue.is_away


def test_a_waiting_run_that_is_begun_by_hand_waits_no_more(desk: Desk) -> None:
    with desk.open() as state:
        (run,) = queued(desk, state, "long")
        desk.wait(lambda: run.id in state.runs)
        state.run_requested.emit(run.id, "resume")
        desk.wait(lambda: state.live_run is not None)
        desk.wait(lambda: not state.queue.entries)


def test_a_list_that_cannot_be_read_is_told_once(desk: Desk) -> None:
    with desk.open() as state:
        heard = notices(state)
        desk.workspace.queue.mkdir(parents=True)
        q.queue_file(desk.workspace).write_text("{")
        desk.wait(lambda: heard)
        state.queue_requested.emit("move", "nobody", 1)
        desk.wait(lambda: len(heard) == 2)
        assert {notice[0] for notice in heard} == {"bad"}
    q.queue_file(desk.workspace).unlink()
