"""The split that is shown is the split that is trained with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.data.examine import Options, examine
from studio.data.rows import stream
from studio.data.sides import Sides
from studio.data.survey import split
from studio.errors import DamagedError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"q{n // 2}", "answer": f"a{n}", "customer": n // 5} for n in range(60)]
    path.write_text("broken\n" + "".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("group_by", ["", "customer"])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5])
def test_any_fraction_parts_the_rows_as_training_does(data: Path, fraction: float, group_by: str) -> None:
    sides = examine(data, Options(fraction=0.2, seed=7, group_by=group_by)).sides
    found = sides.at(fraction)
    train, held = split(list(stream(data, group_by=group_by)), fraction, 7)
    assert found.train.tolist() == [one.row for one in train]
    assert found.held_out.tolist() == [one.row for one in held]
    assert found.num_leaks == examine(data, Options(fraction=fraction, seed=7, group_by=group_by)).leaks.count
    of = {one.row: is_held for several, is_held in ((train, False), (held, True)) for one in several}
    assert [found.is_held_out(row) for row in range(61)] == [of.get(row) for row in range(61)]


def test_sides_are_kept_in_a_file(data: Path, tmp_path: Path) -> None:
    sides = examine(data).sides
    sides.save(tmp_path / "sides.npy")
    kept = Sides.load(tmp_path / "sides.npy")
    assert kept.at(0.3).held_out.tolist() == sides.at(0.3).held_out.tolist() != []
    assert kept.at(0.3).num_leaks == sides.at(0.3).num_leaks > 0
    (tmp_path / "sides.npy").write_bytes(b"\0")
    with pytest.raises(DamagedError):
        Sides.load(tmp_path / "sides.npy")
