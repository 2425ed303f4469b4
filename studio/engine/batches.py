"""Which rows an optimizer step sees, and how they lie in memory.

The order of rows is a pure function of the seed and the step: there is no sampler to save, and a run that goes on from step k
sees exactly what it would have seen. Packing lays several conversations into one row, best fit first; positions restart with
each, which is how every attention path of transformers learns where one ends, *provided* no attention mask is passed and no
key-value cache is made. With either, conversations silently read each other.

Shapes: B rows, T tokens per row.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.engine.loss import IGNORED
from studio.engine.template import Example
from studio.recipe.recipe import Recipe, Training

WIDTH_MULTIPLE = 32


@dataclass(frozen=True)
class Boundaries:
    """Where conversations begin in a batch read row by row: S + 1 offsets (int32, 0 first, B x T last), and the longest."""

    starts_S: Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Boundaries:
        """From the length of each stretch, padding included as a stretch of its own."""
        return cls(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), max(lengths))


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass sees.

    `targets_BT` holds the token to be predicted at each position, or `IGNORED`; `supervised_N` says where it is not
    ignored, as offsets into the flattened batch. That is worked out here, on the CPU: asking the card for it later would
    make both wait. `rows` are (row of the dataset, tokens learnt from it) in the order of `supervised_N`.
    """

    ids_BT: Tensor
    positions_BT: Tensor
    targets_BT: Tensor
    supervised_N: Tensor
    boundaries: Boundaries
    num_tokens: int
    rows: tuple[tuple[int, int], ...] = ()

    @property
    def num_supervised(self) -> int:
        """Tokens that are learnt from."""
        return len(self.supervised_N)

    def pinned(self) -> MicroBatch:
        """The same in memory from which a card can fetch it while the processor goes on."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> MicroBatch:
        """The same on `device`; from pinned memory without waiting for it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> MicroBatch:
        return MicroBatch(
            ids_BT=change(self.ids_BT),
            positions_BT=change(self.positions_BT),
            targets_BT=change(self.targets_BT),
            supervised_N=change(self.supervised_N),
            boundaries=Boundaries(change(self.boundaries.starts_S), self.boundaries.longest),
            num_tokens=self.num_tokens,
            rows=self.rows,
        )


@dataclass(frozen=True)
class Schedule:
    """Which rows each optimizer step takes. Steps count from 1; the last step of an epoch may be smaller."""

    num_rows: int
    batch_rows: int
    num_steps: int
    seed: int

    @classmethod
    def of(cls, training: Training, num_rows: int) -> Schedule:
        """The schedule that the recipe asks for."""
        batch_rows = min(training.batch_rows, num_rows)
        per_epoch = math.ceil(num_rows / batch_rows)
        num_steps = training.steps or math.ceil((training.epochs or 1) * per_epoch)
        return cls(num_rows, batch_rows, num_steps, training.seed)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps until every row was seen once."""
        return math.ceil(self.num_rows / self.batch_rows)

    def epoch(self, step: int) -> float:
        """Epochs done after `step`, as a fraction."""
        return step / self.steps_per_epoch

    def rows(self, step: int) -> list[int]:
        """Indices of the rows of `step`."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        order = _order(self.num_rows, self.seed, epoch)
        return [int(row) for row in order[place * self.batch_rows : (place + 1) * self.batch_rows]]


@lru_cache(maxsize=2)
def _order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """All rows in the order of one epoch. Kept for its steps: shuffling millions of rows takes longer than many a step."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


@dataclass(frozen=True)
class Layout:
    """How rows become forward passes. Exactly one of the two limits is set.

    Widths are rounded up to `multiple` tokens: a CPU's matrix library keeps a plan of some megabytes per width it has seen,
    and a card's allocator a block, so that free widths look like a leak.
    """

    packing: bool
    pad_id: int
    micro_batch_tokens: int | None = None
    micro_batch_rows: int | None = None
    multiple: int = 1

    @classmethod
    def of(cls, recipe: Recipe, pad_id: int, context_tokens: int) -> Layout:
        """The layout that the recipe asks for on a base that reads `context_tokens`."""
        training = recipe.training
        # Learnt position embeddings end at the context: padding must not reach beyond it.
        multiple = WIDTH_MULTIPLE if recipe.data.max_tokens + WIDTH_MULTIPLE <= context_tokens else 1
        return cls(recipe.data.packing, pad_id, training.micro_batch_tokens, training.micro_batch_rows, multiple)


def micro_batches(examples: Sequence[Example], layout: Layout) -> list[MicroBatch]:
    """Lay the rows of one optimizer step out as forward passes; none for no rows."""
    if not examples:
        return []
    longest = max(len(example.ids) for example in examples)
    if layout.packing:
        # At least one row fits by itself, however long it is: rows were cut to max_tokens before.
        room = max(layout.micro_batch_tokens or (layout.micro_batch_rows or 1) * longest, longest)
        return [collate([pack], layout.pad_id, layout.multiple) for pack in best_fit(examples, room)]
    groups: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: len(example.ids), reverse=True):
        if groups and _fits(groups[-1], layout):
            groups[-1].append(example)
        else:
            groups.append([example])
    return [collate([[example] for example in group], layout.pad_id, layout.multiple) for group in groups]


def _fits(group: list[Example], layout: Layout) -> bool:
    """Whether one more row may join a group whose first row is its longest."""
    if layout.micro_batch_rows is not None:
        return len(group) < layout.micro_batch_rows
    return (len(group) + 1) * len(group[0].ids) <= (layout.micro_batch_tokens or 0)


def best_fit(examples: Sequence[Example], room_tokens: int) -> list[list[Example]]:
    """Best-fit decreasing bin packing: each row goes where it leaves the least room, of several such the first."""
    packs: list[list[Example]] = []
    # (room left, number of the pack), the least room first.
    rooms: list[tuple[int, int]] = []
    for example in sorted(examples, key=lambda example: len(example.ids), reverse=True):
        length = len(example.ids)
        place = bisect_left(rooms, (length, 0))
        if place == len(rooms):
            room, best = room_tokens, len(packs)
            packs.append([])
        else:
            room, best = rooms.pop(place)
        packs[best].append(example)
        insort(rooms, (room - length, best))
    return packs


def collate(rows: Sequence[Sequence[Example]], pad_id: int, multiple: int = 1) -> MicroBatch:
    """Rows of one or more examples each, as tensors. Padding lies at the end, where causal attention never looks."""
    width = math.ceil(max(sum(len(example.ids) for example in row) for row in rows) / multiple) * multiple
    # In numpy: it starts no threads of its own, and a step may be computing beside us.
    ids_BT = np.full((len(rows), width), pad_id, dtype=np.int64)
    targets_BT = np.full((len(rows), width), IGNORED, dtype=np.int64)
    positions_BT = np.zeros((len(rows), width), dtype=np.int64)
    lengths: list[int] = []
    for b, row in enumerate(rows):
        start = 0
        for example in row:
            end = start + len(example.ids)
            ids_BT[b, start:end] = example.ids
            positions_BT[b, start:end] = np.arange(end - start)
            # At each position the *next* token is asked for; the last has none, so nothing crosses into the neighbour.
            targets_BT[b, start : end - 1] = np.where(example.trained[1:], example.ids[1:], IGNORED)
            start = end
        lengths += [len(example.ids) for example in row] + ([width - start] if start < width else [])
        # A row of one example goes on counting, so that it is not taken for a packed one; a packed row counts anew.
        first = start if len(row) == 1 else 0
        positions_BT[b, start:] = np.arange(first, first + width - start)
    return MicroBatch(
        ids_BT=torch.from_numpy(ids_BT),
        positions_BT=torch.from_numpy(positions_BT),
        targets_BT=torch.from_numpy(targets_BT),
        supervised_N=torch.from_numpy(np.flatnonzero(targets_BT != IGNORED)),
        boundaries=Boundaries.of(lengths),
        num_tokens=sum(len(example.ids) for row in rows for example in row),
        rows=tuple((example.row, example.num_supervised) for row in rows for example in row),
    )
