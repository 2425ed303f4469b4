from __future__ import annotations

from pathlib import Path

import pytest

from studio.memory import waiting
from studio.memory.device import CardUse
from studio.memory.waiting import Card, Need, others_hold
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from tests.studio.models.folders import write_base

GB = 1 << 30


def use(*processes: tuple[int, int | None]) -> CardUse:
    return CardUse("RTX", "1", 24 * GB, 20 * GB, processes)


def test_what_our_own_engine_holds_will_be_free_when_the_turn_comes() -> None:
    assert others_hold(use((7, 15 * GB), (8, 2 * GB)), {7}) == 5 * GB
    assert others_hold(use((7, 15 * GB)), ()) == 20 * GB


def test_where_the_driver_does_not_tell_nothing_is_charged_to_others_while_an_engine_is_there() -> None:
    assert others_hold(use((7, None)), {7}) == 0
    assert others_hold(use(), {7}) == 0


def test_a_run_fits_a_card_or_does_not_with_a_number(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    small, large = Card(24 * GB).need(base, Recipe()), Card(GB // 4).need(base, Recipe())
    assert small.fits is True
    assert large.fits is False
    assert small.bytes is not None
    assert GB // 4 < small.bytes < 24 * GB
    assert Card(24 * GB, 24 * GB - small.bytes // 2).need(base, Recipe()).fits is False
    taught = Card(24 * GB, 0, GB).need(base, Recipe())
    assert taught.bytes == small.bytes + GB


def test_of_a_base_that_is_gone_or_a_target_it_lacks_nothing_is_said(tmp_path: Path) -> None:
    assert Card(24 * GB).need(tmp_path / "gone", Recipe()) == Need(None, "")
    assert Need().fits is None
    strange = replaced(Recipe(), "adapter.targets", ["no_such_layer"])
    assert Card(24 * GB).need(write_base(tmp_path / "base"), strange).fits is None


def test_without_a_card_there_is_nothing_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "card_uses", dict)
    assert Card.here(Workspace(tmp_path)) is None
    monkeypatch.setattr(waiting, "card_uses", lambda: {"GPU-1": use((7, 15 * GB))})
    assert Card.here(Workspace(tmp_path), {7}) == Card(24 * GB, 5 * GB)
