"""Rows edited by hand: what is written is judged at once, becomes a version in its place, and goes back to the last byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QItemSelection, QItemSelectionModel, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit

from studio.data.conversation import RawRow
from studio.data.edits import Edit
from studio.data.versions import Version
from tests.ui.pages.dataset_bench import HOSTILE, Bench
from tests.ui.test_form import choose
from ui.dataset_view import DatasetView
from ui.pages.dataset_row_editor import EditedRow, RowEditor, row_to_add, row_to_edit

SHIFT = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
PAIR = {"question": HOSTILE, "answer": "Aye,\u00a0sir", "id": 7}


def version(bench: Bench, number: int) -> list[Any]:
    """Its rows, once it is in force and nothing goes on any more."""
    bench.wait(lambda: bench.view.version is not None and bench.view.version.number == number)
    bench.settle()
    return [json.loads(line) for line in bench.view.version.path.read_text("utf-8").splitlines() if line.endswith("}")]


def test_rows_are_edited_and_removed_in_their_place_and_undo_returns_to_the_file(bench: Bench) -> None:
    path = bench.write([{**PAIR, "id": number} for number in range(80)])
    path.write_text(path.read_text("utf-8").replace('"id": 41}', '"id": 41'), "utf-8")  # one that is broken
    before = path.read_bytes()
    bench.open(path)
    table, editor = bench.page.rows.table, bench.page.editing.editor
    bench.wait(lambda: bench.view.rows.is_whole)
    bench.cell(60, 0)
    table.setFocus()
    table.selectRow(60)
    top = table.verticalScrollBar().value()
    assert top > 0
    bench.bot.keyClick(table, Qt.Key.Key_Return)
    bench.wait(editor.is_editing)
    bench.bot.keyClicks(editor.turns.boxes[1].text.focusProxy(), "!")
    bench.bot.keyClick(editor.turns.boxes[1].text.focusProxy(), Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert version(bench, 1)[59] == {**PAIR, "answer": "Aye,\u00a0sir!", "id": 60}
    assert (table.verticalScrollBar().value(), table.currentIndex().row()) == (top, 60)
    assert not editor.isVisible()
    assert "version 1: 1 row edited" in bench.texts(bench.page.summary)
    bench.wait(bench.page.rows.bar.edit.isEnabled)
    first, last = (bench.page.rows.model.index(row, 0) for row in (61, 63))
    flags = QItemSelectionModel.SelectionFlag
    table.selectionModel().select(QItemSelection(first, last), flags.ClearAndSelect | flags.Rows)
    bench.bot.keyClick(table, Qt.Key.Key_Delete)
    assert [row["id"] for row in version(bench, 2)][58:62] == [59, 60, 64, 65]
    assert "version 2: 1 row edited, 3 removed" in bench.texts(bench.page.summary)
    bench.bot.keyClick(bench.page, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    version(bench, 1)
    bench.bot.keyClick(bench.page, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    version(bench, 0)
    assert bench.view.version.path == path
    bench.bot.keyClick(bench.page, Qt.Key.Key_Z, SHIFT)
    assert version(bench, 1)[59]["answer"].endswith("!")
    assert path.read_bytes() == before


def view(path: str = "rows.jsonl") -> DatasetView:
    return DatasetView(path, version=Version(3, 2, (), {}, Path(path)))


@pytest.fixture
def editor(qtbot: Any) -> RowEditor:
    made = RowEditor()
    qtbot.addWidget(made)
    made.resize(480, 600)
    made.show()
    return made


def open_row(editor: RowEditor, value: Any, written: str = "") -> list[Edit]:
    told: list[Edit] = []
    editor.applied.connect(told.append)
    assert editor.edit(EditedRow("replace", 4, "rows.jsonl", 3, value, written)) == ""
    return told


def write(field: Any, text: str) -> None:
    field.focusProxy().setPlainText(text)


def test_a_row_is_judged_while_it_is_written(editor: RowEditor) -> None:
    told = open_row(editor, PAIR)
    assert editor.apply.text() == "Nothing changed"
    write(editor.turns.boxes[1].text, " ")
    assert "answer is empty" in editor.verdict.text()
    assert not editor.apply.isEnabled()
    write(editor.turns.boxes[1].text, "<i>No</i>")
    editor.apply.click()
    assert told == [Edit("replace", 4, {**PAIR, "answer": "<i>No</i>"})]


def test_turns_are_added_moved_and_removed_and_it_is_told_when_the_row_becomes_messages(editor: RowEditor) -> None:
    told = open_row(editor, PAIR)
    for text in ("And you?", "Me too."):
        editor.turns.add.click()
        write(editor.turns.boxes[-1].text, text)
    assert "becomes messages" in editor.verdict.text()
    editor.turns.boxes[3].up.click()
    assert "Message 3 is from assistant" in editor.verdict.text()
    editor.turns.boxes[2].down.click()
    editor.turns.boxes[0].remove.click()
    editor.turns.boxes[0].remove.click()
    editor.turns.add_system.click()
    write(editor.turns.boxes[0].text, "Be brief.")
    editor.apply.click()
    assert told[0].value == {"id": 7, "question": "And you?", "answer": "Me too.", "system": "Be brief."}


def test_a_turn_that_is_added_comes_into_sight(editor: RowEditor, qtbot: Any) -> None:
    open_row(editor, PAIR)
    for _ in range(6):
        editor.turns.add.click()
    last = editor.turns.boxes[-1].text
    qtbot.waitUntil(lambda: last.visibleRegion().boundingRect().height() == last.height())


def test_a_broken_line_is_seen_as_it_stands_and_becomes_a_row(editor: RowEditor) -> None:
    told = open_row(editor, None, '{"text": "half')
    assert editor.text.text() == '{"text": "half'
    assert "This is no JSON" in editor.verdict.text()
    write(editor.text, '{"text": "whole"}')
    editor.switch.click()
    write(editor.turns.boxes[0].text, "in one piece")
    editor.switch.click()
    assert json.loads(editor.text.text()) == {"text": "in one piece"}
    editor.apply.click()
    assert told == [Edit("replace", 4, {"text": "in one piece"})]


def test_letters_that_cannot_be_shown_are_edited_as_escapes(editor: RowEditor) -> None:
    told = open_row(editor, {"question": "a\ud800", "answer": "b\0"})
    assert "\\ud800" in editor.text.text()
    assert not editor.switch.isVisible()
    write(editor.text, editor.text.text().replace("\\ud800", "").replace("\\u0000", ""))
    editor.apply.click()
    assert told == [Edit("replace", 4, {"question": "a", "answer": "b"})]


def test_what_is_half_written_is_not_lost_to_another_row(editor: RowEditor) -> None:
    open_row(editor, PAIR)
    write(editor.turns.boxes[0].text, "Wait")
    other = row_to_edit(view(), RawRow(5, 6, PAIR), "")
    assert "first" in editor.edit(other)
    QTest.keyClick(editor, Qt.Key.Key_Escape)
    assert editor.is_editing()
    editor.discard.click()
    assert editor.edit(other) == ""
    QTest.keyClick(editor, Qt.Key.Key_Escape)
    assert not editor.is_editing()
    for text in ("x " * 150_000, "x" * 30_000):
        assert "too large" in editor.edit(row_to_edit(view(), RawRow(5, 6, {"text": text}), ""))


def test_a_new_row_is_begun_as_a_question_and_an_answer(editor: RowEditor) -> None:
    told: list[Edit] = []
    editor.applied.connect(told.append)
    editor.edit(row_to_add(view(), 9))
    assert [box.role.value() for box in editor.turns.boxes] == ["user", "assistant"]
    assert editor.turns.boxes[0].findChild(QPlainTextEdit).hasFocus()
    for box in editor.turns.boxes:
        write(box.text, "x")
    choose(editor.turns.boxes[1].role, "tool")
    assert not editor.apply.isEnabled()
    choose(editor.turns.boxes[1].role, "assistant")
    editor.apply.click()
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    assert told == [Edit("insert", 9, {"messages": messages})]


def test_a_set_that_was_written_by_hand_opens_as_any_other(bench: Bench) -> None:
    bench.state.writing_requested.emit("new", None)
    assert bench.page.sets.writer.isVisible()
    for box, text in zip(bench.page.sets.writer.turns.boxes, ("Who?", "Me."), strict=True):
        write(box.text, text)
    bench.page.sets.writer.later.click()
    assert "No dataset open" in bench.texts()
    bench.wait(lambda: bench.state.writing.sets)
    bench.state.writing_requested.emit("continue", bench.state.writing.sets[0])
    bench.wait(bench.page.sets.writer.isVisible)
    bench.page.sets.writer.done.click()
    bench.wait(lambda: bench.view is not None)
    bench.settle()
    assert bench.tile("good") == "Can be learnt: 1"
    assert bench.page.view_settings()["recent"] == [str(bench.workspace.written / "my-set.jsonl")]


def test_rows_are_edited_in_the_columns_that_were_mapped_and_a_search_stays(bench: Bench) -> None:
    bench.page.open_path(
        str(bench.write([{"query": f"q{n}", "response text": "x", "reply": f"a{n}"} for n in range(3)]))
    )
    bench.wait(lambda: bench.view.version is not None)
    assert not bench.page.rows.bar.add.isEnabled()
    bench.press("That is right")
    bench.settle()
    bench.wait(lambda: bench.view.rows.is_whole)
    bench.state.dataset_requested.emit("search", "q1")
    bench.wait(lambda: bench.view.found == [1] and not bench.view.busy)
    bench.state.dataset_requested.emit("show", 1)
    bench.press("Edit")
    editor = bench.page.editing.editor
    bench.wait(editor.is_editing)
    editor.turns.add.click()
    assert "cannot hold these turns" in editor.verdict.text()
    editor.turns.boxes[2].remove.click()
    write(editor.turns.boxes[1].text, "new")
    editor.apply.click()
    assert version(bench, 1)[1] == {"query": "q1", "response text": "x", "reply": "new"}
    bench.wait(lambda: bench.view.found == [1])
