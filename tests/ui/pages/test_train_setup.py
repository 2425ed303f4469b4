"""The recipe page: what is missing is said, what fits is shown as estimated, and nothing starts by accident."""

import json
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QThreadPool
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton

from studio.errors import Problem
from studio.recipe import toml
from studio.recipe.fields import FIELDS, replaced
from studio.recipe.recipe import Recipe
from tests.ui.pages.train_facts import BASE, GB, add_run, conduct, ready_state, run_events
from tests.ui.test_form import choose, type_into
from ui.pages.train_choices import BaseChoice
from ui.pages.train_setup import TrainSetup
from ui.pages.train_start import StartCard
from ui.queue_view import QueueEntry, QueueView
from ui.state import AppState, DataView
from ui.widgets.fields import Field


def shown(state: AppState, qtbot, width: int = 1240) -> TrainSetup:
    page = TrainSetup(state)
    qtbot.addWidget(page)
    page.resize(width, 820)
    page.show()
    return page


def no_base(state: AppState, _folder: Path) -> None:
    state.bases = []


def other_base(state: AppState, _folder: Path) -> None:
    state.recipe = replaced(state.recipe, "base.id", "elsewhere")


def no_data(state: AppState, _folder: Path) -> None:
    state.data = DataView("")


def unreadable_data(state: AppState, _folder: Path) -> None:
    state.data = DataView("x.jsonl", error="x.jsonl is not there.", hint="Choose another.")


def problem(state: AppState, _folder: Path) -> None:
    state.problems = [Problem(field="memory.offload", message="checkpointing is off", fix="Switch it on.")]


def busy(state: AppState, folder: Path) -> None:
    add_run(state, folder / "run", list(run_events(3)), "pirate v1")


def too_large(state: AppState, _folder: Path) -> None:
    state.card_bytes = 4 * GB


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_base, "Add a base first"),
        (other_base, "Choose a base model"),
        (no_data, "Choose a dataset"),
        (unreadable_data, "Choose a dataset"),
        (problem, "Mend: Offload"),
        (too_large, "Does not fit: "),
    ],
)
def test_start_says_what_is_missing_and_starts_once_nothing_is(spoil, reason: str, tmp_path: Path, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    start = page.cost.start.start
    assert (start.isEnabled(), start.text()) == (True, "Start training")
    asked: list[bool] = []
    state.train_requested.connect(lambda: asked.append(True))
    spoil(state, tmp_path)
    state.recipe_changed.emit()
    assert not start.isEnabled()
    assert start.text().startswith(reason)
    page.cost.start.start_training()
    assert asked == []


def test_while_a_run_is_at_work_the_next_one_is_lined_up(tmp_path: Path, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    start = page.cost.start.start
    busy(state, tmp_path)
    state.recipe_changed.emit()
    assert (start.isEnabled(), start.text()) == (True, "Add to queue")
    with qtbot.waitSignal(state.queue_requested) as wish, qtbot.assertNotEmitted(state.train_requested):
        start.click()
    assert wish.args == ["add", "", None]
    # What could not be started cannot wait for its start either.
    no_data(state, tmp_path)
    state.recipe_changed.emit()
    assert start.text().startswith("Choose a dataset")
    assert not start.isEnabled()


def test_the_recipe_of_a_waiting_run_is_put_back_and_says_whose_it_is(qtbot) -> None:
    state = ready_state()
    state.queue = QueueView(entries=(QueueEntry("r1", "pirate <b>", "small", "rows"),))
    state.edited_run = "r1"
    page = shown(state, qtbot)
    card = page.cost.start
    assert card.edited.isVisible()
    assert "pirate <b>" in card.edited.accessibleName()
    assert card.start.text() == "Save to queue"
    with qtbot.waitSignal(state.queue_requested) as wish:
        card.start.click()
    assert wish.args == ["save", "r1", None]
    (cancel,) = [one for one in card.edited.findChildren(QAbstractButton) if one.text() == "Cancel"]
    with qtbot.waitSignal(state.queue_requested) as wish:
        cancel.click()
    assert wish.args == ["cancel", "r1", None]
    state.edited_run = ""
    state.recipe_changed.emit()
    assert card.start.text() == "Start training"
    assert not card.edited.isVisible()


def test_who_has_several_cards_is_told_how_to_train_on_all_of_them(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    told = page.cost.start.several
    assert told.isHidden()
    state.gpus = state.gpus * 2
    state.recipe_changed.emit()
    assert "2 cards" in told.accessibleName()
    (link,) = [one for one in told.findChildren(QAbstractButton) if one.text() == "Copy the command"]
    with qtbot.waitSignal(state.command_requested):
        link.click()
    state.data = DataView("")
    state.recipe_changed.emit()
    assert told.isHidden()


def test_start_is_what_the_button_asks_for_and_enter_in_a_field_does_not(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    asked: list[bool] = []
    state.train_requested.connect(lambda: asked.append(True))
    for widget in (page.name, page.search, page.form.field("adapter.rank").control):
        QTest.keyClick(widget, Qt.Key.Key_Return)
    assert asked == []
    QTest.mouseClick(page.cost.start.start, Qt.MouseButton.LeftButton)
    assert asked == [True]


def test_a_refused_text_keeps_the_run_from_starting_with_something_else(qtbot) -> None:
    page = shown(ready_state(), qtbot)
    type_into(page.form.field("adapter.rank").control, "4096")
    assert page.cost.start.start.text() == "Mend: Rank"
    type_into(page.form.field("adapter.rank").control, "32")
    assert page.cost.start.start.isEnabled()


def test_a_problem_is_told_in_full_beside_start_and_leads_to_its_field(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    bar = page.cost.start._problem
    assert not bar.isVisible()
    type_into(page.form.field("data.max_tokens").control, "65536")
    assert "A row of 65536 tokens does not fit into a micro-batch of 4096" in bar.accessibleName()
    bar.action_triggered.emit()
    assert page.level.value() == "expert"
    assert page.form.field("training.micro_batch_tokens").control.hasFocus()


def test_an_expert_may_start_what_is_thought_not_to_fit(qtbot) -> None:
    state = ready_state()
    state.card_bytes = 4 * GB
    page = shown(state, qtbot)
    assert page.cost.start.start.text().startswith("Does not fit")
    page.set_level("expert")
    assert (page.cost.start.start.isEnabled(), page.cost.start.start.text()) == (True, "Start anyway")


def test_the_parts_follow_the_recipe_and_say_how_they_were_reckoned(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    bar, listed = page.cost.memory.bar, page.cost.memory.parts
    before = bar.total()
    assert before == state.budget.process_bytes + GB, "1 GB is held by other programs"
    page.form.field("adapter.rank").control.step_by(48)
    assert state.recipe.adapter.rank == 64
    assert bar.total() > before
    rows = [row for row in listed.findChildren(QAbstractButton) if row.isVisible()]
    assert "Rank 64" in rows[2].accessibleName()
    assert "trainable parameters" in rows[2].toolTip()
    assert "\u2248" in page.cost.memory.verdict.accessibleName()


def test_a_part_leads_to_the_setting_that_drives_it(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    page.cost.memory.parts.part_clicked.emit("adapter")
    assert page.form.field("adapter.rank").control.hasFocus()
    page.cost.memory.parts.part_clicked.emit("activations")
    assert page.level.value() == "expert"
    assert page.form.field("training.micro_batch_tokens").control.hasFocus()


def test_without_a_card_the_user_picks_the_one_to_compare_with(qtbot) -> None:
    state = ready_state(gpu_gb=None)
    page = shown(state, qtbot)
    cards = page.cost.memory.cards
    assert cards.isVisible()
    assert state.card_bytes == 24 * GB
    told: list[bool] = []
    state.recipe_changed.connect(lambda: told.append(True))
    choose(cards, 8 * GB)
    assert state.card_bytes == 8 * GB
    assert told
    assert "of 8.0 GB" in page.cost.memory.bar.text()
    assert page.cost.start.start.isEnabled(), "a card that is not there keeps nobody from training"


def test_a_base_that_is_missing_can_be_added_from_the_list(qtbot) -> None:
    state = AppState()
    conduct(state)
    page = shown(state, qtbot)
    asked: list[str] = []
    state.base_requested.connect(asked.append)
    assert isinstance(page.bases, BaseChoice)
    labels = [page.bases.itemText(index) for index in range(page.bases.count())]
    assert "Add the starter base" in labels
    page.bases.setCurrentIndex(labels.index("Add the starter base"))
    page.bases.activated.emit(labels.index("Add the starter base"))
    assert asked == ["starter"]
    assert page.bases.value() == "starter", "an entry that does something is not taken as a base"
    assert state.recipe == Recipe()
    state.bases = [BASE]
    state.bases_changed.emit()
    labels = [page.bases.itemText(index) for index in range(page.bases.count())]
    assert labels[0] == "starter"
    assert "Add the starter base" not in labels


def test_examples_have_friendly_names_and_a_file_of_ones_own_shows_its_own(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    assert page.data.currentText() == "Pirate answers"
    choose(page.data, "examples/laconic.jsonl")
    assert state.recipe.data.path == "examples/laconic.jsonl"
    page.data.choose("/somewhere/<i>mine</i>.jsonl")
    assert state.recipe.data.path == "/somewhere/<i>mine</i>.jsonl"
    assert page.data.currentText() == "i>.jsonl"


def test_data_that_cannot_be_read_is_told_at_its_field(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    state.data = DataView("x", error="x.jsonl is not there.", hint="Choose another.")
    state.recipe_changed.emit()
    assert page.form.field("data.path").error() == "x.jsonl is not there. Choose another."
    state.data = DataView("x", num_rows=9, num_good=8)
    state.recipe_changed.emit()
    assert page.form.field("data.path").error() == ""


def test_what_is_reckoned_of_a_large_dataset_is_told_as_reckoned(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    for is_whole, words in ((True, ", 1,000 cannot be used"), (False, ", \u2248 1,000 cannot be used")):
        state.data = DataView("x", num_rows=9_000, num_good=8_000, is_whole=is_whole)
        state.recipe_changed.emit()
        assert page.form.field("data.path")._hint.endswith(words)


def test_quality_sets_what_belongs_together_and_shows_ones_own_settings_as_such(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    page.quality.slider.setFocus()
    QTest.keyClick(page.quality.slider, Qt.Key.Key_Right)
    assert (state.recipe.training.epochs, state.recipe.adapter.rank) == (5, 64)
    type_into(page.form.field("training.epochs").control, "4")
    assert page._quality_note.text() == "Your own settings below"


def visible_paths(page: TrainSetup) -> set[str]:
    fields = {entry.path: page.form.field(entry.path) for entry in FIELDS}
    return {path for path, field in fields.items() if isinstance(field, Field) and field.isVisible()}


def test_basic_shows_eight_fields_at_most_and_expert_all(qtbot) -> None:
    page = shown(ready_state(), qtbot)
    assert len(visible_paths(page)) <= 8
    page.more._all.click()
    assert page.level.value() == "expert"
    assert visible_paths(page) == {entry.path for entry in FIELDS} - {"name", "adapter.method"}


def test_a_search_finds_settings_of_closed_groups_and_says_when_there_are_none(qtbot) -> None:
    page = shown(ready_state(), qtbot)
    before = visible_paths(page)
    type_into(page.search, "warmup_ratio")
    assert visible_paths(page) == {"training.warmup_fraction"}
    type_into(page.search, "<b>nonsense")
    assert visible_paths(page) == set()
    assert "<b>nonsense" in page._none.text()
    type_into(page.search, "")
    assert visible_paths(page) == before


def test_a_recipe_is_saved_and_opened_with_the_data_beside_it(tmp_path: Path, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    said: list[tuple[str, str, str]] = []
    state.noticed.connect(lambda *args: said.append(args))
    path = tmp_path / "mine.toml"
    page.save_to(str(path))
    qtbot.waitUntil(lambda: said != [])
    assert said[0][0] == "ok"
    assert toml.load(path) == state.recipe
    beside = tmp_path / "own.jsonl"
    beside.write_text("{}\n", "utf-8")
    toml.save(replaced(state.recipe, "data.path", "own.jsonl"), path)
    page.load_from(str(path))
    qtbot.waitUntil(lambda: state.recipe.data.path == str(beside.resolve()))
    page.load_from(str(tmp_path / "none.toml"))
    qtbot.waitUntil(lambda: len(said) == 2)
    assert said[1][0] == "bad"
    QThreadPool.globalInstance().waitForDone()


def test_a_name_is_shown_literally_everywhere(tmp_path: Path, qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    name = "<h1>x</h1> & \u202e"
    add_run(state, tmp_path / "run", list(run_events(2)), name)
    assert name in page._live.accessibleName()
    assert isinstance(page.cost.start, StartCard)
    assert page.cost.start.start.toolTip().count("<h1>") == 0
    assert json.loads((tmp_path / "run" / "job.json").read_text("utf-8"))["name"] == name
