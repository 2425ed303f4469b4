"""`--set SETTING=VALUE`: a recipe with other values for a few settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from typing import Any

from studio.cli.parser import ArgumentParser, UsageError
from studio.recipe.fields import FIELDS, replaced
from studio.recipe.recipe import Recipe


def add_changes(parser: ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--set",
        dest="changes",
        metavar="SETTING=VALUE",
        action="append",
        default=[],
        help="another value for one setting, such as training.learning_rate=1e-4; may be given several times",
    )


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with these changes. Raises `UsageError` for a setting that there is not, `RecipeError` for a bad value."""
    known = [entry.path for entry in FIELDS]
    for change in changes:
        path, is_given, value = (part.strip() for part in change.partition("="))
        if not is_given:
            raise UsageError(f"{change[:60]} gives no value.", "Write --set SETTING=VALUE.")
        if path not in known:
            near = difflib.get_close_matches(path, known, n=1)
            meant = f"Did you mean {near[0]}?" if near else "Name it with its section, as training.learning_rate."
            raise UsageError(f"A recipe has no setting {path[:60]}.", meant)
        recipe = replaced(recipe, path, _plain(value))
    return recipe


def _plain(text: str) -> Any:
    """A value as it would stand in a recipe file; whatever else it is, it is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
