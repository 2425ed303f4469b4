"""How far a run is: a bar, the step, the time gone, and when it will be done."""

from __future__ import annotations

import math
import time

from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from studio.runs.state import RunState, Status
from ui import theme
from ui.pages.train_now import seconds_trained
from ui.pages.train_words import duration, tr
from ui.widgets.labels import PlainLabel
from ui.widgets.numbers import format_int
from ui.wording import ABOUT, arrival


class RunProgress(QWidget):
    """The bar below the header, and the line below the bar."""

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(theme.px(8))
        self.bar.setAccessibleName(tr("Progress of the run"))
        self.percent = PlainLabel("", "strong")
        self.place = PlainLabel("", "body", "text2", elide=True)
        self.gone = PlainLabel("", "body", "text2")
        self.left = PlainLabel("", "strong")
        self.left.setContentsMargins(theme.px(8), 0, 0, 0)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(self.percent)
        row.addWidget(self.place, 1)
        row.addWidget(self.gone)
        row.addWidget(self.left)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(6))
        column.addWidget(self.bar)
        column.addLayout(row)

    def show_state(self, state: RunState, epochs: int | None, doing: str, *, is_ending: bool) -> None:
        """Show `state`; `epochs` is what the recipe asks for, `doing` what the run is about to do for the user."""
        done, total = state.step, state.num_steps
        words = tr("step {0}").format(format_int(done))
        if total:
            words = tr("step {0} of {1}").format(format_int(done), format_int(total))
        words += _epoch(state, epochs)
        if state.progress is not None:
            done, total = state.progress.done, state.progress.total
            words = tr("line {0} of {1}").format(format_int(done), format_int(total))
        self.bar.setRange(0, total or 1)
        self.bar.setValue(done)
        share = 100 * done // total if total else 0
        self.percent.setText(f"{share} %")
        self.place.setText(f"{words}, {doing}" if doing else words)
        seconds = seconds_trained(state)
        self.gone.setText(tr("{0} gone").format(duration(seconds)) if seconds else "")
        left = state.seconds_left if state.status is Status.RUNNING and not is_ending else None
        self.left.setText("" if left is None else _left(left))
        self.left.setVisible(left is not None)


def _left(seconds: float) -> str:
    """`about 18 min left, done at 15:42`."""
    return ABOUT + tr("{0} left, done at {1}").format(duration(seconds), arrival(time.time() + seconds))


def _epoch(state: RunState, epochs: int | None) -> str:
    """Which pass over the data it is, of how many where the recipe says so."""
    if not state.steps:
        return ""
    epoch = max(math.ceil(state.steps[-1].epoch), 1)
    if epochs is None:
        return tr(", epoch {0}").format(epoch)
    return tr(", epoch {0} of {1}").format(epoch, epochs)
