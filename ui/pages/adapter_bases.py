"""Which adapter lies on which base, decided from the facts alone: no file is opened, so it may be asked while drawing."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QCoreApplication

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


def why_baseless(adapter: Adapter, bases: Iterable[Base]) -> str:
    """The sentence that tells why `adapter` cannot be laid on anything here."""
    stated = stated_base(adapter)
    if has_namesake(adapter, bases):
        text = _tr("{0} was trained on another {1}: the weights of the one here differ.")
        return text.format(adapter.name, stated)
    stated = stated or _tr("a base that it does not name")
    return _tr("{0} was trained on {1}, which is not on this computer.").format(adapter.name, stated)


def _tr(text: str) -> str:
    return QCoreApplication.translate("AdaptersPage", text)
