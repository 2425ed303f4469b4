"""Which rows are hard to predict: the mean loss of each row, overheard from the passes that training and evaluation make anyway.

The loss works out each token's share before it adds them up; here they are added up by row. On a card the shares come to the
processor beside the computation and are looked at when it has waited for the card anyway, so that listening delays nothing.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studio.engine.batches import MicroBatch
from studio.engine.ranks import Ranks
from studio.engine.template import Example
from studio.runs.events import RowsJudged

MOST_TRAINED, MOST_HELD_OUT = 15, 5
# Rows that were read longer ago are not told of: the model they were read by was another.
MOST_REMEMBERED = 4096
TEXT_CHARACTERS = 300
_MISSING = -1.0


@dataclass(frozen=True)
class Reading:
    """What one row cost when it was last read, at `step`: `loss` is the mean over its supervised tokens."""

    row: int
    loss: float
    num_supervised: int
    step: int
    is_held_out: bool


class Judge:
    """Listens to a learner and remembers the rows last read. It starts anew with each process."""

    def __init__(self) -> None:
        self.step = 0
        self._unheard: list[tuple[MicroBatch, Tensor, bool]] = []
        self._trained: dict[int, Reading] = {}
        self._held_out: dict[int, Reading] = {}

    def sheet(self, batch: MicroBatch, device: torch.device) -> Tensor:
        """Room for the loss of each supervised token of `batch`, (N,) in fp32: too little for the estimate to tell of."""
        return torch.empty(batch.num_supervised, dtype=torch.float32, device=device)

    def listen(self, batch: MicroBatch, each_N: Tensor, is_held_out: bool) -> None:
        """Take note of a sheet that was filled. A card is not waited for; an evaluation has waited for the sheet before."""
        if is_held_out:
            self._hear()
        if each_N.is_cuda:
            beside = torch.empty(each_N.shape, pin_memory=True)
            beside.copy_(each_N, non_blocking=True)
            each_N = beside
        self._unheard.append((batch, each_N, is_held_out))

    def begin(self, step: int) -> None:
        """What is read from now on is read for `step`. The card must have been waited for since the last `listen`."""
        self._hear()
        self.step = step

    def worst(self, ranks: Ranks) -> list[Reading]:
        """The hardest rows since this was asked last, of all `ranks`, worst first. Every rank asks; the card was waited for."""
        self._hear()
        worst = [
            *_worst(self._trained.values(), MOST_TRAINED),
            *_worst(self._held_out.values(), MOST_HELD_OUT),
        ]
        self._trained, self._held_out = {}, {}
        if ranks.count > 1:
            worst = [found for told in ranks.gathered(*_as_numbers(worst)) for found in _from_numbers(told)]
        trained = [found for found in worst if not found.is_held_out]
        held_out = [found for found in worst if found.is_held_out]
        return _worst([*_worst(trained, MOST_TRAINED), *_worst(held_out, MOST_HELD_OUT)], len(worst))

    def _hear(self) -> None:
        for batch, each_N, is_held_out in self._unheard:
            kept = self._held_out if is_held_out else self._trained
            for reading in _readings(batch, each_N.numpy(), self.step, is_held_out):
                kept.pop(reading.row, None)  # to the end of the order
                kept[reading.row] = reading
        self._unheard = []
        while len(self._trained) > MOST_REMEMBERED:
            del self._trained[next(iter(self._trained))]


def _readings(batch: MicroBatch, each_N: NDArray[np.float32], step: int, is_held_out: bool) -> list[Reading]:
    found, start = [], 0
    for row, count in batch.rows:
        loss = float(np.mean(each_N[start : start + count], dtype=np.float64)) if count else math.nan
        start += count
        if math.isfinite(loss):
            found.append(Reading(row, loss, count, step, is_held_out))
    return found


def _worst(readings: Iterable[Reading], most: int) -> list[Reading]:
    return heapq.nlargest(most, readings, key=lambda reading: (reading.loss, -reading.row))


def _as_numbers(readings: Sequence[Reading]) -> list[float]:
    """Always as many numbers, so that ranks can exchange them."""
    rows = [
        [float(one.row), one.loss, float(one.num_supervised), float(one.step), float(one.is_held_out)]
        for one in readings
    ]
    rows += [[_MISSING] * 5] * (MOST_TRAINED + MOST_HELD_OUT - len(rows))
    return [number for row in rows for number in row]


def _from_numbers(numbers: Sequence[float]) -> list[Reading]:
    rows = [numbers[start : start + 5] for start in range(0, len(numbers), 5)]
    return [
        Reading(int(row), loss, int(count), int(step), bool(held_out))
        for row, loss, count, step, held_out in rows
        if row != _MISSING
    ]


def judged(
    step: int,
    worst: Sequence[Reading],
    rows: Sequence[Example],
    held_out: Sequence[Example],
    decode: Callable[[list[int]], str],
) -> RowsJudged:
    """The readings as an event, each with the beginning of its answers and the end of what comes before them."""
    told = [
        {
            "row": one.row,
            "loss": one.loss,
            "num_supervised": one.num_supervised,
            "step": one.step,
            "held_out": one.is_held_out,
            **_texts(find_row(held_out if one.is_held_out else rows, one.row), decode),
        }
        for one in worst
    ]
    return RowsJudged(step=step, rows=told)


def _texts(example: Example | None, decode: Callable[[list[int]], str]) -> dict[str, str]:
    if example is None:
        return {"prompt": "", "answer": ""}
    first = int(np.argmax(example.trained))
    before, answer = example.ids[:first], example.ids[first:][example.trained[first:]]
    # A token is rarely less than a character; the one too many tells that the text goes on.
    prompt = decode(before[-TEXT_CHARACTERS - 1 :].tolist()).strip()
    told = decode(answer[: TEXT_CHARACTERS + 1].tolist()).strip()
    return {"prompt": _cut(prompt, from_end=True), "answer": _cut(told)}


def _cut(text: str, *, from_end: bool = False) -> str:
    if len(text) <= TEXT_CHARACTERS:
        return text
    return f"…{text[-TEXT_CHARACTERS:]}" if from_end else f"{text[:TEXT_CHARACTERS]}…"


def find_row(rows: Sequence[Example], row: int) -> Example | None:
    """The example of this row of the dataset among `rows`, which lie in the dataset's order; None if it is not there."""
    place = bisect_left(rows, row, key=lambda example: example.row)
    return rows[place] if place < len(rows) and rows[place].row == row else None
