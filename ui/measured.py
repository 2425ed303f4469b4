"""The memory a run was measured to hold beside what was estimated for it, in the user's words. No widget, no disk."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QCoreApplication

from studio.runs.state import RunState
from ui.widgets.memory_layout import BYTES_PER_GB, gb_text


def _tr(text: str) -> str:
    return QCoreApplication.translate("measured", text)


@dataclass(frozen=True)
class Peak:
    """Bytes of the whole process at its peak; None for what is not known. Only a run on a card has an estimate to compare."""

    on_card: bool
    measured_bytes: int | None
    estimated_bytes: int | None
    card_bytes: int | None = None

    @classmethod
    def of(cls, state: RunState) -> Peak:
        """What `state` has of it. A resumed run is a new process with a peak of its own: the highest counts."""
        estimate, measured = state.estimate, [size for _, size in curve(state)]
        on_card = state.device.startswith("cuda")
        comparable = estimate is not None and on_card and estimate.process_bytes > 0
        return cls(
            on_card,
            max(measured, default=None),
            estimate.process_bytes if estimate is not None and comparable else None,
            estimate.card_bytes if estimate is not None and on_card else None,
        )

    @property
    def text(self) -> str:
        """`6.1 GB measured, about 6.4 GB estimated`, as far as it is known; "" if nothing was measured."""
        if self.measured_bytes is None:
            return ""
        if self.estimated_bytes is not None:
            words = _tr("{0} GB measured, \u2248 {1} GB estimated")
            return words.format(gb_text(self.measured_bytes), gb_text(self.estimated_bytes))
        if self.on_card:
            return _tr("{0} GB measured, no estimate").format(gb_text(self.measured_bytes))
        return _tr("{0} GB of main memory measured").format(gb_text(self.measured_bytes))


def layers(state: RunState) -> str:
    """`Auto: 18 of 32 layers recomputed`, where the run left that to the memory there was; else ""."""
    estimate = state.estimate
    if estimate is None or not estimate.is_auto:
        return ""
    return _tr("Auto: {0} of {1} layers recomputed").format(estimate.num_checkpointed, estimate.num_layers)


def curve(state: RunState) -> list[tuple[int, int]]:
    """(step, bytes of the process) of what was really measured: a size of nothing is none."""
    return [(step, size) for step, size, _ in state.memory_curve if math.isfinite(size) and size > 0]


def gigabytes(state: RunState) -> tuple[list[int], list[float]]:
    """Steps and sizes in GB of the measured curve, to be drawn."""
    points = curve(state)
    return [step for step, _ in points], [size / BYTES_PER_GB for _, size in points]
