"""The colour table keeps the contrasts that it promises, and switching themes reaches everything."""

from itertools import product

import pytest
from PySide6.QtCore import QPointF
from PySide6.QtGui import QColor, QFont, QFontInfo, QPalette

from ui import theme
from ui.widgets.labels import PlainLabel

GROUNDS = ("canvas", "surface", "sunken", "raised")


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    q = QColor(colour)
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (q.redF(), q.greenF(), q.blueF())]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))


def ratio(one: str, other: str) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", theme.NAMES)
@pytest.mark.parametrize("role", ["text", "text2", "text3", "atext", "ok", "warn", "bad"])
def test_text_can_be_read_on_every_ground(name: str, role: str) -> None:
    look = theme.THEMES[name]
    for ground in GROUNDS:
        assert ratio(getattr(look, role), getattr(look, ground)) >= 4.5, ground


@pytest.mark.parametrize("name", theme.NAMES)
def test_edges_and_focus_can_be_found_on_every_ground(name: str) -> None:
    look = theme.THEMES[name]
    for role, ground in product(("outline", "focus"), GROUNDS):
        assert ratio(getattr(look, role), getattr(look, ground)) >= 3, (role, ground)
    for role in ("raw", "lane_base", "lane_a", "lane_b"):
        assert ratio(getattr(look, role), look.surface) >= 3, role


@pytest.mark.parametrize("name", theme.NAMES)
def test_text_on_fills_can_be_read(name: str) -> None:
    look = theme.THEMES[name]
    for fill in ("accent", "accent_hover"):
        assert ratio(look.on_accent, getattr(look, fill)) >= 4.5, fill
    for fill in ("soft", "a_tint10", "a_tint1", "b_tint10", "b_tint1"):
        assert ratio(look.text, getattr(look, fill)) >= 4.5, fill
    assert ratio(look.atext, look.soft) >= 4.5
    for role in ("ok", "warn", "bad"):
        assert ratio(getattr(look, role), getattr(look, f"{role}_soft")) >= 4.5, role


@pytest.mark.parametrize("name", theme.NAMES)
def test_each_part_of_the_memory_bar_stands_out_from_the_card(name: str) -> None:
    look = theme.THEMES[name]
    for part, drawn in look.parts.items():
        assert ratio(drawn.edge, look.surface) >= 3, part
    assert len({(drawn.fill, drawn.edge, drawn.pattern) for drawn in look.parts.values()}) == len(look.parts)
    for run in look.runs:
        assert ratio(run, look.surface) >= 3, run


@pytest.mark.parametrize("name", theme.NAMES)
def test_applying_a_theme_recolours_palette_and_living_labels(name: str, themed, qtbot) -> None:
    label = PlainLabel("x", role="bad")
    qtbot.addWidget(label)
    with qtbot.waitSignal(theme.changed):
        look = theme.apply(themed, name)
    assert theme.current() is look
    assert themed.palette().color(QPalette.ColorRole.Window).name() == look.canvas.lower()
    assert label.palette().color(QPalette.ColorRole.WindowText).name() == look.bad.lower()


def test_the_shipped_font_is_used_in_all_three_weights(themed) -> None:
    for kind, weight in (("body", 400), ("medium", 500), ("strong", 600)):
        info = QFontInfo(theme.font(kind))
        assert (info.family(), info.weight()) == ("Inter", weight)


def test_figures_are_tabular_and_names_keep_their_hyphens(themed) -> None:
    tag = QFont.Tag("tnum")
    assert themed.font().featureValue(tag) == 1
    assert theme.font("body", "8-bit").featureValue(tag) == 0


def test_text_size_scales_type_and_measures_alike(themed) -> None:
    theme.apply(themed, "light", 2.0)
    assert theme.px(theme.CONTROL) == 64
    assert themed.font().pixelSize() == 26
    label = PlainLabel("x", "title")
    theme.apply(themed, "light", 1.0)
    assert label.font().pixelSize() == 20


def test_an_icon_takes_the_colour_of_its_role(themed) -> None:
    picture = theme.pixmap("circle", "bad", 16, filled=True, ratio=2.0)
    assert picture.size().width() == 32
    assert picture.toImage().pixelColor(QPointF(16, 16).toPoint()).name() == theme.current().bad.lower()
    assert not theme.icon("house").isNull()
    assert not theme.app_icon().pixmap(16, 16).isNull()
