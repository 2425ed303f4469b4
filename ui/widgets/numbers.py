"""Numbers as people write them, under any locale: `2e-4`, `2,0e-4`, `2,048` and `2.048` rows."""

from __future__ import annotations

import math
import re

from PySide6.QtCore import QLocale

SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f'\u2019_]")
GROUPED = re.compile(r"[+-]?\d{1,3}([.,]\d{3})*|[+-]?\d+")


def locale() -> QLocale:
    """The user's locale; the nameless C locale, which knows no groups of thousands, counts as English."""
    found = QLocale()
    return QLocale(QLocale.Language.English) if found.language() == QLocale.Language.C else found


def parse_int(text: str) -> int | None:
    """The whole number in `text`, its thousands parted by a comma, a point, a space or not at all; else None."""
    bare = SPACES.sub("", text)
    return int(bare.replace(",", "").replace(".", "")) if GROUPED.fullmatch(bare) else None


def parse_float(text: str) -> float | None:
    """The number in `text`, or None. A comma is a decimal comma, unless a point follows it; infinities are refused."""
    bare = SPACES.sub("", text)
    if "," in bare and "." in bare:
        grouping = "," if bare.rfind(".") > bare.rfind(",") else "."
        bare = bare.replace(grouping, "")
    try:
        value = float(bare.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def format_int(value: int) -> str:
    """`value` with its thousands parted the way the user's locale parts them."""
    return str(locale().toString(value))


def format_float(value: float) -> str:
    """The shortest text that keeps what was typed: `2e-4`, `0.05`, with the locale's decimal sign."""
    plain = value == 0 or 1e-3 <= abs(value) < 1e6
    text = f"{value:.6g}" if plain else re.sub(r"e([+-])0*", lambda m: "e" + m[1].replace("+", ""), f"{value:.6g}")
    if not plain and "e" not in text:
        mantissa, exponent = f"{value:.5e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace(".", locale().decimalPoint())


def step_float(value: float, direction: int) -> float:
    """`value` with its first digit one higher or lower: 2e-4 becomes 3e-4 or 1e-4, and 1e-4 becomes 9e-5."""
    if value == 0:
        return 0.1 * direction
    size = math.floor(math.log10(abs(value)) + 1e-9)
    towards_zero = (direction < 0) == (value > 0)
    if towards_zero and math.isclose(abs(value), 10.0**size):
        size -= 1
    return float(f"{value + direction * 10.0**size:.6g}")
