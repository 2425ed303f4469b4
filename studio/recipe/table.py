"""The recipe's settings as one table, derived from the models: what forms, messages and documentation are made of."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studio.recipe.recipe import Recipe

Kind = Literal["int", "float", "bool", "text", "choice", "list"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One setting: where it stands, what may be in it, and the words for it.

    A choice with `other` set takes something besides its choices: a list of names, or a whole number between
    `minimum` and `maximum`. An `optional` setting is None when its alternative is set.
    """

    path: str
    label: str
    help: str
    unit: str
    raw_name: str
    level: str
    group: str
    note: str
    kind: Kind
    default: Any
    choices: tuple[str, ...] = ()
    other: Literal["int", "list"] | None = None
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False

    @property
    def section(self) -> str:
        """`training` for `training.epochs`, "" for `name`."""
        return self.path.rpartition(".")[0]

    @property
    def key(self) -> str:
        """`epochs` for `training.epochs`."""
        return self.path.rpartition(".")[2]


def field(path: str) -> Field:
    """The setting at `training.epochs`. `KeyError` for a path that is none: that is our own mistake."""
    return _BY_PATH[path]


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[Field]:
    for key, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, f"{key}.")
        elif info.alias is None:
            yield _field(f"{prefix}{key}", info)


def _field(path: str, info: FieldInfo) -> Field:
    kinds = list(_plain_types(info.annotation))
    choices = tuple(choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
    others: list[Kind] = [_kind(kind) for kind in kinds if get_origin(kind) is not Literal and kind is not type(None)]
    bounds = [*info.metadata, *_bounds(info.annotation)]
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    other = others[0] if choices and others else None
    assert other in (None, "int", "list")
    return Field(
        path=path,
        label=info.title or "",
        help=info.description or "",
        unit=str(extra["unit"]),
        raw_name=str(extra["raw_name"]),
        level=str(extra["level"]),
        group=str(extra["group"]),
        note=str(extra["note"]),
        kind="choice" if choices else others[0],
        default=info.default,
        choices=choices,
        other=other,
        minimum=_number(next((bound.ge for bound in bounds if isinstance(bound, annotated_types.Ge)), None)),
        maximum=_number(next((bound.le for bound in bounds if isinstance(bound, annotated_types.Le)), None)),
        optional=type(None) in kinds,
    )


def _plain_types(annotation: Any) -> Iterator[Any]:
    """The members of a union, without their annotations."""
    if get_origin(annotation) is Annotated:
        yield from _plain_types(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _plain_types(member)
    else:
        yield annotation


def _bounds(annotation: Any) -> Iterator[Any]:
    """The constraints written inside a union, as on the number of layers in `memory.checkpointing`."""
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, FieldInfo):
                yield from extra.metadata
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _bounds(member)


def _kind(plain: Any) -> Kind:
    if get_origin(plain) is tuple:
        return "list"
    kinds: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}
    return kinds[plain]


def _number(bound: object) -> float | None:
    assert bound is None or isinstance(bound, int | float)
    return bound


FIELDS: tuple[Field, ...] = tuple(_fields(Recipe))
_BY_PATH = {entry.path: entry for entry in FIELDS}
