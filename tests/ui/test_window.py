"""The window alone: pages are plain widgets here, wishes are only listened to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QWidget
from pytestqt.qtbot import QtBot

from studio.errors import ChangedError
from studio.places import Workspace
from studio.runs import events as e
from tests.ui.desk import named
from tests.ui.pages.train_facts import conduct, ready_state
from tests.ui.pictures import gathered, run
from tests.ui.test_form import type_into
from ui import theme
from ui.closing import Question
from ui.page_stack import PAGES
from ui.pages.train import TrainPage
from ui.settings import Settings
from ui.state import AppState, JobView
from ui.widgets.buttons import Button
from ui.window import Window

Opened = Callable[[AppState], Window]


class BlankPage(QWidget):
    """Remembers what it was told after it was built."""

    def __init__(self, name: str, state: AppState) -> None:
        super().__init__()
        self.name, self.told = name, list[str]()
        state.run_selected.connect(self.told.append)


@pytest.fixture
def settings() -> Settings:
    return Settings(theme="light")


@pytest.fixture
def opened(qtbot: QtBot, tmp_path: Path, settings: Settings) -> Iterator[Opened]:
    windows = []

    def open_window(state: AppState) -> Window:
        window = Window(Workspace(tmp_path), state, settings, BlankPage)
        windows.append(window)
        window.closed_times = 0  # type: ignore[attr-defined]
        window.closed.connect(lambda: setattr(window, "closed_times", window.closed_times + 1))  # type: ignore[attr-defined]
        with qtbot.waitExposed(window):
            window.show()
        return window

    yield open_window
    for window in windows:
        window._state.runs, window._state.jobs = {}, {}
        window.close()
        window.deleteLater()


@pytest.fixture
def training(qtbot: QtBot, tmp_path: Path, settings: Settings) -> Callable[[], tuple[Window, AppState, TrainPage]]:
    """Opens a window with the real pages, on Train, with nothing missing."""

    def open_window() -> tuple[Window, AppState, TrainPage]:
        state = ready_state()
        state.is_gathered = True
        conduct(state)
        window = Window(Workspace(tmp_path), state, settings)
        qtbot.addWidget(window)
        window.show_page("train")
        with qtbot.waitActive(window):
            window.show()
            window.activateWindow()
        shown = window._stack.currentWidget()
        assert isinstance(shown, TrainPage)
        return window, state, shown

    return open_window


def page(window: Window) -> BlankPage:
    shown = window._stack.currentWidget()
    assert isinstance(shown, BlankPage)
    return shown


def question(window: Window) -> Question:
    (found,) = window.findChildren(Question)
    return found


# --- navigation ------------------------------------------------------------------------------------------------------


def test_pages_are_built_when_they_are_first_shown(opened: Opened, qtbot: QtBot) -> None:
    window = opened(gathered())
    assert window.page() == "home"
    assert list(window._stack.built) == ["home"]
    for number, name in enumerate(PAGES, start=1):
        qtbot.keyClick(window, getattr(Qt.Key, f"Key_{number}"), Qt.KeyboardModifier.ControlModifier)
        assert (window.page(), page(window).name) == (name, name)
    first = window._stack.built["home"]
    window.show_page("home")
    assert window._stack.built["home"] is first


def test_a_page_that_is_built_for_a_selection_hears_of_it(opened: Opened, tmp_path: Path) -> None:
    state = gathered(run(tmp_path, "pirate"))
    window = opened(state)
    state.run_selected.emit("that one")
    assert page(window).name == "train"
    assert page(window).told == ["that one"]


def test_the_sidebar_becomes_a_rail_where_it_is_narrow(opened: Opened, qtbot: QtBot) -> None:
    window = opened(gathered())
    window.resize(1300, 800)
    qtbot.waitUntil(lambda: window.sidebar.width() == 200)
    window.resize(1024, 680)
    qtbot.waitUntil(lambda: window.sidebar.width() == 64)
    window.resize(400, 300)
    assert (window.width(), window.height()) >= (1024, 680)


def test_the_last_page_and_place_come_back(opened: Opened, settings: Settings) -> None:
    window = opened(gathered())
    window.show_page("chat")
    window.resize(1100, 720)
    window.close()
    assert settings.page == "chat"
    again = opened(gathered())
    assert again.page() == "chat"
    # The screen of the tests is 800 px wide, so only the height can show it.
    assert again.height() == 720


def test_settings_from_elsewhere_do_not_stop_the_window(opened: Opened, settings: Settings) -> None:
    settings.page, settings.geometry, settings.theme = "gone", "no geometry \u00e9", "pink"
    assert opened(gathered()).page() == "home"


def test_the_theme_menu_changes_and_remembers_the_look(
    opened: Opened, settings: Settings, themed: QApplication
) -> None:
    window = opened(gathered())
    changes: list[str] = []
    window.settings_changed.connect(lambda: changes.append(settings.theme))
    actions = {action.text(): action for action in window.findChildren(type(window.menus.start))}
    assert actions["&Light"].isChecked()
    actions["&Dark"].trigger()
    assert theme.current().name == "dark"
    assert changes == ["dark"]


# --- what is going on ------------------------------------------------------------------------------------------------


def test_the_foot_and_the_badge_follow_the_run(opened: Opened, qtbot: QtBot, tmp_path: Path) -> None:
    view = run(tmp_path, "<b>pirate</b>")
    state = gathered(view)
    window = opened(state)
    assert "<b>pirate</b>" in window.strip.text()
    assert "step 4 of 10, 40 %" in window.strip.text()
    assert "No graphics card" in window.strip.text()
    step = e.StepTaken(
        step=5, epoch=1, loss=1, learning_rate=1, grad_norm=1, num_tokens=1, num_supervised=1, seconds=60.0
    )
    view.state.advance(step)
    state.run_event.emit(view.folder.id, step)
    qtbot.waitUntil(lambda: "step 5 of 10, 50 %, \u2248 5.0 min left" in window.strip.text())
    assert named(window.sidebar, QWidget, "Runs, 50 %")


def test_start_works_on_train_alone_and_stop_only_while_something_runs(
    opened: Opened, tmp_path: Path, qtbot: QtBot
) -> None:
    state = gathered()
    window = opened(state)
    menus = window.menus
    assert not menus.start.isEnabled()
    window.show_page("train")
    assert menus.start.isEnabled()
    assert not menus.stop.isEnabled()
    with qtbot.waitSignal(state.command_requested):
        menus.copy.trigger()
    view = run(tmp_path, "pirate")
    state.runs = {view.folder.id: view}
    state.runs_changed.emit()
    wishes: list[tuple[str, str]] = []
    state.run_requested.connect(lambda *wish: wishes.append(wish))
    assert (menus.start.isEnabled(), menus.start.text()) == (True, "&Add to queue")
    menus.stop.trigger()
    menus.pause.trigger()
    assert wishes == [(view.folder.id, "stop"), (view.folder.id, "pause")]


def test_starting_by_key_makes_the_checks_of_the_page(
    training: Callable[[], tuple[Window, AppState, TrainPage]], qtbot: QtBot
) -> None:
    window, state, shown = training()
    asked: list[bool] = []
    state.train_requested.connect(lambda: asked.append(True))
    rank = shown.setup.form.field("adapter.rank").control
    type_into(rank, "4096")
    qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert asked == [], "what runs must be what is read"
    assert window.notices.texts() == ["Mend: Rank"]
    type_into(rank, "32")
    qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert asked == [True]


@pytest.mark.parametrize(("key", "title"), [(Qt.Key.Key_S, "Save the recipe"), (Qt.Key.Key_O, "Open a recipe")])
def test_a_recipe_is_saved_and_opened_by_key_from_any_page(
    training: Callable[[], tuple[Window, AppState, TrainPage]],
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    key: Qt.Key,
    title: str,
) -> None:
    monkeypatch.setenv("OVERLAY_HOME", str(tmp_path))
    window, _, shown = training()
    window.show_page("home")
    qtbot.keyClick(window, key, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: [one.windowTitle() for one in shown.findChildren(QFileDialog)] == [title])
    assert window.page() == "train"
    for dialog in shown.findChildren(QFileDialog):
        dialog.reject()


def test_how_the_recipe_was_looked_at_comes_back(
    training: Callable[[], tuple[Window, AppState, TrainPage]], settings: Settings
) -> None:
    window, _, shown = training()
    shown.setup.set_level("expert")
    window.close()
    _, _, again = training()
    assert again.setup.level.value() == "expert"
    settings.views["train"] = {"level": 3, "open_groups": ["no such group"]}
    _, _, damaged = training()
    assert damaged.setup.level.value() == "basic"


def test_messages_show_until_they_are_dismissed(opened: Opened) -> None:
    state = gathered()
    window = opened(state)
    for number in range(5):
        state.noticed.emit("bad", f"Trouble {number}.", "Do this.")
    state.noticed.emit("bad", "Trouble 3.", "Do this.")
    assert window.notices.texts() == ["Trouble 2. Do this.", "Trouble 4. Do this.", "Trouble 3. Do this."]
    bar = window.notices._bars[0]
    named(bar, Button, "Dismiss").click()
    assert window.notices.texts() == ["Trouble 4. Do this.", "Trouble 3. Do this."]


def test_a_run_that_cannot_go_on_as_it_was_is_asked_about(opened: Opened, tmp_path: Path, qtbot: QtBot) -> None:
    view = run(tmp_path, "pirate")
    state = gathered(view)
    window = opened(state)
    wishes: list[tuple[str, object]] = []
    state.again_with_requested.connect(lambda run_id, changes: wishes.append((run_id, changes)))
    state.input_changed.emit(view.folder.id, ChangedError("The dataset of pirate changed since it began.", "", run="x"))
    qtbot.mouseClick(named(question(window), Button, "New run from here"), Qt.MouseButton.LeftButton)
    assert wishes == [(view.folder.id, {})]


# --- closing ---------------------------------------------------------------------------------------------------------


def test_a_quiet_window_closes_at_once(opened: Opened) -> None:
    window = opened(gathered())
    assert window.close()
    assert window.closed_times == 1  # type: ignore[attr-defined]


def test_closing_can_leave_the_run_training(opened: Opened, tmp_path: Path, qtbot: QtBot) -> None:
    state = gathered(run(tmp_path, "pirate"))
    window = opened(state)
    wishes: list[tuple[str, str]] = []
    state.run_requested.connect(lambda *wish: wishes.append(wish))
    assert not window.close()
    keep = named(question(window), Button, "Keep training in background")
    assert keep.isDefault()
    qtbot.mouseClick(keep, Qt.MouseButton.LeftButton)
    assert not window.isVisible()
    assert window.closed_times == 1  # type: ignore[attr-defined]
    assert wishes == []


def test_closing_can_stop_the_run_first_and_waits_for_it(opened: Opened, tmp_path: Path, qtbot: QtBot) -> None:
    view = run(tmp_path, "pirate")
    state = gathered(view)
    window = opened(state)
    wishes: list[tuple[str, str]] = []
    state.run_requested.connect(lambda *wish: wishes.append(wish))
    window.close()
    qtbot.mouseClick(named(question(window), Button, "Stop and save, then quit"), Qt.MouseButton.LeftButton)
    assert wishes == [(view.folder.id, "stop")]
    assert window.isVisible()
    view.state.advance(e.Stopped(step=4, saved=True))
    state.runs_changed.emit()
    assert not window.isVisible()


def test_closing_can_be_taken_back(opened: Opened, tmp_path: Path, qtbot: QtBot) -> None:
    state = gathered(run(tmp_path, "pirate"))
    window = opened(state)
    window.close()
    first = question(window)
    window.close()
    assert question(window) is first, "asked twice"
    with qtbot.waitSignal(first.destroyed):
        qtbot.keyClick(first, Qt.Key.Key_Escape)
    assert window.isVisible()
    window.close()
    assert question(window) is not first, "asked again, since nothing was decided"


@pytest.mark.parametrize(("button", "cancelled"), [("Wait, then quit", []), ("Cancel the task and quit", ["k"])])
def test_closing_waits_for_a_task_or_cancels_it(
    opened: Opened, qtbot: QtBot, button: str, cancelled: list[str]
) -> None:
    state = gathered()
    job = JobView("k", "merge", "Merging pirate", done=2, total=5)
    state.jobs["k"] = job
    window = opened(state)
    wishes: list[str] = []
    state.job_cancel_requested.connect(wishes.append)
    window.close()
    assert any("Merging pirate: 40 %" in label.text() for label in question(window).findChildren(QLabel))
    qtbot.mouseClick(named(question(window), Button, button), Qt.MouseButton.LeftButton)
    assert wishes == cancelled
    assert window.isVisible()
    job.is_over = True
    state.job_changed.emit(job)
    assert not window.isVisible()
