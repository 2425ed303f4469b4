"""Which adapter lies on which base, decided from the facts alone: no file is opened, so it may be asked while drawing."""

from __future__ import annotations

from collections.abc import Iterable

from studio.library.adapter import Adapter
from studio.models.bases import Base


def belongs(adapter: Adapter, base: Base) -> bool:
    """Whether `adapter` was trained on `base`: by the fingerprint of the weights, else by the name it states."""
    if adapter.base_fingerprint:
        return adapter.base_fingerprint == base.fingerprint
    return bool({adapter.base, adapter.hub_id} & ({base.id, base.hub_id} - {""}))


def base_of(adapter: Adapter, bases: Iterable[Base]) -> Base | None:
    """The base on this computer that `adapter` lies on, or None."""
    return next((base for base in bases if belongs(adapter, base)), None)


def stated_base(adapter: Adapter) -> str:
    """What the adapter calls its base; empty if it does not say."""
    return adapter.base or adapter.hub_id


def has_namesake(adapter: Adapter, bases: Iterable[Base]) -> bool:
    """Whether a base of the same name is here that is another one: its weights differ from those trained on."""
    names = {adapter.base, adapter.hub_id} - {""}
    return any(names & {base.id, base.hub_id} and not belongs(adapter, base) for base in bases)
