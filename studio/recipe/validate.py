"""From plain values to a recipe, or to all that is wrong with them at once, in our own words."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from studio.errors import Problem, RecipeError
from studio.recipe.check import contradictions
from studio.recipe.literals import literal, seen
from studio.recipe.recipe import SCHEMA, Recipe
from studio.recipe.table import FIELDS, Field, field

_SECTIONS = tuple(dict.fromkeys(entry.section for entry in FIELDS if entry.section))
_PATHS = frozenset(entry.path for entry in FIELDS)
# Where something is wrong: ("training", "epochs"). Not a dotted text, because a stranger's key may hold dots.
_Place = tuple[str, ...]


def recipe_from(raw: Mapping[str, Any], source: str = "the recipe", *, whole: bool = True) -> Recipe:
    """The recipe that these sections and values make.

    With `whole` its settings must also agree with one another. Raises `RecipeError` with every problem there is:
    unknown keys, values of the wrong kind or size, contradictions among those that are sound.
    """
    values = copy.deepcopy(dict(raw))
    _refuse_other_schema(values, source)
    problems: list[Problem] = []
    bad: set[_Place] = set()
    recipe = None
    while recipe is None:
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            # What is wrong is named and set aside, so that the rest can still be looked at.
            for places, problem in _problems(error, values).items():
                problems.append(problem)
                bad.update(places)
                for place in places:
                    del _holder(values, place)[place[-1]]
    if whole:
        # A setting set aside stands at its default now; what that contradicts is nobody's mistake.
        for found in contradictions(recipe):
            doubted = any(tuple(path.split("."))[: len(place)] == place for path in found.fields for place in bad)
            if not doubted:
                problems.append(found.problem)
    if problems:
        raise RecipeError(problems, source)
    return recipe


def _refuse_other_schema(values: dict[str, Any], source: str) -> None:
    schema = values.get("schema", SCHEMA)
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
        raise RecipeError(
            [
                Problem(
                    field="schema",
                    message=f"{seen(schema)} comes from a newer Overlay Studio, which this one cannot read",
                    fix="Update Overlay Studio.",
                )
            ],
            source,
        )


def _problems(error: ValidationError, values: dict[str, Any]) -> dict[tuple[_Place, ...], Problem]:
    """One problem per setting, keyed by its place, or by both places of a pair."""
    found: dict[tuple[_Place, ...], Problem] = {}
    for entry in error.errors(include_url=False, include_context=True, include_input=False):
        parts = tuple(str(part) for part in entry["loc"])
        if entry["type"] == "alternatives":
            context = entry["ctx"]
            first, second = (parts[0], context["first"]), (parts[0], context["second"])
            there = tuple(place for place in (first, second) if place[1] in values[parts[0]])
            found[there] = _not_one(".".join(first), ".".join(second), both=context["both"])
            continue
        place = parts[:2] if parts[0] in _SECTIONS else parts[:1]
        if (place,) not in found:
            found[(place,)] = _problem(place, entry["type"], _holder(values, place)[place[-1]])
    return found


def _holder(values: dict[str, Any], place: _Place) -> dict[str, Any]:
    """The table that the setting at `place` stands in."""
    for part in place[:-1]:
        values = values[part]
    return values


def _problem(place: _Place, kind: str, value: Any) -> Problem:
    path = ".".join(place)
    if kind == "extra_forbidden":
        return _unknown(place)
    if path in _PATHS:
        return _unfit(field(path), value)
    if place == ("schema",):
        return Problem(field=path, message=f"{seen(value)} is not {SCHEMA}", fix=f"Write schema = {SCHEMA}.")
    assert path in _SECTIONS
    return Problem(
        field=path,
        message=f"{seen(value)} stands where a section is needed",
        fix=f"Write [{path}] on a line of its own, then one setting per line below it.",
    )


def _unfit(entry: Field, value: Any) -> Problem:
    wanted = expected(entry)
    start = "" if entry.default in (None, ()) else f", for example {literal(entry.default)}"
    return Problem(
        field=entry.path,
        message=f"{seen(value)} is not {wanted}",
        fix=f"Set {entry.path} to {wanted}{start}.",
    )


def expected(entry: Field) -> str:
    """What a setting takes, as the end of a sentence: `a whole number from 1 to 1024`."""
    span = ""
    if entry.minimum is not None and entry.maximum is not None:
        span = f" from {literal(entry.minimum)} to {literal(entry.maximum)}"
    if entry.kind == "choice":
        others = {"int": f" or a whole number{span}", "list": " or a list of module names", None: ""}
        one_of = "one of " if len(entry.choices) > 1 else ""
        return one_of + ", ".join(literal(choice) for choice in entry.choices) + others[entry.other]
    return {
        "int": f"a whole number{span}",
        "float": f"a number{span}",
        "bool": "true or false",
        "text": "a text in quotes, neither empty nor overlong",
        "list": "a list of at most 100 texts, none of them empty",
    }[entry.kind]


def _not_one(first: str, second: str, *, both: bool) -> Problem:
    return Problem(
        field=first,
        message=f"it is set together with {second}, but one replaces the other"
        if both
        else f"neither it nor {second} is set",
        fix=f"Keep one of {first} and {second}." if both else f"Set {first} or {second}.",
    )


def _unknown(place: _Place) -> Problem:
    section, key = ".".join(place[:-1]), place[-1]
    shown = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key, ensure_ascii=False)
    nearest = _nearest(section, key)
    where = f"[{section}]" if section else "a recipe"
    return Problem(
        field=f"{section}.{shown}" if section else shown,
        message=f"{where} has no such setting" + (f"; the nearest is {nearest}" if nearest else ""),
        fix=f"Write {nearest} instead, or remove it." if nearest else f"Remove {shown}.",
    )


def _nearest(section: str, key: str) -> str:
    """The setting that was probably meant: the libraries' own name for it, one spelt alike here, one spelt alike elsewhere."""
    by_raw_name = {entry.raw_name: entry.path for entry in FIELDS}
    here = {entry.key: entry.path for entry in FIELDS if entry.section == section}
    everywhere = {entry.key: entry.path for entry in FIELDS}
    if not section:
        here |= {"schema": "schema", **{name: f"[{name}]" for name in _SECTIONS}}
    for names, cutoff in ((by_raw_name, 1.0), (here, 0.6), (everywhere, 0.7)):
        close = difflib.get_close_matches(key.lower(), names, n=1, cutoff=cutoff)
        if close:
            return names[close[0]]
    return ""
