"""The recipe file: read whole or refused whole, written so that its owner's comments survive."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tomlkit.exceptions import TOMLKitError

from studio import places
from studio.errors import DataError, NotFoundError, Problem, RecipeError, StudioError
from studio.files import write_text
from studio.recipe.edit import line, settings, updated
from studio.recipe.fields import from_dict, to_dict
from studio.recipe.literals import seen
from studio.recipe.recipe import Recipe

__all__ = ["dump", "from_dict", "load", "parse", "resolve_data", "save", "to_dict"]


def parse(text: str, source: str = "the recipe") -> Recipe:
    """The recipe in `text`. Raises `RecipeError` that names every problem at once; `source` begins its sentence."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([_not_toml(str(error), text)], source) from error
    except (ValueError, RecursionError) as error:
        fix = "Write one `key = value` per line, below the [section] it belongs to."
        raise RecipeError([Problem(field="", message="a value is too large to be read", fix=fix)], source) from error
    return from_dict(raw, source)


def load(path: Path) -> Recipe:
    """The recipe in a file. Raises `NotFoundError` if there is none, `RecipeError` if it cannot be used."""
    return parse(_read(path), path.name)


def dump(recipe: Recipe) -> str:
    """The recipe as a fresh file: every setting, in order, with its choices beside it."""
    values = to_dict(recipe)
    lines = [f"schema = {values['schema']}"]
    section = ""
    for entry, value in settings(values):
        if entry.section != section:
            section = entry.section
            lines += ["", f"[{section}]"]
        lines.append(line(entry, value))
    return "\n".join(lines) + "\n"


def save(recipe: Recipe, path: Path) -> None:
    """Write the recipe. A file that is there keeps its comments and its order: only values change.

    Raises `DiskFullError`, `StudioError` if the place cannot be written; the old file then still stands.
    """
    text = dump(recipe)
    try:
        if path.is_file():
            text = _followed(_read(path), recipe) or text
    except RecipeError:
        # What is no text holds no comments worth keeping.
        pass
    try:
        write_text(path, text)
    except OSError as error:
        raise StudioError(
            f"The recipe cannot be written to {path}: {error.strerror}.", "Choose another place for it."
        ) from error


def resolve_data(path: str, recipe_folder: Path | None) -> Path:
    """Where the dataset of a recipe is: as it stands if absolute, else beside the recipe file, in the current folder, or
    among the examples that come with the studio. Raises `DataError` that names where it was looked for."""
    if path.startswith("hub:"):
        raise DataError(
            f"{path[:120]} is on the hub, and its rows are not here.",
            "Fetch it first: Datasets, Open, From the hub; or `overlay data` with its name.",
        )
    wanted = Path(path).expanduser() if path.startswith("~/") else Path(path)
    if wanted.is_absolute():
        candidates = [wanted]
    else:
        folders = [*([recipe_folder] if recipe_folder else []), Path.cwd(), places.RESOURCES]
        candidates = list(dict.fromkeys(folder / wanted for folder in folders))
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    looked = ", ".join(str(candidate.parent) for candidate in candidates)
    raise DataError(
        f"The dataset {path} is not there. Looked in: {looked}.",
        "Correct data.path in the recipe, or put the file in one of these folders.",
    )


# --- reading -------------------------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"There is no recipe {path}.", "Check the spelling of the path; recipes end in .toml."
        ) from error
    except UnicodeDecodeError as error:
        problem = Problem(field="", message="it is no text in UTF-8", fix="Save it as UTF-8 text.")
        raise RecipeError([problem], path.name) from error
    except OSError as error:
        raise StudioError(
            f"The recipe {path} cannot be read: {error.strerror}.", "Give a file that you may read."
        ) from error


def _not_toml(message: str, text: str) -> Problem:
    lines = text.splitlines() or [""]
    place = re.search(r"at line (\d+)", message)
    number = min(int(place.group(1)), len(lines)) if place else len(lines)
    shown = seen(lines[number - 1].strip())
    twice = re.search(r"overwrite|twice|declare|already", message)
    return Problem(
        field="",
        message=f"line {number} names what was named before: {shown}"
        if twice
        else f"line {number} is not TOML: {shown}",
        fix=f"Remove the repetition in line {number}."
        if twice
        else f"Mend line {number}: text stands in quotes, true and false are lower case, a section in [brackets].",
    )


# --- writing -------------------------------------------------------------------------------------------------------


def _followed(text: str, recipe: Recipe) -> str | None:
    """The owner's file with the recipe's values in it, None if it is written too oddly for that."""
    try:
        result = updated(text, to_dict(recipe))
        return result if parse(result) == recipe else None
    except (TOMLKitError, RecipeError, RecursionError, ValueError):
        return None
