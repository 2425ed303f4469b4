"""`overlay fit`: what must change for a recipe to fit a card, and which bases fit it at all."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.cli.output import Output, table
from studio.cli.parser import Commands, UsageError, add_command, number
from studio.errors import NotFoundError, OutOfMemoryError, RecipeError, StudioError
from studio.files import readable_bytes
from studio.memory import auto
from studio.memory.budget import Budget, budget, verdict
from studio.memory.correction import correction_for
from studio.memory.device import survey
from studio.memory.fit import BaseFit, Change, Fit, bases_that_fit, fit, spare
from studio.models.bases import list_bases, locate
from studio.models.catalogue import entries
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.check import check
from studio.recipe.fields import replaced, to_dict
from studio.recipe.literals import literal
from studio.recipe.recipe import Recipe
from studio.recipe.toml import load, save

_GIB = 1 << 30
_NEEDS = {
    "nothing": "fits",
    "time": "fits, slower",
    "quality": "fits, learning less",
    "smaller base": "does not fit",
}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "fit",
        fit_recipe,
        "change what must change for a recipe to fit a card",
        details="Changes what costs least quality first and says each change, its saving and its price. The rows of a "
        "step stay as many. Nothing is written unless --out says where.",
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, nargs="?", help="a recipe file (.toml)")
    parser.add_argument(
        "--card-gib", type=number(0.1, 10_000), metavar="N", help="size of the card in GiB (default: the one here)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the recipe that fits to this new file")
    parser.add_argument(
        "--bases", action="store_true", help="instead, tell of many bases whether they fit with the recipe"
    )


@dataclass(frozen=True)
class _Card:
    """The memory to fit into: of a card that was named, or of the one here with what other programs hold of it."""

    total_bytes: int
    other_bytes: int = 0
    correction_bytes: int = 0

    @property
    def limits(self) -> tuple[int, int, int]:
        """As the functions of `studio.memory.fit` take them."""
        return self.total_bytes, self.other_bytes, self.correction_bytes

    @property
    def text(self) -> str:
        """`a card of 25.8 GB, of which other programs hold 0.9 GB`."""
        others = f", of which other programs hold {readable_bytes(self.other_bytes)}" if self.other_bytes else ""
        return f"a card of {readable_bytes(self.total_bytes)}{others}"


def fit_recipe(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the changes, and write the new recipe if it is wanted."""
    if options.bases:
        _tell_bases(options, output, workspace)
        return
    if options.recipe is None:
        raise UsageError("A recipe is missing.", "Name a recipe file, or give --bases to compare bases.")
    _refuse_other_files(options.out)
    recipe, card = load(options.recipe), _card(options, workspace)
    facts = ModelFacts.from_folder(locate(workspace, recipe.base.id))
    problems = check(recipe, facts)
    if problems:
        raise RecipeError(problems, options.recipe.name)
    found = fit(facts, recipe, *card.limits)
    if not found.fits:
        needed = readable_bytes(found.budget.process_bytes)
        raise OutOfMemoryError(
            f"No setting makes {options.recipe.name} fit on {card.text}: it takes {needed}.", found.advice
        )
    if options.out:
        _write(found.recipe, options.recipe, options.out)
    room = () if found.changes else spare(facts, found.recipe, *card.limits)
    text = "\n".join(filter(None, (_text(found, card, room, options.out), _auto_text(facts, found, card))))
    output.result(_document(found, card, room, options.out), text)


def _card(options: argparse.Namespace, workspace: Workspace) -> _Card:
    if options.card_gib:
        return _Card(round(options.card_gib * _GIB))
    cards = survey()
    if not cards:
        raise NotFoundError(
            "There is no NVIDIA card here to fit the recipe to.", "Name the size of one, for instance --card-gib 24."
        )
    learnt = correction_for(workspace, cards[0].name, cards[0].driver)
    return _Card(
        cards[0].total_bytes, cards[0].total_bytes - cards[0].free_bytes, learnt.bytes if learnt is not None else 0
    )


# --- one recipe ------------------------------------------------------------------------------------------------------------


def _refuse_other_files(out: Path | None) -> None:
    if out is not None and out.exists():
        raise StudioError(f"{out} is there already.", "Give --out the name of a new file; none is ever overwritten.")


def _write(fitted: Recipe, source: Path, out: Path) -> None:
    """The new file is the old one, comments and all, with other values in it. Raises `StudioError` if it cannot be."""
    beside = source.parent / fitted.data.path
    if out.parent.resolve() != source.parent.resolve() and beside.exists():
        # A path is told from where the recipe lies.
        fitted = replaced(fitted, "data.path", str(beside.resolve()))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, out)
    except OSError as error:
        raise StudioError(
            f"The recipe cannot be written to {out}: {error.strerror}.", "Choose another place for it."
        ) from error
    try:
        save(fitted, out)
    except StudioError:
        out.unlink()
        raise


def _document(found: Fit, card: _Card, room: tuple[Change, ...], out: Path | None) -> dict[str, Any]:
    return {
        "recipe": to_dict(found.recipe),
        "changes": [_record(change) for change in found.changes],
        "estimate": _estimate(found.budget, card),
        "advice": found.advice,
        "spare": [_record(change) for change in room],
        "out": None if out is None else str(out),
    }


def _record(change: Change) -> dict[str, Any]:
    return {
        "field": change.field,
        "from": change.before,
        "to": change.after,
        "saves_bytes": change.saves_bytes,
        "price": change.price,
    }


def _estimate(found: Budget, card: _Card) -> dict[str, Any]:
    judged = verdict(found, card.total_bytes, card.other_bytes)
    return {
        "total_bytes": found.total_bytes,
        "process_bytes": found.process_bytes,
        "terms": {term.name: term.bytes for term in found.terms},
        "card_bytes": card.total_bytes,
        "other_bytes": card.other_bytes,
        "fits": judged != "over",
        "verdict": judged,
        "is_guess": found.is_guess,
    }


def _text(found: Fit, card: _Card, room: tuple[Change, ...], out: Path | None) -> str:
    needed = readable_bytes(found.budget.process_bytes)
    if not found.changes:
        lines = [f"Nothing has to change: it takes {needed} on {card.text}."]
    else:
        headings = ("SETTING", "FROM", "TO", "SAVES", "PRICE")
        lines = [table(headings, [_row(change, change.saves_bytes) for change in found.changes])]
        lines.append(f"Then it takes {needed} on {card.text}.")
    lines += [found.advice] if found.advice else []
    if room:
        lines.append("The rest of the card could be used for one of these:")
        headings = ("SETTING", "FROM", "TO", "TAKES", "")
        lines.append(table(headings, [_row(change, -change.saves_bytes) for change in room]))
    if out:
        lines.append(f"Written to {out}.")
    return "\n".join(lines)


def _auto_text(facts: ModelFacts, found: Fit, card: _Card) -> str:
    """What `auto` makes of the card; "" where it has nothing to decide. Until here it counted as all layers."""
    taken = budget(facts, auto.settled(facts, found.recipe, *card.limits), card.correction_bytes)
    if found.recipe.memory.checkpointing != "auto" or taken == found.budget:
        return ""
    layers = f"{taken.num_checkpointed} of {taken.num_layers} layers"
    return f"Checkpointing is left to auto: with {layers} recomputed it takes {readable_bytes(taken.process_bytes)}."


def _row(change: Change, size: int) -> tuple[str, ...]:
    before, after = ("-" if value is None else literal(value).strip('"') for value in (change.before, change.after))
    return (change.field, before, after, readable_bytes(size), change.price)


# --- many bases ------------------------------------------------------------------------------------------------------------


def _tell_bases(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print which bases fit: those here, then the catalogue, smallest first."""
    if options.out:
        raise UsageError("--bases writes no recipe.", "Leave --out away, or leave --bases away.")
    recipe = load(options.recipe) if options.recipe else Recipe()
    card = _card(options, workspace)
    here = {base.id: (base.licence, ModelFacts.from_folder(base.path)) for base in list_bases(workspace)}
    known = {entry.hub_id: (entry.licence, entry.facts) for entry in entries()}
    every = {**here, **{name: entry for name, entry in known.items() if name not in here}}
    ordered = sorted(every, key=lambda name: (name not in here, every[name][1].num_parameters, name))
    found = bases_that_fit([(name, every[name][1]) for name in ordered], recipe, *card.limits)
    document = {
        "card_bytes": card.total_bytes,
        "other_bytes": card.other_bytes,
        "bases": [_base_record(base, every[base.name][0], is_here=base.name in here) for base in found],
    }
    rows = [
        (
            base.name,
            _billions(base.facts.num_parameters),
            readable_bytes(base.budget.process_bytes),
            _NEEDS[base.needs] if base.verdict != "tight" else "tight",
            every[base.name][0],
            "on this computer" if base.name in here else "",
        )
        for base in found
    ]
    text = table(("BASE", "PARAMETERS", "TAKES", "ON THIS CARD", "LICENCE", ""), rows)
    output.result(document, f"{text}\nTaken with {_whose(options)} on {card.text}.")


def _whose(options: argparse.Namespace) -> str:
    return f"the settings of {options.recipe.name}" if options.recipe else "the usual settings"


def _base_record(base: BaseFit, licence: str, *, is_here: bool) -> dict[str, Any]:
    return {
        "base": base.name,
        "licence": licence,
        "is_here": is_here,
        "num_parameters": base.facts.num_parameters,
        "process_bytes": base.budget.process_bytes,
        "verdict": base.verdict,
        "needs": base.needs,
        "changes": [_record(change) for change in base.changes],
        "is_guess": base.budget.is_guess,
    }


def _billions(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 999_500_000 else f"{count / 1e6:.0f} M"
