"""Whether bases fit the card, as the lists and notes show it. Free functions of plain values; no widget, no disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

from PySide6.QtCore import QCoreApplication

from studio.memory.auto import settled
from studio.memory.budget import Budget, verdict
from studio.memory.fit import BaseFit, bases_that_fit
from studio.memory.uses import chat, methods
from studio.models import catalogue
from studio.models.facts import ModelFacts
from studio.recipe.recipe import Base, Recipe
from ui.state import AppState
from ui.widgets.memory_choice import Fit
from ui.widgets.memory_layout import Part
from ui.widgets.memory_list import Judgement
from ui.widgets.numbers import format_int

MOST_KNOWN = 12
CHAT_TOKENS = 4096
FLOAT_BYTES = 4  # adapters are kept in 32 bits
# What the terms of a chat are in the colours of the bar: what is held for answering is work.
_CHAT_PARTS = {"adapters": "adapter", "cache": "activations"}


def _tr(text: str) -> str:
    return QCoreApplication.translate("fits", text)


@dataclass(frozen=True)
class Card:
    """The card at hand, real or picked: what it holds, what other programs take of it, and what it has taught."""

    card_bytes: int
    other_bytes: int
    correction_bytes: int

    @classmethod
    def of(cls, state: AppState) -> Card:
        """The one that everything is shown against now."""
        return cls(*state.limits)


@dataclass(frozen=True)
class KnownBase:
    """A base that is not on this computer but would fit: `download_bytes` is its size in 16 bits, about."""

    hub_id: str
    licence: str
    download_bytes: int
    fit: Fit


def training_fits(bases: Iterable[tuple[str, ModelFacts]], recipe: Recipe, card: Card) -> dict[str, Fit]:
    """How training by `recipe` would do on each base, by its id."""
    found = bases_that_fit(bases, recipe, card.card_bytes, card.other_bytes, card.correction_bytes)
    return {each.name: _training_fit(each, card) for each in found}


def recipe_fit(state: AppState) -> Fit | None:
    """How the recipe would do as it stands on this computer's own card; None without one, or without a base."""
    if state.budget is None or not state.gpus:
        return None
    card = Card.of(state)
    judgement = cast(Judgement, verdict(state.budget, card.card_bytes, card.other_bytes))
    return fit_of(state.budget, card, judgement, _word(judgement))


def chat_fits(state: AppState, lanes: Sequence[str]) -> dict[str, Fit]:
    """How each base would do in a chat whose lanes carry these adapters ("" for none), by its id; empty without a card."""
    if not state.gpus:
        return {}
    sizes = [adapter.bytes // FLOAT_BYTES for name in lanes if (adapter := state.adapter(name))]
    card = Card.of(state)
    return {name: _chat_fit(facts, len(lanes), tuple(sizes), card) for name, facts in state.base_facts.items()}


@lru_cache(maxsize=64)
def _chat_fit(facts: ModelFacts, num_lanes: int, adapter_parameters: tuple[int, ...], card: Card) -> Fit:
    tokens = min(CHAT_TOKENS, facts.context_tokens)
    needed = chat(facts, Base(), max(num_lanes, 1), tokens, adapter_parameters)
    judgement = cast(Judgement, verdict(needed, card.card_bytes, card.other_bytes))
    note = _tr("To chat with it in 4 bits, questions and answers of {0} tokens together.").format(format_int(tokens))
    return fit_of(needed, card, judgement, _word(judgement), note)


def methods_fit(facts: ModelFacts, recipe: Recipe, card: Card) -> dict[str, tuple[int, Judgement, str]]:
    """`qlora`, `lora` and `full`: bytes on the card with all that lies there, the verdict, and its word."""
    found = {}
    limits = (card.card_bytes, card.other_bytes, card.correction_bytes)
    for method in methods(facts, recipe, lambda variant: settled(facts, variant, *limits)):
        needed = replace(method.budget, correction_bytes=card.correction_bytes)
        judgement = cast(Judgement, verdict(needed, card.card_bytes, card.other_bytes))
        found[method.name] = needed.process_bytes + card.other_bytes, judgement, _word(judgement)
    return found


def known_bases(here: Iterable[str], recipe: Recipe, card: Card) -> list[KnownBase]:
    """Well-known bases other than those `here` on which the recipe fits, if need be slower; the largest first."""
    names = {name.lower() for name in here}
    entries = {entry.hub_id: entry for entry in catalogue.entries() if entry.hub_id.lower() not in names}
    pairs = [(name, entry.facts) for name, entry in entries.items()]
    found = bases_that_fit(pairs, recipe, card.card_bytes, card.other_bytes, card.correction_bytes)
    fitting = [each for each in found if each.needs in ("nothing", "time")]
    fitting.sort(key=lambda each: each.facts.num_parameters, reverse=True)
    return [
        KnownBase(each.name, entries[each.name].licence, 2 * each.facts.num_parameters, _training_fit(each, card))
        for each in fitting[:MOST_KNOWN]
    ]


def _training_fit(found: BaseFit, card: Card) -> Fit:
    notes = {
        "nothing": "",
        "time": _tr("Fits once settings are changed that cost time only: the Train page offers them."),
        "quality": _tr("Fits only with settings that learn less: the Train page offers them."),
        "smaller base": _tr("No settings make it fit this card."),
    }
    judgement, word = cast(Judgement, found.verdict), _word(found.verdict)
    if found.needs == "time":
        judgement, word = "tight", _tr("slower")
    return fit_of(found.budget, card, judgement, word, notes[found.needs])


def _word(judgement: str) -> str:
    return {"fits": _tr("fits"), "tight": _tr("tight"), "over": _tr("over")}[judgement]


def fit_of(budget: Budget, card: Card, judgement: Judgement, word: str, note: str = "") -> Fit:
    """An estimate as a small bar shows it."""
    parts = [Part(_CHAT_PARTS.get(term.name, term.name), _tr(term.label), term.bytes) for term in budget.shown]
    if card.other_bytes:
        parts.insert(0, Part("other", _tr("Other apps"), card.other_bytes))
    return Fit(tuple(parts), card.card_bytes, judgement, word, note)
