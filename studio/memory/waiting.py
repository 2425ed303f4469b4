"""Whether runs that wait for the card will fit it when their turn comes: when nothing of ours lies on it any more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from studio.errors import StudioError
from studio.memory.auto import settled
from studio.memory.budget import budget, verdict
from studio.memory.correction import correction_for
from studio.memory.device import CardUse, card_uses
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.recipe import Recipe


@dataclass(frozen=True)
class Need:
    """What a run is estimated to hold of a card, the CUDA context included; None where nothing can be said.

    `verdict` is `fits`, `tight`, `over` or "" (not known: no card, or no estimate for this model).
    """

    bytes: int | None = None
    verdict: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None if nobody knows."""
        return self.verdict != "over" if self.verdict else None


@dataclass(frozen=True)
class Card:
    """The card as a run will find it: what it holds, what other programs take of it, and what it has taught."""

    total_bytes: int
    other_bytes: int = 0
    correction_bytes: int = 0

    @classmethod
    def here(cls, workspace: Workspace, own: Collection[int] = ()) -> Card | None:
        """The first card of this computer without what the processes `own` hold of it; None if there is none."""
        use = next(iter(card_uses().values()), None)
        if use is None:
            return None
        learnt = correction_for(workspace, use.name, use.driver)
        return cls(use.total_bytes, others_hold(use, own), learnt.bytes if learnt else 0)

    def need(self, base: Path, recipe: Recipe) -> Need:
        """What a run by `recipe` on the base in this folder will hold. Some milliseconds; never raises."""
        try:
            facts = ModelFacts.from_folder(base)
            as_run = settled(facts, recipe, self.total_bytes, self.other_bytes, self.correction_bytes)
            found = budget(facts, as_run, self.correction_bytes)
        except StudioError:
            return Need()
        return Need(found.process_bytes, verdict(found, self.total_bytes, self.other_bytes))


def others_hold(use: CardUse, own: Collection[int]) -> int:
    """Bytes of the card that are not held by the processes `own`.

    Where the driver does not tell who holds what (Windows, containers) while one of ours is there, nothing is charged to others:
    better a run that turns out tight than one called too large because of its predecessor.
    """
    held = sum(size for pid, size in use.processes if pid in own and size is not None)
    if own and not held:
        return 0
    return max(0, use.used_bytes - held)
