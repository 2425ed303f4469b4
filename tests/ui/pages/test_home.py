from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QWidget
from pytestqt.qtbot import QtBot

from studio.memory.device import Gpu
from studio.runs import events as e
from tests.ui.desk import named
from tests.ui.pictures import adapter, base, gathered, run
from ui.pages.home import HomePage
from ui.state import AppState, DataView, JobView
from ui.widgets.buttons import Button


def shown(qtbot: QtBot, state: AppState) -> HomePage:
    page = HomePage(state)
    qtbot.addWidget(page)
    page.resize(1240, 800)
    with qtbot.waitExposed(page):
        page.show()
    return page


def press(qtbot: QtBot, page: QWidget, name: str) -> None:
    qtbot.mouseClick(named(page, Button, name), Qt.MouseButton.LeftButton)


def texts(page: HomePage) -> dict[str, tuple[str, str]]:
    return {name: (check.kind, check.text) for name, check in page.checks().items() if check is not None}


def test_before_anybody_has_looked_nothing_is_claimed(qtbot: QtBot) -> None:
    page = shown(qtbot, AppState())
    assert texts(page) == {}
    assert not any(step.is_done for step in page.steps())
    assert not named(page, Button, "Try the 2-minute tour").isEnabled()


def test_the_first_day_offers_the_tour(qtbot: QtBot) -> None:
    state = gathered()
    state.disk_free_bytes = 412 << 30
    page = shown(qtbot, state)
    assert texts(page) == {
        "card": ("warn", "None: training runs on the CPU, slowly"),
        "disk": ("ok", "412 GB free"),
        "engine": ("ok", "Installed"),
        "base": ("warn", "None yet"),
    }
    with qtbot.waitSignal(state.tour_requested):
        press(qtbot, page, "Try the 2-minute tour")
    with qtbot.waitSignal(state.base_requested) as wish:
        press(qtbot, page, "Add starter base")
    assert wish.args == ["starter"]


def test_what_is_amiss_is_said_in_words(qtbot: QtBot) -> None:
    state = gathered()
    state.gpus = [Gpu("NVIDIA GeForce RTX 4090", 24 << 30, 23 << 30, "580.95.05", 0)]
    state.disk_free_bytes, state.engine_installed = 2 << 30, False
    page = shown(qtbot, state)
    found = texts(page)
    assert found["card"] == ("ok", "RTX 4090, 24 GB, driver 580")
    assert found["disk"][0] == "warn"
    assert "2.0 GB free" in found["disk"][1]
    assert "bootstrap.py" in found["engine"][1]
    tour = named(page, Button, "Try the 2-minute tour")
    assert not tour.isEnabled()
    assert tour.text() == "Set up the engine"


def test_a_base_that_is_being_added_shows_how_far_it_is(qtbot: QtBot) -> None:
    state = gathered()
    page = shown(qtbot, state)
    job = JobView("k", "import", "Adding the starter base", done=1, total=4)
    state.jobs["k"] = job
    state.job_changed.emit(job)
    qtbot.waitUntil(lambda: not page._checks["base"].button.isVisible())
    assert texts(page)["base"] == ("warn", "Adding the starter base 25 %")
    job.is_over, state.bases = True, [base("starter")]
    state.bases_changed.emit()
    qtbot.waitUntil(lambda: page._checks["base"].accessibleName() == "Base model: starter")


def test_steps_are_ticked_as_they_are_done(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered()
    page = shown(qtbot, state)

    def done() -> list[bool]:
        return [step.is_done for step in page.steps()]

    assert done() == [False] * 5
    state.bases = [base("starter")]
    assert done() == [True, False, False, False, False]
    state.data = DataView("x", 300, 300)
    assert done() == [True, True, False, False, False]
    view = run(tmp_path, "pirate")
    state.runs = {view.folder.id: view}
    assert done() == [True, True, True, False, False]
    state.has_chatted = state.has_exported = True
    assert done() == [True] * 5


def test_later_there_is_something_to_go_on_with(qtbot: QtBot, tmp_path: Path) -> None:
    live = run(tmp_path, "<i>new</i>")
    old = run(tmp_path, "old", ending=e.Finished(adapter="old"))
    state = gathered(old, live)
    state.bases, state.adapters = [base("starter")], [adapter("old")]
    page = shown(qtbot, state)
    with qtbot.waitSignal(state.run_selected) as wish:
        press(qtbot, page, "Open <i>new</i>")
    assert wish.args == [live.folder.id]
    with qtbot.waitSignal(state.chat_selected) as wish:
        press(qtbot, page, "Chat with old")
    assert wish.args == ["old"]
    with qtbot.waitSignal(state.run_selected) as wish:
        press(qtbot, page, "Show the run")
    assert wish.args == [live.folder.id]
    assert page._texts[live.folder.id].text() == "40 %, \u2248 6.0 min left"


def test_progress_moves_on_without_replacing_the_row(qtbot: QtBot, tmp_path: Path) -> None:
    view = run(tmp_path, "pirate")
    state = gathered(view)
    page = shown(qtbot, state)
    label = page._texts[view.folder.id]
    step = e.StepTaken(
        step=5, epoch=1, loss=1, learning_rate=1, grad_norm=1, num_tokens=1, num_supervised=1, seconds=60.0
    )
    view.state.advance(step)
    state.run_event.emit(view.folder.id, step)
    qtbot.waitUntil(lambda: label.text() == "50 %, \u2248 5.0 min left")
    view.state.advance(e.Finished(adapter="pirate"))
    state.runs_changed.emit()
    qtbot.waitUntil(lambda: page._primary.text() == "Train an overlay")


def test_my_own_data_goes_into_the_recipe(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered()
    page = shown(qtbot, state)
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    press(qtbot, page, "Start with my data\u2026")
    (dialog,) = page.findChildren(QFileDialog)
    pages: list[str] = []
    state.page_requested.connect(pages.append)
    with qtbot.waitSignal(state.recipe_edited) as wish:
        dialog.fileSelected.emit(str(path))
    dialog.reject()
    assert wish.args is not None
    assert wish.args[0].data.path == str(path)
    assert pages == ["train"]


def test_an_adapter_from_elsewhere_is_asked_for(qtbot: QtBot, tmp_path: Path) -> None:
    state = gathered()
    page = shown(qtbot, state)
    press(qtbot, page, "Open existing adapter\u2026")
    (dialog,) = page.findChildren(QFileDialog)
    with qtbot.waitSignal(state.adapter_requested) as wish:
        dialog.fileSelected.emit(str(tmp_path))
    dialog.reject()
    assert wish.args == ["import", str(tmp_path), ""]
