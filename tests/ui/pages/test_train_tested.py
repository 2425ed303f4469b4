"""The fit test where the run is set up: begun, watched, stopped, read, and out of date."""

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt, QThreadPool
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from studio.recipe.fields import replaced
from studio.runs import events as e
from tests.ui.desk import named
from tests.ui.pages.test_train_memory import press, settle, shown, too_large
from tests.ui.pages.train_facts import GB, ready_state
from ui import wording
from ui.fit_view import FitTestView
from ui.pages.train_setup import TrainSetup
from ui.state import AppState
from ui.widgets.buttons import Button


@pytest.fixture(autouse=True)
def _settled() -> Any:
    yield
    QThreadPool.globalInstance().waitForDone()


def answer(**more: Any) -> e.FitTested:
    """Three steps that went well on a card."""
    values: dict[str, Any] = {
        "test": "t",
        "fits": True,
        "device": "cuda-0",
        "card": "NVIDIA GeForce RTX 4090",
        "card_bytes": 24 * GB,
        "base": "sha256:1",
        "micro_batch_tokens": 4096,
        "estimated_total_bytes": 6 * GB,
        "estimated_process_bytes": 8 * GB,
        "allocated_bytes": 5 * GB,
        "reserved_bytes": 6 * GB,
        "process_bytes": 7 * GB,
        "num_steps": 1200,
        "step_seconds": [2.9, 1.5, 1.5],
        "seconds_per_step": 1.5,
        "seconds_expected": 1800.0,
    }
    return e.FitTested(**{**values, **more})


def on_cpu() -> e.FitTested:
    none = dict.fromkeys(("card_bytes", "allocated_bytes", "reserved_bytes"))
    return answer(device="cpu", card="", process_bytes=2 * GB, **none)


def show(state: AppState, **more: Any) -> None:
    """A test of the recipe as it stands, that far or with that end."""
    state.fit_test = FitTestView(state.recipe, state.data.num_good, **more)
    state.fit_test_changed.emit()


def edit(state: AppState, path: str, value: Any) -> None:
    state.recipe_edited.emit(replaced(state.recipe, path, value))


def said(page: TrainSetup) -> str:
    """All that the panel shows."""
    panel = page.cost.start.tested
    return "\n".join(label.text() for label in panel.findChildren(QLabel) if label.isVisible())


def test_it_is_begun_watched_and_stopped_with_one_button(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    assert not page.cost.start.tested.isVisible()
    with qtbot.waitSignal(state.fit_test_requested):
        press(page, "Fit test")
    show(state, phase="loading")
    assert "Loading the base" in said(page)
    show(state, phase="training", step=1)
    assert "Step 2 of 3" in said(page)
    assert page.cost.start.reason() == "Busy: fit test"
    assert not page.cost.start.start.isEnabled()
    with qtbot.waitSignal(state.fit_test_stop_requested):
        press(page, "Stop the test")
    show(state, phase="training", step=1, is_stopping=True)
    assert not page.cost.start.tested.button.isEnabled()
    state.fit_test = None
    state.fit_test_changed.emit()
    assert page.cost.start.start.isEnabled()
    assert not page.cost.start.tested.isVisible()


def test_on_a_card_measured_stands_beside_estimated_and_the_time_beside_both(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer())
    words = said(page)
    for part in ("7.0 GB measured, \u2248 8.0 GB estimated", "Tensors 5.0 (\u2248 6.0 estimated)", "allocator 6.0 GB"):
        assert part in words
    for part in ("\u2248 30 min", "done at", "1.5 s per step", "starter", "rank 16", "4,096 tokens"):
        assert part in words
    assert page.cost.start.start.isEnabled()


def test_on_a_cpu_nothing_is_held_against_an_estimate_for_cards(qtbot) -> None:
    state = ready_state(gpu_gb=None)
    page = shown(state, qtbot)
    show(state, result=on_cpu())
    words = said(page)
    assert "2.0 GB of main memory measured" in words
    assert "made for cards and not compared" in words
    assert "8.0" not in words
    assert "6.0" not in words


@pytest.mark.parametrize(
    ("path", "value"), [("training.learning_rate", 1e-4), ("training.seed", 7), ("name", "other"), ("adapter.alpha", 8)]
)
def test_it_stays_true_for_what_changes_neither_memory_nor_time(path: str, value: Any, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer())
    before = said(page)
    edit(state, path, value)
    assert said(page) == before


def test_a_longer_run_takes_longer_by_the_same_steps(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer())
    edit(state, "training.epochs", 100)
    assert "\u2248 15 min" in said(page), "94 rows in batches of 16, 100 times, 1.5 s each"
    assert "Fits: 7.0" in said(page)


@pytest.mark.parametrize(
    ("path", "value"),
    [("adapter.rank", 64), ("training.micro_batch_tokens", 8192), ("data.path", "other.jsonl"), ("base.id", "other")],
)
def test_it_is_out_of_date_once_something_that_matters_is_changed(path: str, value: Any, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer())
    edit(state, path, value)
    words = said(page)
    assert "Before the change: 7.0 GB measured" in words
    assert "Measured for starter, rank 16, 4,096 tokens at once. Test again." in words
    assert "done at" not in words
    assert "Fits" not in words


def test_other_rows_in_the_same_file_make_it_out_of_date(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer())
    state.data = replace(state.data, num_good=50)
    state.recipe_changed.emit()
    assert "Before the change" in said(page)


def test_what_does_not_fit_is_said_in_red_and_leads_to_the_fixes(qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot)
    press(page, "Show parts")
    show(state, result=answer(fits=False, message="It does not fit: it needed more than 11.5 GB."))
    assert "needed more than 11.5 GB" in said(page)
    assert "needed more than 11.5 GB" in page.cost.start._checks["fits"].accessibleName()
    press(page.cost.start, "Show fixes")
    assert page.cost.memory.fixes.isVisible()


def test_against_the_estimate_it_leads_to_the_setting_that_helps_most(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, result=answer(fits=False, message="It does not fit."))
    press(page, "Show fixes")
    assert page.form.field("training.micro_batch_tokens").control.hasFocus()
    edit(state, "training.micro_batch_tokens", 2048)
    assert "Before the change: it did not fit" in said(page)


def test_an_error_is_told_until_the_recipe_is_another_one(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    show(state, error="The base <b>starter</b> is damaged.", hint="Add it again.")
    assert "The base <b>starter</b> is damaged. Add it again." in said(page)
    edit(state, "base.id", "other")
    assert not page.cost.start.tested.isVisible()


def test_without_a_base_it_cannot_be_pressed_and_says_why(qtbot) -> None:
    state = ready_state()
    state.bases = []
    page = shown(state, qtbot)
    button = named(page, Button, "Fit test")
    assert not button.isEnabled()
    assert button.accessibleDescription() == "Add a base first"
    assert "Add a base first" in button.toolTip()


@pytest.mark.parametrize("width", [1240, 960])
def test_what_is_thought_not_to_fit_can_be_tested_all_the_same(width: int, qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot, width=width)
    settle(page, qtbot)
    assert not page.cost.start.start.isEnabled()
    button = named(page, Button, "Fit test")
    assert button.isEnabled()
    row = (button, page.cost.start.fix_all, page.cost.start.start)
    # Every label has its room, once it is laid out.
    qtbot.waitUntil(lambda: all(each.width() >= each.sizeHint().width() for each in row))
    with qtbot.waitSignal(state.fit_test_requested):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def test_an_arrival_on_another_day_names_the_day() -> None:
    noon = 1_700_000_000 - 1_700_000_000 % 86_400 + 43_200
    today, later = wording.arrival(noon + 60, noon), wording.arrival(noon + 60 + 2 * 86_400, noon)
    assert later.endswith(today)
    assert len(later) > len(today) == len("15:20")
