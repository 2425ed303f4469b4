"""The charts of a run together: one axis, one cursor, one stretch; what was planned; gaps; and what can be taken along."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt, QThreadPool
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.state import RunState
from tests.ui.pages.train_facts import run_events, step_taken
from ui.pages.train_chart_menu import csv_text, rows_of
from ui.pages.train_charts import Charts
from ui.pages.train_now import NowCard
from ui.widgets.plots import PlotCard
from ui.widgets.series import Scale, broken, logarithmic_ticks


def charts_of(events: list[e.Event], qtbot: QtBot) -> Charts:
    charts = Charts()
    qtbot.addWidget(charts)
    charts.resize(900, 700)
    charts.show()
    charts.set_run("pirate v1", Recipe())
    charts.show_state(RunState.replay(events))
    charts.redraw()
    return charts


@pytest.fixture
def charts(qtbot: QtBot) -> Iterator[Charts]:
    yield charts_of(list(run_events(120)), qtbot)
    QThreadPool.globalInstance().waitForDone()


def seen(plot: PlotCard) -> tuple[float, float]:
    """The stretch of the axis that a plot shows."""
    plot.redraw()
    low, high = plot.canvas.viewRange()[0]
    return low, high


def test_all_plots_count_what_the_axis_counts(charts: Charts) -> None:
    charts._choose_axis("time")
    for plot in (charts.loss, charts.small["rate"], charts.small["norm"]):
        low, high = seen(plot)
        assert low < 0 < 200 / 60 < high < 3.6, "200 steps of a second each, in minutes"
    charts._choose_axis("epoch")
    assert seen(charts.loss)[1] == pytest.approx(200 / 64, rel=0.05)
    charts._choose_axis("tokens")
    assert seen(charts.memory)[1] == pytest.approx(600_000, rel=0.05)
    charts.loss.redraw()
    drawn = charts.loss._raw.getData()[0]
    assert drawn[-1] == 120 * 3000
    charts._choose_axis("step")
    assert seen(charts.loss)[1] == pytest.approx(200, rel=0.05)


def test_the_rates_that_are_planned_reach_to_the_end(charts: Charts) -> None:
    plot = charts.small["rate"]
    steps, rates = plot._planned_curve.getData()
    assert steps[-1] == 200
    assert max(rates) == pytest.approx(2e-4)
    assert rates[-1] < 1e-5


def test_one_cursor_reads_all_plots(charts: Charts, qtbot: QtBot) -> None:
    charts.small["norm"].cursor_moved.emit(7.2)
    assert charts.small["norm"].finding.text() == "step 7: 1.5"
    assert charts.small["rate"].finding.text() == "step 7: 0.0002"
    assert charts.loss._reading.toPlainText().startswith("step 7: loss 2.3")
    assert all(plot._cursor.isVisible() for plot in charts.plots())
    charts.small["norm"].cursor_moved.emit(None)
    assert charts.small["norm"].finding.text() == "1 step clipped", "the finding is back"
    assert not charts.loss._reading.isVisible()


def test_the_mouse_points_and_chooses_a_stretch_and_follow_leads_back(charts: Charts, qtbot: QtBot) -> None:
    canvas = charts.loss.canvas
    box = canvas._box()
    at = {step: box.left() + round(box.width() * (step + 4) / 208) for step in (40, 80)}
    QTest.mouseMove(canvas.viewport(), QPoint(at[40], box.center().y()))
    qtbot.waitUntil(lambda: charts.loss._reading.isVisible())
    assert int(charts.loss._reading.toPlainText().split(":")[0].removeprefix("step ")) == pytest.approx(40, abs=2)
    button = Qt.MouseButton.LeftButton
    QTest.mousePress(canvas.viewport(), button, Qt.KeyboardModifier.NoModifier, QPoint(at[40], box.center().y()))
    QTest.mouseMove(canvas.viewport(), QPoint(at[80], box.center().y()))
    QTest.mouseRelease(canvas.viewport(), button, Qt.KeyboardModifier.NoModifier, QPoint(at[80], box.center().y()))
    low, high = seen(charts.small["norm"])
    assert low == pytest.approx(40, abs=3)
    assert high == pytest.approx(80, abs=3)
    assert charts.loss.follow.isVisible()
    QTest.mouseClick(charts.loss.follow, button)
    assert seen(charts.loss)[1] > 200
    assert not charts.loss.follow.isVisible()


def test_the_keyboard_does_it_too(charts: Charts, qtbot: QtBot) -> None:
    canvas = charts.loss.canvas
    assert canvas.focusPolicy() == Qt.FocusPolicy.StrongFocus
    QTest.keyClick(canvas, Qt.Key.Key_Home)
    assert charts.loss._reading.toPlainText().startswith("step 1:")
    QTest.keyClick(canvas, Qt.Key.Key_Right)
    QTest.keyClick(canvas, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert charts.loss._reading.toPlainText().startswith("step 12:")
    assert canvas.accessibleDescription().startswith("step 12: loss"), "and it is said"
    QTest.keyClick(canvas, Qt.Key.Key_End)
    QTest.keyClick(canvas, Qt.Key.Key_Plus)
    assert seen(charts.loss)[0] > 50
    QTest.keyClick(canvas, Qt.Key.Key_0)
    assert seen(charts.loss)[0] < 0
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not charts.loss._reading.isVisible()


def test_a_run_that_was_resumed_shows_where(qtbot: QtBot) -> None:
    begin = e.Started(pid=2, process_started=2.0, device="cuda-0", from_step=100)
    events = [*run_events(120), begin, *(step_taken(step) for step in range(101, 121))]
    charts, state = charts_of(events, qtbot), RunState.replay(events)
    for curve in (charts.loss._raw, charts.loss._line, charts.small["norm"]._curve):
        steps, values = curve.getData()
        assert [step for step, value in zip(steps, values, strict=True) if math.isnan(value)] == [100.5]
    smoothed = {step: value for step, _, value in charts.loss.as_table()}
    assert smoothed[101] == pytest.approx(step_taken(101).loss), "nothing is smoothed across the gap"
    assert len(smoothed) == 120
    now = NowCard()
    qtbot.addWidget(now)
    now.show_state(state, charts.loss.smoothing())
    assert now.loss.accessibleName().startswith(f"Loss, smoothed: {smoothed[120]:.2f}")


def test_a_gap_is_drawn_behind_a_break_and_where_steps_are_missing() -> None:
    steps, values = np.array([1.0, 2.0, 3.0, 6.0]), np.array([5.0, 4.0, 3.0, 2.0])
    assert broken(steps, values, [2])[0].tolist() == [1, 2, 2.5, 3, 4.5, 6]
    assert broken(steps, values, [2], every_step=False)[0].tolist() == [1, 2, 2.5, 3, 6]
    assert broken(steps, values, [4, 9, 0], every_step=False)[0].tolist() == [1, 2, 3, 4.5, 6]


def test_an_axis_goes_on_at_the_average_pace_and_back() -> None:
    scale = Scale(np.array([1.0, 2.0, 4.0]), np.array([10.0, 30.0, 40.0]))
    assert scale.at(np.array([0.0, 1.5, 4.0, 8.0])).tolist() == [0, 20, 40, 80]
    assert scale.steps_at(np.array([0.0, 20.0, 80.0])).tolist() == [0, 1.5, 8]


def test_losses_on_a_logarithmic_axis_stand_where_their_logarithms_do_and_none_is_drawn_as_zero(
    charts: Charts, qtbot: QtBot
) -> None:
    losses = [8.0, 4.0, math.nan, 2.0, 0.0, 0.5]
    charts.loss.set_series(range(1, 7), losses)
    charts.loss.set_evaluations([(2, 4.0), (6, 0.25)])
    charts.loss.set_smoothing(0)
    menu = charts.menu.make(charts.loss)
    next(action for action in menu.actions() if "Logarithmic" in action.text()).trigger()
    charts.loss.redraw()
    for line in (charts.loss._raw, charts.loss._line):
        assert [round(float(y), 3) for y in line.getData()[1] if math.isfinite(y)] == [0.903, 0.602, 0.301, -0.301]
        assert len(line.getData()[1]) == 6, "what has no logarithm is a gap, not a point left out"
    low, high = charts.loss.canvas.viewRange()[1]
    assert low < math.log10(0.25) < math.log10(8) < high
    assert charts.loss._scatter["star"].getData()[1].tolist() == [math.log10(0.25)]
    assert charts.loss._labels["end"].toPlainText() == "0.50"
    axis = charts.loss.canvas.getAxis("left")
    ticks = axis.tickValues(low, high, 300)[0][1]
    assert axis.tickStrings(ticks, 1.0, 1.0) == ["0.2", "0.5", "1", "2", "5"]
    assert charts.loss.reading(5).startswith("step 5: loss 0.000")
    again = charts.menu.make(charts.loss)
    option = next(action for action in again.actions() if "Logarithmic" in action.text())
    assert option.isChecked()
    option.trigger()
    charts.loss.redraw()
    assert charts.loss._raw.getData()[1][0] == 8.0
    for each in (menu, again):
        each.deleteLater()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.9, 1.3, [0.9, 1.0, 1.1, 1.2, 1.3]), (0.3, 9, [0.5, 1, 2, 5]), (1e-3, 1e3, [1e-3, 0.1, 10, 1e3]), (1, 1, [1])],
)
def test_the_ticks_of_a_logarithmic_axis_are_round_and_not_too_many(
    low: float, high: float, expected: list[float]
) -> None:
    ticks = logarithmic_ticks(math.log10(low), math.log10(high), 5)
    assert [float(f"{10**tick:.4g}") for tick in ticks] == expected


# --- what can be taken along -----------------------------------------------------------------------------------------


def test_the_data_are_a_tidy_table_of_what_was_measured(charts: Charts, tmp_path: Path, qtbot: QtBot) -> None:
    bad = e.StepTaken(**{**vars(step_taken(121)), "loss": math.nan, "delta_norm": None})
    state = RunState.replay([*run_events(120), bad, e.MemoryMeasured(step=3, process_bytes=12)])
    charts.menu.set_state(state)
    target = tmp_path / "out.csv"
    charts.menu.save_csv(charts.loss, str(target))
    qtbot.waitUntil(target.exists)
    rows = list(csv.DictReader(io.StringIO(target.read_text("utf-8"))))
    assert list(rows[0]) == ["step", "series", "value"]
    losses = {int(row["step"]): row["value"] for row in rows if row["series"] == "loss"}
    assert float(losses[7]) == step_taken(7).loss, "to the last digit"
    assert losses[121] == "", "no value is no zero"
    assert {row["series"] for row in rows} == {
        "loss", "learning_rate", "grad_norm", "tokens_per_second", "delta_norm", "evaluation_loss", "process_bytes"}  # fmt: skip
    assert csv_text(list(rows_of(RunState()))) == "step,series,value\n"


def test_a_picture_is_saved_and_copied_by_the_menu(charts: Charts, tmp_path: Path, qtbot: QtBot) -> None:
    menu = charts.menu.make(charts.small["norm"])
    labels = [action.text() for action in menu.actions() if action.text()]
    assert labels == ["Save the data of all charts as CSV\u2026", "Save this picture as PNG\u2026", "Copy this picture",
                      "Horizontal axis", "Logarithmic loss axis", "Show the whole run"]  # fmt: skip
    menu.actions()[2].trigger()
    assert not QGuiApplication.clipboard().pixmap().isNull()
    target = tmp_path / "out.png"
    charts.menu.save_png(charts.small["norm"], str(target))
    qtbot.waitUntil(target.exists)
    assert QImage(str(target)).height() > charts.small["norm"].height()
    menu.actions()[4].menu().actions()[3].trigger()
    assert charts.loss.axis.value() == "time"
    assert seen(charts.loss)[1] < 4
    menu.deleteLater()
