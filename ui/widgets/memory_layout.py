"""Where the parts, ticks and numbers of the memory bar lie: plain arithmetic in whole pixels.

One GB on the bar is 2**30 bytes, as on the box of a graphics card and in the driver's own tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BYTES_PER_GB = 1 << 30
MIN_PART = 3
TICK_STEPS_GB = (0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)


@dataclass(frozen=True)
class Part:
    """One part of the budget: its name (a key of `theme.PARTS`), its label, its size and the tooltip."""

    name: str
    label: str
    num_bytes: int
    tip: str = ""


@dataclass(frozen=True)
class Span:
    """The pixels of one part, from `left` on, gap excluded."""

    part: Part
    left: int
    width: int

    @property
    def right(self) -> int:
        """The first pixel behind the part."""
        return self.left + self.width


def shares(sizes: Sequence[float], room: int, minimum: int) -> list[int]:
    """`room` whole pixels dealt out in proportion to `sizes`, none below `minimum`; the widest gives way.

    The shares add up to `room` exactly. If `room` cannot hold the minimum for all, it is dealt out evenly.
    """
    if not sizes:
        return []
    if room < minimum * len(sizes):
        return [room // len(sizes) + (1 if i < room % len(sizes) else 0) for i in range(len(sizes))]
    total = sum(sizes)
    exact = [size / total * room for size in sizes]
    dealt = [max(minimum, int(each)) for each in exact]
    rest = room - sum(dealt)
    by_remainder = sorted(range(len(sizes)), key=lambda i: dealt[i] - exact[i])
    for i in by_remainder[: max(0, rest)]:
        dealt[i] += 1
    for _ in range(max(0, -rest)):
        widest = max(range(len(dealt)), key=dealt.__getitem__)
        dealt[widest] -= 1
    return dealt


def spans(parts: Sequence[Part], scale_bytes: int, width: int, gap: int, minimum: int = MIN_PART) -> list[Span]:
    """The parts that have a size, in order from the left edge of a bar of `width` px that stands for `scale_bytes`.

    None is narrower than `minimum` px, as long as there is room.
    """
    drawn = [part for part in parts if part.num_bytes > 0]
    if not drawn or width <= 0:
        return []
    total = sum(part.num_bytes for part in drawn)
    room = min(width, round(width * total / max(scale_bytes, 1)))
    room = min(width, max(room, (minimum + gap) * len(drawn)))
    result: list[Span] = []
    left = 0
    for part, share in zip(drawn, shares([p.num_bytes for p in drawn], room, minimum + gap), strict=True):
        result.append(Span(part, left, max(1, share - gap)))
        left += share
    return result


def gb_text(num_bytes: float) -> str:
    """`13.7`: gigabytes with one decimal."""
    return f"{num_bytes / BYTES_PER_GB:.1f}"


def aligned_gb_text(num_bytes: float) -> str:
    """Gigabytes with two decimals below one and one above, padded with figure spaces so that the points align."""
    gigabytes = num_bytes / BYTES_PER_GB
    text = f"{gigabytes:.2f}" if gigabytes < 0.995 else f"{gigabytes:.1f}\u2007"
    return text.rjust(5, "\u2007")


def signed_gb_text(num_bytes: float) -> str:
    """`+0.3` or `\u22122.9`, with a real minus sign; two decimals where one would say nothing."""
    text = f"{abs(num_bytes) / BYTES_PER_GB:.1f}"
    if text == "0.0" and num_bytes:
        text = f"{abs(num_bytes) / BYTES_PER_GB:.2f}"
    return ("\u2212" if num_bytes < 0 else "+") + text


def _tick_text(gigabytes: float) -> str:
    return f"{gigabytes:.2f}".rstrip("0").rstrip(".") if gigabytes < 1 else f"{gigabytes:.1f}".removesuffix(".0")


def ticks(limit_bytes: int) -> list[tuple[float, str]]:
    """Two to six ticks up to the limit, as (bytes, text); the last one is the limit and carries the unit."""
    limit = limit_bytes / BYTES_PER_GB
    if limit <= 0:
        return []
    whole = round(limit) if abs(limit - round(limit)) < 0.06 else limit
    even = [step for step in TICK_STEPS_GB if 2 <= whole / step <= 5 and (whole / step).is_integer()]
    ample = [step for step in TICK_STEPS_GB if whole / step <= 5]
    step = min(even, key=lambda s: abs(whole / s - 4)) if even else min(ample, default=whole)
    inner = [i * step for i in range(int(whole / step) + 1) if i * step < whole - step * 0.5]
    return [(each * BYTES_PER_GB, _tick_text(each)) for each in inner] + [(limit_bytes, f"{_tick_text(whole)} GB")]
