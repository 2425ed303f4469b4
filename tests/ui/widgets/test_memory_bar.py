"""The memory bar: whatever the budget, each part can be seen, in its order, and the pixels add up."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPoint, Qt

from tests.ui.gallery import FITS, OVER, budget
from ui import theme
from ui.widgets import memory_layout
from ui.widgets.memory_bar import MemoryBar
from ui.widgets.memory_layout import BYTES_PER_GB, MIN_PART, Part
from ui.widgets.memory_list import MemoryList, Verdict

SIZES = st.lists(st.integers(1, 80 << 30), min_size=1, max_size=8)


@given(SIZES, st.integers(60, 2000))
def test_shares_add_up_and_none_falls_below_the_minimum(sizes: list[int], room: int) -> None:
    dealt = memory_layout.shares(sizes, room, MIN_PART + 2)
    assert sum(dealt) == room
    assert min(dealt) >= MIN_PART + 2
    for (size, share), (other, its) in pairwise(zip(sizes, dealt, strict=True)):
        assert size < other or share >= its - 1, "a larger part is never drawn smaller"


@given(SIZES, st.integers(1 << 30, 80 << 30), st.integers(64, 1600))
def test_parts_lie_in_order_inside_the_bar_and_can_be_seen(sizes: list[int], limit: int, width: int) -> None:
    parts = [Part(name, name, size) for name, size in zip(theme.PARTS, sizes, strict=False)]
    scale = max(limit, sum(part.num_bytes for part in parts))
    drawn = memory_layout.spans(parts, scale, width, 2)
    assert [span.part for span in drawn] == parts
    assert all(span.width >= MIN_PART for span in drawn)
    for left, right in pairwise(drawn):
        assert right.left - left.right == 2
    assert drawn[0].left == 0
    assert drawn[-1].right <= width
    if sum(sizes) >= limit:
        assert drawn[-1].right + 2 == width, "over the limit, the parts fill the bar"


def test_a_part_of_no_size_is_not_drawn() -> None:
    parts = [Part("weights", "w", 5), Part("adapter", "a", 0), Part("logits", "l", 5)]
    assert [span.part.name for span in memory_layout.spans(parts, 10, 100, 2)] == ["weights", "logits"]


@pytest.mark.parametrize("gigabytes", [2, 4, 6, 8, 10, 11, 12, 16, 20, 23.5, 24, 32, 40, 48, 80, 141])
def test_the_scale_has_a_few_ticks_and_ends_at_the_limit(gigabytes: float) -> None:
    limit = int(gigabytes * BYTES_PER_GB)
    ticks = memory_layout.ticks(limit)
    assert 3 <= len(ticks) <= 6
    assert ticks[0] == (0, "0")
    assert ticks[-1] == (limit, f"{gigabytes:g} GB")
    assert [place for place, _ in ticks] == sorted(place for place, _ in ticks)


def bar_of(sizes: tuple[float, ...]) -> MemoryBar:
    bar = MemoryBar()
    bar.resize(448, bar.sizeHint().height())
    bar.set_limit(24 * BYTES_PER_GB)
    bar.set_budget(budget(sizes))
    return bar


def test_a_click_on_a_part_tells_its_name(qtbot) -> None:
    bar = bar_of(FITS)
    qtbot.addWidget(bar)
    for span in bar.spans():
        with qtbot.waitSignal(bar.part_clicked) as told:
            qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=QPoint(span.left + 1, bar.bar_rect().center().y()))
        assert told.args == [span.part.name]
    qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=QPoint(440, bar.bar_rect().center().y()))


def test_the_keyboard_reaches_every_part(qtbot) -> None:
    bar = bar_of(FITS)
    qtbot.addWidget(bar)
    bar.show()
    names: list[str] = []
    bar.part_clicked.connect(names.append)
    for _ in bar.spans():
        qtbot.keyClick(bar, Qt.Key.Key_Right)
        qtbot.keyClick(bar, Qt.Key.Key_Return)
    assert names == list(theme.PARTS)


def test_it_says_what_it_shows_and_by_how_much_it_is_over(qtbot) -> None:
    bar = bar_of(FITS)
    qtbot.addWidget(bar)
    assert bar.text() == "13.7 of 24.0 GB"
    assert not bar.is_over()
    assert "Activations 6.4 GB" in bar.accessibleDescription()
    assert (bar.maximum(), bar.value()) == (24 * 1024, round(sum(FITS) * 1024 - 1))
    bar.set_budget(budget(OVER))
    assert bar.is_over()
    assert "over by 3.1 GB" in bar.text()
    assert bar.value() == bar.maximum()


def test_being_over_is_drawn_in_red_where_it_was_not(qtbot) -> None:
    bar = bar_of(FITS)
    qtbot.addWidget(bar)
    corner = QPoint(200, bar.bar_rect().top())
    red = theme.current().colour("bad")
    assert bar.grab().toImage().pixelColor(corner) != red
    bar.set_budget(budget(OVER))
    assert bar.grab().toImage().pixelColor(corner) == red


@pytest.mark.parametrize("size", ["full", "compact", "small"])
def test_nothing_known_yet_draws_an_empty_track(size: str, qtbot) -> None:
    bar = MemoryBar(size)
    qtbot.addWidget(bar)
    assert bar.spans() == []
    assert not bar.grab().isNull()
    bar.set_measured(3 * BYTES_PER_GB)
    assert not bar.grab().isNull()


def test_the_list_tells_the_part_clicked_and_keeps_its_rows(qtbot) -> None:
    listing = MemoryList()
    qtbot.addWidget(listing)
    listing.set_parts(budget(FITS))
    rows = list(listing._rows)
    listing.set_parts(budget(OVER))
    assert listing._rows == rows, "new numbers need no new widgets"
    listing.show()
    with qtbot.waitSignal(listing.part_clicked) as told:
        qtbot.mouseClick(rows[5], Qt.MouseButton.LeftButton)
    assert told.args == ["activations"]
    listing.set_narrow(True)
    assert "18.4 GB" in rows[1].accessibleName()


def test_a_verdict_is_a_word_and_never_a_colour_alone(qtbot) -> None:
    verdict = Verdict(large=True)
    qtbot.addWidget(verdict)
    verdict.set_verdict("over", "Over by 3.1 GB", "27.1 GB needed")
    assert verdict.accessibleName() == "Over by 3.1 GB 27.1 GB needed"


def test_decimal_points_stand_below_one_another() -> None:
    texts = [memory_layout.aligned_gb_text(size * BYTES_PER_GB) for size in (0.07, 0.9, 2.9, 13.7)]
    assert len({len(text) for text in texts}) == 1
    assert len({text.index(".") for text in texts}) == 1
