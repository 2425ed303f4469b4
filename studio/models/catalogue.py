"""Well-known open models in numbers: which of them fit a card can be told before anything is downloaded."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

from studio.models.facts import ModelFacts
from studio.places import RESOURCES

CATALOGUE = RESOURCES / "catalogue.json"


class Entry(NamedTuple):
    """One model: its hub id, the licence that its card states, its numbers."""

    hub_id: str
    licence: str
    facts: ModelFacts


def entries() -> list[Entry]:
    """All models of the catalogue, smallest first."""
    return list(_entries())


@lru_cache(maxsize=1)
def _entries() -> tuple[Entry, ...]:
    models = json.loads(CATALOGUE.read_text(encoding="utf-8"))["models"]
    found = [Entry(model["id"], model["licence"], ModelFacts.from_config(model["config"])) for model in models]
    return tuple(sorted(found, key=lambda entry: entry.facts.num_parameters))
