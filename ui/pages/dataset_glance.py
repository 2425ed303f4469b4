"""A dataset at a glance: how long its conversations are, who speaks, and in which languages. A bar pressed shows its rows."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.data.glance import Glance, turn_bins
from studio.data.languages import NAMES, UNKNOWN
from studio.data.searching import language_query, turns_query
from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import percent, tr
from ui.widgets.bar_list import Bar, BarList
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn, column

ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tools", "text": "Text, nobody says it"}
MOST_LANGUAGES = 12


class GlancePanel(QWidget):
    """The tab. `search_requested` carries what finds the rows of the bar that was pressed."""

    search_requested = Signal(str)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._glance: Glance | None = None
        self.turns = BarList(tr("Turns per row"))
        self.roles = BarList(tr("Who speaks"))
        self.languages = BarList(tr("Languages of the answers"))
        self._sampled = PlainLabel("", "small", "text2", wrap=True)
        row = QHBoxLayout()
        row.setSpacing(theme.px(16))
        for bars, below in ((self.turns, None), (self.roles, None), (self.languages, self._sampled)):
            bars.chosen.connect(self.search_requested)
            card = Card(bars.accessibleName())
            inner = column([bars])
            inner.setContentsMargins(
                theme.px(3), theme.px(4), theme.px(10), theme.px(4)
            )  # room for the ring of the focus
            card.add(ScrollColumn(inner), 1)
            if below is not None:
                card.add(below)
            row.addWidget(card, 1)
        some = QWidget()
        some.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        self._empty = EmptyState(
            "chart-line-up",
            tr("Not looked through yet"),
            tr("Turns, speakers and languages are counted when the dataset has been looked through."),
        )
        none = Card()
        none.add(self._empty, 1)
        self._stack = QStackedWidget()
        self._stack.addWidget(none)
        self._stack.addWidget(some)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)

    def show_view(self, view: DatasetView) -> None:
        """Show what was counted."""
        glance = view.survey.glance if view.survey is not None else None
        self._stack.setCurrentIndex(0 if glance is None or not glance.num_rows else 1)
        if glance is None or glance is self._glance:
            return
        self._glance = glance
        tip = tr("Show these rows")
        self.turns.set_bars(_turn_bars(glance), tip)
        self.roles.set_bars(_role_bars(glance), tip)
        self.languages.set_bars(_language_bars(glance), tip)
        words = tr("From {0} rows, spread evenly over the dataset.").format(format_int(glance.num_sampled))
        self._sampled.setText(words)
        self._sampled.setVisible(glance.is_sampled)


def _turn_bars(glance: Glance) -> list[Bar]:
    """The longest bar fills its track: lengths are compared with one another."""
    bins = turn_bins(glance.turns)
    most = max((count for _, _, count in bins), default=1)
    return [
        Bar(
            turns_query(first, last),
            tr("1 turn") if last == 1 else f"{first}" if first == last else f"{first}\u2013{last}",
            count / most,
            _figure(count, glance.num_rows),
        )
        for first, last, count in bins
    ]


def _role_bars(glance: Glance) -> list[Bar]:
    total = glance.num_rows
    return [
        Bar(f"role:{role}", tr(ROLES.get(role, role)), count / total, _figure(count, total))
        for role, count in sorted(glance.roles.items(), key=lambda one: -one[1])
    ]


def _language_bars(glance: Glance) -> list[Bar]:
    """Where only some rows were looked at, a share is an estimate, and no rows are counted."""
    total = glance.num_sampled
    bars = []
    for language, count in list(glance.languages.items())[:MOST_LANGUAGES]:
        figure = f"\u2248 {percent(count / total)}" if glance.is_sampled else _figure(count, total)
        name = tr(NAMES[language]) if language != UNKNOWN else tr("Unknown")
        bars.append(Bar(language_query(language), name, count / total, figure, language == UNKNOWN))
    return bars


def _figure(count: int, total: int) -> str:
    return f"{format_int(count)}, {percent(count / total)}"
