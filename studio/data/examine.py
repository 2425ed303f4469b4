"""A dataset looked through once, from the first row to the last, in bounded memory: what is in it, and what is wrong with it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio.data.checks import warnings
from studio.data.conversation import Conversation, RowProblem
from studio.data.formats import Mapping
from studio.data.glance import Glance, Glancing
from studio.data.near import NearTexts
from studio.data.reading import Progress, raw_rows
from studio.data.rows import judge
from studio.data.sides import Sides
from studio.data.survey import Quantiles, content_digest, positions, prompt_digest, side_digest

MOST_KEPT = 10_000
_BATCH_ROWS, _BATCH_CHARACTERS = 512, 1_000_000


@dataclass(frozen=True)
class Options:
    """What to look for. `fraction`, `seed` and `group_by` are those of the split that leakage is looked for in."""

    near: bool = True
    privacy: bool = False
    fraction: float = 0.05
    seed: int = 42
    group_by: str = ""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows that go together with an earlier one, each with that one; int64 arrays of row numbers."""

    rows: NDArray[np.int64]
    earlier: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.rows)

    def first(self, most: int) -> list[tuple[int, int]]:
        """The first of them as (row, earlier row)."""
        return list(zip(self.rows[:most].tolist(), self.earlier[:most].tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Report:
    """All rows are counted; the first `MOST_KEPT` problems and warnings are kept with their places.

    `repeats` are exact, `near` ones are not and count rows beyond the first of their likes; `conflicts` are rows with the
    question of an earlier row and another answer; `leaks` are held-out rows that a row to be learnt nearly repeats, or that
    have its question. `num_compared` rows took part in the search for near ones. `privacy` tells whether secrets and e-mail
    addresses were looked for.
    """

    num_rows: int
    num_good: int
    formats: dict[str, int]
    problems: tuple[RowProblem, ...]
    problem_counts: dict[str, int]
    warnings: tuple[RowProblem, ...]
    warning_counts: dict[str, int]
    characters: Quantiles
    num_characters: int
    turns: Quantiles
    roles: dict[str, int]
    glance: Glance
    repeats: Pairs
    near: Pairs
    conflicts: Pairs
    leaks: Pairs
    sides: Sides
    num_compared: int
    privacy: bool


@dataclass
class _Tally:
    """What is gathered on the way: some 190 bytes for each good row."""

    options: Options
    formats: Counter[str] = field(default_factory=Counter)
    problems: list[RowProblem] = field(default_factory=list)
    problem_counts: Counter[str] = field(default_factory=Counter)
    warnings: list[RowProblem] = field(default_factory=list)
    warning_counts: Counter[str] = field(default_factory=Counter)
    roles: Counter[str] = field(default_factory=Counter)
    rows: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    turns: array[int] = field(default_factory=lambda: array("q"))
    digests: bytearray = field(default_factory=bytearray)
    sides: bytearray = field(default_factory=bytearray)
    prompts: bytearray = field(default_factory=bytearray)
    near: NearTexts = field(default_factory=NearTexts)
    glancing: Glancing = field(default_factory=Glancing)

    def left_out(self, problem: RowProblem) -> None:
        self.problem_counts[problem.kind] += 1
        if len(self.problems) < MOST_KEPT:
            self.problems.append(problem)

    def kept(self, name: str, one: Conversation, file: str) -> None:
        self.formats[name] += 1
        self.rows.append(one.row)
        self.characters.append(one.num_characters)
        self.turns.append(len(one.messages))
        self.roles.update(message.role for message in one.messages)
        self.glancing.add(one)
        content = content_digest(one)
        self.digests += content[:8]
        self.sides += side_digest(one) if one.group else content
        self.prompts += prompt_digest(one)[:8]
        for warning in warnings(one, privacy=self.options.privacy, file=file):
            self.warning_counts[warning.kind] += 1
            if len(self.warnings) < MOST_KEPT:
                self.warnings.append(warning)


def examine(
    path: Path, options: Options | None = None, mapping: Mapping | None = None, progress: Progress | None = None
) -> Report:
    """Look through a dataset. What `progress` raises ends it. Raises `DataError` if it cannot be read at all; one without a
    good row has a report like any other."""
    tally = _Tally(options or Options())
    for batch in _batches(path, tally, mapping, progress):
        if tally.options.near:
            tally.near.add(batch)
    return _report(tally)


def _batches(path: Path, tally: _Tally, mapping: Mapping | None, progress: Progress | None) -> Iterator[list[str]]:
    """Tallies each row, and hands out the texts of the good ones."""
    texts: list[str] = []
    size = 0
    for raw in raw_rows(path, progress):
        found = raw if isinstance(raw, RowProblem) else judge(raw, mapping, tally.options.group_by)
        if isinstance(found, RowProblem):
            tally.left_out(found)
            continue
        name, one = found
        tally.kept(name, one, raw.file)
        texts.append("\n".join(message.content for message in one.messages))
        size += one.num_characters
        if len(texts) == _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            yield texts
            texts, size = [], 0
    yield texts


def _report(tally: _Tally) -> Report:
    rows = np.array(tally.rows, dtype=np.int64)
    whole, prompts = _numbers(tally.digests), _numbers(tally.prompts)
    repeats, same_prompt = _first_of(whole), _first_of(prompts)
    earlier = tally.near.near()
    near = np.full(len(rows), -1, dtype=np.int64)
    near[: len(earlier)] = earlier
    sides = _sides(tally, rows, same_prompt, near)
    conflicts = np.where((same_prompt >= 0) & (whole != whole[same_prompt]) & (repeats < 0), same_prompt, -1)
    return Report(
        num_rows=len(rows) + tally.problem_counts.total(),
        num_good=len(rows),
        formats=dict(tally.formats.most_common()),
        problems=tuple(tally.problems),
        problem_counts=dict(tally.problem_counts.most_common()),
        warnings=tuple(tally.warnings),
        warning_counts=dict(tally.warning_counts.most_common()),
        characters=_quantiles(tally.characters),
        num_characters=sum(tally.characters),
        turns=_quantiles(tally.turns),
        roles=dict(tally.roles.most_common()),
        glance=tally.glancing.glance(),
        repeats=_pairs(rows, repeats),
        near=_pairs(rows, np.where(repeats < 0, near, -1)),
        conflicts=_pairs(rows, conflicts),
        leaks=_pairs(rows, sides.leaks(tally.options.fraction)),
        sides=sides,
        num_compared=tally.near.num_compared,
        privacy=tally.options.privacy,
    )


def _sides(tally: _Tally, rows: NDArray[np.int64], same_prompt: NDArray[np.int64], near: NDArray[np.int64]) -> Sides:
    digests = (bytes(tally.sides[place : place + 32]) for place in range(0, len(tally.sides), 32))
    return Sides(rows, positions(digests, tally.options.seed), (same_prompt, near))


def _numbers(digests: bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(bytes(digests), dtype=np.uint64)


def _first_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each key the place of the first that equals it, -1 for the first itself."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found = first[inverse]
    return np.where(found == np.arange(len(keys)), -1, found)


def _pairs(rows: NDArray[np.int64], earlier: NDArray[np.int64]) -> Pairs:
    places = np.flatnonzero(earlier >= 0)
    return Pairs(rows[places], rows[earlier[places]])


def _quantiles(numbers: array[int]) -> Quantiles:
    if not numbers:
        return Quantiles(0, 0, 0)
    p50, p95 = (int(np.quantile(np.array(numbers), share, method="inverted_cdf")) for share in (0.5, 0.95))
    return Quantiles(p50, p95, max(numbers))
