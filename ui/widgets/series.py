"""Curves before they are drawn: growing, smoothed, and thinned out to what a screen can show. No Qt in here."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_POINTS = 1000


class Series:
    """Steps and values that grow. A NaN value is a gap, never a zero; buffers double when they are full."""

    def __init__(self) -> None:
        self._steps: Floats = np.empty(256)
        self._values: Floats = np.empty(256)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> Floats:
        """The steps, shape (n,)."""
        return self._steps[: self._count]

    @property
    def values(self) -> Floats:
        """The values, shape (n,)."""
        return self._values[: self._count]

    def set(self, steps: Sequence[float] | Floats, values: Sequence[float] | Floats) -> None:
        """Replace everything."""
        assert len(steps) == len(values)
        self._steps = np.array(steps, dtype=np.float64)
        self._values = np.array(values, dtype=np.float64)
        self._values[~np.isfinite(self._values)] = np.nan
        self._count = len(steps)

    def append(self, step: float, value: float) -> None:
        """Add one point; an infinite value counts as a gap too."""
        if self._count == len(self._steps):
            room = np.empty(max(256, len(self._steps)))
            self._steps = np.concatenate([self._steps, room])
            self._values = np.concatenate([self._values, room])
        self._steps[self._count] = step
        self._values[self._count] = value if math.isfinite(value) else math.nan
        self._count += 1


def smooth(values: Floats, weight: float) -> Floats:
    """Exponential moving average with its start-up bias divided out (Kingma and Ba 2015, section 3).

    `weight` is the share of the past, 0 to below 1. Gaps stay gaps, and the average starts afresh behind one: what
    lies on the two sides of a NaN does not belong together.
    """
    result = np.empty_like(values)
    average, share = 0.0, 1.0
    for index, value in enumerate(values.tolist()):
        if math.isnan(value):
            average, share = 0.0, 1.0
            result[index] = math.nan
            continue
        average = weight * average + (1.0 - weight) * value
        share *= weight
        result[index] = average / (1.0 - share)
    return result


def broken(
    steps: Floats, values: Floats, breaks: Collection[float], *, every_step: bool = True
) -> tuple[Floats, Floats]:
    """The curve with a gap behind each step of `breaks`: what lies beyond did not follow. A curve that has a value at
    `every_step` has one wherever steps are missing, too."""
    if not len(steps):
        return steps, values
    behind = np.searchsorted(steps, np.array(sorted(breaks)), "right")
    missing = np.flatnonzero(np.diff(steps) > 1) + 1 if every_step else np.empty(0, dtype=np.int64)
    gaps = np.unique(np.concatenate([behind[(behind > 0) & (behind < len(steps))], missing]))
    between = (steps[gaps - 1] + steps[gaps]) / 2
    return np.insert(steps, gaps, between), np.insert(values, gaps, math.nan)


@dataclass(frozen=True)
class Scale:
    """What a step axis counts instead of steps: epochs, tokens or minutes, known at `steps` as `places` (both rising).

    Beyond the last known step it goes on at the average pace. Without any, it counts steps.
    """

    steps: Floats = field(default_factory=lambda: np.empty(0))
    places: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def counts_steps(self) -> bool:
        """Whether it is the axis of steps itself."""
        return not len(self.steps)

    def at(self, steps: Floats) -> Floats:
        """Where these steps stand on the axis."""
        return steps if self.counts_steps else _beyond(steps, self.steps, self.places)

    def steps_at(self, places: Floats) -> Floats:
        """The steps that stand there."""
        return places if self.counts_steps else _beyond(places, self.places, self.steps)


def _beyond(wanted: Floats, known: Floats, values: Floats) -> Floats:
    """Linear interpolation from (0, 0) on, and beyond the last known point at the average pace up to it."""
    inside: Floats = np.interp(wanted, np.concatenate([[0.0], known]), np.concatenate([[0.0], values]))
    pace = values[-1] / known[-1] if known[-1] > 0 else 0.0
    result: Floats = np.where(wanted > known[-1], wanted * pace, inside)
    return result


def thinned(steps: Floats, values: Floats, most: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """At most `most` points that keep each bucket's lowest and highest value, and every gap at least one point wide."""
    if len(steps) <= most:
        return steps, values
    xs: list[float] = []
    ys: list[float] = []
    edges = np.linspace(0, len(steps), most // 3 + 1).astype(int)
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:end]
        finite = np.flatnonzero(~np.isnan(part))
        picked = (
            sorted({int(finite[np.argmin(part[finite])]), int(finite[np.argmax(part[finite])])}) if len(finite) else []
        )
        if len(finite) < len(part):
            picked.append(int(np.flatnonzero(np.isnan(part))[0]))
            picked.sort()
        xs += steps[start:end][picked].tolist()
        ys += part[picked].tolist()
    return np.array(xs), np.array(ys)


def nice_ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Two to `most` round numbers between `low` and `high`, one step of 1, 2, 2.5 or 5 apart; `whole`: integers only."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    if whole:
        power = max(power, 1.0)
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50)):
        if whole and not step.is_integer():
            continue
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(index * step, 12) for index in range(first, last + 1)]
    return [low, high]


def logarithms(values: Floats) -> Floats:
    """log10 of each value, shape (n,); what has none, zero as much as NaN, is a gap."""
    result = np.full(len(values), math.nan)
    np.log10(values, out=result, where=values > 0)
    return result


def logarithmic_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` logarithms between `low` and `high` whose numbers are round: 1, 2 and 5 times a power of ten, the powers
    alone, or every so many of those. Within less than a factor of two they are as far apart as on a plain axis."""
    if not (high > low and math.isfinite(high - low)):
        return [low]
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [exponent + math.log10(factor) for exponent in decades for factor in factors]
        inside = [tick for tick in ticks if low <= tick <= high]
        if 2 <= len(inside) <= most:
            return inside
    if len(inside) < 2:
        return [math.log10(tick) for tick in nice_ticks(10**low, 10**high, most) if tick > 0]
    return inside[:: -(-len(inside) // most)]


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Tick labels, all with as many decimals as the step needs: `2e-4`, `0.5`, `1.0`, `2 k`."""
    if len(ticks) < 2:
        return [f"{tick:g}" for tick in ticks]
    step = abs(ticks[1] - ticks[0])
    largest = max(abs(tick) for tick in ticks)
    if largest < 0.01:
        return ["0" if tick == 0 else _scientific(tick) for tick in ticks]
    if largest >= 10_000:
        return [f"{tick / 1000:g} k" if tick else "0" for tick in ticks]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals == 0 and not float(step).is_integer():
        decimals = 1
    if not math.isclose(step * 10**decimals, round(step * 10**decimals)):
        decimals += 1
    return [f"{tick:,.{decimals}f}" for tick in ticks]
