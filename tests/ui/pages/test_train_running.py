"""The run page: the same picture live and replayed, every ending with its next step, and no flood that freezes it."""

import math
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QThreadPool
from PySide6.QtTest import QTest

from studio.runs import events as e
from tests.ui.pages.train_facts import GB, add_run, feed, ready_state, run_events, step_taken
from ui.pages.train import TrainPage
from ui.pages.train_hints import MAX_WARNINGS
from ui.state import AppState
from ui.widgets.loss_plot import RAW_POINTS
from ui.widgets.messages import MessageBar
from ui.widgets.series import MAX_POINTS

HOSTILE = "<h1>x</h1> & <script>"


@pytest.fixture
def state() -> AppState:
    return ready_state()


@pytest.fixture
def page(state: AppState, qtbot) -> TrainPage:
    page = TrainPage(state)
    qtbot.addWidget(page)
    page.resize(1240, 820)
    yield page
    QThreadPool.globalInstance().waitForDone()


def picture(page: TrainPage) -> dict[str, object]:
    """What the run page says, curves included."""
    running = page.running
    plots = {"loss": running.charts.loss, **running.charts.small, "memory": running.charts.memory}
    for plot in plots.values():
        plot.redraw()
    return {
        "curves": {name: plot.as_table() for name, plot in plots.items()},
        "place": [each.text() for each in (running.progress.percent, running.progress.place, running.progress.gone)],
        "pill": running._pill.accessibleName(),
        "now": [running.now.loss.accessibleName(), running.now.evaluation.accessibleName()],
        "rows": {name: label.text() for name, label in running.now.rows.items()},
        "sample": [each.raw_text() for each in (running.sample.prompt, running.sample.answer, running.sample.before)],
        "samples": [[each.raw_text() for each in card.answers] for card in running.samples._cards.values()],
        "marks": (running.charts.loss._checkpoints, running.charts.loss._evaluations, running.charts.loss._marks),
        "finding": running.charts.small["norm"].finding.text(),
        "memory": (running.charts.memory.accessibleName(), running.charts.memory.finding.text()),
        "levels": running.charts.memory._lines,
        "ending": "" if running.ending.isHidden() else running.ending.heading.text() + running.ending.text.text(),
    }


def known(page: TrainPage, qtbot) -> None:
    """Wait until what the folder says has been read."""
    qtbot.waitUntil(lambda: page.running._facts is not None)


def resumed() -> list[e.Event]:
    """A run that died behind its checkpoint and went on from there."""
    events = [*run_events(120), e.Died(exit_code=None, signal="SIGKILL", last_lines=[])]
    events += [e.Started(pid=2, process_started=2.0, device="cuda-0", from_step=100), e.PhaseEntered(name="training")]
    return [*events, *[step_taken(step) for step in range(101, 131)]]


@pytest.mark.parametrize("events", [list(run_events(120)), resumed()], ids=["straight", "resumed"])
def test_a_run_watched_live_looks_like_the_same_run_replayed(
    events: list[e.Event], state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    page.show()
    live = add_run(state, tmp_path / "run", [])
    page.show_run("run")
    known(page, qtbot)
    for event in events:
        feed(state, live, event)
        page.running.refresh()
    seen = picture(page)
    other_state = ready_state()
    add_run(other_state, tmp_path / "run", events)
    other = TrainPage(other_state)
    qtbot.addWidget(other)
    other.resize(1240, 820)
    other.show()
    other.show_run("run")
    known(other, qtbot)
    assert picture(other) == seen
    assert len(live.state.steps) == live.state.step, "each step of the curve once"


def test_a_flood_of_events_is_drawn_once_in_a_while_and_thinned_out(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot, monkeypatch
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(1, total=5001)))
    page.show()
    page.show_run("run")
    known(page, qtbot)
    painted: list[int] = []
    refresh = page.running.now.show_state
    monkeypatch.setattr(page.running.now, "show_state", lambda *args: (painted.append(1), refresh(*args)))
    for step in range(2, 5002):
        feed(state, view, step_taken(step))
    assert not painted, "events alone draw nothing"
    qtbot.waitUntil(lambda: "5,001 of 5,001" in page.running.progress.place.text())
    assert len(painted) == 1
    charts = page.running.charts
    for plot in (charts.loss, *charts.small.values()):
        plot.redraw()
        assert len(plot.series) == 5001
    assert len(charts.loss._line.getData()[0]) <= MAX_POINTS
    assert len(charts.loss._raw.getData()[0]) <= RAW_POINTS
    for plot in charts.small.values():
        assert len(plot._curve.getData()[0]) <= MAX_POINTS


def test_the_bar_tells_how_far_the_reading_of_a_large_file_is(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    view = add_run(state, tmp_path / "run", [e.Started(pid=1, process_started=1.0, device="cpu")])
    page.show()
    page.show_run("run")
    known(page, qtbot)
    running = page.running
    for event in (e.PhaseEntered(name="tokenising"), e.Progressed(what="lines", done=43_000, total=100_000)):
        feed(state, view, event)
    running.refresh()
    assert (running.progress.bar.value(), running.progress.bar.maximum(), running.progress.percent.text()) == (
        43_000,
        100_000,
        "43 %",
    )
    assert running.progress.place.text() == "line 43,000 of 100,000"
    feed(state, view, e.PhaseEntered(name="training"))
    running.refresh()
    assert (running.progress.bar.value(), running.progress.percent.text(), running.progress.place.text()) == (
        0,
        "0 %",
        "step 0",
    )


ENDINGS = [
    (e.Finished(run="run", adapter="pirate v1", seconds=120.0), "Finished after 2.0 min", "pirate v1", {"Compare with base"}),
    (e.Stopped(step=120, saved=True, adapter="pirate v1"), "Stopped at step 120", "from there", {"Resume", "Compare with base"}),
    (e.Stopped(step=120, saved=False), "Stopped at step 120", "goes on from step 100", {"Resume"}),
    (e.Paused(step=120), "Paused at step 120. The card is free.", "Resume goes on", {"Resume"}),
    (e.Paused(step=100, cause="No room.", hint="Free 1 GB."), "Paused at step 120", "No room. Free 1 GB. Resume", {"Resume"}),
    (e.Failed(kind="x", message=f"Too little {HOSTILE}.", hint="Lower it.", step=120), "Failed at step 120", HOSTILE, {"Resume"}),
    (e.Died(exit_code=None, signal="SIGKILL", last_lines=[]), "Interrupted at step 120", "step 100", {"Resume"}),
    (e.MicroBatchHalved(step=121, cause="The card is full", unit="tokens", was=4096, now=2048), "Interrupted at step 120",
     "from 4,096 to 2,048 tokens", {"Resume"}),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "heading", "part", "buttons"), ENDINGS)
def test_every_ending_says_why_and_what_comes_next(
    ending: e.Event, heading: str, part: str, buttons: set[str], state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(120)))
    page.show()
    known(page, qtbot)
    card = page.running.ending
    assert card.isHidden(), "nothing has ended yet"
    feed(state, view, ending)
    qtbot.waitUntil(card.isVisible)
    assert card.heading.text() == heading
    assert part in card.text.text()
    offered = {button.text() for button in (card.resume, card.chat) if button.isVisible()}
    assert offered == buttons
    assert not page.running.actions_.pause.isVisible()


def test_the_next_steps_ask_for_what_they_say(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    add_run(state, tmp_path / "run", [*run_events(60), e.Stopped(step=60, saved=True, adapter="pirate v1")])
    page.show()
    page.show_run("run")
    known(page, qtbot)
    asked: list[object] = []
    state.run_requested.connect(lambda *args: asked.append(args))
    state.chat_selected.connect(asked.append)
    card = page.running.ending
    for button in (card.resume, card.chat):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert asked == [("run", "resume"), "pirate v1"]
    QTest.mouseClick(card.again, Qt.MouseButton.LeftButton)
    assert state.recipe.name == "pirate v1"
    assert page.currentWidget() is page.setup


def test_a_live_run_can_be_asked_and_what_was_asked_for_is_shown(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    page.show()
    known(page, qtbot)
    asked: list[tuple[str, str]] = []
    state.run_requested.connect(lambda *args: asked.append(args))
    running = page.running
    for button in (*running.actions_.wishes.values(), running.actions_.pause):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert asked == [("run", verb) for verb in ("sample", "evaluate", "save", "pause")]
    assert running._pill.accessibleName() == "Pausing\u2026"
    assert not running.actions_.stop.isEnabled()
    feed(state, view, e.Paused(step=20))
    qtbot.waitUntil(lambda: running._pill.accessibleName() == "Paused")
    page.resize(1024 - 64, 620)
    qtbot.waitUntil(lambda: running.narrow)
    assert [action.text() for action in running.actions_.more.menu().actions()] == [
        "Sample now",
        "Evaluate now",
        "Save now",
    ]
    labels = [action.text() for action in running.actions_.stop.menu().actions()]
    assert labels == ["Stop and save", "Stop without saving"]
    for action in running.actions_.stop.menu().actions():
        action.trigger()
    assert [verb for _, verb in asked[-2:]] == ["stop", "discard"]


@pytest.mark.parametrize("name", ["loading", "tokenising", "evaluating", "sampling", "saving"])
def test_a_phase_is_named_while_it_lasts(name: str, state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    page.show()
    known(page, qtbot)
    training = page.running._pill.accessibleName()
    assert training == "Training"
    feed(state, view, e.PhaseEntered(name=name))
    qtbot.waitUntil(lambda: page.running._pill.accessibleName() != training)
    feed(state, view, e.PhaseEntered(name="training"))
    qtbot.waitUntil(lambda: page.running._pill.accessibleName() == training)


def test_warnings_can_be_dismissed_and_stay_so(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    warnings = [e.Warned(time=float(index), message=f"{HOSTILE} {index}", hint="Look.") for index in range(5)]
    add_run(state, tmp_path / "run", [*run_events(20), *warnings])
    page.show()
    known(page, qtbot)

    def bars() -> list[str]:
        found = page.running.hints.findChildren(MessageBar)
        return [bar.accessibleName() for bar in found if not bar.isHidden()]

    assert sorted(bars()) == [f"{HOSTILE} {index} Look." for index in (2, 3, 4)]
    assert len(bars()) == MAX_WARNINGS
    first = next(bar for bar in page.running.hints.findChildren(MessageBar) if "4" in bar.accessibleName())
    first.action_triggered.emit()
    page.running.refresh()
    qtbot.waitUntil(lambda: sorted(bars()) == [f"{HOSTILE} {index} Look." for index in (1, 2, 3)])


def test_a_warning_without_advice_is_only_information(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    warnings = [e.Warned(time=1.0, message="Plain AdamW."), e.Warned(time=2.0, message="Too long.", hint="Cut it.")]
    add_run(state, tmp_path / "run", [*run_events(20), *warnings])
    page.show()
    known(page, qtbot)
    bars = {bar.accessibleName(): bar for bar in page.running.hints.findChildren(MessageBar)}
    assert bars["Plain AdamW."].kind() == "info"
    assert bars["Too long. Cut it."].kind() == "warn"


def test_the_two_large_numbers_stand_on_one_line(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    add_run(state, tmp_path / "run", list(run_events(50, 60)))
    page.show()
    known(page, qtbot)
    now = page.running.now
    now.loss.set_value("4.22", "")
    now.evaluation.set_value("3.64", "best so far")
    page.grab()
    heights = [tile._value.mapTo(now, QPoint()).y() for tile in (now.loss, now.evaluation)]
    assert heights[0] == heights[1]


def test_log_and_recipe_are_plain_text_of_the_runs_own_files(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    add_run(state, tmp_path / "run", [*run_events(20), e.Paused(step=20)], name=HOSTILE)
    (tmp_path / "run" / "log.txt").write_text(f"one\n{HOSTILE}\n", "utf-8")
    page.show()
    page.show_run("run")
    known(page, qtbot)
    running = page.running
    assert running.header._title.text() == HOSTILE
    running.tabs.set_value("log")
    qtbot.waitUntil(lambda: running.log.toPlainText() == f"one\n{HOSTILE}")
    running.tabs.set_value("recipe")
    assert f'name = "{HOSTILE}"' in running.recipe.toPlainText()
    assert running.recipe.text.isReadOnly()


def test_samples_stand_side_by_side_and_the_last_column_follows(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(100)))
    page.show()
    known(page, qtbot)
    page.running.tabs.set_value("samples")
    samples = page.running.samples
    assert [choice.value() for choice in samples.steps] == [0, 50, 100]
    answers = samples._cards["Who are you?"].answers
    assert [answer.toPlainText() for answer in answers] == ["I am a model.", "Arr <b>50</b>", "Arr <b>100</b>"]
    feed(state, view, e.SampleWritten(step=150, prompt="Who are you?", text="Arr <b>150</b>"))
    qtbot.waitUntil(lambda: answers[2].toPlainText() == "Arr <b>150</b>")


def test_a_loss_without_a_value_is_a_gap_and_said_so(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    page.show()
    known(page, qtbot)
    bad = step_taken(21)
    feed(state, view, e.StepTaken(**{**vars(bad), "loss": math.nan}))
    qtbot.waitUntil(lambda: "no value" in page.running.now.loss.accessibleName())
    page.running.charts.loss.redraw()
    assert "1 without a value" in page.running.charts.loss.summary()


def test_the_page_goes_where_the_run_is(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    page.show()
    assert page.currentWidget() is page.setup
    state.run_selected.emit("run")
    assert page.currentWidget() is page.setup, "not known yet"
    add_run(state, tmp_path / "run", list(run_events(5)))
    assert page.currentWidget() is page.running
    known(page, qtbot)
    QTest.mouseClick(page.running.actions_.back, Qt.MouseButton.LeftButton)
    assert page.currentWidget() is page.setup
    page.hide()
    page.show()
    assert page.currentWidget() is page.running, "a run in progress is what one comes to see"


def test_endless_names_and_answers_do_not_burst_the_page(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    endless = "x" * 5000
    page.show()
    page.resize(page.minimumSizeHint())
    before = page.minimumSizeHint().width()
    sample = e.SampleWritten(step=50, prompt=endless, text=endless)
    add_run(state, tmp_path / "run", [*run_events(49), sample], name="y" * 200)
    page.show_run("run")
    known(page, qtbot)
    for tab in ("samples", "charts"):
        page.running.tabs.set_value(tab)
        qtbot.waitUntil(page.running.views[tab].isVisible)
    assert page.running.accessibleName() == "y" * 200
    page.show_recipe()
    assert page.minimumSizeHint().width() <= max(before, 1024 - 64)
    assert page.running.sample.width() <= 296


def test_a_run_whose_folder_is_damaged_is_shown_all_the_same(
    state: AppState, page: TrainPage, tmp_path: Path, qtbot
) -> None:
    view = add_run(state, tmp_path / "run", [*run_events(5), e.Paused(step=5)])
    (tmp_path / "run" / "job.json").write_text("{", "utf-8")
    page.show()
    page.show_run("run")
    known(page, qtbot)
    assert page.running.header._title.text() == "run"
    assert not page.running.ending.again.isEnabled()
    assert view.state.step == 5


def test_how_the_page_is_looked_at_can_be_remembered(page: TrainPage, qtbot) -> None:
    page.setup.set_level("expert")
    page.setup.more.reveal("adapter.alpha")
    page.running.charts.loss.set_logarithmic(True)
    other = TrainPage(ready_state())
    qtbot.addWidget(other)
    other.restore_view(page.view_settings())
    assert other.view_settings() == {"level": "expert", "open_groups": ["Adapter"], "logarithmic_loss": True}
    other.restore_view({"level": 3, "open_groups": ["nonsense", None]})
    assert other.view_settings() == {"level": "expert", "open_groups": [], "logarithmic_loss": False}


def test_an_answer_that_comes_after_the_page_is_gone_is_let_go(state: AppState, tmp_path: Path, qtbot) -> None:
    add_run(state, tmp_path / "run", list(run_events(5)))
    page = TrainPage(state)
    page.show_run("run")
    with qtbot.waitSignal(page.destroyed):
        page.deleteLater()
    QThreadPool.globalInstance().waitForDone()
    with qtbot.captureExceptions() as raised:
        QTest.qWait(0)
        state.runs_changed.emit()
        state.run_event.emit("run", e.Paused(step=5))
    assert raised == []


# --- memory ----------------------------------------------------------------------------------------------------------


def estimated(**more: object) -> e.Estimated:
    sizes = {"total_bytes": 12 * GB, "process_bytes": 13 * GB, "context_bytes": GB, "terms": {}}
    return e.Estimated(**{**sizes, "card": "RTX 4090", "card_bytes": 24 * GB, **more})


def held(step: int, gigabytes: float) -> e.MemoryMeasured:
    return e.MemoryMeasured(step=step, process_bytes=int(gigabytes * GB))


def with_memory(device: str, *measured: e.Event) -> list[e.Event]:
    """A run on that device, with an estimate and these measurements."""
    card = {} if device != "cpu" else {"card": "", "card_bytes": None}
    begin = e.Started(time=0.0, pid=1, process_started=1.0, device=device)
    return [begin, estimated(**card), *list(run_events(30))[1:], *measured]


def test_measured_memory_is_drawn_against_the_estimate_and_the_card(
    state: AppState, page: TrainPage, tmp_path: Path
) -> None:
    add_run(state, tmp_path / "run", with_memory("cuda-0", held(1, 11), held(3, 12), held(11, 12.5)))
    page.show()
    plot, rows = page.running.charts.memory, page.running.now.rows
    assert plot.as_table() == [(1, 11.0), (3, 12.0), (11, 12.5)]
    assert [(value, kind) for value, _, kind in plot._lines] == [(13.0, "estimate"), (24.0, "limit")]
    assert plot.finding.text() == "12.5 GB measured, \u2248 13.0 GB estimated"
    assert plot.accessibleName() == "Graphics memory, GB"
    assert (rows["memory"].text(), rows["estimate"].text()) == ("12.5", "\u2248 13.0")


def test_what_was_not_measured_is_no_zero(state: AppState, page: TrainPage, tmp_path: Path) -> None:
    add_run(state, tmp_path / "run", with_memory("cuda-0", held(1, 0), held(3, 12), held(11, 0)))
    page.show()
    assert page.running.charts.memory.as_table() == [(3, 12.0)]
    view = add_run(state, tmp_path / "other", with_memory("cuda-0", held(1, 0)))
    page.show_run(view.folder.name if view.folder.name in state.runs else "other")
    assert page.running.charts.memory.as_table() == []
    assert page.running.charts.memory.finding.text() == ""
    assert page.running.now.rows["memory"].text() == "\u2013"


def test_on_a_cpu_the_estimate_for_cards_is_not_drawn(state: AppState, page: TrainPage, tmp_path: Path) -> None:
    add_run(state, tmp_path / "run", with_memory("cpu", held(1, 2), held(3, 2.5)))
    page.show()
    plot = page.running.charts.memory
    assert plot.as_table() == [(1, 2.0), (3, 2.5)]
    assert plot._lines == []
    assert plot.finding.text() == "2.5 GB measured; the estimate is for cards"
    assert plot.accessibleName() == "Main memory, GB"
    assert not page.running.now.rows["estimate"].isVisible()


def test_a_run_from_before_there_were_estimates_says_that_it_has_none(
    state: AppState, page: TrainPage, tmp_path: Path
) -> None:
    add_run(state, tmp_path / "run", [*run_events(30), held(1, 12)])
    page.show()
    assert page.running.charts.memory.finding.text() == "12.0 GB measured, no estimate"


def test_a_finished_run_tells_its_peak_beside_the_estimate(state: AppState, page: TrainPage, tmp_path: Path) -> None:
    events = with_memory("cuda-0", held(1, 12), e.Finished(run="run", adapter="pirate", seconds=1.0))
    add_run(state, tmp_path / "run", events)
    page.show_run("run")
    page.show()
    assert (
        page.running.ending.tiles["memory"].accessibleName()
        == "Peak memory: 12.0 GB \u2248 13.0 GB estimated, 8 % under"
    )
    assert not page.running.ending.tiles["energy"].isVisible(), "nobody has measured it"


@pytest.mark.parametrize(
    ("from_step", "joules", "said"),
    [(0, 453_000.0, "Energy: 126 Wh of the card"), (20, 7_560_000.0, "Energy: 2.10 kWh of the card, from step 20")],
)
def test_a_finished_run_tells_what_its_card_has_taken_and_since_when(
    state: AppState, page: TrainPage, tmp_path: Path, from_step: int, joules: float, said: str
) -> None:
    resumed = [e.Started(pid=1, process_started=1.0, device="cuda-0", from_step=from_step)] if from_step else []
    done = e.Finished(run="run", adapter="pirate", seconds=1.0, result={"energy_joules": joules})
    add_run(state, tmp_path / "run", [*run_events(30), *resumed, done])
    page.show_run("run")
    page.show()
    tile = page.running.ending.tiles["energy"]
    assert (tile.isVisible(), tile.accessibleName()) == (True, said)


def test_the_memory_can_be_looked_at_alone(state: AppState, page: TrainPage, tmp_path: Path, qtbot) -> None:
    add_run(state, tmp_path / "run", with_memory("cuda-0", held(1, 11), held(3, 12)))
    page.show()
    charts = page.running.charts
    small = charts.memory.height()
    QTest.mouseClick(charts.large, Qt.MouseButton.LeftButton)
    page.running.refresh()
    assert not charts.loss.isVisible()
    qtbot.waitUntil(lambda: charts.memory.height() > 2 * small and charts.memory.width() == charts.width())
    QTest.mouseClick(charts.large, Qt.MouseButton.LeftButton)
    assert charts.loss.isVisible()
    assert all(plot.isVisible() for plot in charts.small.values())
