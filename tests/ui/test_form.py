"""The form: what the recipe says is shown, what the user says arrives, and what cannot be used is told and kept."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from studio.errors import Problem
from studio.recipe.fields import FIELDS, get, replaced
from studio.recipe.recipe import Recipe
from ui.form import Form, FormGrid, matches
from ui.form_controls import OTHER, ListField, OptionalNumber, OtherChoice
from ui.state import AppState
from ui.widgets.controls import Choice, NumberField, TextField
from ui.widgets.labels import PlainLabel
from ui.widgets.toggles import CheckBox


@pytest.fixture
def state() -> AppState:
    """A state whose recipe takes every edit."""
    return answering(AppState())


def answering(state: AppState) -> AppState:
    def take(recipe: Recipe) -> None:
        state.recipe = recipe
        state.recipe_changed.emit()

    state.recipe_edited.connect(take)
    return state


def type_into(control: QWidget, text: str) -> None:
    """Replace a field's text by hand."""
    QTest.keyClick(control, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    if text:
        QTest.keyClicks(control, text)
    else:
        QTest.keyClick(control, Qt.Key.Key_Backspace)


def choose(choice: Choice, value: object) -> None:
    """Take an option by hand: walk to it with the arrow keys."""
    wanted = choice.findData(value)
    while choice.currentIndex() != wanted:
        down = choice.currentIndex() < wanted
        QTest.keyClick(choice, Qt.Key.Key_Down if down else Qt.Key.Key_Up)


def enter(control: QWidget, value: Any) -> None:
    """Bring a value into a control the way its user would."""
    if isinstance(control, OtherChoice):
        is_choice = isinstance(value, str)
        choose(control.choice, value if is_choice else OTHER)
        if not is_choice:
            type_into(control.other, ", ".join(value) if isinstance(value, tuple) else str(value))
    elif isinstance(control, Choice):
        choose(control, value)
    elif isinstance(control, CheckBox):
        if control.isChecked() != value:
            QTest.mouseClick(control, Qt.MouseButton.LeftButton)
    elif isinstance(control, ListField):
        type_into(control, value[0])
        for text in value[1:]:
            QTest.keyClick(control, Qt.Key.Key_Return)
            QTest.keyClicks(control, text)
    else:
        type_into(control, str(value))


def samples(path: str) -> list[Any]:
    """Values that a setting takes, its ends among them."""
    entry = next(entry for entry in FIELDS if entry.path == path)
    if entry.kind in ("int", "float"):
        assert entry.minimum is not None
        assert entry.maximum is not None
        kind = int if entry.kind == "int" else float
        return [kind(entry.maximum), kind(entry.minimum)]
    others: dict[str, list[Any]] = {"int": [7], "list": [("q_proj", "v_proj")]}
    special: dict[str, list[Any]] = {"bool": [True, False], "list": [("Who?", "Why <b>not</b>?")], "text": ["a name"]}
    return special.get(entry.kind, [*entry.choices, *others.get(entry.other or "", [])])


@pytest.mark.parametrize("path", [entry.path for entry in FIELDS])
def test_every_setting_goes_into_the_recipe_and_comes_back_from_it(path: str, state: AppState, qtbot) -> None:
    form = Form(state)
    field = form.bind(path)
    qtbot.addWidget(field)
    field.show()
    for value in samples(path):
        enter(field.control, value)
        assert get(state.recipe, path) == value
        assert field.error() == ""
    other = Form(state)
    again = other.bind(path)
    qtbot.addWidget(again)
    heard: list[object] = []
    state.recipe_edited.connect(heard.append)
    for value in samples(path):
        state.recipe = replaced(state.recipe, path, value)
        state.recipe_changed.emit()
    assert heard == [], "showing a recipe is no edit"
    enter(again.control, samples(path)[-1])
    assert get(state.recipe, path) == samples(path)[-1]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
LINES = st.lists(TEXT, min_size=1, max_size=3).map("\n".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(LINES, max_size=5))
def test_texts_survive_the_list_field_line_breaks_included(texts: list[str]) -> None:
    field = ListField()
    field.set_value(texts)
    assert field.value() == tuple(texts)


@settings(max_examples=40, deadline=None)
@given(st.floats(min_value=1e-8, max_value=0.1))
def test_any_learning_rate_is_shown_so_that_typing_it_again_changes_little(rate: float) -> None:
    state = answering(AppState())
    form = Form(state)
    field = form.bind("training.learning_rate")
    field.show()
    state.recipe = replaced(state.recipe, "training.learning_rate", rate)
    state.recipe_changed.emit()
    assert isinstance(field.control, NumberField)
    shown = field.control.text()
    assert state.recipe.training.learning_rate == rate
    type_into(field.control, shown)
    assert state.recipe.training.learning_rate == pytest.approx(rate, rel=1e-5)
    field.close()


@pytest.mark.parametrize(
    ("path", "text", "good"),
    [
        ("adapter.rank", "4096", 8),
        ("adapter.rank", "many", 8),
        ("training.learning_rate", "2", 0.01),
        ("training.learning_rate", "fast", 0.01),
        ("training.epochs", "", 5),
        ("name", "", "x"),
    ],
)
def test_what_cannot_be_used_is_told_is_kept_and_does_not_arrive(
    path: str, text: str, good: Any, state: AppState, qtbot
) -> None:
    form = Form(state)
    field = form.bind(path)
    qtbot.addWidget(field)
    field.show()
    type_into(field.control, text)
    assert isinstance(field.control, TextField)
    assert field.control.text() == text
    assert field.error()
    before = state.recipe
    state.recipe = replaced(state.recipe, "training.seed", 7)
    state.recipe_changed.emit()
    assert field.control.text() == text, "a change elsewhere does not wipe what is being typed"
    assert field.error()
    assert get(state.recipe, path) == get(before, path)
    assert len(form.refused) == 1
    type_into(field.control, str(good))
    assert field.error() == ""
    assert form.refused == []
    assert get(state.recipe, path) == good


def test_steps_replace_the_epochs_and_an_emptied_field_gives_them_back(state: AppState, qtbot) -> None:
    form = Form(state)
    epochs, steps = form.bind("training.epochs"), form.bind("training.steps")
    for field in (epochs, steps):
        qtbot.addWidget(field)
        field.show()
    assert isinstance(epochs.control, OptionalNumber)
    type_into(steps.control, "200")
    assert (state.recipe.training.steps, state.recipe.training.epochs) == (200, None)
    assert epochs.control.text() == ""
    type_into(steps.control, "")
    assert (state.recipe.training.steps, state.recipe.training.epochs) == (None, 3)
    assert epochs.control.text() == "3"


def test_a_wheel_over_a_form_without_focus_changes_nothing(state: AppState, qtbot) -> None:
    form = Form(state)
    window = QWidget()
    column = QVBoxLayout(window)
    other = TextField(name="elsewhere")
    column.addWidget(other)
    fields = [form.bind(entry.path) for entry in FIELDS]
    for field in fields:
        column.addWidget(field)
    qtbot.addWidget(window)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    other.setFocus()
    before = state.recipe
    for field in fields:
        targets = [field.control, *field.control.findChildren(QWidget)]
        for target in targets:
            turn_wheel(target)
    assert state.recipe == before


def turn_wheel(widget: QWidget) -> None:
    centre = QPointF(widget.rect().center())
    event = QWheelEvent(
        centre,
        widget.mapToGlobal(centre),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_a_problem_of_the_recipe_stands_at_its_field_until_it_is_gone(state: AppState, qtbot) -> None:
    form = Form(state)
    rank, alpha = form.bind("adapter.rank"), form.bind("adapter.alpha")
    for field in (rank, alpha):
        qtbot.addWidget(field)
    state.problems = [Problem(field="adapter.alpha", message="it is too loud", fix="Lower it.")]
    state.recipe_changed.emit()
    assert alpha.error() == "It is too loud. Lower it."
    assert rank.error() == ""
    state.problems = []
    state.recipe_changed.emit()
    assert alpha.error() == ""


def test_a_changed_value_is_marked_and_can_be_taken_back(state: AppState, qtbot) -> None:
    form = Form(state)
    rank, alpha = form.bind("adapter.rank"), form.bind("adapter.alpha")
    for field in (rank, alpha):
        qtbot.addWidget(field)
        field.show()
    type_into(rank.control, "64")
    assert form.is_changed("adapter.rank")
    assert not form.is_changed("adapter.alpha"), "alpha follows the rank"
    type_into(alpha.control, "16")
    assert form.is_changed("adapter.alpha")
    alpha.reset_requested.emit()
    rank.reset_requested.emit()
    assert state.recipe == Recipe()
    assert isinstance(rank.control, TextField)
    assert rank.control.text() == "16"


def test_help_and_the_raw_name_are_the_tooltip_of_label_and_control(state: AppState, qtbot) -> None:
    field = Form(state).bind("adapter.rank")
    qtbot.addWidget(field)
    label = next(each for each in field.findChildren(PlainLabel) if each.buddy() is field.control)
    for widget in (field.control, label):
        assert "How much room the overlay has" in widget.toolTip()
        assert widget.toolTip().count("<br><br>r</qt>") == 1


def test_a_search_knows_label_help_and_the_libraries_own_names() -> None:
    assert matches("training.warmup_fraction", "warm")
    assert matches("training.warmup_fraction", "WARMUP_RATIO")
    assert matches("training.warmup_fraction", "climbs zero")
    assert not matches("training.warmup_fraction", "dropout")


def test_a_grid_closes_up_around_fields_that_are_left_out(state: AppState, qtbot) -> None:
    form = Form(state)
    fields = [form.bind(path) for path in ("adapter.alpha", "adapter.dropout", "adapter.rslora")]
    grid = FormGrid(fields, 3)
    qtbot.addWidget(grid)
    grid.resize(900, 200)
    grid.show()
    grid.show_only([fields[2]])
    qtbot.waitUntil(lambda: fields[2].x() == 0)
    assert [field.isVisible() for field in fields] == [False, False, True]
    grid.show_only(fields)
    qtbot.waitUntil(lambda: fields[2].x() > fields[1].x() > fields[0].x())
