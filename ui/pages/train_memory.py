"""Will it fit? The estimate against the card: verdict, bar, parts, remedies and room. Every number in it is an estimate."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.memory.budget import Term, verdict
from studio.recipe.fields import FIELDS, get
from ui import theme
from ui.form import sentence
from ui.form_controls import option_text
from ui.pages.train_fixes import Remedies
from ui.pages.train_room import RoomOffers, Ways
from ui.pages.train_words import at_once, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice
from ui.widgets.labels import PlainLabel
from ui.widgets.memory_bar import MemoryBar
from ui.widgets.memory_fixes import FixList
from ui.widgets.memory_layout import BYTES_PER_GB, gb_text, signed_gb_text
from ui.widgets.memory_list import MemoryList, Verdict
from ui.widgets.messages import EmptyState, MessageBar
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn

CARDS_GB = (8, 12, 16, 24, 32, 48, 80)
SHORT = {"weights": "Base", "optimizer": "Optimiser", "logits": "Logits", "overhead": "Overhead"}
# What the sentence in place of the list calls the parts: families of the bar's colours.
FAMILIES = (
    ("base {0}", ("weights",)),
    ("overlay {0}", ("adapter", "gradients", "optimizer")),
    ("work {0}", ("activations", "logits")),
    ("rest {0}", ("overhead", "other")),
)
LABELS = {entry.path: entry.label for entry in FIELDS}
Part = tuple[str, str, int, str]


class MemoryCard(Card):
    """Verdict and bar stay in sight; what stands below them scrolls where there is little height."""

    field_wanted = Signal(str)
    """The path of the setting that drives the part that was clicked."""

    def __init__(self, state: AppState, remedies: Remedies) -> None:
        super().__init__(tr("Will it fit?"))
        self._state, self._remedies = state, remedies
        self._narrow, self._parts_wanted = False, False
        self.body.setSpacing(theme.px(10))
        self._build_head()
        self.verdict = Verdict(large=True)
        self.bar = MemoryBar()
        self._learnt = PlainLabel("", "small", "text2", elide=True)
        self._guess = MessageBar("info", tr("This architecture is new to the studio: its sizes are guessed."))
        self._details = self._build_details()
        self._scroll = ScrollColumn(self._details)
        self.starter = Button(tr("Add the starter base"))
        self.starter.clicked.connect(lambda: state.base_requested.emit("starter"))
        self._empty = EmptyState("cube", "", "", [self.starter])
        for widget in (self.verdict, self.bar, self._learnt, self._guess):
            self.add(widget)
        self.add(self._scroll, 1)
        self.add(self._empty, 1)
        self.bar.part_clicked.connect(self._part_clicked)
        self.parts.part_clicked.connect(self._part_clicked)
        self.fixes.apply_requested.connect(remedies.apply)
        self.refresh()

    def _build_head(self) -> None:
        self._card_name = PlainLabel("", "small", "text2")
        options = [(gb * BYTES_PER_GB, tr("{0} GB").format(gb)) for gb in CARDS_GB]
        self.cards = Choice(options, name=tr("Card to compare"))
        self.cards.setFixedWidth(theme.px(96))
        self.cards.value_changed.connect(self._card_chosen)
        self.add_head(self._card_name)
        self.add_head(self.cards)

    def _build_details(self) -> QWidget:
        """The parts, or in their place a sentence about them and the remedies; then the room that is left."""
        self._sum = PlainLabel("", "small", "text2", elide=True)
        self._toggle = Button(tr("Show parts"), "link")
        self._toggle.clicked.connect(self._toggle_parts)
        self._summary = QWidget()
        row = QHBoxLayout(self._summary)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(12))
        row.addWidget(self._sum, 1)
        row.addWidget(self._toggle)
        self.parts, self.fixes = MemoryList(), FixList()
        self._advice = MessageBar("warn", "")
        self._room, self._ways = RoomOffers(), Ways()
        self._room.taken.connect(self._remedies.use_room)
        result = QWidget()
        column = QVBoxLayout(result)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(8))
        for widget in (self._summary, self.parts, self.fixes, self._advice, self._room, self._ways):
            column.addWidget(widget)
        column.addStretch(1)
        return result

    def set_narrow(self, narrow: bool) -> None:
        """Take less height and width."""
        self._narrow = narrow
        layout = self.layout()
        assert layout is not None
        side = theme.px(16 if narrow else 24)
        layout.setContentsMargins(side, side - theme.px(4), side, side)
        self.bar.set_size("compact" if narrow else "full")
        self.parts.set_narrow(narrow)
        self.fixes.set_narrow(narrow)
        self.refresh()

    def refresh(self) -> None:
        """Show the facts as they are now."""
        budget = self._state.budget
        self._show_card()
        for widget in (self.verdict, self.bar, self._scroll):
            widget.setVisible(budget is not None)
        self._empty.setVisible(budget is None)
        self._guess.setVisible(budget is not None and budget.is_guess)
        self._learnt.setVisible(budget is not None and self._state.correction is not None)
        self.starter.setVisible(all(base.id != "starter" for base in self._state.bases))
        if budget is None:
            self._show_nothing()
        else:
            self._show_verdict()
            self._show_parts()
            self.show_remedies()

    def _show_nothing(self) -> None:
        """There is no estimate: because there is no base yet, or for the reason that its own files give."""
        state = self._state
        problem = next((each for each in state.problems if each.field == "base.id"), None)
        if problem is not None and (state.bases or state.recipe.base.id != "starter"):
            why = f"{sentence(problem.message)} {problem.fix}".strip()
            self._empty.set_text(tr("No estimate for this base"), why)
        else:
            text = tr("What the run needs of the card is shown here, part by part, once there is a base model.")
            self._empty.set_text(tr("No base model yet"), text)

    def _show_card(self) -> None:
        gpus = self._state.gpus
        self.cards.setVisible(not gpus)
        if gpus:
            name = gpus[0].name.removeprefix("NVIDIA ").removeprefix("GeForce ")
            self._card_name.setText(f"{name}, {gb_text(self._state.card_bytes)} GB")
            return
        full, short = tr("No graphics card here: shown against"), tr("No card here: against")
        self._card_name.setText(short if self._narrow else full)
        nearest = min(CARDS_GB, key=lambda gb: abs(gb * BYTES_PER_GB - self._state.card_bytes))
        # What is compared with is what the choice says, whatever the state began with.
        self._state.card_bytes = nearest * BYTES_PER_GB
        self.cards.set_value(self._state.card_bytes)

    def _show_verdict(self) -> None:
        state = self._state
        assert state.budget is not None
        needed = state.budget.process_bytes + state.other_bytes
        judgement = verdict(state.budget, state.card_bytes, state.other_bytes)
        left = state.card_bytes - needed
        text = tr("\u2248 {0} GB").format(gb_text(needed))
        if judgement == "over" and left < 0:
            word, text = tr("Over by {0} GB").format(gb_text(-left)), tr("{0} needed").format(text)
        else:
            word = {"fits": tr("Fits"), "tight": tr("Tight"), "over": tr("Too tight")}[judgement]
            text = tr("{0}, leaves {1} GB").format(text, gb_text(left))
        about = tr("\u00b110 %") if self._narrow else tr("estimate \u00b110 %")
        aside = tr("a guess") if state.budget.is_guess else about
        self.verdict.set_verdict(judgement, word, text, aside)  # type: ignore[arg-type]
        past = state.past_peak
        self.bar.set_limit(state.card_bytes)
        self.bar.set_measured(past.process_bytes + state.other_bytes if past else None, past.name if past else "")
        self._show_learnt()

    def _show_learnt(self) -> None:
        """What earlier runs on this card have taught, beside the estimate without it."""
        budget, correction = self._state.budget, self._state.correction
        if budget is None or correction is None:
            return
        raw = gb_text(budget.raw_process_bytes + self._state.other_bytes)
        learnt, runs = signed_gb_text(budget.correction_bytes), format_int(correction.num_runs)
        counted = tr("1 run") if correction.num_runs == 1 else tr("{0} runs").format(runs)
        self._learnt.setText(tr("This card: {0} GB, from {1}; \u2248 {2} GB without").format(learnt, counted, raw))

    def _show_parts(self) -> None:
        budget, other = self._state.budget, self._other()
        assert budget is not None
        self.bar.set_budget([*other, *[_part(term, self._tip(term)) for term in budget.shown]])
        listed = [_part(term, self._driver(term)) for term in budget.shown]
        if self._narrow:
            listed = [(name, tr(SHORT.get(name, label)), size, text) for name, label, size, text in listed]
        tips = {term.name: self._tip(term) for term in budget.shown}
        self.parts.set_parts([*other, *listed], tips)
        sizes = {name: size for name, _, size, _ in (*other, *listed)}
        self._sum.setText(self._in_one_sentence(sizes))

    def _in_one_sentence(self, sizes: Mapping[str, int]) -> str:
        """`Of this: base 18.4, overlay 1.3, work 5.3, rest 2.1 GB`."""
        families = [tr(words).format(gb_text(sum(sizes.get(name, 0) for name in names))) for words, names in FAMILIES]
        told = tr("{0} GB").format(", ".join(families))
        return told[:1].upper() + told[1:] if self._narrow else tr("Of this: {0}").format(told)

    def show_remedies(self) -> None:
        """Show what can be done as far as it is known."""
        state = self._state
        if state.budget is None:
            return
        judgement = verdict(state.budget, state.card_bytes, state.other_bytes)
        rows, wanting = self._remedies.rows(), judgement != "fits"
        instead = bool(rows) and wanting and not self._parts_wanted
        title = tr("Fixes, cheapest for quality first") if judgement == "over" else tr("To make room")
        self.fixes.set_rows(title, rows if instead else [])
        self.fixes.setVisible(instead)
        self._summary.setVisible(bool(rows) and wanting)
        self._toggle.set_label(tr("Show parts") if instead else tr("Show fixes"))
        self.parts.setVisible(not instead)
        plan = self._remedies.fit
        advice = plan.advice if plan is not None and not plan.fits else ""
        self._advice.setVisible(bool(advice))
        self._advice.show_message("warn", tr(advice))
        self._room.show_offers([] if wanting else self._remedies.offers())
        self._ways.show_ways({} if instead else self._remedies.ways)

    def show_fixes(self) -> None:
        """Bring what can be done into view: the remedies, else the setting that matters most."""
        if self._remedies.rows():
            self._parts_wanted = False
            self.refresh()
            self._scroll.ensureWidgetVisible(self.fixes)
        else:
            rows = self._state.recipe.training.micro_batch_rows
            self.field_wanted.emit("training.micro_batch_rows" if rows else "training.micro_batch_tokens")

    def _toggle_parts(self) -> None:
        self._parts_wanted = not self._parts_wanted
        self.refresh()

    def _other(self) -> list[Part]:
        if not self._state.gpus:
            return []
        return [("other", tr("Other apps"), self._state.other_bytes, tr("Desktop and other programs"))]

    def _tip(self, term: Term) -> str:
        """Bytes, the formula in words, and the settings that drive the part."""
        lines = [tr("{0} bytes").format(format_int(term.bytes)), f"\u2248 {term.formula}"]
        drivers = [tr(LABELS[path]) for path in self._drivers(term)]
        return "\n".join([*lines, *([tr("Driven by: {0}").format(", ".join(drivers))] if drivers else [])])

    def _drivers(self, term: Term) -> list[str]:
        """The settings that move a part and are set: not the alternative of one that is."""
        paths = [path for path in term.driven_by if get(self._state.recipe, path) is not None]
        return list(dict.fromkeys(paths))

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
            case "activations":
                return self._layers() or at_once(recipe)
            case "logits":
                return at_once(recipe)
        return tr("Nearly fixed")

    def _layers(self) -> str:
        """`Auto: recomputes 18 of 32`, while that is left to the card."""
        budget = self._state.budget
        if budget is None or self._state.recipe.memory.checkpointing != "auto":
            return ""
        return tr("Auto: recomputes {0} of {1}").format(budget.num_checkpointed, budget.num_layers)

    def _part_clicked(self, name: str) -> None:
        if self._state.budget is None or name == "other":
            return
        term = next(term for term in self._state.budget.shown if term.name == name)
        for path in self._drivers(term)[:1]:
            self.field_wanted.emit(path)

    def _card_chosen(self, num_bytes: object) -> None:
        assert isinstance(num_bytes, int)
        self._state.card_bytes = num_bytes
        # What the recipe leaves to the card is another thing on another one.
        self._state.recipe_edited.emit(self._state.recipe)


def _part(term: Term, text: str) -> Part:
    return term.name, tr(term.label), term.bytes, text
