"""The right side of the recipe: will it fit, how long is it, what is missing, and the button that starts it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QShowEvent
from PySide6.QtWidgets import QAbstractButton, QHBoxLayout, QVBoxLayout, QWidget

from studio.files import readable_bytes
from studio.memory.budget import Term, verdict
from studio.recipe.fields import FIELDS, get
from ui import theme
from ui.form import sentence
from ui.form_controls import option_text
from ui.pages.train_words import at_once, num_steps, rows_split, run_name, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice
from ui.widgets.labels import Divider, IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_bar import MemoryBar
from ui.widgets.memory_layout import BYTES_PER_GB, gb_text
from ui.widgets.memory_list import MemoryList, Verdict
from ui.widgets.messages import EmptyState, MessageBar, StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn

CARDS_GB = (8, 12, 16, 24, 32, 48, 80)
SHORT = {"weights": "Base", "optimizer": "Optimiser", "logits": "Logits", "overhead": "Overhead"}
_REASON_WIDTH = 360
LABELS = {entry.path: entry.label for entry in FIELDS}
Part = tuple[str, str, int, str]


class MemoryCard(Card):
    """The estimate against the card: verdict, bar and parts. Every number in it is an estimate."""

    field_wanted = Signal(str)
    """The path of the setting that drives the part that was clicked."""

    def __init__(self, state: AppState) -> None:
        super().__init__(tr("Will it fit?"))
        self._state = state
        self._other_bytes, self._narrow = 0, False
        self.body.setSpacing(theme.px(12))
        self._card_name = PlainLabel("", "small", "text2")
        self.cards = Choice(
            [(gb * BYTES_PER_GB, tr("{0} GB").format(gb)) for gb in CARDS_GB], name=tr("Card to compare")
        )
        self.cards.setFixedWidth(theme.px(96))
        self.cards.value_changed.connect(self._card_chosen)
        self.add_head(self._card_name)
        self.add_head(self.cards)
        self.verdict = Verdict(large=True)
        self.bar = MemoryBar()
        self.parts = MemoryList()
        self._guess = MessageBar("info", tr("This architecture is new to the studio: its sizes are guessed."))
        sentence_ = tr("What the run needs of the card is shown here, part by part, once there is a base model.")
        self.starter = Button(tr("Add the starter base"))
        self.starter.clicked.connect(lambda: state.base_requested.emit("starter"))
        self._empty = EmptyState("cube", tr("No base model yet"), sentence_, [self.starter])
        for widget in (self.verdict, self.bar, self.parts, self._guess):
            self.add(widget)
        self.add(self._empty, 100)
        self.body.addStretch(1)
        self.bar.part_clicked.connect(self._part_clicked)
        self.parts.part_clicked.connect(self._part_clicked)
        self.refresh()

    def set_narrow(self, narrow: bool) -> None:
        """Take less height and width."""
        self._narrow = narrow
        self.bar.set_size("compact" if narrow else "full")
        self.parts.set_narrow(narrow)
        self.refresh()

    def refresh(self) -> None:
        """Show the facts as they are now."""
        gpus, budget = self._state.gpus, self._state.budget
        self.cards.setVisible(not gpus)
        if gpus:
            name = gpus[0].name.removeprefix("NVIDIA ").removeprefix("GeForce ")
            self._card_name.setText(f"{name}, {gb_text(self._state.card_bytes)} GB")
        else:
            full, short = tr("No graphics card here: shown against"), tr("No card here: against")
            self._card_name.setText(short if self._narrow else full)
            nearest = min(CARDS_GB, key=lambda gb: abs(gb * BYTES_PER_GB - self._state.card_bytes))
            # What is compared with is what the choice says, whatever the state began with.
            self._state.card_bytes = nearest * BYTES_PER_GB
            self.cards.set_value(self._state.card_bytes)
        for widget in (self.verdict, self.bar, self.parts):
            widget.setVisible(budget is not None)
        self._empty.setVisible(budget is None)
        self._guess.setVisible(budget is not None and budget.is_guess)
        self.starter.setVisible(all(base.id != "starter" for base in self._state.bases))
        if budget is not None:
            self._show_budget()

    def _show_budget(self) -> None:
        state = self._state
        assert state.budget is not None
        self._other_bytes = self._measured_elsewhere()
        needed = state.budget.total_bytes + self._other_bytes
        judgement = verdict(state.budget, state.card_bytes, self._other_bytes)
        spare = state.card_bytes - needed
        text = tr("\u2248 {0} GB").format(gb_text(needed))
        if judgement == "over" and spare < 0:
            word, text = tr("Over by {0} GB").format(gb_text(-spare)), tr("{0} needed").format(text)
        else:
            word = {"fits": tr("Fits"), "tight": tr("Tight"), "over": tr("Too tight")}[judgement]
            text = tr("{0}, leaves {1} GB").format(text, gb_text(spare))
        self.verdict.set_verdict(judgement, word, text, tr("estimate"))  # type: ignore[arg-type]
        self.bar.set_limit(state.card_bytes)
        self.bar.set_budget([*self._other(), *[_part(term, term.formula) for term in state.budget.terms]])
        listed = [_part(term, self._driver(term)) for term in state.budget.terms]
        if self._narrow:
            listed = [(name, tr(SHORT.get(name, label)), size, text) for name, label, size, text in listed]
        self.parts.set_parts([*self._other(), *listed])
        formulas = {term.name: f"\u2248 {term.formula}" for term in state.budget.terms}
        for row in self.parts.findChildren(QAbstractButton):
            formula = formulas.get(getattr(row, "name", ""))
            if formula:
                row.setToolTip(plain_tip(formula))

    def _measured_elsewhere(self) -> int:
        """What other programs hold; while an engine of ours is up, as it was before."""
        if not self._state.gpus:
            return 0
        if self._state.engine in ("off", "gone"):
            return self._state.gpus[0].total_bytes - self._state.gpus[0].free_bytes
        return self._other_bytes

    def _other(self) -> list[Part]:
        if not self._state.gpus:
            return []
        return [("other", tr("Other apps"), self._other_bytes, tr("Desktop and other programs"))]

    def _driver(self, term: Term) -> str:
        """What moves a part, in a few words."""
        recipe = self._state.recipe
        match term.name:
            case "weights":
                return option_text(recipe.base.quantisation)
            case "adapter":
                targets = recipe.adapter.targets
                where = option_text(targets).lower() if isinstance(targets, str) else tr("chosen modules")
                return tr("Rank {0}, {1}").format(recipe.adapter.rank, where)
            case "gradients":
                return tr("Same size as the adapter")
            case "optimizer":
                return option_text(recipe.training.optimizer)
            case "activations" | "logits":
                return at_once(recipe)
        return tr("Nearly fixed")

    def _part_clicked(self, name: str) -> None:
        if self._state.budget is None or name == "other":
            return
        for path in self._state.budget.term(name).driven_by:
            if get(self._state.recipe, path) is not None:
                self.field_wanted.emit(path)
                return

    def _card_chosen(self, num_bytes: object) -> None:
        assert isinstance(num_bytes, int)
        self._state.card_bytes = num_bytes
        self._state.recipe_changed.emit()


def _part(term: Term, text: str) -> Part:
    return term.name, tr(term.label), term.bytes, text


class _Check(QWidget):
    """One line of the checklist: icon and word."""

    def __init__(self) -> None:
        super().__init__()
        self._icon = IconLabel("check-circle", "ok", 16, filled=True)
        self._word = PlainLabel("", "body", "text2")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(6))
        row.addWidget(self._icon)
        row.addWidget(self._word)

    def show_check(self, judgement: str, word: str, why: str) -> None:
        """`ok`, `warn`, `bad` or `open`, with the reason as tooltip."""
        icons = {"ok": "check-circle", "warn": "warning", "bad": "x-circle", "open": "circle"}
        role = "text3" if judgement == "open" else judgement
        self._icon.set_icon(icons[judgement], role, filled=judgement != "open")
        self._word.setText(word)
        self.setToolTip(plain_tip(why))
        self.setAccessibleName(f"{word}: {why}" if why else word)


class StartCard(Card):
    """How long it is, what is missing, and Start."""

    field_wanted = Signal(str)

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self._state, self._expert, self._refused = state, False, ""
        self.body.setSpacing(theme.px(14))
        self._steps, self._rows, self._disk = StatTile(tr("Length")), StatTile(tr("Learns from")), StatTile(tr("Disk"))
        tiles = QHBoxLayout()
        tiles.setSpacing(theme.px(16))
        for tile in (self._steps, self._rows, self._disk):
            tiles.addWidget(tile, 1)
        checks = QHBoxLayout()
        checks.setSpacing(theme.px(18))
        self._checks = {name: _Check() for name in ("model", "data", "fits", "evaluation")}
        for check in self._checks.values():
            checks.addWidget(check)
        checks.addStretch(1)
        self.start = Button(tr("Start training"), "primary", "play", size="action", filled=True)
        self.start.clicked.connect(self.start_training)
        actions = QHBoxLayout()
        actions.addStretch(1)
        actions.addWidget(self.start)
        self._divider = Divider()
        self._problem = MessageBar("bad", "", tr("Show"))
        self._problem.action_triggered.connect(self._to_problem)
        for item in (tiles, self._divider, checks, self._problem, actions):
            self.add(item)
        self.refresh()

    def start_training(self) -> None:
        """What the button and Ctrl+Return do, if nothing is missing."""
        if self.reason() is None:
            self._state.train_requested.emit()

    def set_expert(self, expert: bool) -> None:
        """An expert may start what is thought not to fit."""
        self._expert = expert
        self.refresh()

    def set_refused(self, label: str) -> None:
        """A field holds a text that the recipe could not take; "" for none. What runs must be what is read."""
        self._refused = label
        self.refresh()

    def reason(self) -> str | None:
        """Why the run cannot start, None if it can."""
        state = self._state
        live = state.live_run
        if live is not None:
            return tr("Busy: run {0}").format(run_name(live))
        if not state.bases:
            return tr("Add a base first")
        if state.base is None:
            return tr("Choose a base model")
        if state.data.error or not state.data.path:
            return tr("Choose a dataset")
        if self._refused:
            return tr("Mend: {0}").format(self._refused)
        if state.problems:
            label = LABELS.get(state.problems[0].field)
            return tr("Mend: {0}").format(label) if label else sentence(state.problems[0].message)
        return None if self._expert or not self._is_over() else tr("Does not fit")

    def _is_over(self) -> bool:
        """Whether this computer's own card is too small; a card that is only compared with keeps nobody from training."""
        state = self._state
        return bool(state.gpus) and state.budget is not None and verdict(state.budget, state.card_bytes) == "over"

    def refresh(self) -> None:
        """Show the facts as they are now."""
        self._show_length()
        self._show_checks()
        reason = self.reason()
        self._show_problem()
        self.start.set_label(tr("Start anyway") if self._is_over() else tr("Start training"))
        self.start.setToolTip(plain_tip(reason or ""))
        metrics = QFontMetrics(theme.font("medium"))
        short = reason and metrics.elidedText(reason, Qt.TextElideMode.ElideRight, theme.px(_REASON_WIDTH - 72))
        self.start.set_reason(short)
        self.start.set_icon("" if reason else "play", filled=True)

    def _show_problem(self) -> None:
        """The first problem in full, and the way to its field."""
        found = next(iter(self._state.problems), None)
        self._problem.setVisible(found is not None)
        if found is not None:
            action = tr("Show") if found.field in LABELS else ""
            self._problem.show_message("bad", f"{sentence(found.message)} {found.fix}".strip(), action)

    def _to_problem(self) -> None:
        if self._state.problems:
            self.field_wanted.emit(self._state.problems[0].field)

    def _show_length(self) -> None:
        state = self._state
        training = state.recipe.training
        steps, (rows, held) = num_steps(state), rows_split(state)
        about = "" if training.steps is not None else "\u2248 "
        text = tr("{0}{1} steps").format(about, format_int(steps)) if steps is not None else "\u2013"
        note = tr("of {0} rows").format(format_int(training.batch_rows))
        self._steps.set_value(text, note)
        known = rows > 0
        note = tr("\u2248 {0} held out").format(format_int(held)) if held else tr("none held out")
        text = tr("\u2248 {0} rows").format(format_int(rows)) if known else "\u2013"
        self._rows.set_value(text, note if known else tr("not read yet"))
        self._disk.set_value(readable_bytes(state.disk_free_bytes) if state.disk_free_bytes else "\u2013", tr("free"))

    def _show_checks(self) -> None:
        state = self._state
        why = tr("None is on this computer") if state.base is None else state.base.id
        self._checks["model"].show_check("bad" if state.base is None else "ok", tr("Model"), why)
        self._checks["data"].show_check(*self._data_check())
        self._checks["fits"].show_check(*self._fits_check())
        held = state.recipe.data.validation_fraction > 0
        why = "" if held else tr("Nothing is held out: nothing shows when it learns by heart")
        self._checks["evaluation"].show_check("ok" if held else "warn", tr("Evaluation"), why)

    def _data_check(self) -> tuple[str, str, str]:
        data = self._state.data
        if data.error:
            return "bad", tr("Data"), f"{data.error} {data.hint}"
        if not data.num_good:
            return "open", tr("Data"), tr("Not read yet")
        if data.problems:
            return "warn", tr("Data"), "\n".join(data.problems[:5])
        return "ok", tr("Data"), tr("{0} good rows").format(format_int(data.num_good))

    def _fits_check(self) -> tuple[str, str, str]:
        state = self._state
        if state.budget is None:
            return "open", tr("Fits"), tr("Not known without a base")
        judgement = verdict(state.budget, state.card_bytes)
        against = tr("{0} GB card").format(gb_text(state.card_bytes))
        if not state.gpus and judgement == "over":
            return "warn", tr("Fits"), tr("Not on a {0}; on this processor it runs in main memory").format(against)
        return {"fits": "ok", "tight": "warn", "over": "bad"}[judgement], tr("Fits"), against


class CostPanel(QWidget):
    """Both cards, one over the other, as high as the page."""

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self.memory, self.start = MemoryCard(state), StartCard(state)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(theme.CARD_GAP))
        # In a low window, or with large type, the parts scroll; verdict and Start are always to be seen.
        column.addWidget(ScrollColumn(self.memory), 1)
        column.addWidget(self.start)
        for signal in (state.recipe_changed, state.bases_changed, state.runs_changed, state.machine_changed):
            signal.connect(self.refresh)
        state.engine_changed.connect(self.refresh)

    def showEvent(self, event: QShowEvent) -> None:
        """Colours that were set before a widget got its place do not outlive the move."""
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Show the facts as they are now."""
        self.memory.refresh()
        self.start.refresh()
