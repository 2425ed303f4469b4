"""How long the rows are for a base, and what a limit on them costs: in rows, in answers and in memory."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.data.lengths import Lengths, better_limit, consequence
from studio.models.facts import ModelFacts
from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import consequence_text, cost_text, extra_bytes, percent, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import NumberField
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.length_plot import LengthPlot
from ui.widgets.messages import EmptyState, StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Columns, ScrollColumn, column

RIGHT_WIDTH = 400
MOST_TOKENS = 1 << 20


class LengthsPanel(QWidget):
    """The tab. `measure_requested` asks for the lengths, `limit_chosen` carries the limit for the recipe."""

    measure_requested = Signal()
    limit_chosen = Signal(int)

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._lengths: Lengths | None = None
        self._measured_for = ""
        self.measure = Button(tr("Count tokens"), "primary")
        self.measure.clicked.connect(self.measure_requested)
        sentence = tr("A base's tokenizer decides how long a row is; it goes through all rows once.")
        self._empty = EmptyState("chart-line-up", tr("Not measured yet"), sentence, [self.measure])
        self.plot = LengthPlot(tr("Lengths of the rows"))
        self.plot.limit_moved.connect(self._moved)
        self._plot_card = Card(tr("Tokens per row"))
        self._plot_card.add(self.plot, 1)
        self._found = PlainLabel("", "small", "text2", elide=True)
        self._plot_card.add(self._found)
        self._columns = Columns(self._plot_card, self._build_costs(), RIGHT_WIDTH, sticky=False)
        none = Card()
        none.add(self._empty, 1)
        self._stack = QStackedWidget()
        self._stack.addWidget(none)
        self._stack.addWidget(self._columns)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)

    def _build_costs(self) -> Card:
        tiles, links, action = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        self.tokens_kept = StatTile(tr("Tokens kept"), large=True)
        self.rows_kept = StatTile(tr("Rows kept whole"), large=True)
        tiles.setSpacing(theme.px(16))
        for tile in (self.tokens_kept, self.rows_kept):
            tiles.addWidget(tile, 1)
        self.sentence = PlainLabel("", "body", wrap=True)
        self.cost = PlainLabel("", "body", "text2", wrap=True)
        self.better = Button("", "link")
        self.better.clicked.connect(self._take_better)
        self.use = Button(tr("Use this limit"))
        self.use.clicked.connect(lambda: self.limit_chosen.emit(self.plot.limit()))
        links.addWidget(self.better)
        links.addStretch(1)
        action.addStretch(1)
        action.addWidget(self.use)
        inner = column([self._build_limit(), tiles, Divider(), self.sentence, self.cost, links], spacing=12)
        inner.setContentsMargins(theme.px(4), 0, theme.px(12), theme.px(4))  # room for the ring of the focus
        card = Card(tr("What a limit costs"))
        card.body.setSpacing(theme.px(8))
        card.add(ScrollColumn(inner), 1)
        card.add(action)
        return card

    def _build_limit(self) -> QHBoxLayout:
        self.limit = NumberField(1024, minimum=1, maximum=MOST_TOKENS, step=64, unit=tr("tokens"), name=tr("Limit"))
        self.limit.value_changed.connect(lambda value: self._moved(int(value)))
        label = PlainLabel(tr("Limit"), "label", "text2")
        label.setBuddy(self.limit)
        row = QHBoxLayout()
        row.setSpacing(theme.px(12))
        row.addWidget(label)
        row.addWidget(self.limit, 1)
        return row

    def set_narrow(self, narrow: bool) -> None:
        """Take the narrow widths."""
        self._columns.set_narrow(narrow)

    def show_view(self, view: DatasetView) -> None:
        """Show the lengths, once they are known."""
        self._stack.setCurrentIndex(0 if view.lengths is None else 1)
        has_rows = view.survey is None or view.survey.num_good > 0
        reason = tr("Add a base first") if not self._state.bases else None if has_rows else tr("No row can be learnt")
        reason = reason or (tr("One moment\u2026") if view.busy else None)
        self.measure.set_reason(reason)
        if view.lengths is None:
            self._lengths = None
            return
        if view.lengths is not self._lengths:
            self._lengths, self._measured_for = view.lengths, view.measured_for
            limit = self._state.recipe.data.max_tokens
            self.plot.set_lengths(view.lengths.tokens, limit, MOST_TOKENS)
            self.limit.set_value(limit)
            self._plot_card.set_note(tr("for {0}").format(view.measured_for))
            found = view.lengths.quantiles
            words = tr("Median {0}, 95 % up to {1}, at most {2}.")
            words = words.format(format_int(found.p50), format_int(found.p95), format_int(found.max))
            if view.num_refused:
                words += " " + tr("{0} rows cannot be learnt with this base.").format(format_int(view.num_refused))
            self._found.setText(words)
        self._reckon()

    def _moved(self, limit: int) -> None:
        if self.limit.value() != limit:
            self.limit.set_value(limit)
        self.plot.set_limit(limit)
        self._reckon()

    def _facts(self) -> ModelFacts | None:
        state = self._state
        of_recipe = state.facts if self._measured_for == state.recipe.base.id else None
        return state.base_facts.get(self._measured_for) or of_recipe

    def _reckon(self) -> None:
        """What the limit does: a few milliseconds, at each step of the line."""
        if self._lengths is None or not len(self._lengths.tokens):
            return
        state, limit = self._state, self.plot.limit()
        cost = consequence(self._lengths, limit)
        self.tokens_kept.set_value(percent(1 - cost.share_cut), tr("of {0}").format(format_int(cost.num_tokens)))
        kept = cost.num_rows - cost.num_cut
        self.rows_kept.set_value(percent(kept / cost.num_rows), tr("of {0}").format(format_int(cost.num_rows)))
        self.sentence.setText(consequence_text(cost))
        now = state.recipe.data.max_tokens
        self.cost.setText(cost_text(extra_bytes(self._facts(), state.recipe, state.limits, limit), now))
        base = next((base for base in state.bases if base.id == self._measured_for), None)
        most = (base.context_tokens if base is not None else 0) or MOST_TOKENS
        better = better_limit(self._lengths, limit, most)
        self.better.setVisible(better != limit)
        spared = consequence(self._lengths, better)
        words = tr("{0} keeps every answer whole") if not spared.num_endless else tr("{0} keeps most answers whole")
        self.better.set_label(words.format(format_int(better)))
        self._better = better
        self.use.set_reason(tr("This is the recipe's limit") if limit == now else None)

    def _take_better(self) -> None:
        self._moved(self._better)
