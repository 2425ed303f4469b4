"""What is seen of a run besides its charts: samples, first batch, worst rows, log and recipe; and what can be asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QThreadPool
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from studio.memory.device import CardLoad
from studio.recipe.fields import replaced, to_dict
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.first_batch import FirstBatch, SeenRow, Token, write_first_batch
from studio.runs.folder import RunFolder
from tests.ui.desk import named
from tests.ui.pages.train_facts import add_run, feed, ready_state, run_events, step_taken
from ui.pages import train_hints
from ui.pages.train import TrainPage
from ui.pages.train_running import TrainRunning
from ui.state import AppState, RunView
from ui.widgets.answer import AnswerText
from ui.widgets.buttons import Button, IconButton
from ui.widgets.toggles import CheckBox

HOSTILE = "<b>x</b> & <script>"


@pytest.fixture
def state() -> AppState:
    return ready_state()


@pytest.fixture
def page(state: AppState, qtbot: QtBot) -> Iterator[TrainPage]:
    page = TrainPage(state)
    qtbot.addWidget(page)
    page.resize(1240, 820)
    page.show()
    yield page
    QThreadPool.globalInstance().waitForDone()


def opened(page: TrainPage, tab: str, qtbot: QtBot) -> TrainRunning:
    """The page of the run "run", on that tab, with its folder read."""
    page.show_run("run")
    qtbot.waitUntil(lambda: page.running._facts is not None)
    page.running.tabs.set_value(tab)
    return page.running


def click(button: object) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


# --- asking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "asked", "grants"),
    [
        ("save", "Saving\u2026", e.CheckpointSaved(step=21, path="checkpoints/step-000021", bytes=1)),
        ("evaluate", "Evaluating\u2026", e.Evaluated(step=21, loss=1.0, num_supervised=9)),
        ("sample", "Sampling\u2026", step_taken(22)),
    ],
)
def test_a_wish_shows_that_it_was_heard_until_it_is_granted(
    verb: str, asked: str, grants: e.Event, state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    running = opened(page, "charts", qtbot)
    button = running.actions_.wishes[verb]
    before = button.text()
    click(button)
    assert (button.text(), button.isEnabled()) == (asked, False)
    assert running.progress.place.text().endswith(f"{asked[:-1].lower()} after step 21\u2026")
    feed(state, view, step_taken(21))
    running.refresh()
    assert button.text() == asked, "read when the step is done, granted before the next one"
    feed(state, view, grants)
    running.refresh()
    assert (button.text(), button.isEnabled()) == (before, True)
    assert "after step" not in running.progress.place.text()


def test_a_wish_from_elsewhere_shows_here_too(state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot) -> None:
    add_run(state, tmp_path / "run", list(run_events(20)))
    running = opened(page, "charts", qtbot)
    state.run_requested.emit("other", "pause")
    assert running._pill.accessibleName() == "Training"
    state.run_requested.emit("run", "pause")
    assert running._pill.accessibleName() == "Pausing\u2026"
    assert "stopping in step 21\u2026" in running.progress.place.text()


def test_nothing_is_evaluated_where_nothing_is_held_out(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    events = [
        e.Prepared(**{**vars(event), "num_held_out": 0}) if isinstance(event, e.Prepared) else event
        for event in run_events(20)
    ]
    add_run(state, tmp_path / "run", events)
    running = opened(page, "charts", qtbot)
    button = running.actions_.wishes["evaluate"]
    assert not button.isEnabled()
    assert "held out" in button.toolTip()
    assert running.actions_.wishes["save"].isEnabled()


def test_the_time_of_arrival_is_a_time_of_the_clock(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    running = opened(page, "charts", qtbot)
    words = running.progress.left.text()
    assert words.startswith("\u2248 3.0 min left, done at ")
    assert ":" in words.rpartition(" ")[2]
    feed(state, view, e.Paused(step=20))
    running.refresh()
    assert not running.progress.left.isVisible()


def test_the_two_options_are_wishes_and_show_what_is_set(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    add_run(state, tmp_path / "run", list(run_events(5)))
    running = opened(page, "charts", qtbot)
    asked: list[tuple[str, bool]] = []
    state.option_requested.connect(lambda *args: asked.append(args))
    click(named(running, CheckBox, "Keep PC awake"))
    click(named(running, CheckBox, "Notify me"))
    assert asked == [("keep_awake", False), ("notify", False)]
    state.notify = False
    state.options_changed.emit()
    assert running.options.awake.isChecked(), "nobody has set it yet"
    assert not running.options.notify.isChecked()


def test_a_card_at_work_tells_how_hard(state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    running = opened(page, "charts", qtbot)
    assert not running.now.rows["celsius"].isVisible(), "nobody has told yet"
    state.card_loads = (CardLoad(temperature_celsius=71, power_watts=289.6, utilisation=None, energy_joules=None),)
    state.machine_changed.emit()
    rows = running.now.rows
    assert [rows[key].text() for key in ("celsius", "watts")] == ["71", "290"]
    assert rows["celsius"].isVisible()
    assert not rows["busy"].isVisible(), "what the driver does not tell is left out"
    feed(state, view, e.Paused(step=20))
    running.refresh()
    assert not rows["celsius"].isVisible(), "the card is somebody else's now"


# --- samples ---------------------------------------------------------------------------------------------------------


def marked(answer: AnswerText) -> list[str]:
    """The words that are marked, as they stand in the document."""
    return [selection.cursor.selectedText() for selection in answer.extraSelections()]


def test_new_words_are_marked_since_the_sample_before(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    said = {50: "Arr, I am Bob.", 100: "Arr, I am <b>Captain</b> Bob."}
    samples = [e.SampleWritten(step=step, prompt="Who?", text=text) for step, text in said.items()]
    add_run(state, tmp_path / "run", [*run_events(49), samples[0], samples[1]])
    running = opened(page, "samples", qtbot)
    answer = running.samples._cards["Who?"].answers[2]
    assert answer.toPlainText() == said[100]
    assert marked(answer) == ["b>Captain</b"]
    assert all(selection.format.fontUnderline() for selection in answer.extraSelections()), "legible without colour"
    assert "Captain" in answer.accessibleDescription()
    assert running.samples.marked.text() == "marked: new since 50"


def test_the_latest_sample_beside_the_charts_is_marked_too(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(100)))
    running = opened(page, "charts", qtbot)
    assert marked(running.sample.answer) == ["100"]
    assert running.sample.marked.text() == "marked: new since 50"
    feed(state, view, e.SampleWritten(step=150, prompt="Who are you?", text="Arr <b>100</b>"))
    running.refresh()
    assert marked(running.sample.answer) == []


@pytest.mark.parametrize(("parent", "said"), [(None, "Step 0, the base"), ({"run": "mother"}, "Step 0, the parent")])
def test_step_0_is_called_after_whoever_answers_there(
    parent: object, said: str, state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(100)))
    job = {**view.folder.job, "parent": parent}
    (view.folder.path / "job.json").write_text(json.dumps(job), "utf-8")
    state.runs[view.folder.id] = RunView(RunFolder(view.folder.path), view.state)
    running = opened(page, "samples", qtbot)
    assert running.samples.steps[0].currentText() == said
    assert said in {title.text() for title in running.sample._titles}


def test_a_prompt_can_be_added_and_waits_for_the_next_sample(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(60)))
    running = opened(page, "samples", qtbot)
    asked: list[tuple[str, str]] = []
    state.prompt_requested.connect(lambda *args: asked.append(args))
    assert running.samples.adding.note.text() == "New prompts are asked from the next sample on, step 100."
    click(running.samples.adding.button)
    QTest.keyClicks(running.samples.adding.field, HOSTILE)
    QTest.keyClick(running.samples.adding.field, Qt.Key.Key_Return)
    assert asked == [("run", HOSTILE)]
    running.refresh()
    assert [answer.toPlainText() for answer in running.samples._cards[HOSTILE].answers] == [
        "(not asked at this step)", "(asked with the next sample)", "(asked with the next sample)"]  # fmt: skip
    feed(state, view, e.PromptAdded(prompt=HOSTILE), e.SampleWritten(step=100, prompt=HOSTILE, text="Aye."))
    running.refresh()
    assert running.samples._cards[HOSTILE].answers[2].toPlainText() == "Aye."
    assert list(running.samples._cards) == ["Who are you?", HOSTILE]
    feed(state, view, e.Stopped(step=100, saved=True))
    running.refresh()
    assert not running.samples.adding.isVisible()


# --- first batch, worst rows -----------------------------------------------------------------------------------------


def written(folder: Path) -> e.FirstBatchWritten:
    """A first batch of two rows on the disk."""
    tokens = (Token(1, f"<|user|>{HOSTILE}", False), Token(2, "\n", False), Token(3, "Aye", True), Token(4, "!", True))
    rows = (SeenRow(1203, 4, 2, tokens), SeenRow(6, 90, 2, tokens))
    write_first_batch(RunFolder(folder), FirstBatch(16, 1000, 400, rows))
    return e.FirstBatchWritten(path="first_batch.json", num_rows=16, num_tokens=1000, num_supervised=400)


def test_the_first_batch_shows_which_tokens_are_trained(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(3)))
    running = opened(page, "batch", qtbot)
    batch = running.batch
    assert batch.empty.isVisible()
    feed(state, view, written(tmp_path / "run"))
    qtbot.waitUntil(batch.table.isVisible)
    assert batch.summary.text() == "16 rows with 1,000 tokens: 400 are learnt from, 40 %. The first 2 are shown."
    assert batch.heading.text() == "Row 1,204: 4 tokens, 2 of them trained"
    assert batch.text.toPlainText() == f"<|user|>{HOSTILE}\nAye!"
    underlined = []
    block = batch.text.document().begin()
    while block.isValid():
        underlined += [
            fragment.fragment().text() for fragment in block if fragment.fragment().charFormat().fontUnderline()
        ]
        block = block.next()
    assert underlined == ["Aye!"]
    QTest.keyClick(batch.table, Qt.Key.Key_Down)
    assert batch.heading.text().startswith("Row 7:")
    assert batch.text.toPlainText().endswith("\u2026 and 86 more tokens")


def test_a_damaged_first_batch_says_so(state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(3)))
    (tmp_path / "run" / "first_batch.json").write_text(json.dumps({"schema": 1, "rows": [{"row": "x"}]}), "utf-8")
    running = opened(page, "batch", qtbot)
    feed(state, view, e.FirstBatchWritten(path="first_batch.json", num_rows=1, num_tokens=1, num_supervised=1))
    qtbot.waitUntil(lambda: "cannot be read" in running.batch.empty.accessibleName())


def test_the_worst_rows_stand_in_a_table_and_the_one_chosen_stays(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    rows = [
        {
            "row": 41,
            "loss": 4.82,
            "num_supervised": 12,
            "step": 17,
            "held_out": False,
            "prompt": HOSTILE,
            "answer": "a\nb",
        },
        {"row": 7, "loss": None, "num_supervised": 3, "step": 9, "held_out": True, "prompt": "", "answer": ""},
        {"strange": 1},
    ]
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    running = opened(page, "worst", qtbot)
    worst = running.worst
    assert worst.empty.isVisible()
    feed(state, view, e.RowsJudged(step=20, rows=rows))
    qtbot.waitUntil(worst.table.isVisible)
    model = worst.table.model()
    table = [[model.index(row, column).data() for column in range(7)] for row in range(model.rowCount())]
    assert table == [
        ["42", "4.82", "12", "17", "Training", HOSTILE, "a b"],
        ["8", "no value", "3", "9", "Held out", "", ""],
    ]
    assert worst.prompt.toPlainText() == HOSTILE
    QTest.keyClick(worst.table, Qt.Key.Key_Down)
    assert worst.answer.toPlainText() == "(an empty answer)"
    feed(state, view, e.RowsJudged(step=25, rows=rows[1::-1]))
    running.refresh()
    assert worst.table.currentIndex().row() == 0
    assert worst.table.currentIndex().data() == "8", "the same row as before"


# --- log and recipe --------------------------------------------------------------------------------------------------


def test_the_log_is_followed_searched_and_copied(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    add_run(state, tmp_path / "run", list(run_events(5)))
    path = tmp_path / "run" / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(300)), "utf-8")
    running = opened(page, "log", qtbot)
    log = running.log
    qtbot.waitUntil(lambda: log.toPlainText().endswith("line 299"))
    bar = log.text.verticalScrollBar()
    assert bar.value() == bar.maximum(), "it follows"
    QTest.keyClicks(log.search, "LINE 12")
    assert log.found.text() == "11 matches"
    assert log.text.textCursor().selectedText() == "line 12"
    assert not log.follow.isChecked()
    click(named(log, IconButton, "The next match"))
    assert log.text.textCursor().block().text() == "line 120"
    click(named(log, IconButton, "The match before"))
    click(named(log, IconButton, "The match before"))
    assert log.text.textCursor().block().text() == "line 129", "around the end"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{HOSTILE}\n")
    at = bar.value()
    log.read()
    qtbot.waitUntil(lambda: HOSTILE in log.toPlainText())
    assert bar.value() == at, "who searches is left where he is"
    click(named(log, CheckBox, "Follow"))
    assert bar.value() == bar.maximum()
    click(named(log, Button, "Copy all"))
    assert QGuiApplication.clipboard().text().endswith(f"line 299\n{HOSTILE}")


def test_a_recipe_tells_what_sets_it_apart(state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot) -> None:
    other = replaced(Recipe(), "training.learning_rate", 1e-3)
    add_run(state, tmp_path / "earlier", [], "before")
    (tmp_path / "earlier" / "job.json").write_text(
        json.dumps({"schema": 1, "name": "before", "recipe": to_dict(other)})
    )
    add_run(state, tmp_path / "run", list(run_events(5)))
    running = opened(page, "recipe", qtbot)
    recipe = running.recipe
    assert recipe.note.text() == "Nothing differs from the defaults."
    before = recipe.against._segments["before"]
    qtbot.waitUntil(before.isEnabled)
    click(before)
    assert recipe.note.text() == "1 setting differs from before."
    model = recipe.table.model()
    assert [model.index(0, column).data() for column in range(3)] == ["Learning rate", "2e-4", "0.001"]


# --- hints -----------------------------------------------------------------------------------------------------------


def memorising() -> list[e.Event]:
    """A run whose evaluation rises while its loss falls, with a good checkpoint behind it."""
    events = [event for event in run_events(60) if not isinstance(event, e.Evaluated | e.CheckpointSaved)]
    saved = e.CheckpointSaved(step=20, path="checkpoints/step-000020", bytes=1, is_best=True)
    return [
        *events,
        saved,
        *(e.Evaluated(step=20 + 10 * n, loss=1.0 + 0.1 * n, num_supervised=9) for n in range(5)),
    ]


def test_a_hint_can_be_dismissed_and_offers_the_checkpoint(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_hints, "LOOK_SECONDS", 0.0)
    view = add_run(state, tmp_path / "run", memorising())
    running = opened(page, "charts", qtbot)
    wanted: list[tuple[str, int]] = []
    state.promote_requested.connect(lambda *args: wanted.append(args))
    cards = [card for card in running.hints.findChildren(train_hints.HintCard) if not card.isHidden()]
    assert len(cards) == 1
    assert "memorising" in cards[0].accessibleName()
    assert "rose 3 times" in cards[0].accessibleDescription()
    assert cards[0].use is not None
    click(cards[0].use)
    assert wanted == [("run", 20)]
    click(cards[0].dismiss)
    feed(state, view, step_taken(61))
    running.refresh()
    assert not [card for card in running.hints.findChildren(train_hints.HintCard) if not card.isHidden()]


# --- without a mouse, without eyes -----------------------------------------------------------------------------------


def takes_focus(widget: QWidget) -> bool:
    """Whether Tab stops there; a viewport leaves that to what it belongs to."""
    return widget.isVisible() and bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.focusProxy() is None


@pytest.mark.slow
@pytest.mark.parametrize("tab", ["charts", "samples", "batch", "worst", "log", "recipe"])
@pytest.mark.parametrize("is_over", [False, True], ids=["live", "over"])
def test_whatever_takes_the_focus_has_a_name(
    tab: str, is_over: bool, state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    rows = [{"row": 3, "loss": 2.0, "num_supervised": 1, "step": 2, "held_out": False, "prompt": "a", "answer": "b"}]
    view = add_run(state, tmp_path / "run", [*run_events(100), e.RowsJudged(step=100, rows=rows)])
    feed(state, view, written(tmp_path / "run"))
    if is_over:
        feed(state, view, e.Finished(run="run", adapter="pirate v1", seconds=1.0))
    running = opened(page, tab, qtbot)
    found = [widget for widget in running.findChildren(QWidget) if widget.isEnabled() and takes_focus(widget)]
    assert len(found) > 5
    nameless = [widget for widget in found if not widget.accessibleName()]
    assert not nameless
    buttons = [button.accessibleName() for button in running.findChildren(Button) if button.isVisible()]
    assert len(buttons) == len(set(buttons)), "no two buttons on a page are called the same"


def test_tab_leads_from_the_header_to_the_tabs_and_into_the_view(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot: QtBot
) -> None:
    add_run(state, tmp_path / "run", list(run_events(100)))
    running = opened(page, "samples", qtbot)
    order, widget = [], running.actions_.back
    while widget.nextInFocusChain() is not running.actions_.back and len(order) < 400:
        if takes_focus(widget):
            order.append(widget)
        widget = widget.nextInFocusChain()
    places = [order.index(each) for each in (
        running.actions_.back, running.actions_.stop, running.actions_.pause, running.tabs, running.options.awake,
        running.options.notify, running.samples.steps[0], running.samples.steps[2])]  # fmt: skip
    assert places == sorted(places)
