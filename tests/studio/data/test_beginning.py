"""A large dataset is looked at by its beginning, and says that it was; a small one is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from studio.data import beginning as module
from studio.data.beginning import look_at_beginning
from studio.data.chosen import Chosen
from studio.data.formats import Mapping
from studio.errors import DataError

GOOD = {"prompt": "Who are you?", "completion": "A pirate. " * 20}
NUM_ROWS = 3000


def rows(count: int) -> list[Any]:
    """Every tenth is no conversation."""
    return [{"prompt": "", "completion": "x"} if n % 10 == 5 else {**GOOD, "id": n} for n in range(count)]


def write(path: Path, values: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(values), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(values), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_large_dataset_is_reckoned_from_its_beginning(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, rows(NUM_ROWS))
    whole = look_at_beginning(Chosen(path, ""))
    assert (whole.num_rows, whole.num_good, whole.is_whole) == (NUM_ROWS, NUM_ROWS * 9 // 10, True)
    monkeypatch.setattr(module, "MOST_CHARACTERS", 200_000)
    found = look_at_beginning(Chosen(path, ""))
    assert not found.is_whole
    assert abs(found.num_rows / NUM_ROWS - 1) < 0.1
    assert abs(found.num_good / whole.num_good - 1) < 0.1
    assert 0 < len(found.problems) < 100
    # What the rest may hold is not known.
    assert (found.num_duplicates, found.most_characters) == (0, 0)


def test_a_beginning_without_a_good_row_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    path = write(tmp_path / "rows.jsonl", [{"Frage": "a", "Antwort": "b"}] * 9)
    assert look_at_beginning(Chosen(path, "", Mapping("Frage", "Antwort"))).num_good == 9
    with pytest.raises(DataError, match="none of its first 5 rows"):
        look_at_beginning(Chosen(path, ""))
