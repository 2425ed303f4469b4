"""The queue on the Runs page: what waits, moved by mouse and keyboard, and the report in the morning."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from studio.runs import events as e
from studio.runs.report import Line
from studio.runs.state import RunState, Status
from tests.ui.desk import named
from tests.ui.pictures import gathered, run
from ui.pages.runs import RunsPage
from ui.queue_view import QueueEntry, QueueView
from ui.state import AppState
from ui.widgets.buttons import Button, IconButton

GB = 1 << 30
ENTRIES = (
    QueueEntry("r1", "pirate", "org/small", "rows.jsonl", 6 * GB, "fits"),
    QueueEntry("r2", "<b>json</b>", "large", "more.jsonl", 30 * GB, "over"),
    QueueEntry("r3", "laconic", "other", "rows.jsonl", is_begun=True),
)


def line(name: str, ending: str, **more: object) -> Line:
    nothing = dict.fromkeys(("best_loss", "best_evaluation", "peak_bytes", "estimated_bytes", "evaluation"))
    numbers = {"seconds": 60.0, "step": 9, "num_steps": 9, "first_loss": 2.0, "last_loss": 0.5}
    texts = {"message": "", "hint": "", "adapter": ""}
    return Line(**{"run": name, "name": name, "ending": ending, **nothing, **numbers, **texts, **more})


def shown(qtbot: QtBot, state: AppState, **queue: object) -> RunsPage:
    state.queue = QueueView(**queue)
    page = RunsPage(state)
    qtbot.addWidget(page)
    page.resize(1184, 820)
    page.show()
    qtbot.waitExposed(page)
    return page


def names(page: RunsPage) -> list[str]:
    rows = page.queue.table.rows
    return [rows.index(row, 1).data() for row in range(rows.rowCount())]


def asked(state: AppState) -> list[tuple[str, str, object]]:
    heard: list[tuple[str, str, object]] = []
    state.queue_requested.connect(lambda *wish: heard.append(wish))
    return heard


def drop(page: RunsPage, on_row: int, below: bool) -> QDropEvent:
    """A row let go over another one; a real drag has a loop of its own that no test could leave."""
    table = page.queue.table
    rect = table.visualRect(table.rows.index(on_row, 1))
    place = QPointF(rect.center().x(), rect.bottom() - 2 if below else rect.top() + 2)

    class Drop(QDropEvent):
        def source(self) -> object:
            return table

    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = Drop(place, Qt.DropAction.MoveAction, QMimeData(), buttons, keys)
    table.dropEvent(event)
    return event


def test_what_waits_is_told_with_its_place_and_its_need(qtbot: QtBot, tmp_path: Path) -> None:
    page = shown(qtbot, gathered(run(tmp_path, "old", ending=e.Finished())), entries=ENTRIES)
    assert page.queue.isVisible()
    rows = page.queue.table.rows
    cells = [[rows.index(row, column).data() for column in range(5)] for row in range(3)]
    assert cells == [
        ["1", "pirate", "small", "rows.jsonl", "\u2248 6.0 GB, fits"],
        ["2", "<b>json</b>", "large", "more.jsonl", "\u2248 30.0 GB, does not fit"],
        ["3", "laconic (goes on)", "other", "rows.jsonl", "not known"],
    ]


def test_a_queue_with_nothing_to_tell_takes_no_room(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state)
    assert not page.queue.isVisible()
    state.queue = QueueView(entries=ENTRIES)
    state.queue_changed.emit()
    assert page.queue.isVisible()


def test_a_run_that_waits_is_not_listed_twice(qtbot: QtBot, tmp_path: Path) -> None:
    waits, old = run(tmp_path, "waits"), run(tmp_path, "old", ending=e.Finished())
    waits.state = RunState()
    assert waits.state.status is Status.WAITING
    page = shown(qtbot, gathered(waits, old), entries=(QueueEntry(waits.folder.id, "waits", "b", "d"),))
    assert [page.rows.index(row, 1).data() for row in range(page.rows.rowCount())] == ["old"]
    assert names(page) == ["waits"]


@pytest.mark.parametrize(
    ("chosen", "on_row", "below", "wish"),
    [
        (0, 1, True, ("move", "r1", 2)),
        (0, 2, True, ("move", "r1", 3)),
        (0, 2, False, ("move", "r1", 2)),
        (2, 0, False, ("move", "r3", 1)),
        (2, 0, True, ("move", "r3", 2)),
        (1, 1, True, None),
        (1, 0, True, None),
    ],
)
def test_a_row_is_put_down_where_it_is_let_go(
    qtbot: QtBot, tmp_path: Path, chosen: int, on_row: int, below: bool, wish: tuple[str, str, int] | None
) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state, entries=ENTRIES)
    heard = asked(state)
    page.queue.table.selectRow(chosen)
    event = drop(page, on_row, below)
    assert heard == ([wish] if wish else [])
    # Qt would delete the row that it thinks was moved.
    assert event.dropAction() is Qt.DropAction.IgnoreAction
    assert len(names(page)) == 3


def test_a_row_is_moved_by_keyboard_and_by_buttons(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state, entries=ENTRIES)
    heard, table = asked(state), page.queue.table
    table.selectRow(1)
    QTest.keyClick(table, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    QTest.keyClick(table, Qt.Key.Key_Down, Qt.KeyboardModifier.AltModifier)
    QTest.mouseClick(named(page.queue, IconButton, "Move up"), Qt.MouseButton.LeftButton)
    QTest.mouseClick(named(page.queue, IconButton, "Move down"), Qt.MouseButton.LeftButton)
    assert heard == [("move", "r2", 1), ("move", "r2", 3)] * 2
    # What the queue's file then says is shown, and the run stays chosen.
    state.queue = QueueView(entries=(ENTRIES[1], ENTRIES[0], ENTRIES[2]))
    state.queue_changed.emit()
    assert names(page)[0] == "<b>json</b>"
    assert table.chosen() == "r2"
    assert not named(page.queue, IconButton, "Move up").isEnabled()
    QTest.keyClick(table, Qt.Key.Key_Up, Qt.KeyboardModifier.AltModifier)
    assert len(heard) == 4, "there is nothing above the first"
    QTest.keyClick(table, Qt.Key.Key_Delete)
    assert heard[-1] == ("remove", "r2", None)


def test_a_run_is_edited_or_removed_by_its_buttons_unless_it_was_begun(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state, entries=ENTRIES)
    heard = asked(state)
    page.queue.table.selectRow(1)
    for name in ("Edit", "Remove"):
        QTest.mouseClick(named(page.queue, Button, name), Qt.MouseButton.LeftButton)
    assert heard == [("edit", "r2", None), ("remove", "r2", None)]
    page.queue.table.selectRow(2)
    edit = named(page.queue, Button, "Edit")
    assert not edit.isEnabled()
    assert "settled" in edit.toolTip()


def test_the_button_starts_the_queue_or_stops_it_after_the_run_in_hand(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state, entries=ENTRIES)
    heard, card = asked(state), page.queue
    assert (card.start.isVisible(), card.stop.isVisible()) == (True, False)
    QTest.mouseClick(card.start, Qt.MouseButton.LeftButton)
    state.queue = QueueView(entries=ENTRIES, current="r0", is_driven=True, is_started=True)
    state.queue_changed.emit()
    assert (card.start.isVisible(), card.stop.isVisible()) == (False, True)
    QTest.mouseClick(card.stop, Qt.MouseButton.LeftButton)
    assert [wish[0] for wish in heard] == ["start", "stop"]
    state.queue = QueueView(entries=ENTRIES, current="r0", is_driven=True, is_started=False)
    state.queue_changed.emit()
    assert card.start.isVisible(), "a change of mind"
    assert "No other is begun after it." in card._note.text()


def test_why_the_queue_stands_still_is_said(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    page = shown(qtbot, state, entries=ENTRIES, halt=("The disk is full.", "Make room."))
    bar = page.queue._halt
    assert (bar.isVisible(), bar.accessibleName()) == (True, "The queue stopped. The disk is full. Make room.")
    state.queue = QueueView(entries=ENTRIES, is_started=True)
    state.queue_changed.emit()
    assert "was interrupted" in bar.accessibleName()
    assert page.queue.start.isVisible()


def test_the_report_tells_what_was_done_while_nobody_watched(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "old", ending=e.Finished()))
    lines = (
        *(line(f"good-{number}", "finished", evaluation=0.75) for number in range(3)),
        line("wild", "diverged", message="The loss is climbing."),
    )
    page = shown(qtbot, state, lines=lines, is_away=True)
    report = page.queue.report
    assert report.heading.text() == "While you were away: 3 finished, 1 diverged"
    texts = [child.text() for child in report.findChildren(type(report.heading))]
    assert "finished in 60 s, loss 2.00 \u2192 0.50, evaluation 0.75" in texts
    assert any(text.endswith("The loss is climbing.") for text in texts)
    qtbot.waitUntil(
        lambda: any(b.accessibleName() == "Show wild" and b.isVisible() for b in report.findChildren(Button))
    )
    with qtbot.waitSignal(state.run_selected) as wish:
        QTest.mouseClick(named(report, Button, "Show wild"), Qt.MouseButton.LeftButton)
    assert wish.args == ["wild"]
    heard = asked(state)
    for button in (report.open, report.dismiss):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert [each[0] for each in heard] == ["report", "seen"]
    state.queue = QueueView()
    state.queue_changed.emit()
    assert not page.queue.isVisible()


def test_a_long_report_says_that_there_is_more(qtbot: QtBot, tmp_path: Path) -> None:
    lines = tuple(line(f"run-{number}", "finished") for number in range(9))
    page = shown(qtbot, gathered(run(tmp_path, "old", ending=e.Finished())), lines=lines)
    assert page.queue.report.heading.text() == "Done so far: 9 finished"
    assert page.queue.report._more.text().startswith("and 4 before them")
