"""What a cell shows of its text."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics

from ui import theme
from ui.widgets.tables import elided


@pytest.mark.parametrize("text", ["", "short", "i" * 300, "Wide " * 80, "\u200b" * 300 + "behind", "مرحبا " * 60])
@pytest.mark.parametrize("width", [0, 1, 40, 125, 1000])
def test_a_long_text_is_cut_where_qt_would_cut_it(qtbot: Any, text: str, width: int) -> None:
    metrics = QFontMetrics(theme.font("body"))
    assert elided(text, metrics, width) == metrics.elidedText(text, Qt.TextElideMode.ElideRight, width)
