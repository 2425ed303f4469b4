"""The one table of colours, type and measures, and the function that gives them to the application.

Graphite is frozen, blue is yours: what belongs to the base model is graphite, what the user made or can act on is blue.
Green, amber and red only judge; ochre only means work in flight; magenta is the second chat lane and nothing else.

Widgets ask for a role (`current().colour("text2")`), never for a colour. Sizes are given at a text size of 100 % and go
through `px`, so that everything grows together. `changed` tells who keeps a colour or a font that it is out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Literal

from PySide6.QtCore import QByteArray, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication, QStyleFactory

import resources

Choice = Literal["system", "light", "dark", "contrast"]
RESOURCES = Path(resources.__file__).parent
NARROW_BELOW = 1100  # window width, px at 100 %, under which pages switch to their narrow arrangement
MOTION_MS = 120
RADIUS_CARD, RADIUS_CONTROL, RADIUS_PILL, RADIUS_CHECK = 8, 6, 4, 3
CONTROL, ACTION, LANE_CONTROL, ROW = 32, 40, 28, 40
MARGIN, GUTTER, CARD_GAP = 32, 24, 16


@dataclass(frozen=True)
class PartLook:
    """How one part of the memory bar is drawn: fill, edge and hatch (`solid` has none), both 3 : 1 on surface."""

    fill: str
    edge: str
    pattern: str


@dataclass(frozen=True)
class Theme:
    """One complete look. Every field but the last five is a colour role, written `#rrggbb`."""

    canvas: str
    surface: str
    sunken: str
    raised: str
    line: str
    outline: str
    text: str
    text2: str
    text3: str
    accent: str
    accent_hover: str
    on_accent: str
    atext: str
    soft: str
    focus: str
    ok: str
    warn: str
    bad: str
    ok_soft: str
    warn_soft: str
    bad_soft: str
    raw: str
    lane_base: str
    lane_a: str
    lane_b: str
    a_tint10: str
    a_tint1: str
    b_tint10: str
    b_tint1: str
    name: str
    dark: bool
    heat: tuple[str, ...]
    runs: tuple[str, ...]
    parts: Mapping[str, PartLook]

    def colour(self, role: str) -> QColor:
        """The colour of `role`, a field of this class, or a literal `#rrggbb` handed through."""
        return QColor(role if role.startswith("#") else getattr(self, role))


NAMES = ("light", "dark", "contrast")

# fmt: off
ROLES: dict[str, tuple[str, str, str]] = {
    "canvas":       ("#F5F6F8", "#14171C", "#000000"),
    "surface":      ("#FFFFFF", "#1B1F26", "#000000"),
    "sunken":       ("#ECEEF2", "#101318", "#000000"),
    "raised":       ("#FFFFFF", "#232831", "#000000"),
    "line":         ("#DDE1E7", "#2C323C", "#8A8A8A"),
    "outline":      ("#7E8795", "#707A89", "#FFFFFF"),
    "text":         ("#15181E", "#E7EAEF", "#FFFFFF"),
    "text2":        ("#464E5B", "#B3BBC7", "#FFFFFF"),
    "text3":        ("#5C6573", "#929CAA", "#E0E0E0"),
    "accent":       ("#2752C9", "#4269E2", "#8CB4FF"),
    "accent_hover": ("#1E43AC", "#3A5FD6", "#B5CEFF"),
    "on_accent":    ("#FFFFFF", "#FFFFFF", "#000000"),
    "atext":        ("#2450C0", "#9AB4FF", "#A9C7FF"),
    "soft":         ("#E4EBFB", "#1E2A4C", "#0E2A66"),
    "focus":        ("#2752C9", "#8FADFF", "#FFE14D"),
    "ok":           ("#1A7340", "#63CC93", "#6BF0A3"),
    "warn":         ("#7E5200", "#E6B450", "#FFD24D"),
    "bad":          ("#B0261C", "#FF8B81", "#FF9B92"),
    "ok_soft":      ("#E1F2E8", "#15301F", "#000000"),
    "warn_soft":    ("#FBEFD6", "#33280F", "#000000"),
    "bad_soft":     ("#FBE6E4", "#3A1B19", "#000000"),
    "raw":          ("#7491E3", "#5069BC", "#5C7FC8"),
    "lane_base":    ("#475467", "#98A5B8", "#E0E0E0"),
    "lane_a":       ("#2752C9", "#94B0FF", "#A9C7FF"),
    "lane_b":       ("#96296F", "#F09ACB", "#FFA8DA"),
    "a_tint10":     ("#DCE6FC", "#22335F", "#14306E"),
    "a_tint1":      ("#B4CAF8", "#2E4A98", "#1F4FBF"),
    "b_tint10":     ("#F8E1F0", "#4A2140", "#591B45"),
    "b_tint1":      ("#EDB9DB", "#7A2F63", "#8F2A6E"),
}
# Memory parts in their fixed order: fill/edge for light, dark and contrast, then the hatch.
PARTS: dict[str, tuple[str, str, str, str]] = {
    "other":       ("#E4E7EC #7C8594", "#20252D #7C8696", "#000000 #C8C8C8", "cross"),
    "weights":     ("#475467 #475467", "#66748A #66748A", "#D0D0D0 #D0D0D0", "solid"),
    "adapter":     ("#2752C9 #2752C9", "#6F93FF #6F93FF", "#8CB4FF #8CB4FF", "solid"),
    "gradients":   ("#BFD0F8 #2752C9", "#22356D #7E9EFF", "#000000 #8CB4FF", "rising"),
    "optimizer":   ("#DDE7FD #4A72DC", "#1A2446 #7E9EFF", "#000000 #8CB4FF", "dots"),
    "activations": ("#A86200 #A86200", "#D9973B #D9973B", "#FFB23E #FFB23E", "solid"),
    "logits":      ("#F3D9AC #A86200", "#4A3414 #E0A850", "#000000 #FFB23E", "falling"),
    "overhead":    ("#CBD1DA #6B7482", "#3A424E #98A3B3", "#000000 #FFFFFF", "vertical"),
}
HEAT = ("#EEF2FB #C3D2F7 #7F9FEC #2F5BD3 #10296F", "#1F2530 #26386E #3A5DCB #7F9FFF #DCE6FF",
        "#000000 #1C3A7A #4C7FE6 #A9C7FF #FFFFFF")
RUNS = ("#2752C9 #C47505 #732158 #169987 #111418", "#94B0FF #AE6704 #F9EBF5 #1BBEA8 #697C96",
        "#94B0FF #AE6704 #F9EBF5 #1BBEA8 #697C96")
# Size in px at 100 % (an em is 13) and weight.
TYPE: dict[str, tuple[int, int]] = {
    "display": (28, 600), "number": (24, 600), "title": (20, 600), "heading": (15, 600), "lead": (15, 400),
    "body": (13, 400), "medium": (13, 500), "strong": (13, 600), "small": (12, 400), "label": (12, 500),
    "caption": (11, 500), "pill": (11, 600), "bar": (12, 600), "mono": (12, 400),
}
# fmt: on
FAMILIES = ["Inter", "Segoe UI Variable", "Segoe UI", "SF Pro Text", "Noto Sans", "DejaVu Sans"]
MONO_FAMILIES = ["JetBrains Mono", "Cascadia Mono", "DejaVu Sans Mono", "monospace"]
ICON_SIZES = (16, 18, 20, 24, 32)


def _build(index: int) -> Theme:
    """The look in column `index` of the tables."""
    parts = {
        name: PartLook(*str(columns[index]).split(), pattern=columns[3])  # type: ignore[misc]
        for name, columns in PARTS.items()
    }
    return Theme(
        **{role: colours[index] for role, colours in ROLES.items()},
        name=NAMES[index],
        dark=index > 0,
        heat=tuple(HEAT[index].split()),
        runs=tuple(RUNS[index].split()),
        parts=parts,
    )


THEMES: dict[str, Theme] = {name: _build(index) for index, name in enumerate(NAMES)}


class _State(QObject):
    """What `apply` remembers: the look in force, what was asked for, and the text size (1.0 = 100 %)."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.theme = THEMES["light"]
        self.asked: Choice = "light"
        self.scale = 1.0
        self.follows = False

    def follow(self) -> None:
        """Answer a change of the desktop's own light or dark setting."""
        app = QApplication.instance()
        if self.asked == "system" and isinstance(app, QApplication):
            apply(app, "system", self.scale)


_state = _State()
changed = _state.changed


def current() -> Theme:
    """The look in force."""
    return _state.theme


def px(value: float) -> int:
    """A measure given at 100 %, in logical pixels at the user's text size."""
    return round(value * _state.scale)


def _resolve(name: Choice) -> Theme:
    """What `system` means on this desktop; where the desktop does not say, light."""
    if name != "system":
        return THEMES[name]
    hints = QGuiApplication.styleHints()
    if hints.accessibility().contrastPreference() == Qt.ContrastPreference.HighContrast:
        return THEMES["contrast"]
    return THEMES["dark" if hints.colorScheme() == Qt.ColorScheme.Dark else "light"]


def apply(app: QApplication, name: Choice = "system", scale: float = 1.0) -> Theme:
    """Give `app` the look `name` at text size `scale` (1.0 = 100 %), and tell all who listen to `changed`."""
    _load_fonts()
    _state.asked, _state.scale, _state.theme = name, scale, _resolve(name)
    _font.cache_clear()  # it begins with the application's font
    if not _state.follows:
        _state.follows = True
        hints = QGuiApplication.styleHints()
        hints.colorSchemeChanged.connect(_state.follow)
        hints.accessibility().contrastPreferenceChanged.connect(_state.follow)
        app.setStyle(QStyleFactory.create("Fusion"))
    app.setFont(font("body"))
    app.setPalette(palette(_state.theme))
    app.setStyleSheet(style_sheet(_state.theme))
    _state.changed.emit()
    return _state.theme


def palette(theme: Theme) -> QPalette:
    """The look as Qt's own roles, for everything that is drawn by Fusion itself."""
    role = QPalette.ColorRole
    table = {
        "canvas": (role.Window, role.Midlight),
        "surface": (role.Base, role.Button, role.Light),
        "sunken": (role.AlternateBase, role.Mid),
        "raised": (role.ToolTipBase,),
        "text": (role.WindowText, role.Text, role.ButtonText, role.ToolTipText, role.BrightText),
        "text3": (role.PlaceholderText,),
        "outline": (role.Dark, role.Shadow),
        "accent": (role.Highlight, role.Accent),
        "on_accent": (role.HighlightedText,),
        "atext": (role.Link, role.LinkVisited),
    }
    result = QPalette()
    for name, roles in table.items():
        for each in roles:
            result.setColor(each, theme.colour(name))
    for each in (role.WindowText, role.Text, role.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, each, theme.colour("text3"))
    return result


def style_sheet(theme: Theme) -> str:
    """The one short sheet: radius, padding and border of the widgets that are not painted by our own classes."""
    values = {field.name: str(getattr(theme, field.name)) for field in fields(theme) if field.name in ROLES}
    values |= {f"px{n}": f"{px(n)}px" for n in (3, 4, 6, 8, 10, 12, 16, 24, 28, 32, 40)}
    values |= {"small": f"{px(12)}px", "caption": f"{px(11)}px"}
    return Template((RESOURCES / "palettes" / "sheet.qss").read_text("utf-8")).substitute(values)


@lru_cache(maxsize=1)
def _load_fonts() -> None:
    """Register the Inter that ships with the studio; without it the next family of the list is used."""
    for path in sorted((RESOURCES / "fonts").glob("*.ttf")):
        QFontDatabase.addApplicationFont(str(path))


def font(kind: str = "body", text: str = "") -> QFont:
    """The font of a step of the type scale (a key of `TYPE`), with figures of equal width.

    Inter's tabular set holds a hyphen as wide as a figure, which tears names such as `8-bit` apart: pass the `text` to be
    written, and one with a hyphen gets the ordinary figures.
    """
    size, weight = TYPE[kind]
    return QFont(_font("mono" if kind == "mono" else "", px(size), weight, "-" not in text))


@lru_cache(maxsize=128)
def _font(family: str, size: int, weight: int, even_figures: bool) -> QFont:
    """Made once: a font is put together in the time that three cells of a table take to draw."""
    result = QFont()
    result.setFamilies(MONO_FAMILIES if family else FAMILIES)
    result.setPixelSize(size)
    result.setWeight(QFont.Weight(weight))
    result.setFeature(QFont.Tag("tnum"), int(even_figures))  # an explicit 0, or the application's 1 is inherited
    result.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
    return result


@lru_cache(maxsize=512)
def _renderer(name: str, colour: str, filled: bool) -> QSvgRenderer:
    """The drawing of an icon in one colour; a missing icon is a mistake of ours."""
    path = RESOURCES / "icons" / ("fill" if filled else "regular") / f"{name}.svg"
    assert path.is_file(), f"no icon {path.name}"
    svg = path.read_bytes().replace(b"currentColor", colour.encode())
    return QSvgRenderer(QByteArray(svg))


def draw_icon(painter: QPainter, rect: QRectF, name: str, role: str = "text2", filled: bool = False) -> None:
    """Draw an icon into `rect`, crisp at any pixel ratio because it is drawn as a path."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    _renderer(name, current().colour(role).name(), filled).render(painter, rect)
    painter.restore()


def pixmap(name: str, role: str = "text2", size: int = 16, filled: bool = False, ratio: float = 1.0) -> QPixmap:
    """An icon as a picture of `size` logical pixels at device pixel ratio `ratio`."""
    result = QPixmap(round(size * ratio), round(size * ratio))
    result.setDevicePixelRatio(ratio)
    result.fill(Qt.GlobalColor.transparent)
    painter = QPainter(result)
    draw_icon(painter, QRectF(0, 0, size, size), name, role, filled)
    painter.end()
    return result


def icon(name: str, role: str = "text2", filled: bool = False) -> QIcon:
    """An icon in the colour of `role`, at every size that is used and at the pixel ratio of each screen.

    It keeps its colour: ask again after `changed`.
    """
    result = QIcon()
    ratios = {1.0} | {screen.devicePixelRatio() for screen in QGuiApplication.screens()}
    for size in ICON_SIZES:
        for ratio in sorted(ratios):
            result.addPixmap(pixmap(name, role, px(size), filled, ratio))
    return result


def app_icon() -> QIcon:
    """The picture of the application: a plan, and a sheet laid over it."""
    return QIcon(str(RESOURCES / "icons" / "app" / "overlay.svg"))
