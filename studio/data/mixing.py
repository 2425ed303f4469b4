"""Several datasets become one, each with its weight: 2 takes every row twice, 0.5 every second one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.data.canonical import canonical, to_line
from studio.data.conversation import RowProblem
from studio.data.formats import Mapping
from studio.data.reading import raw_rows
from studio.errors import DataError

MOST_WEIGHT = 100.0


@dataclass
class Part:
    """One dataset of a mixture. `num_good`, `num_taken` and `problems` are filled in while it is read."""

    path: Path
    weight: float = 1.0
    mapping: Mapping | None = None
    num_good: int = 0
    num_taken: int = 0
    problems: list[RowProblem] = field(default_factory=list)


def mixed(parts: Sequence[Part], seed: int = 42) -> Iterator[dict[str, Any]]:
    """Rows in canonical form, part after part: training draws their order anyway.

    Which rows a weight that is not whole takes once more follows from their contents and the seed alone, so that a row added to
    a part changes nothing for the others. Raises `DataError` for a weight that is none.
    """
    for part in parts:
        if not 0 < part.weight <= MOST_WEIGHT:
            raise DataError(
                f"{part.path.name} cannot have the weight {part.weight:g}.",
                f"Use one above 0, at most {MOST_WEIGHT:g}.",
            )
    for part in parts:
        whole, rest = divmod(part.weight, 1)
        for raw in raw_rows(part.path):
            value = raw if isinstance(raw, RowProblem) else canonical(raw, part.mapping)
            if isinstance(value, RowProblem):
                part.problems.append(value)
                continue
            times = int(whole) + (_position(to_line(value), seed) < rest)
            part.num_good += 1
            part.num_taken += times
            for _ in range(times):
                yield value


def _position(line: bytes, seed: int) -> float:
    """From 0 to 1, evenly spread."""
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + line).digest()[:8], "big") / 2.0**64
