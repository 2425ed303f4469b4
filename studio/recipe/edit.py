"""New values in a recipe file that somebody wrote: their order, comments and spacing stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import tomlkit

from studio.recipe.literals import literal
from studio.recipe.recipe import ALTERNATIVES
from studio.recipe.table import FIELDS, Field, field

_COMMENT_COLUMN = 28
_HEADER = re.compile(r"\s*\[\s*([\w-]+)\s*\]")


def settings(values: dict[str, Any]) -> Iterator[tuple[Field, Any]]:
    """The settings that `values` (as `to_dict` gives them) holds, in the order of the table."""
    for entry in FIELDS:
        section = values[entry.section] if entry.section else values
        if entry.key in section:
            yield entry, section[entry.key]


def line(entry: Field, value: Any) -> str:
    """`key = value`, with the choices or a note beside it."""
    text = f"{entry.key} = {literal(value)}"
    note = _note(entry)
    return f"{text + '  ':<{_COMMENT_COLUMN}}# {note}" if note else text


def updated(text: str, values: dict[str, Any]) -> str:
    """The file `text` with exactly these values.

    Raises `tomlkit.exceptions.TOMLKitError` or `ValueError` where the file is written too oddly to be followed; the
    caller reads the result back before trusting it.
    """
    text = _with_missing(text, values)
    document = tomlkit.parse(text)
    _set_values(document, document.unwrap(), values)
    return tomlkit.dumps(document)


def _note(entry: Field) -> str:
    return entry.note or (" | ".join(entry.choices) if len(entry.choices) > 1 else "")


def _with_missing(text: str, values: dict[str, Any]) -> str:
    """Lines for settings that the file does not name: in the place of their alternative, else first in their section.

    Done on the text, because tomlkit puts a new key behind the comments that belong to the next section.
    """
    there = tomlkit.parse(text).unwrap()
    if any(not isinstance(there.get(name, {}), dict) for name, value in values.items() if isinstance(value, dict)):
        raise ValueError("a value stands where a section is needed")
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += end
    if "schema" not in there:
        lines.insert(_first_line(lines, ""), f"schema = {values['schema']}{end}")
    for entry, value in reversed([*settings(values)]):
        section = there.get(entry.section, {}) if entry.section else there
        if entry.key not in section and not _in_place(lines, entry, value, end):
            if entry.section and _header(lines, entry.section) is None:
                lines += [end, f"[{entry.section}]{end}"]
            lines.insert(_first_line(lines, entry.section), line(entry, value) + end)
    return "".join(lines)


def _in_place(lines: list[str], entry: Field, value: Any, end: str) -> bool:
    """Write `steps` where `epochs` stands, with the owner's comment if it is not ours."""
    others = [other for pair in ALTERNATIVES if entry.key in pair for other in pair if other != entry.key]
    start = _header(lines, entry.section)
    if not others or start is None:
        return False
    pattern = re.compile(rf"\s*{others[0]}\s*=[^#]*(#.*)?$")
    for number in range(start + 1, len(lines)):
        if _HEADER.match(lines[number]):
            return False
        found = pattern.match(lines[number].rstrip())
        if found:
            comment = (found.group(1) or "").lstrip("# ")
            ours = not comment or comment == _note(field(f"{entry.section}.{others[0]}"))
            lines[number] = (line(entry, value) if ours else f"{entry.key} = {literal(value)}  # {comment}") + end
            return True
    return False


def _header(lines: list[str], section: str) -> int | None:
    for number, text in enumerate(lines):
        found = _HEADER.match(text)
        if found and found.group(1) == section:
            return number
    return None


def _first_line(lines: list[str], section: str) -> int:
    """Where the first setting of a section goes. At the top of the file: below its opening comment."""
    if section:
        start = _header(lines, section)
        assert start is not None
        return start + 1
    for number, text in enumerate(lines):
        if text.strip() and not text.lstrip().startswith("#"):
            return number
    return len(lines)


def _set_values(table: Any, there: dict[str, Any], values: dict[str, Any]) -> None:
    for key in there.keys() - values.keys():
        table.remove(key)
    for key, value in values.items():
        if isinstance(value, dict):
            _set_values(table[key], there[key], value)
        elif there[key] != value:
            table[key] = tomlkit.value(literal(value))
