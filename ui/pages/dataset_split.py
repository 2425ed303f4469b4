"""Which rows are learnt and which are held out to test on: how many, by what rule, and what would give the test away."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.data.searching import EVALUATION
from studio.data.sides import Split
from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import percent, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, NumberField
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import EmptyState, MessageBar, StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Columns, ScrollColumn, column
from ui.widgets.sliders import Slider
from ui.widgets.split_bar import SplitBar

RIGHT_WIDTH = 400
MOST_PERCENT, MOST_SEED = 50, 2**32 - 1


class SplitPanel(QWidget):
    """The tab. `setting_chosen` carries a setting of the recipe and its value, `search_requested` what finds a side's rows,
    `survey_requested` asks for another look, `leaks_requested` for the list of leaks."""

    setting_chosen = Signal(str, object)
    search_requested = Signal(str)
    survey_requested = Signal()
    leaks_requested = Signal()

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._is_stale = False
        self._columns = Columns(self._build_sides(), self._build_rule(), RIGHT_WIDTH, sticky=False)
        sentence = tr("The sides are known when the dataset has been looked through.")
        none = Card()
        none.add(EmptyState("arrows-out-line-horizontal", tr("Not looked through yet"), sentence), 1)
        self._stack = QStackedWidget()
        self._stack.addWidget(none)
        self._stack.addWidget(self._columns)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)

    def _build_sides(self) -> Card:
        self.bar = SplitBar(tr("Training and evaluation"))
        self.train = StatTile(tr("Learnt from"), large=True)
        self.held_out = StatTile(tr("Held out for evaluation"), large=True)
        self.leaks = StatTile(tr("Given away"), large=True)
        tiles = QHBoxLayout()
        tiles.setSpacing(theme.px(16))
        for tile in (self.train, self.held_out, self.leaks):
            tiles.addWidget(tile, 1)
        self.message = MessageBar("info", "")
        self.message.action_triggered.connect(self._act)
        self.show_rows = Button(tr("Show the evaluation rows"), "link")
        self.show_rows.clicked.connect(lambda: self.search_requested.emit(EVALUATION))
        links = QHBoxLayout()
        links.addWidget(self.show_rows)
        links.addStretch(1)
        card = Card(tr("Training and evaluation"))
        for item in (self.bar, tiles, self.message, links):
            card.add(item)
        card.body.addStretch(1)
        return card

    def _build_rule(self) -> Card:
        self.slider = Slider(0, MOST_PERCENT, 5, name=tr("Share held out"))
        self.slider.value_changed.connect(self._choose_share)
        self.share = NumberField(5, minimum=0, maximum=MOST_PERCENT, whole=False, unit="%", name=tr("Share held out"))
        self.share.setFixedWidth(theme.px(96))
        self.share.value_changed.connect(self._choose_share)
        self.group = Choice(name=tr("Keep together"))
        self.group.value_changed.connect(lambda name: self.setting_chosen.emit("data.group_by", name))
        self.seed = NumberField(42, minimum=0, maximum=MOST_SEED, name=tr("Seed"))
        self.seed.value_changed.connect(lambda seed: self.setting_chosen.emit("training.seed", int(seed)))
        share = QHBoxLayout()
        share.setSpacing(theme.px(12))
        share.addWidget(self.slider, 1)
        share.addWidget(self.share)
        self.rule = PlainLabel("", "small", "text2", wrap=True)
        items: list[QWidget | QHBoxLayout] = [PlainLabel(tr("Share held out"), "label", "text2"), share]
        items += [PlainLabel(tr("Keep together rows with the same"), "label", "text2"), self.group]
        items += [PlainLabel(tr("Seed of the recipe"), "label", "text2"), self.seed, self.rule]
        inner = column(items, spacing=8)
        inner.setContentsMargins(theme.px(4), 0, theme.px(12), theme.px(4))  # room for the ring of the focus
        card = Card(tr("How rows are parted"))
        card.add(ScrollColumn(inner), 1)
        return card

    def set_narrow(self, narrow: bool) -> None:
        """Take the narrow widths."""
        self._columns.set_narrow(narrow)

    def show_view(self, view: DatasetView) -> None:
        """Show the split that the recipe makes of these rows."""
        recipe = self._state.recipe
        self._stack.setCurrentIndex(0 if view.sides is None else 1)
        self._show_settings(view)
        split = view.split(recipe)
        self._is_stale = split is None
        self.show_rows.setEnabled(split is not None and len(split.held_out) > 0)
        if split is None:
            for tile in (self.train, self.held_out, self.leaks):
                tile.set_value("\u2013", "", "text3")
            self.bar.set_sides(("", 0), ("", 0))
            words = tr("Who is on which side is to be found out anew for this column and seed.")
            self.message.show_message("info", words, "" if view.busy else tr("Look through it"))
        else:
            self._show_split(split)

    def _show_settings(self, view: DatasetView) -> None:
        recipe = self._state.recipe
        share = round(100 * recipe.data.validation_fraction, 4)
        if self.share.value() != share:
            self.share.set_value(share)
        self.slider.set_value(round(share))
        self.seed.set_value(recipe.training.seed)
        names = [*view.columns]
        if recipe.data.group_by not in ("", *names):
            names.append(recipe.data.group_by)
        self.group.set_options([("", tr("nothing: each row for itself")), *((one, one) for one in names)])
        self.group.set_value(recipe.data.group_by)
        group = recipe.data.group_by
        what = tr("what it has in {0}").format(group) if group else tr("its contents")
        words = tr(
            "The side of a row follows from {0} and the seed alone: rows that are added never move old ones, and repeats stay "
            "together. The recipe has these settings too."
        )
        self.rule.setText(words.format(what))

    def _show_split(self, split: Split) -> None:
        num_train, num_held = len(split.train), len(split.held_out)
        total = max(num_train + num_held, 1)
        self.train.set_value(format_int(num_train), percent(num_train / total))
        self.held_out.set_value(format_int(num_held), percent(num_held / total))
        self.leaks.set_value(format_int(split.num_leaks), tr("rows"), "warn" if split.num_leaks else "text")
        sides = [(tr("Training {0}"), num_train), (tr("Evaluation {0}"), num_held)]
        first, second = ((words.format(format_int(number)), number) for words, number in sides)
        self.bar.set_sides(first, second)
        if not num_held:
            words = tr("Nothing is held out: nothing will show when the model starts to memorise.")
            self.message.show_message("info", words)
        elif split.num_leaks:
            words = tr(
                "{0} rows have their like on the other side, so that the measured loss would be too good. Leave repeats and "
                "near repeats out, or keep together what belongs together."
            )
            self.message.show_message("warn", words.format(format_int(split.num_leaks)), tr("Show them"))
        else:
            self.message.show_message("ok", tr("No evaluation row is given away by a row that is learnt."))

    def _choose_share(self, value: float) -> None:
        self.setting_chosen.emit("data.validation_fraction", round(float(value) / 100, 6))

    def _act(self) -> None:
        (self.survey_requested if self._is_stale else self.leaks_requested).emit()
