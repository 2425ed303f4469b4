"""The thread against the real functions of `studio.runs`, and an engine that only lacks the model."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from studio.errors import StudioError
from studio.files import temporary_beside
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import start_engine
from studio.runs.folder import RunFolder
from studio.runs.state import RunState, Status
from tests.ui.desk import Desk, make_desk
from ui.facts import first_recipe
from ui.training_thread import TrainingThread


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


class Ear:
    """A thread, and all it says."""

    def __init__(self, desk: Desk) -> None:
        self.thread = TrainingThread(desk.workspace, "cpu")
        self.states: dict[str, RunState] = {}
        self.refusals: list[tuple[str, StudioError]] = []
        self.thread.run_followed.connect(lambda run, state: self.states.__setitem__(run.id, state))
        self.thread.run_event.connect(lambda run_id, event: self.states[run_id].advance(event))
        self.thread.refused.connect(lambda what, error: self.refusals.append((what, error)))
        self.thread.start()


@pytest.fixture
def ear(desk: Desk) -> Iterator[Ear]:
    found = Ear(desk)
    yield found
    found.thread.finish()


def new_run(desk: Desk, name: str) -> RunFolder:
    from studio.recipe.fields import replaced

    recipe = replaced(replaced(first_recipe([]), "name", name), "base.id", "tiny")
    return create_run(desk.workspace, replaced(recipe, "data.path", str(desk.data)), device="cpu")


def test_what_was_heard_is_what_the_file_says(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "short")
    ear.thread.start_run(run)
    desk.wait(lambda: run.id in ear.states and ear.states[run.id].status is Status.FINISHED)
    assert ear.states[run.id].step == 5
    assert ear.states[run.id] == run.state()


def test_a_window_that_opens_clears_away_what_a_crash_has_left(desk: Desk) -> None:
    left = temporary_beside(desk.workspace.bases / "llama")
    left.mkdir()
    os.utime(left, (1.0, 1.0))
    later = Ear(desk)
    try:
        desk.wait(lambda: not left.exists())
        assert (desk.workspace.bases / "tiny" / "config.json").is_file()
    finally:
        later.thread.finish()


def test_a_second_window_hears_the_past_once_and_the_rest_live(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "long")
    ear.thread.start_run(run)
    desk.wait(lambda: run.id in ear.states and ear.states[run.id].step > 3)
    ear.thread.finish()
    later = Ear(desk)
    try:
        desk.wait(lambda: run.id in later.states and later.states[run.id].step > 10)
        later.thread.wish(w.Stop(run=run.id))
        desk.wait(lambda: later.states[run.id].status is Status.STOPPED)
        assert later.states[run.id] == run.state()
        steps = [taken.step for taken in later.states[run.id].steps]
        assert steps == list(range(1, len(steps) + 1))
    finally:
        later.thread.finish()


def test_a_killed_engine_is_given_its_last_word(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "dies")
    ear.thread.start_run(run)
    desk.wait(lambda: run.id in ear.states and ear.states[run.id].status is Status.INTERRUPTED)
    ending = ear.states[run.id].ending
    assert ending is not None
    assert "killed" in ending.message
    assert run.state() == ear.states[run.id]


def test_a_run_that_ran_out_of_memory_goes_on_in_another_engine(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "halves")
    ear.thread.start_run(run)
    desk.wait(lambda: run.id in ear.states and ear.states[run.id].status is Status.FINISHED)
    starts = [event for event in run.events.read() if isinstance(event, e.Started)]
    assert [start.from_step for start in starts] == [0, 2]
    assert starts[0].pid != starts[1].pid
    assert ear.states[run.id] == run.state()
    assert ear.refusals == []


def test_a_changed_dataset_is_refused_and_nothing_starts(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "long")
    with open(desk.data, "a", encoding="utf-8") as file:
        file.write("\n")
    ear.thread.start_run(run)
    desk.wait(lambda: ear.refusals)
    assert [(what, error.kind) for what, error in ear.refusals] == [("train", "changed")]
    assert run.state() == RunState()


def test_a_paused_run_goes_on_where_it_was(desk: Desk, ear: Ear) -> None:
    run = new_run(desk, "long")
    ear.thread.start_run(run)
    desk.wait(lambda: run.id in ear.states and ear.states[run.id].step > 3)
    ear.thread.wish(w.Pause(run=run.id))
    desk.wait(lambda: ear.states[run.id].status is Status.PAUSED)
    paused_at = ear.states[run.id].step
    ear.thread.start_run(run)
    desk.wait(lambda: ear.states[run.id].step > paused_at + 2)
    ear.thread.release()
    desk.wait(lambda: ear.states[run.id].status is Status.PAUSED)
    assert ear.states[run.id] == run.state()
    starts = [event for event in run.events.read() if isinstance(event, e.Started)]
    assert [start.from_step for start in starts] == [0, paused_at]


def test_a_run_that_another_engine_is_about_to_begin_is_followed_though_ours_ends(desk: Desk, ear: Ear) -> None:
    """The queue sends an idle engine of the window's home before it begins a run in one of its own."""
    first, second = new_run(desk, "short"), new_run(desk, "short")
    ear.thread.start_run(first)
    desk.wait(lambda: first.id in ear.states and ear.states[first.id].status is Status.FINISHED)
    ear.thread.follow(second, keep=True)
    desk.wait(lambda: second.id in ear.states)
    words: list[str] = []
    ear.thread.engine_changed.connect(words.append)
    desk.release()
    desk.wait(lambda: "gone" in words)
    serving = start_engine(desk.workspace, "cpu")
    serving.post(w.Train(folder=str(second.path)))
    desk.wait(lambda: ear.states[second.id].status is Status.FINISHED)
    assert ear.refusals == []
