"""Curves: a missing value is a gap, thinning keeps the peaks, and the plot can be read without seeing it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QWidget

from tests.ui.gallery import losses
from ui import theme
from ui.widgets.loss_plot import LossPlot
from ui.widgets.series import MAX_POINTS, Series, nice_ticks, smooth, thinned, tick_texts
from ui.widgets.small_plot import SmallPlot

VALUES = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(math.nan)), min_size=1, max_size=400)


@given(VALUES, st.floats(0, 0.99))
def test_smoothing_keeps_gaps_and_stays_between_the_extremes(values: list[float], weight: float) -> None:
    array = np.array(values)
    result = smooth(array, weight)
    assert np.array_equal(np.isnan(result), np.isnan(array))
    finite = array[~np.isnan(array)]
    if len(finite):
        assert np.nanmin(result) >= finite.min() - 1e-6
        assert np.nanmax(result) <= finite.max() + 1e-6


def test_smoothing_is_not_drawn_towards_zero_at_the_start_nor_across_a_gap() -> None:
    assert smooth(np.full(5, 3.0), 0.99) == pytest.approx(np.full(5, 3.0))
    result = smooth(np.array([9.0, 9.0, math.nan, 1.0]), 0.9)
    assert result[3] == pytest.approx(1.0)


@given(VALUES)
def test_thinning_keeps_peaks_gaps_and_order(values: list[float]) -> None:
    steps, array = np.arange(len(values), dtype=float), np.array(values)
    x, y = thinned(steps, array, 60)
    assert len(x) <= 60
    assert np.all(np.diff(x) > 0)
    assert np.isnan(y).any() == np.isnan(array).any()
    if not np.isnan(array).all():
        assert np.nanmax(y) == np.nanmax(array)
        assert np.nanmin(y) == np.nanmin(array)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= 5
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


@given(st.floats(-5, 1e5), st.floats(0.5, 1e6), st.integers(2, 10))
def test_step_ticks_are_whole(low: float, span: float, most: int) -> None:
    ticks = nice_ticks(low, low + span, most, whole=True)
    assert all(tick.is_integer() for tick in ticks)
    assert len(ticks) <= most
    assert len(ticks) >= 1 or span < 1


def test_tick_labels_are_short_and_alike() -> None:
    assert tick_texts([0.0, 0.5, 1.0]) == ["0.0", "0.5", "1.0"]
    assert tick_texts([0.0, 1e-4, 2e-4]) == ["0", "1e-4", "2e-4"]
    assert tick_texts([0.0, 20_000.0]) == ["0", "20 k"]


def test_a_series_grows_past_its_buffer() -> None:
    series = Series()
    for step in range(1000):
        series.append(step, step / 2)
    assert series.values.tolist() == [step / 2 for step in range(1000)]
    series.append(1000, math.inf)
    assert math.isnan(series.values[-1])


@pytest.fixture
def plot(qtbot) -> LossPlot:
    result = LossPlot()
    qtbot.addWidget(result)
    result.resize(800, 360)
    result.show()
    return result


def test_a_nan_loss_is_a_gap_and_never_a_zero(plot: LossPlot) -> None:
    plot.set_series([1, 2, 3, 4], [2.0, math.nan, 1.5, 1.0])
    plot.redraw()
    _, drawn = plot._raw.getData()
    assert math.isnan(drawn[1])
    assert 0.0 not in drawn
    low, high = plot.canvas.viewRange()[1]
    assert 0 < low < 1.0
    assert high < 2.5
    assert "1 without a value" in plot.summary()


def test_the_summary_tells_the_story(plot: LossPlot) -> None:
    assert plot.summary() == "No loss yet"
    plot.set_series([1, 1050, 1200], [2.31, 1.12, 1.18])
    assert plot.summary() == "Loss 2.31 to 1.18 over 1,200 steps; lowest 1.12 at 1,050"
    plot.redraw()
    assert plot.canvas.accessibleDescription() == plot.summary()


def test_a_long_run_draws_at_most_a_thousand_smoothed_points(plot: LossPlot) -> None:
    steps = np.arange(50_000)
    plot.set_series(steps, 2 + np.sin(steps / 50))
    plot.redraw()
    assert len(plot._line.getData()[0]) <= MAX_POINTS
    assert len(plot.as_table()) == 50_000


def test_many_points_make_one_repaint(plot: LossPlot, qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(plot, "draw", lambda: drawn.append(len(plot.series)))
    for step in range(500):
        plot.append(step, 1.0)
    qtbot.waitUntil(lambda: bool(drawn))
    assert drawn == [500]


def test_a_hidden_plot_rests_and_catches_up_when_shown(plot: LossPlot, qtbot) -> None:
    plot.hide()
    plot.set_series(*losses())
    assert not plot._timer.isActive()
    plot.show()
    assert len(plot._raw.getData()[0]) == 412


def test_the_best_evaluation_is_marked_and_the_legend_hides_what_it_names(plot: LossPlot) -> None:
    plot.set_series([1, 2, 3], [2.0, 1.5, 1.4])
    plot.set_evaluations([(1, 2.1), (2, 1.3), (3, math.nan)])
    plot.redraw()
    assert [tuple(point.pos()) for point in plot._scatter["star"].points()] == [(2, 1.3)]
    plot.legend["diamond"].click()
    plot.redraw()
    assert len(plot._scatter["star"].points()) == 0
    plot.legend["raw"].click()
    plot.redraw()
    assert not plot._raw.isVisible()


def test_curves_take_the_colours_of_a_new_theme(plot: LossPlot, themed) -> None:
    small = SmallPlot("Learning rate")
    small.set_series([0, 1], [0.0, 1.0])
    theme.apply(themed, "dark")
    for curve, role in ((plot._line, "atext"), (plot._raw, "raw"), (small._curve, "atext")):
        assert curve.opts["pen"].color() == theme.current().colour(role)
    small.deleteLater()


def test_a_small_plot_tells_its_range(qtbot) -> None:
    small = SmallPlot("Tokens per second")
    qtbot.addWidget(small)
    assert small.summary() == "No values yet"
    small.set_series([0, 1, 2], [10, 30, 20])
    assert small.summary() == "10 to 20 over 3 points; between 10 and 30"
    small.set_lines([(24, "card 24", "limit")])
    small.show()
    assert small.canvas.viewRange()[1][1] > 30


def test_a_short_run_counts_whole_steps_up_to_its_planned_end(plot: LossPlot, qtbot) -> None:
    small = SmallPlot("Learning rate")
    qtbot.addWidget(small)
    small.show()
    for each in (plot, small):
        each.set_series([1, 2, 3], [4.2, 4.4, 4.1])
        each.set_total_steps(12)
        each.redraw()
        low, high = each.canvas.viewRange()[0]
        assert -1 < low < 0
        assert 12 < high < 13
        axis = each.canvas.getAxis("bottom")
        (_, ticks), *_ = axis.tickValues(low, high, axis.width())
        assert all(tick.is_integer() for tick in ticks)
        assert "." not in "".join(axis.tickStrings(ticks, 1, 1))
    assert plot.canvas.viewRange()[0] == small.canvas.viewRange()[0]


def test_a_marker_at_step_0_and_its_label_stay_whole(plot: LossPlot) -> None:
    plot.set_series([1, 2, 3], [4.2, 4.4, 4.5])
    plot.set_evaluations([(0, 3.6)])
    plot.set_total_steps(12)
    plot.redraw()
    box = plot.canvas.getViewBox()
    left = box.mapViewToDevice(QPointF(0, 3.6)).x() - box.mapViewToDevice(QPointF(box.viewRange()[0][0], 3.6)).x()
    assert left >= plot._scatter["star"].opts["size"] / 2
    label = plot._labels["best"]
    assert label.mapRectToDevice(label.boundingRect()).left() >= box.mapRectToDevice(box.boundingRect()).left()


@pytest.mark.parametrize("width", [360, 480, 560, 600, 660, 720, 900])
def test_what_the_head_shows_is_shown_whole(width: int, qtbot) -> None:
    page = QWidget()
    qtbot.addWidget(page)
    plot = LossPlot(parent=page)
    page.resize(1000, 400)
    plot.resize(width, 360)
    page.show()
    shown = [entry for entry in plot.legend.values() if not entry.isHidden()]
    assert len(shown) == (4 if width >= 560 else 0)
    qtbot.waitUntil(lambda: all(entry.width() >= entry.sizeHint().width() for entry in shown))
    qtbot.waitUntil(lambda: all(entry.geometry().right() < plot.slider.x() for entry in shown))
    assert plot.slider.geometry().right() <= plot.width()
    assert plot.width() == width
