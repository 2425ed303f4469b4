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
from studio.data.opening import num_bytes
from studio.data.reading import Progress, raw_rows
from studio.data.rows import judge
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


@dataclass(frozen=True)
class Weighed:
    """What there is of a dataset to be mixed: its rows, those that can be used, and the characters of these."""

    num_rows: int
    num_good: int
    num_characters: int


def weigh(path: Path, mapping: Mapping | None = None, progress: Progress | None = None) -> Weighed:
    """Count a dataset. Raises `DataError` if it cannot be read."""
    num_rows = num_good = num_characters = 0
    for raw in raw_rows(path, progress):
        found = raw if isinstance(raw, RowProblem) else judge(raw, mapping)
        num_rows += 1
        if not isinstance(found, RowProblem):
            num_good += 1
            num_characters += found[1].num_characters
    return Weighed(num_rows, num_good, num_characters)


def shares(parts: Sequence[tuple[Weighed, float]]) -> list[tuple[int, float]]:
    """For each dataset with its weight: about how many rows it gives (exactly, where the weight is whole), and its share of the
    mixture's text, from 0 to 1."""
    sizes = [one.num_characters * weight for one, weight in parts]
    total = sum(sizes) or 1.0
    return [(round(one.num_good * weight), size / total) for (one, weight), size in zip(parts, sizes, strict=True)]


def mixed(parts: Sequence[Part], seed: int = 42, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
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
    sizes = [num_bytes(part.path) for part in parts]
    for place, part in enumerate(parts):
        whole, rest = divmod(part.weight, 1)
        for raw in raw_rows(part.path, _shifted(progress, sum(sizes[:place]), sum(sizes))):
            value = raw if isinstance(raw, RowProblem) else canonical(raw, part.mapping)
            if isinstance(value, RowProblem):
                part.problems.append(value)
                continue
            times = int(whole) + (_position(to_line(value), seed) < rest)
            part.num_good += 1
            part.num_taken += times
            for _ in range(times):
                yield value


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of one part among all."""
    return (lambda done, _: progress(min(before + done, total), total)) if progress else None


def _position(line: bytes, seed: int) -> float:
    """From 0 to 1, evenly spread."""
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + line).digest()[:8], "big") / 2.0**64
