"""Will it fit: what drives each part, what can be done about it in one press, and the way back."""

from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt, QThreadPool
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QMessageBox, QWidget

from studio.errors import Problem
from studio.memory.budget import verdict
from studio.memory.correction import Correction
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from tests.ui.pages.train_facts import BASE, CONFIG, GB, ready_state
from tests.ui.test_form import type_into
from ui.pages.train_memory import CARDS_GB
from ui.pages.train_setup import TrainSetup
from ui.state import AppState, PastPeak
from ui.widgets.buttons import Button
from ui.widgets.memory_choice import FIT_ROLE, Fit

LARGE = {"data.max_tokens": 16_384, "training.micro_batch_tokens": 32_768}


def shown(state: AppState, qtbot, width: int = 1240, height: int = 860) -> TrainSetup:
    page = TrainSetup(state)
    qtbot.addWidget(page)
    page.resize(width, height)
    page.show()
    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    settle(page, qtbot)
    return page


def settle(page: TrainSetup, qtbot) -> None:
    """The remedies follow the recipe after a moment."""
    qtbot.waitUntil(lambda: page.cost.remedies._reckoned == page.cost.remedies._wanted())


def too_large(gpu_gb: int | None = 12, **settings: Any) -> AppState:
    """A recipe that is over its card, and can be made to fit."""
    state = ready_state(gpu_gb=gpu_gb)
    recipe = state.recipe
    for path, value in {**LARGE, **settings}.items():
        recipe = replaced(recipe, path, value)
    state.recipe_edited.emit(recipe)
    assert state.budget is not None
    assert state.problems == []
    return state


def judged(state: AppState) -> str:
    assert state.budget is not None
    return verdict(state.budget, state.card_bytes, state.other_bytes)


def press(parent: QWidget, name: str) -> None:
    (button,) = [one for one in parent.findChildren(Button) if one.isVisible() and one.accessibleName() == name]
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def names(parent: QWidget, beginning: str) -> list[str]:
    """Accessible names of the buttons that can be seen and begin so, in reading order."""
    found = [button for button in parent.findChildren(Button) if button.isVisible()]
    found.sort(key=lambda button: button.mapTo(parent, QPoint(0, 0)).y())
    return [button.accessibleName() for button in found if button.accessibleName().startswith(beginning)]


# --- the parts -----------------------------------------------------------------------------------------------------


def rows_of(page: TrainSetup) -> dict[str, QAbstractButton]:
    return {row.name: row for row in page.cost.memory.parts.findChildren(QAbstractButton)}


def test_each_part_tells_its_bytes_its_formula_and_its_settings(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    bar, rows = page.cost.memory.bar, rows_of(page)
    terms = {term.name: term for term in state.budget.shown}
    assert set(rows) == {"other", *terms}
    for span in bar.spans():
        QTest.mouseMove(bar, QPoint(span.left + span.width // 2, bar.bar_rect().center().y()))
        if span.part.name != "other":
            term = terms[span.part.name]
            for tip in (bar.toolTip(), rows[term.name].toolTip()):
                assert f"{term.bytes:,} bytes" in tip
                assert "Driven by: " in tip
    assert "Driven by: Rank" in rows["adapter"].toolTip()
    assert "Micro-batch in rows" not in rows["activations"].toolTip(), "it is not what the recipe uses"


def test_the_rows_are_buttons_that_lead_to_a_setting_by_mouse_and_keys(qtbot) -> None:
    page = shown(ready_state(), qtbot)
    rows = rows_of(page)
    for act in (
        lambda row: QTest.mouseClick(row, Qt.MouseButton.LeftButton),
        lambda row: QTest.keyClick(row, Qt.Key.Key_Return),
        lambda row: QTest.keyClick(row, Qt.Key.Key_Space),
    ):
        rows["adapter"].setFocus()
        act(rows["adapter"])
        assert page.form.field("adapter.rank").control.hasFocus()
    assert all(row.focusPolicy() & Qt.FocusPolicy.TabFocus for row in rows.values())
    assert not rows["other"].isEnabled(), "no setting of ours drives other programs"


def test_every_key_moves_the_bar(qtbot) -> None:
    state = ready_state()
    page = shown(state, qtbot)
    control, totals = page.form.field("adapter.rank").control, []
    QTest.keyClick(control, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    for key in "128":
        QTest.keyClick(control, key)
        totals.append(page.cost.memory.bar.total())
    assert totals == sorted(set(totals))


def test_what_the_card_has_taught_is_shown_beside_the_raw_estimate(qtbot) -> None:
    state = ready_state()
    raw = state.budget.process_bytes + state.other_bytes
    state.correction = Correction(round(0.3 * GB), 4, 0)
    state.recipe_edited.emit(state.recipe)
    page = shown(state, qtbot)
    text = page.cost.memory._learnt.text()
    assert text.startswith("This card: +0.3 GB, from 4 runs")
    assert f"\u2248 {raw / GB:.1f} GB without" in text
    assert page.cost.memory.bar.total() == raw + state.correction.bytes


def test_what_is_left_to_the_card_follows_the_card(qtbot) -> None:
    state = ready_state(gpu_gb=None)
    page = shown(state, qtbot)
    told = []
    for gigabytes in (80, 8):
        page.cost.memory.cards.value_changed.emit(gigabytes * GB)
        found = state.budget
        row = rows_of(page)["activations"].accessibleName()
        assert f"Auto: recomputes {found.num_checkpointed} of {found.num_layers}" in row
        assert page.cost.memory.bar.total() == found.process_bytes
        told.append(found.num_checkpointed)
    assert told[0] < told[1]
    state.recipe_edited.emit(replaced(state.recipe, "memory.checkpointing", "all"))
    assert "recomputed" not in rows_of(page)["activations"].accessibleName()


def test_the_peak_of_a_past_run_is_marked_and_said(qtbot) -> None:
    state = ready_state()
    state.past_peak = PastPeak("id", "pirate <b>v1</b>", 5 * GB)
    page = shown(state, qtbot)
    bar = page.cost.memory.bar
    assert "Measured: 6.0 GB at the peak of pirate <b>v1</b>" in bar.accessibleDescription()
    mark = round(6 * GB / state.card_bytes * bar.width())
    QTest.mouseMove(bar, QPoint(mark, bar.bar_rect().center().y()))
    assert "Measured: 6.0 GB" in bar.toolTip()
    assert "<b>" not in bar.toolTip()


# --- what can be done ----------------------------------------------------------------------------------------------


def test_while_over_each_fix_is_one_press_and_one_undo(qtbot) -> None:
    state = too_large()
    before = state.recipe
    page = shown(state, qtbot)
    offered = names(page, "Apply: ")
    assert len(offered) >= 2
    order = [offered.index(next(name for name in offered if label in name)) for label in ("Micro-batch", "Rank")]
    assert order == sorted(order), "what costs no quality stands first"
    for name in offered:
        over = state.budget.process_bytes
        press(page, name)
        assert state.budget.process_bytes < over
        settle(page, qtbot)
        press(page, "Undo")
        assert state.recipe == before
        settle(page, qtbot)
    assert names(page, "Undo") == []


def test_a_fix_says_what_it_changes_what_it_saves_and_what_it_costs(qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot)
    line = page.cost.memory.fixes._lines[0]
    assert "Micro-batch 32,768 \u2192 16,384" in line.accessibleName()
    saved = state.budget.process_bytes
    press(page, "Apply: Micro-batch 32,768 \u2192 16,384")
    saved -= state.budget.process_bytes
    assert f"\u2212{saved / GB:.1f} GB" in line.accessibleName()
    assert "Same result" in line.accessibleName()
    assert "Micro-batch 32,768 \u2192 16,384" in page.cost.undo.accessibleName()


def test_fix_all_makes_it_fit_and_start_possible(qtbot) -> None:
    state = too_large()
    before = state.recipe
    page = shown(state, qtbot)
    assert not page.cost.start.start.isEnabled()
    (name,) = names(page, "Fix all: ")
    press(page, name)
    assert judged(state) != "over"
    assert page.cost.start.start.isEnabled()
    assert names(page, "Fix all: ") == []
    settle(page, qtbot)
    press(page, "Undo")
    assert state.recipe == before


def test_ctrl_z_walks_back_over_all_steps(qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot)
    passed = [state.recipe]
    for _ in range(2):
        press(page, names(page, "Apply: ")[0])
        settle(page, qtbot)
        passed.append(state.recipe)
    page.cost.start.start.setFocus()
    page.level.setFocus()
    for earlier in reversed(passed[:-1]):
        QTest.keyClick(page, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert state.recipe == earlier
    QTest.keyClick(page, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert state.recipe == passed[0]


def test_undo_keeps_what_was_edited_since_and_never_overwrites_it(qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot)
    press(page, "Apply: Micro-batch 32,768 \u2192 16,384")
    type_into(page.form.field("training.seed").control, "7")
    assert names(page, "Undo") == [], "the message speaks of a recipe that is no more"
    page.cost.remedies.undo()
    assert state.recipe.training.micro_batch_tokens == 32_768
    assert state.recipe.training.seed == 7
    settle(page, qtbot)
    press(page, "Apply: Micro-batch 32,768 \u2192 16,384")
    state.recipe_edited.emit(replaced(state.recipe, "training.micro_batch_tokens", 20_000))
    page.cost.remedies.undo()
    assert state.recipe.training.micro_batch_tokens == 20_000


def test_where_nothing_helps_that_is_said(qtbot) -> None:
    state = ready_state(gpu_gb=2)
    page = shown(state, qtbot)
    assert "smaller base" in page.cost.memory._advice.accessibleName()
    assert page.cost.memory._advice.isVisible()
    assert names(page, "Fix all: ") == []


def test_the_parts_can_be_seen_while_over(qtbot) -> None:
    page = shown(too_large(), qtbot)
    assert not page.cost.memory.parts.isVisible()
    assert page.cost.memory._sum.text().startswith("Of this: base ")
    press(page, "Show parts")
    assert page.cost.memory.parts.isVisible()
    press(page, "Show fixes")
    assert names(page, "Apply: ") != []


def test_memory_to_spare_is_one_press_away_and_still_fits(qtbot) -> None:
    state = ready_state()
    before = state.recipe
    page = shown(state, qtbot)
    offered = names(page, "Use the spare: ")
    assert any("max length" in name for name in offered)
    for name in offered:
        press(page, name)
        assert judged(state) == "fits"
        assert state.recipe != before
        settle(page, qtbot)
        press(page, "Undo")
        assert state.recipe == before
        settle(page, qtbot)


def test_rows_longer_than_the_data_are_not_offered(qtbot) -> None:
    state = ready_state()
    state.data = type(state.data)("x", num_rows=9, num_good=9, longest_tokens=300)
    state.recipe_edited.emit(state.recipe)
    page = shown(state, qtbot)
    offered = names(page, "Use the spare: ")
    assert offered != []
    assert not any("max length" in name for name in offered)


@pytest.mark.parametrize("gigabytes", CARDS_GB)
def test_without_a_card_the_same_is_offered_for_the_card_that_was_picked(gigabytes: int, qtbot) -> None:
    state = too_large(gpu_gb=None)
    state.card_bytes = gigabytes * GB
    page = shown(state, qtbot)
    if judged(state) == "over":
        (name,) = names(page, "Fix all: ")
        press(page, name)
        assert judged(state) != "over"
    assert page.cost.start.start.isEnabled(), "a card that is not there keeps nobody from training"


def test_in_a_narrow_window_everything_can_still_be_pressed(qtbot) -> None:
    state = too_large()
    page = shown(state, qtbot, 960, 560)
    card = page.cost.memory
    assert card.verdict.visibleRegion().boundingRect() == card.verdict.rect(), "the verdict never scrolls"
    press(page, names(page, "Fix all: ")[0])
    assert judged(state) != "over"


# --- bases ---------------------------------------------------------------------------------------------------------


def test_absurd_numbers_of_a_base_are_told_in_the_place_of_the_estimate(qtbot) -> None:
    state = ready_state()
    state.facts = state.budget = state.trainable = None
    why = "The model's config.json cannot be used: num_hidden_layers: it is larger than any model there is."
    state.problems = [Problem(field="base.id", message=why, fix="Choose another one.")]
    page = TrainSetup(state)
    qtbot.addWidget(page)
    page.show()
    assert not page.cost.memory.bar.isVisible()
    empty = page.cost.memory._empty
    assert empty.isVisible()
    assert "num_hidden_layers" in empty._sentence.text()
    assert "num_hidden_layers" in page.form.field("base.id").error()


def test_an_unknown_architecture_is_marked_as_a_guess(qtbot) -> None:
    state = ready_state()
    state.facts = ModelFacts.from_config({**CONFIG, "model_type": "brand_new"})
    state.recipe_edited.emit(state.recipe)
    page = shown(state, qtbot)
    assert page.cost.memory._guess.isVisible()
    assert page.cost.memory.verdict._aside.text() == "a guess"


def with_two_bases() -> AppState:
    state = ready_state()
    small = ModelFacts.from_config(CONFIG)
    large = ModelFacts.from_config(
        {**CONFIG, "hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80}
    )
    state.base_facts = {"starter": small, "huge": large}
    state.bases = [BASE, type(BASE)(**{**vars(BASE), "id": "huge"})]
    state.bases_changed.emit()
    return state


def test_the_list_of_bases_says_which_fit(qtbot) -> None:
    state = with_two_bases()
    page = shown(state, qtbot)
    page.bases.reckon()
    fits: dict[object, Any] = {}

    def known() -> bool:
        fits.update({page.bases.itemData(i): page.bases.itemData(i, FIT_ROLE) for i in range(page.bases.count())})
        return isinstance(fits["starter"], Fit)

    qtbot.waitUntil(known)
    assert fits["starter"].num_bytes == state.budget.process_bytes + state.other_bytes
    assert (fits["starter"].judgement, fits["huge"].judgement) == ("fits", "over")
    spoken = page.bases.itemData(page.bases.findData("huge"), Qt.ItemDataRole.AccessibleTextRole)
    assert spoken.endswith("over")
    assert page.bases.value() == "starter"
    QThreadPool.globalInstance().waitForDone()


def test_bases_that_would_fit_are_listed_with_the_way_to_get_them_and_nothing_is_fetched(qtbot) -> None:
    state = with_two_bases()
    page = shown(state, qtbot)
    asked: list[str] = []
    state.base_requested.connect(asked.append)
    page.bases.reckon()
    qtbot.waitUntil(lambda: any("not on this computer" in page.bases.itemText(i) for i in range(page.bases.count())))
    heading = next(i for i in range(page.bases.count()) if "not on this computer" in page.bases.itemText(i))
    others = range(heading + 1, page.bases.count())
    sizes = [page.bases.itemData(i, FIT_ROLE).num_bytes for i in others]
    assert sizes
    assert all(page.bases.itemData(i, FIT_ROLE).judgement in ("fits", "tight") for i in others)
    page.bases.setCurrentIndex(others[-1])
    hub_id = page.bases.itemText(others[-1])
    page.bases.activated.emit(others[-1])
    (box,) = page.bases.findChildren(QMessageBox)
    assert hub_id in box.text()
    assert f"hf download {hub_id}" in box.informativeText()
    copy = next(button for button in box.buttons() if button.text() == "Copy the command")
    copy.click()
    assert QApplication.clipboard().text() == f"hf download {hub_id}"
    assert asked == []
    assert state.recipe.base.id == page.bases.value() == "starter"
    box.close()
    QThreadPool.globalInstance().waitForDone()


def test_the_arrows_take_bases_and_do_nothing_else(qtbot) -> None:
    state = with_two_bases()
    page = shown(state, qtbot)
    page.bases.setFocus()
    QTest.keyClick(page.bases, Qt.Key.Key_Down)
    assert state.recipe.base.id == "huge"
    QTest.keyClick(page.bases, Qt.Key.Key_Down)
    assert page.bases.view().isVisible(), "below the bases there are only things to do"
    assert state.recipe.base.id == "huge"
    page.bases.hidePopup()
