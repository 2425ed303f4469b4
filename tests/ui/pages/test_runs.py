from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit
from pytestqt.qtbot import QtBot

from studio.runs import events as e
from tests.ui.desk import named
from tests.ui.pictures import adapter, gathered, run
from ui.pages.runs import RunsPage, cells
from ui.state import AppState
from ui.widgets.buttons import Button

KILLED = e.Died(exit_code=-9, signal="SIGKILL", last_lines=[])


def shown(qtbot: QtBot, state: AppState) -> RunsPage:
    page = RunsPage(state)
    qtbot.addWidget(page)
    page.resize(1240, 800)
    with qtbot.waitExposed(page):
        page.show()
    return page


def names(page: RunsPage) -> list[str]:
    return [str(page.rows.index(row, 1).data()) for row in range(page.rows.rowCount())]


def press(qtbot: QtBot, page: RunsPage, name: str) -> None:
    qtbot.mouseClick(named(page, Button, name), Qt.MouseButton.LeftButton)


def choose(page: RunsPage, row: int) -> None:
    page.table.setCurrentIndex(page.rows.index(row, 0))


def test_without_runs_the_tour_is_offered(qtbot: QtBot) -> None:
    state = gathered()
    page = shown(qtbot, state)
    with qtbot.waitSignal(state.tour_requested):
        press(qtbot, page, "Try the 2-minute tour")


def test_a_run_is_told_in_one_row(tmp_path: Path) -> None:
    view = run(tmp_path, "pirate", ending=e.Stopped(step=4, saved=True, time=1100.0))
    view.state.advance(e.Evaluated(step=4, loss=1.25, num_supervised=5))
    told = cells(view)
    assert told[:4] == ["Stopped", "pirate", "starter", "pirate"]
    assert told[5:] == ["4 of 10", "0.500", "1.250", "1.7 min"]


def test_the_newest_is_first_and_chosen(qtbot: QtBot, tmp_path: Path) -> None:
    old, new = run(tmp_path, "old", ending=KILLED), run(tmp_path, "new", ending=e.Finished(adapter="new"))
    page = shown(qtbot, gathered(old, new))
    assert names(page) == ["new", "old"]
    assert page.table.currentIndex().row() == 0
    assert page._panel._name.text() == "new"


def test_the_filter_looks_at_names_bases_data_and_states(qtbot: QtBot, tmp_path: Path) -> None:
    views = [run(tmp_path, "one", ending=KILLED), run(tmp_path, "two", ending=e.Finished(adapter="x"))]
    page = shown(qtbot, gathered(*views))
    field = named(page, QLineEdit, "Filter runs")
    for words, wanted in (("TWO", ["two"]), ("interrupted", ["one"]), ("starter pirate", ["two", "one"]), ("zzz", [])):
        field.setText(words)
        assert names(page) == wanted
    assert not page._panel.isVisible()


def test_the_panel_says_why_a_run_ended_and_what_to_do(qtbot: QtBot, tmp_path: Path) -> None:
    view = run(tmp_path, "pirate", ending=KILLED)
    state = gathered(view)
    page = shown(qtbot, state)
    ending = page._panel._ending.accessibleName()
    assert "killed" in ending
    assert "resume begins again" in ending
    assert page._panel.plot.series.values.tolist() == [2.0, 1.0, 2 / 3, 0.5]
    with qtbot.waitSignal(state.run_requested) as wish:
        press(qtbot, page, "Resume")
    assert wish.args == [view.folder.id, "resume"]
    with qtbot.waitSignal(state.run_selected) as wish:
        press(qtbot, page, "Open")
    assert wish.args == [view.folder.id]
    with qtbot.waitSignal(state.folder_requested) as wish:
        press(qtbot, page, "Open folder")
    assert wish.args == [str(view.folder.path)]


def test_a_new_run_begins_with_the_old_recipe_and_its_data(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "pirate", ending=KILLED))
    page = shown(qtbot, state)
    with qtbot.waitSignals([state.recipe_edited, state.page_requested]):
        recipes: list[object] = []
        state.recipe_edited.connect(recipes.append)
        press(qtbot, page, "New run from this")
    recipe = recipes[0]
    assert getattr(recipe, "name", "") == "pirate"
    assert recipe.data.path == str(tmp_path / "pirate.jsonl")  # type: ignore[attr-defined]


def test_chat_needs_the_adapter_to_be_in_the_library(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "pirate", ending=e.Finished(adapter="arr")))
    page = shown(qtbot, state)
    chat = named(page, Button, "Chat with it")
    assert not chat.isEnabled()
    assert not named(page, Button, "Resume").isEnabled()
    state.adapters = [adapter("arr")]
    state.adapters_changed.emit()
    qtbot.waitUntil(chat.isEnabled)
    with qtbot.waitSignal(state.chat_selected) as wish:
        press(qtbot, page, "Chat with it")
    assert wish.args == ["arr"]


def test_a_live_run_moves_while_another_one_stays_chosen(qtbot: QtBot, tmp_path: Path) -> None:
    old, live = run(tmp_path, "old", ending=KILLED), run(tmp_path, "live")
    state = gathered(old, live)
    page = shown(qtbot, state)
    with qtbot.waitSignal(state.run_requested) as wish:
        press(qtbot, page, "Stop and save")
    assert wish.args == [live.folder.id, "stop"]
    choose(page, 1)
    assert page._panel._name.text() == "old"
    assert not named(page, Button, "Resume").isEnabled(), "one run at a time"
    step = e.StepTaken(
        step=5, epoch=1, loss=0.1, learning_rate=1, grad_norm=1, num_tokens=1, num_supervised=1, seconds=1.0
    )
    live.state.advance(step)
    state.run_event.emit(live.folder.id, step)
    qtbot.waitUntil(lambda: page.rows.index(0, 5).data() == "5 of 10")
    assert page.table.currentIndex().row() == 1
    assert page._panel._name.text() == "old"


def test_a_foreign_name_is_text(qtbot: QtBot, tmp_path: Path) -> None:
    name = "<img src=x> \u202eevil"
    page = shown(qtbot, gathered(run(tmp_path, name, ending=KILLED)))
    assert page._panel._name.text() == name
    assert page._panel._name.textFormat() is Qt.TextFormat.PlainText


def test_the_peak_of_a_run_stands_beside_its_estimate(qtbot: QtBot, tmp_path: Path) -> None:
    gb = 1 << 30
    on_card, on_cpu = run(tmp_path, "card", ending=KILLED), run(tmp_path, "cpu", ending=KILLED)
    for view, device, card in ((on_card, "cuda-0", "RTX"), (on_cpu, "cpu", "")):
        view.state.device = device
        sizes = {"total_bytes": 12 * gb, "process_bytes": 14 * gb, "context_bytes": gb}
        view.state.advance(e.Estimated(**sizes, terms={}, card=card, card_bytes=None))
        # Resumed, its process begins with a peak of its own.
        for step, size in ((1, 12), (3, 13), (5, 11)):
            view.state.advance(e.MemoryMeasured(step=step, process_bytes=size * gb))
    page = shown(qtbot, gathered(on_cpu, on_card))
    assert page._panel._tiles["memory"].accessibleName() == "Peak memory: 13 GB \u2248 14.0 estimated"
    page._panel.set_low(True)
    assert "13.0 GB measured, \u2248 14.0 GB estimated" in page._panel._line.text()
    choose(page, 1)
    assert page._panel._tiles["memory"].accessibleName() == "Peak memory: 13 GB on the CPU"
    assert "estimated" not in page._panel._line.text()
