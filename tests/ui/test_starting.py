"""A new run in the place of one that cannot go on, as its user comes to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from studio import files
from studio.runs.create import read_job
from studio.runs.state import Status
from tests.studio.library.folders import LORA, write_safetensors
from tests.ui.desk import Desk, make_desk, named
from ui.closing import Question
from ui.starting import ask_about_change
from ui.state import AppState, RunView
from ui.widgets.buttons import Button


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


def paused(desk: Desk, state: AppState) -> RunView:
    """A run that stands still, with a checkpoint of its second step."""
    run = desk.begin(state, "long").folder
    state.run_requested.emit(run.id, "pause")
    desk.wait(lambda: state.runs[run.id].state.status is Status.PAUSED)
    with files.new_folder(run.checkpoint(2)) as folder:
        write_safetensors(folder / "adapter.safetensors", LORA)
    return state.runs[run.id]


def the_other(state: AppState, view: RunView) -> RunView | None:
    return next((other for run_id, other in state.runs.items() if run_id != view.folder.id), None)


def test_a_run_is_begun_again_with_another_rate_from_its_last_good_checkpoint(desk: Desk) -> None:
    with desk.open() as state:
        view = paused(desk, state)
        selected: list[str] = []
        state.run_selected.connect(selected.append)
        state.again_with_requested.emit(view.folder.id, {"training.learning_rate": 1e-5})
        state.again_with_requested.emit(view.folder.id, {"training.learning_rate": 1e-5})
        desk.wait(lambda: the_other(state, view))
        child = the_other(state, view)
        assert child is not None
        desk.wait(lambda: state.runs[child.folder.id].state.step > 2)
        assert selected == [child.folder.id], "once, and shown"
        assert read_job(child.folder).recipe.training.learning_rate == 1e-5
        assert child.folder.job["parent"]["step"] == 2
        heard: list[str] = []
        state.noticed.connect(lambda _kind, sentence, _hint: heard.append(sentence))
        state.again_with_requested.emit(view.folder.id, {})
        assert [sentence for sentence in heard if "still training" in sentence] == heard != []


def test_what_cannot_be_begun_again_is_told(desk: Desk) -> None:
    with desk.open() as state:
        view = paused(desk, state)
        heard: list[str] = []
        state.noticed.connect(lambda _kind, sentence, _hint: heard.append(sentence))
        state.again_with_requested.emit(view.folder.id, {"adapter.rank": 64})
        desk.wait(lambda: heard)
        assert "another shape" in heard[0]
        state.again_with_requested.emit("gone", {})
        assert "gone" in heard[1]
        assert the_other(state, view) is None


@pytest.mark.parametrize(("button", "begins"), [("New run from here", True), ("Leave it as it is", False)])
def test_after_a_changed_dataset_a_new_run_from_there_is_offered(desk: Desk, button: str, begins: bool) -> None:
    parent = QWidget()
    desk.bot.addWidget(parent)
    with desk.open() as state:
        view = paused(desk, state)
        state.input_changed.connect(lambda run, error: ask_about_change(parent, state, run, error))
        with open(desk.data, "a", encoding="utf-8") as file:
            file.write("\n")
        state.run_requested.emit(view.folder.id, "resume")
        desk.wait(lambda: parent.findChildren(Question))
        question = parent.findChildren(Question)[0]
        words = " ".join(str(label.text()) for label in question.findChildren(QWidget) if hasattr(label, "text"))
        assert "dataset" in words
        desk.bot.mouseClick(named(question, Button, button), Qt.MouseButton.LeftButton)
        if begins:
            desk.wait(lambda: the_other(state, view))
            child = the_other(state, view)
            assert child is not None
            assert child.folder.job["inputs"]["dataset"] != view.folder.job["inputs"]["dataset"]
            assert child.folder.job["parent"]["run"] == view.folder.id
        else:
            desk.wait(lambda: not parent.findChildren(Question))
            assert the_other(state, view) is None
