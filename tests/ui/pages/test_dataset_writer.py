"""A set is written without leaving the keyboard, and nothing of it is lost, whatever happens to the window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QApplication

from studio.places import Workspace
from ui.handwriting import Handwriting
from ui.pages.dataset_writer import SetWriter
from ui.state import AppState

CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
HOSTILE = "<b>bold</b>"


class Desk:
    def __init__(self, folder: Path, qtbot: Any) -> None:
        self.bot, self.workspace, self.state = qtbot, Workspace(folder), AppState()
        self.owner = QObject()
        self.writing = Handwriting(self.workspace, self.state, self.owner)
        self.page = SetWriter(self.state)
        qtbot.addWidget(self.page)
        self.page.resize(1100, 700)
        self.page.show()
        qtbot.waitUntil(self.page.isActiveWindow)

    def begin(self, verb: str = "new", value: object = None) -> None:
        self.state.writing_requested.emit(verb, value)
        self.bot.waitUntil(lambda: self.state.writing.opened is not None)
        self.page.focus()

    def type(self, text: str, key: Qt.Key | None = None, keys: Any = Qt.KeyboardModifier.NoModifier) -> None:
        focused = QApplication.focusWidget()
        assert focused is not None
        self.bot.keyClicks(focused, text)
        if key is not None:
            self.bot.keyClick(focused, key, keys)

    def kept(self, name: str) -> list[list[str]]:
        path = self.workspace.written / name
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [[turn["content"] for turn in json.loads(line)["messages"]] for line in lines]

    def wait_for(self, name: str, rows: list[list[str]]) -> None:
        self.bot.waitUntil(lambda: self.kept(name) == rows, timeout=60_000)


@pytest.fixture
def desk(tmp_path: Path, qtbot: Any) -> Desk:
    return Desk(tmp_path, qtbot)


def test_rows_are_typed_one_after_the_other_and_kept_as_they_are_left(desk: Desk) -> None:
    desk.begin()
    verbs: list[str] = []
    desk.state.writing_requested.connect(lambda verb, _value: verbs.append(verb))
    desk.type("Crew", Qt.Key.Key_Tab)
    desk.type("Arr.", Qt.Key.Key_Return)
    desk.type(HOSTILE, Qt.Key.Key_Tab)
    desk.type("Aye", Qt.Key.Key_Return, CTRL)
    assert "keep" in verbs  # with the row that is left, not only at the next pause
    desk.wait_for("Crew.jsonl", [["Arr.", HOSTILE, "Aye"]])
    desk.type("Where?")
    assert desk.page.verdict.text() == "The answer is empty."
    desk.wait_for("Crew.jsonl", [["Arr.", HOSTILE, "Aye"], ["Arr.", "Where?", ""]])
    desk.type("", Qt.Key.Key_Tab)
    desk.type("There", Qt.Key.Key_PageUp, CTRL)
    assert desk.page.turns.boxes[0].text.text() == HOSTILE
    desk.type("", Qt.Key.Key_D, CTRL)
    desk.type("!", Qt.Key.Key_Delete, CTRL | SHIFT)
    desk.page.bar.action_triggered.emit()
    told: list[str] = []
    desk.page.finished.connect(told.append)
    desk.page.done.click()
    desk.bot.waitUntil(lambda: bool(told))
    assert Path(told[0]) == desk.workspace.written / "Crew.jsonl"
    rows = [["Arr.", HOSTILE, "Aye"], ["Arr.", HOSTILE + "!", "Aye"], ["Arr.", "Where?", "There"]]
    assert desk.kept("Crew.jsonl") == rows


def test_what_is_on_its_way_when_the_window_closes_is_kept(desk: Desk) -> None:
    desk.begin()
    desk.page.turns.focus_first()
    desk.type("Only this")
    desk.page.hide()
    desk.writing.close()
    assert desk.kept("my-set.jsonl") == [["Only this", ""]]


def test_a_set_is_gone_on_with_and_takes_another_name(desk: Desk) -> None:
    desk.begin()
    desk.page.turns.focus_first()
    desk.type("One", Qt.Key.Key_Return, CTRL)
    desk.wait_for("my-set.jsonl", [["One", ""]])
    desk.bot.waitUntil(lambda: bool(desk.state.writing.sets))
    desk.begin("continue", desk.state.writing.sets[0])
    desk.bot.waitUntil(lambda: desk.page.name.text() == "my-set")
    assert [box.text.text() for box in desk.page.turns.boxes] == ["One", ""]
    desk.page.name.setFocus()
    desk.type("-2")
    desk.wait_for("my-set-2.jsonl", [["One", ""]])
    desk.bot.waitUntil(lambda: desk.kept("my-set.jsonl") == [])
