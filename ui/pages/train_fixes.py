"""What can be done about the memory a run needs: remedies in their order, room that is left, and the way back from each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from PySide6.QtCore import QObject, Signal

from studio.errors import RecipeError
from studio.memory.auto import settled
from studio.memory.budget import budget, verdict
from studio.memory.fit import Change, Fit, fit, fixes, spare
from studio.recipe.fields import FIELDS, from_dict, to_dict
from studio.recipe.recipe import Recipe
from ui.bridge import soon
from ui.fits import Card, methods_fit
from ui.form_controls import option_text
from ui.pages.train_words import tr
from ui.state import AppState
from ui.widgets.memory_fixes import FixRow
from ui.widgets.memory_layout import gb_text, signed_gb_text
from ui.widgets.memory_list import Judgement
from ui.widgets.numbers import format_int

PAUSE_MS = 60
SETTINGS = {entry.path: entry for entry in FIELDS}
SHORT = {"memory.checkpointing": "checkpointing"}
MOST_UNDOS = 50


@dataclass(frozen=True)
class Offer:
    """One use of the room that is left: a sentence, a few words, and what it brings."""

    text: str
    short: str
    price: str


@dataclass(frozen=True)
class _Step:
    """One press of a button: the recipe before and after it, and what it did."""

    before: Recipe
    after: Recipe
    words: str


class Remedies(QObject):
    """The remedies for the recipe on the card at hand, and a stack of those taken.

    They take some dozens of estimates, so that they follow the recipe a moment later: while somebody types, the bar moves
    with every key and the remedies with the first pause.
    """

    changed = Signal()
    undo_changed = Signal()

    def __init__(self, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._reckoned: tuple[Any, ...] | None = None
        self._is_due = False
        self._fixes: tuple[Change, ...] = ()
        self._room: tuple[Change, ...] = ()
        self._fit: Fit | None = None
        self.ways: dict[str, tuple[int, Judgement, str]] = {}
        """Other ways to train, as `ui.fits.methods_fit` tells them."""
        self._steps: list[_Step] = []

    # --- what can be done ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reckon anew after a moment, if anything has changed."""
        if not self._is_due and self._wanted() != self._reckoned:
            self._is_due = True
            soon(self, self._reckon, PAUSE_MS)

    def _wanted(self) -> tuple[Any, ...] | None:
        """All that the remedies follow from."""
        state = self._state
        if state.facts is None or state.budget is None:
            return None
        return (state.facts, state.recipe, *state.limits, state.data.longest_tokens)

    def _reckon(self) -> None:
        self._is_due = False
        wanted = self._wanted()
        if wanted == self._reckoned:
            return
        self._reckoned, self._fixes, self._room, self._fit = wanted, (), (), None
        if wanted is not None and self._state.budget is not None:
            facts, recipe, card, other, learnt, longest = wanted
            self.ways = methods_fit(facts, recipe, Card(card, other, learnt))
            judgement = verdict(self._state.budget, card, other)
            if judgement == "fits":
                self._room = spare(facts, recipe, card, other, learnt, [longest] if longest else None)
            else:
                self._fixes = fixes(facts, recipe, card, other, learnt)
                self._fit = fit(facts, recipe, card, other, learnt) if judgement == "over" else None
        self.changed.emit()

    def rows(self) -> list[FixRow]:
        """The remedies in words, each with what is needed once it is taken."""
        return [self._row(change) for change in self._fixes]

    def _row(self, change: Change) -> FixRow:
        needed, judgement = self._needed(change.applied_to(self._state.recipe))
        word = {"fits": tr("fits"), "tight": tr("tight"), "over": tr("over")}[judgement]
        return FixRow(words_of(change), tr(change.price), change.saves_bytes, needed, judgement, word)

    def _needed(self, recipe: Recipe) -> tuple[int, Judgement]:
        """What a recipe needs of the card with all that lies there besides, and whether it fits."""
        state = self._state
        assert state.facts is not None
        assert state.budget is not None
        found = budget(state.facts, settled(state.facts, recipe, *state.limits), state.budget.correction_bytes)
        judgement = verdict(found, state.card_bytes, state.other_bytes)
        return found.process_bytes + state.other_bytes, cast(Judgement, judgement)

    @property
    def fit(self) -> Fit | None:
        """All that must change for it to fit; None while it is not over."""
        return self._fit

    def fit_label(self) -> str:
        """`Fix all: 3 changes, 20.1 GB`."""
        assert self._fit is not None
        number = len(self._fit.changes)
        count = tr("1 change") if number == 1 else tr("{0} changes").format(number)
        needed, _ = self._needed(self._fit.recipe)
        return tr("Fix all: {0}, {1} GB").format(count, gb_text(needed))

    def fit_tip(self) -> str:
        """Each change of `fit` with its price, then what else to do."""
        assert self._fit is not None
        lines = [f"{words_of(change)}: {tr(change.price)}" for change in self._fit.changes]
        return "\n".join(filter(None, (*lines, tr(self._fit.advice))))

    def offers(self) -> list[Offer]:
        """What the room that is left could be used for."""
        return [self._offer(change) for change in self._room]

    def _offer(self, change: Change) -> Offer:
        needed, _ = self._needed(change.applied_to(self._state.recipe))
        label = tr(SHORT.get(change.field, SETTINGS[change.field].label.lower()))
        value = value_text(change.field, change.after)
        short = f"{label} {value.removesuffix(' ' + tr('tokens'))}"
        # Of the rows only the longest is known, and that roughly: nothing is said about how many gain by it.
        brings = "" if change.field == "data.max_tokens" else tr(change.price)
        return Offer(
            tr("Room for {0}: \u2248\u00a0{1}\u00a0GB").format(f"{label} {value}", gb_text(needed)), short, brings
        )

    # --- doing it ------------------------------------------------------------------------------------------------------

    def apply(self, index: int) -> None:
        """Take one remedy."""
        change = self._fixes[index]
        saved = tr("{0}, {1} GB").format(words_of(change), signed_gb_text(-change.saves_bytes))
        self._take(change.applied_to(self._state.recipe), saved)

    def use_room(self, index: int) -> None:
        """Use the room that is left for one of the offers."""
        change = self._room[index]
        self._take(change.applied_to(self._state.recipe), words_of(change))

    def apply_fit(self) -> None:
        """Take all remedies that it needs."""
        self._reckon()
        if self._fit is not None and self._fit.changes:
            self._take(self._fit.recipe, ", ".join(words_of(change) for change in self._fit.changes))

    def _take(self, recipe: Recipe, words: str) -> None:
        before = self._state.recipe
        if recipe == before:
            return
        self._steps = [*self._steps[1 - MOST_UNDOS :], _Step(before, recipe, words)]
        self._state.recipe_edited.emit(recipe)
        self.undo_changed.emit()

    # --- and taking it back --------------------------------------------------------------------------------------------

    def last_step(self) -> str:
        """What the last step did, if the recipe is still as it left it; else nothing."""
        if self._steps and self._steps[-1].after == self._state.recipe:
            return self._steps[-1].words
        return ""

    def undo(self) -> None:
        """Take the last step back that can still be seen in the recipe; those that cannot are forgotten."""
        while self._steps:
            step = self._steps.pop()
            recipe = taken_back(self._state.recipe, step.before, step.after)
            if recipe is not None:
                self._state.recipe_edited.emit(recipe)
                break
        self.undo_changed.emit()


def taken_back(now: Recipe, before: Recipe, after: Recipe) -> Recipe | None:
    """`now` without what led from `before` to `after`, None if any of that was edited since.

    Exactly `before` where nothing else has changed; otherwise what was edited since stays.
    """
    if now == after:
        return before
    old, new, values = to_dict(before), to_dict(after), to_dict(now)
    for section, key in _places(old, new):
        if _at(values, section).get(key) != _at(new, section).get(key):
            return None
        _at(values, section).pop(key, None)
        if key in _at(old, section):
            _at(values, section)[key] = _at(old, section)[key]
    try:
        return from_dict(values)
    except RecipeError:
        return None  # it would contradict what was edited since


def _places(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Section ("" for none) and key of each setting that differs."""
    for entry in FIELDS:
        if _at(old, entry.section).get(entry.key) != _at(new, entry.section).get(entry.key):
            yield entry.section, entry.key


def _at(values: dict[str, Any], section: str) -> dict[str, Any]:
    found = values[section] if section else values
    assert isinstance(found, dict)
    return found


def words_of(change: Change) -> str:
    """`Max length 8,192 \u2192 4,096`; where there are no numbers to compare, what it becomes alone."""
    label, after = tr(SETTINGS[change.field].label), value_text(change.field, change.after)
    if isinstance(change.after, bool):
        return f"{label} {after}"
    if isinstance(change.before, int) and isinstance(change.after, int):
        return f"{label} {format_int(change.before)} \u2192 {format_int(change.after)}"
    return f"{label}: {after}"


def value_text(path: str, value: object) -> str:
    """A setting's value in the user's words, a number with its unit."""
    setting = SETTINGS[path]
    if isinstance(value, bool):
        return tr("on") if value else tr("off")
    if isinstance(value, int):
        return f"{format_int(value)} {tr(setting.unit)}".strip()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tr("{0} modules").format(len(value))
    text = option_text(value)
    return text if text.isupper() or text[:2].isupper() else text[:1].lower() + text[1:]
