"""How one setting of the recipe is declared: value, range and words in one place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

MAX_CONTEXT_TOKENS = 1_048_576
MAX_RANK = 1024

Level = Literal["basic", "expert"]
Text = Annotated[str, pydantic.Field(min_length=1)]
# TOML and JSON know lists only, so this one type takes them for tuples.
Texts = Annotated[tuple[Text, ...], pydantic.Field(strict=False)]


class Section(pydantic.BaseModel, frozen=True, extra="forbid", strict=True):
    """One table of the recipe file. Strict: `"3"` is no number and 1 is no `true`."""


def setting(
    default: Any,
    *,
    label: str,
    help: str,
    unit: str,
    raw_name: str,
    group: str,
    level: Level = "expert",
    note: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Any:
    """A pydantic field that also knows how to present itself.

    `help` says what the setting is, what more and less of it do, a good start and what it costs in video memory.
    `unit` is "" for a pure number. `raw_name` is what the libraries call it. `note` is the comment beside the value in
    a recipe file; without one the choices stand there.
    """
    return pydantic.Field(
        default,
        title=label,
        description=help,
        ge=minimum,
        le=maximum,
        min_length=min_length,
        max_length=max_length,
        allow_inf_nan=None if minimum is None else False,
        json_schema_extra={"unit": unit, "raw_name": raw_name, "group": group, "level": level, "note": note},
    )


def is_whole(value: object, minimum: int, maximum: int) -> bool:
    """Whether `value` is a whole number in this range; `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
