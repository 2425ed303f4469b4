"""The Datasets page over real files, the real core and real workers: what is shown is what will be learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QAbstractButton, QApplication

from studio.data.conversation import RawRow
from studio.data.rows import stream
from studio.data.survey import split as parted
from studio.data.versions import VersionedSet
from studio.recipe.fields import replaced
from tests.ui.pages.dataset_bench import HOSTILE, ROWS, WAIT_MS, Bench
from tests.ui.test_form import choose
from tests.ui.tokenizing_base import write_tokenizing_base
from ui.dataset_view import RowSource
from ui.pages.dataset_merge import MergeDialog
from ui.pages.dataset_rows import ANSWER, BLOCK, PROMPT, SIDE, RowsPanel
from ui.pages.dataset_words import percent
from ui.widgets.tables import RowDelegate


def test_a_file_is_counted_and_its_rows_stand_in_a_table(bench: Bench) -> None:
    path = bench.write(ROWS)
    before = path.read_bytes()
    assert "No dataset open" in bench.texts()
    bench.open(path)
    assert "messages, 99 % sure" in bench.texts()
    for name, count in (
        ("rows", "Rows: 5"),
        ("good", "Can be learnt: 4"),
        ("problems", "Problems: 1"),
        ("repeats", "Repeats: 1"),
    ):
        assert bench.tile(name) == count
    assert [bench.cell(0, column) for column in (0, 1, 2, 3, 4)] == ["1", "2", "user, assistant", HOSTILE, "Ahoy"]
    assert "parrot" in bench.cell(3, PROMPT)
    assert bench.page.use.isEnabled()
    assert path.read_bytes() == before


def test_the_chosen_row_shows_which_tokens_are_learnt_and_what_each_is(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    bench.cell(0, 0)
    bench.page.rows.table.selectRow(0)
    seen = bench.page.seen
    bench.wait(lambda: seen.tokens.tokens())
    tokens = seen.tokens.tokens()
    assert "".join(token.text for token in tokens if token.is_trained) == "Ahoy<|im_end|>"
    assert HOSTILE in "".join(token.text for token in tokens)
    place = next(place for place, token in enumerate(tokens) if token.is_trained)
    bench.bot.mouseClick(seen.tokens.viewport(), Qt.MouseButton.LeftButton, pos=seen.tokens.box(place).center())
    assert seen.token.text() == f"Token {place + 1}: id {tokens[place].id}, \u201cA\u201d, trained"
    bench.bot.keyClick(seen.tokens, Qt.Key.Key_Right)
    assert "\u201ch\u201d, trained" in seen.token.text()
    bench.bot.keyClick(seen.tokens, Qt.Key.Key_Home)
    assert "\u201c<|im_start|>\u201d, read, not trained" in seen.token.text()


@pytest.mark.slow
def test_the_mask_follows_the_limit_of_the_recipe(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    bench.state.dataset_requested.emit("show", 1)
    seen = bench.page.seen
    bench.wait(lambda: seen.tokens.tokens())
    assert "of 64 tokens are trained in row 2" in bench.texts(seen)
    tokens = seen.tokens.tokens()
    kept, lost = (sum(token.is_trained for token in part) for part in (tokens[:64], tokens[64:]))
    assert percent(kept / 64) in bench.texts(seen).splitlines()
    assert f"{len(tokens) - 64} more are cut, of which {lost} would have been trained." in bench.texts(seen)
    bench.state.recipe_edited.emit(replaced(bench.state.recipe, "data.max_tokens", 512))
    bench.wait(lambda: "more are cut" not in bench.texts(seen))


def test_a_base_without_a_template_is_seen_and_trained_by_the_one_that_is_chosen(bench: Bench) -> None:
    write_tokenizing_base(bench.workspace.bases / "bare", template="")
    bench.conductor.shelving.list_bases()
    bench.open(bench.write(ROWS))
    seen = bench.page.seen
    assert not seen.template.isVisible()
    bench.state.recipe_edited.emit(replaced(bench.state.recipe, "base.id", "bare"))
    bench.wait(lambda: "data.chat_template" in {problem.field for problem in bench.state.problems})
    bench.state.dataset_requested.emit("show", 0)
    bench.wait(lambda: bench.view.shown is not None)
    assert "no chat template" in bench.texts(seen)
    choose(seen.template, "alpaca")
    bench.wait(lambda: seen.tokens.tokens())
    assert "### Instruction:" in "".join(token.text for token in seen.tokens.tokens())
    assert "".join(token.text for token in seen.tokens.tokens() if token.is_trained) == "Ahoy<|im_end|>"
    assert bench.state.recipe.data.chat_template == "alpaca"
    assert not bench.state.problems


@pytest.mark.slow
def test_a_row_that_cannot_be_learnt_says_why_instead(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    bench.state.dataset_requested.emit("show", 3)
    bench.wait(lambda: bench.view.shown is not None)
    assert "parrot" in bench.texts(bench.page.seen)


def test_mends_are_undone_and_done_again_and_never_touch_the_file(bench: Bench) -> None:
    path = bench.write(ROWS)
    before = path.read_bytes()
    bench.open(path)
    bench.page.tabs.set_value("problems")
    problems = bench.page.problems
    kinds = [problems.model.index(row, 0).data() for row in range(problems.model.rowCount())]
    assert kinds == ["Unknown role", "Garbled letters", "Repeat"]
    problems.table.selectRow(0)
    assert "parrot" in bench.texts(problems.remedy)
    assert not problems.mends.undo.isEnabled()
    bench.press("Apply: Leave out rows that cannot be learnt")
    bench.wait(lambda: bench.view.version.number == 1)
    bench.settle()
    assert bench.tile("rows") == "Rows: 4"
    assert bench.tile("problems") == "Problems: 0"
    bench.press("Undo")
    bench.wait(lambda: bench.view.version.number == 0)
    bench.settle()
    assert bench.tile("rows") == "Rows: 5"
    bench.press("Redo")
    bench.wait(lambda: bench.view.version.number == 1)
    bench.settle()
    bench.page.use.click()
    assert Path(bench.state.recipe.data.path) == bench.view.version.path != path
    assert path.read_bytes() == before


def test_secrets_are_looked_for_if_wished_and_replaced_in_one_click(bench: Bench) -> None:
    key = "sk-" + "abcdefghijklmnopqrstuv99"
    bench.open(bench.write([*ROWS, {"question": f"My key is {key}, mail jack@example.org", "answer": "Hide it!"}]))
    bench.page.tabs.set_value("problems")
    problems = bench.page.problems
    assert not {"secret", "email"} & bench.view.survey.warning_counts.keys()
    bench.bot.mouseClick(problems.privacy, Qt.MouseButton.LeftButton)
    bench.wait(lambda: bench.view.survey.privacy and not bench.view.busy)
    told = [problems.model.index(row, 4).data() for row in range(problems.model.rowCount())]
    assert any("an API key (sk-a\u202699)" in words for words in told)
    assert any("(j\u2026@example.org)" in words for words in told)
    assert not any(key in words or "jack" in words for words in told)
    bench.press("Apply: Replace likely secrets by words in brackets")
    bench.wait(lambda: bench.view.version.number == 1)
    bench.settle()
    assert set(bench.view.survey.warning_counts) == {"mojibake", "email"}
    assert bench.page.view_settings()["privacy"] is True


def test_a_mend_is_a_task_that_another_dataset_does_not_cut_short(bench: Bench) -> None:
    path = bench.write(ROWS * 400)
    bench.open(path)
    bench.page.tabs.set_value("problems")
    bench.press("Apply: Leave out rows that cannot be learnt")
    assert [job.title for job in bench.state.live_jobs] == ["Writing a new version of rows.jsonl"]
    bench.page.open_path(str(bench.write(ROWS, "other.jsonl")))
    bench.wait(lambda: not bench.state.live_jobs and bench.notices)
    assert bench.notices == [("ok", "Rows: 0 changed, 400 left out. Your file is as it was.", "")]
    assert VersionedSet(bench.workspace, path).current.number == 1
    bench.settle()
    assert bench.tile("rows") == "Rows: 5"


@pytest.mark.slow
def test_a_problem_leads_to_its_row(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    bench.page.tabs.set_value("problems")
    bench.page.problems.table.selectRow(1)
    bench.press("Show the row")
    assert bench.page.tabs.value() == "rows"
    bench.wait(lambda: bench.page.rows.table.currentIndex().row() == 4)
    bench.wait(lambda: bench.page.seen.tokens.tokens())


@pytest.mark.slow
def test_a_limit_is_moved_and_says_what_it_costs(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    bench.page.tabs.set_value("lengths")
    lengths = bench.page.lengths
    bench.wait(lambda: bench.view.lengths is not None and lengths.plot.isVisible())
    whole = lengths.tokens_kept.accessibleName()
    assert "2 rows lose the end of an answer" in lengths.sentence.text()
    assert lengths.use.text() == "This is the recipe's limit"
    lengths.plot.setFocus()
    bench.bot.keyClick(lengths.plot, Qt.Key.Key_Right)
    assert lengths.plot.limit() == lengths.limit.value() == 128
    bench.bot.keyClick(lengths.plot, Qt.Key.Key_Right)
    assert lengths.tokens_kept.accessibleName() != whole
    assert "100 %" in lengths.tokens_kept.accessibleName()
    assert lengths.sentence.text() == "No row is longer: nothing is cut."
    assert "\u2248" in lengths.cost.text()
    bench.bot.mousePress(lengths.plot, Qt.MouseButton.LeftButton, pos=QPoint(lengths.plot.x_of(30), 100))
    bench.bot.mouseRelease(lengths.plot, Qt.MouseButton.LeftButton)
    assert abs(lengths.plot.limit() - 30) <= 1
    assert "lose their whole answer" in lengths.sentence.text()
    lengths.better.click()
    bench.press("Use this limit")
    assert bench.state.recipe.data.max_tokens == lengths.plot.limit() == 128
    bench.page.tabs.set_value("rows")
    assert not bench.page.rows.table.isColumnHidden(5)
    assert int(bench.cell(0, 5)) == int(bench.view.lengths.tokens[0])


def test_columns_that_are_not_certain_are_confirmed_before_anything_is_learnt(bench: Bench) -> None:
    path = bench.write([{"query": f"q{n}", "response text": "x", "reply": f"a{n}"} for n in range(3)])
    bench.page.open_path(str(path))
    bench.wait(lambda: bench.view.version is not None)
    assert bench.page.use.text() == "Confirm the columns"
    assert bench.view.survey is None
    answer = bench.page.summary.choices["answer"]
    assert answer.value() == "reply"
    choose(answer, "response text")
    bench.wait(lambda: bench.cell(0, ANSWER) == "x")
    choose(answer, "reply")
    bench.wait(lambda: bench.cell(0, ANSWER) == "a0")
    bench.press("That is right")
    bench.settle()
    assert bench.tile("good") == "Can be learnt: 3"
    bench.page.use.click()
    # The Train page reads the file as it is, by the columns that were confirmed.
    bench.wait(lambda: bench.state.data.num_good == 3)
    assert (bench.state.recipe.data.path, bench.state.data.error) == (str(path), "")


def test_search_shows_the_rows_that_hold_the_words(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    rows = bench.page.rows
    rows.words.setText("PIRATE who")
    bench.bot.keyClick(rows.words, Qt.Key.Key_Return)
    bench.wait(lambda: bench.view.found is not None)
    assert [bench.cell(row, 0) for row in range(rows.model.rowCount())] == ["2", "3"]
    bench.bot.keyClick(rows.words, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    bench.bot.keyClick(rows.words, Qt.Key.Key_Delete)
    assert rows.model.rowCount() == 5


def test_a_bar_of_the_glance_shows_its_rows(bench: Bench) -> None:
    bench.open(bench.write([*ROWS, {"text": "It was not the first time that this happened to me, and to you."}]))
    bench.page.tabs.set_value("glance")
    glance = bench.page.glance
    assert [(bar.label, bar.figure) for bar in glance.turns.bars()] == [("1 turn", "1, 20 %"), ("2", "4, 80 %")]
    assert [bar.label for bar in glance.languages.bars()] == ["Unknown", "English"]
    bench.wait(lambda: all(bar.isVisible() for bar in glance.languages.findChildren(QAbstractButton)))
    bench.press("English: 1, 20 %")
    bench.wait(lambda: bench.view.found == [5])
    assert bench.page.tabs.value() == "rows"
    assert bench.page.rows.words.text() == "language:en"


def test_the_split_of_the_recipe_is_shown_and_changed(bench: Bench) -> None:
    rows = [{"question": f"q{n // 2}", "answer": f"a{n}", "customer": n // 10} for n in range(60)]
    path = bench.write(rows)
    bench.open(path)
    bench.page.tabs.set_value("split")
    split = bench.page.split
    bench.bot.keyClick(split.slider, Qt.Key.Key_End)
    assert bench.state.recipe.data.validation_fraction == 0.5
    train, held = parted(list(stream(path)), 0.5, bench.state.recipe.training.seed)
    assert split.held_out.accessibleName().startswith(f"Held out for evaluation: {len(held)}")
    leaks = split.leaks.accessibleName()
    assert "Given away: 0" not in leaks
    assert "would be too good" in split.message.accessibleName()
    bench.press("Show the evaluation rows")
    assert bench.view.found == [one.row for one in held]
    bench.page.rows.words.set_value("")
    bench.state.dataset_requested.emit("search", "")
    side = {one.row: name for several, name in ((train, "training"), (held, "evaluation")) for one in several}
    assert [bench.cell(row, SIDE) for row in range(60)] == [side[row] for row in range(60)]
    bench.page.tabs.set_value("split")
    choose(split.group, "customer")
    bench.wait(lambda: bench.view.split(bench.state.recipe) is not None and not bench.view.busy)
    assert bench.state.recipe.data.group_by == "customer"
    assert split.leaks.accessibleName() == "Given away: 0 rows"
    held = parted(list(stream(path, group_by="customer")), 0.5, bench.state.recipe.training.seed)[1]
    assert split.held_out.accessibleName().startswith(f"Held out for evaluation: {len(held)}")


def test_a_survey_is_cancelled_and_the_rows_stay(bench: Bench) -> None:
    path = bench.folder / "many.jsonl"
    path.write_text((json.dumps(ROWS[1]) + "\n") * 150_000)
    bench.page.open_path(str(path))
    bench.wait(lambda: bench.view.rows is not None and bench.view.rows.is_whole)
    assert bench.view.survey is None
    bench.press("Cancel")
    bench.wait(lambda: not bench.view.busy)
    assert bench.view.survey is None
    assert "not been looked through" in bench.texts(bench.page.summary)
    assert bench.page.rows.model.rowCount() == 150_000
    assert bench.cell(149_999, 0) == "150,000"


def test_a_file_that_is_not_there_or_empty_says_so(bench: Bench) -> None:
    bench.page.open_path(str(bench.folder / "gone.jsonl"))
    bench.wait(lambda: bench.view.error)
    assert "gone.jsonl is not there any more. Choose another file." in bench.texts()
    assert bench.page.use.text() == "It cannot be read"
    bench.page.open_path(str(bench.write([], "empty.jsonl")))
    bench.wait(lambda: "empty" in bench.view.error)


def test_a_dropped_file_is_opened_and_remembered(bench: Bench) -> None:
    path = bench.write(ROWS)
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    bench.page.dropEvent(QDropEvent(QPointF(5, 5), copy, mime, left, none))
    bench.settle()
    assert bench.view.path == str(path)
    assert bench.page.view_settings()["recent"] == [str(path)]
    bench.page.restore_view({"recent": [1, str(path)]})
    assert bench.page.view_settings()["recent"] == [str(path)]


def test_good_rows_are_exported(bench: Bench) -> None:
    bench.open(bench.write(ROWS))
    out = bench.folder / "out.jsonl"
    bench.page.export_to(str(out))
    bench.wait(lambda: bench.notices)
    assert bench.notices == [("ok", f"4 rows are now in {out}.", "1 could not be used and were left out.")]
    assert len(out.read_text().splitlines()) == 4


def test_sets_are_merged_by_their_weights_into_a_new_one_that_opens(bench: Bench) -> None:
    other = bench.write([*ROWS[:2], {"question": "When?", "answer": "Now. " * 40}], "other.jsonl")
    path = bench.write(ROWS)
    bench.open(path)
    bench.page.merge()
    (dialog,) = bench.page.findChildren(MergeDialog)
    assert dialog.open_new.text() == "Add a set"
    for added in (other, bench.folder / "gone.jsonl"):
        dialog.add_set(str(added))
    bench.wait(lambda: None not in bench.view.weighed.values())
    assert "gone.jsonl" in dialog.lines[2].note.text()
    assert dialog.open_new.text() == "Take out the set in red"
    dialog.lines[2].remove.click()
    dialog.lines[1].weight.setText("2")
    dialog.lines[1].weight.textEdited.emit("2")
    assert [line.rows.text() for line in dialog.lines] == ["4", "6"]
    assert dialog.total.text() == "10 rows come out"
    bench.bot.mouseClick(dialog.open_new, Qt.MouseButton.LeftButton)
    bench.wait(lambda: Path(bench.view.path).parent == bench.workspace.merged)
    bench.settle()
    assert bench.tile("good") == "Can be learnt: 10"
    assert bench.page.view_settings()["recent"] == [bench.view.path, str(path)]


class Million:
    """A million rows that count how many were read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int) -> RawRow:
        self.read.append(number)
        return RawRow(number, number + 1, ROWS[0])


def test_only_rows_that_can_be_seen_are_read(qtbot: Any) -> None:
    rows = Million()
    panel = RowsPanel()
    qtbot.addWidget(panel)
    panel.resize(800, 600)
    panel.show()
    panel.model.show_rows(RowSource(rows, is_whole=True), None, None, None)  # type: ignore[arg-type]
    panel.table.scrollToBottom()
    qtbot.waitUntil(lambda: panel.model.line(999_999) is not None, timeout=WAIT_MS)
    assert panel.model.index(999_999, PROMPT).data() == HOSTILE
    assert len(rows.read) <= 6 * BLOCK


def test_what_stays_in_sight_is_not_painted_anew_and_what_comes_next_is_there(
    qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted: set[int] = set()
    paint = RowDelegate.paint

    def count(self: RowDelegate, painter: Any, option: Any, index: Any) -> None:
        painted.add(index.row())
        paint(self, painter, option, index)

    monkeypatch.setattr(RowDelegate, "paint", count)
    rows = Million()
    panel = RowsPanel()
    qtbot.addWidget(panel)
    panel.resize(800, 600)
    panel.show()
    panel.model.show_rows(RowSource(rows, is_whole=True), None, None, None)  # type: ignore[arg-type]
    bar = panel.table.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bool(rows.read), timeout=WAIT_MS)
    bar.setValue(500 * panel.table.rowHeight(0))
    first = panel.table.rowAt(0) // BLOCK
    qtbot.waitUntil(lambda: {first - 1, first, first + 1} <= {row // BLOCK for row in rows.read}, timeout=WAIT_MS)
    QApplication.processEvents()
    painted.clear()
    bar.setValue(bar.value() + panel.table.rowHeight(0))
    QApplication.processEvents()
    assert 1 <= len(painted) <= 2


def test_rows_that_were_scrolled_past_are_not_read_for_nothing(qtbot: Any) -> None:
    rows = Million()
    panel = RowsPanel()
    qtbot.addWidget(panel)
    panel.model.show_rows(RowSource(rows, is_whole=True), None, None, None)  # type: ignore[arg-type]
    for place in range(0, 900_000, 1000):
        panel.model.line(place)
    last = 899_000
    qtbot.waitUntil(lambda: panel.model.line(last) is not None, timeout=WAIT_MS)
    assert len(rows.read) <= 5 * BLOCK
