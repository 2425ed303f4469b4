"""The strip at the window's foot: the card, the run in progress, the tasks."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QSizePolicy, QWidget

from ui import theme, wording
from ui.bridge import soon
from ui.state import AppState, JobView
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.memory_bar import MemoryBar
from ui.widgets.memory_layout import gb_text

HEIGHT = 32
REDRAW_MS = 200


class StatusStrip(QWidget):
    """32 px that say what the computer is busy with; it only shows, there is nothing to press."""

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._is_due = False
        self.setAccessibleName(self.tr("Status"))
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._card = PlainLabel("", "label", "text2")
        self._memory = MemoryBar("small", name=self.tr("Memory of the graphics card"))
        self._memory.setFixedWidth(theme.px(128))
        self._used = PlainLabel("", "small", "text2")
        self._dot = IconLabel("play-circle", "ok", 14, filled=True)
        self._run = PlainLabel("", "label", "text2")
        self._bar = QProgressBar()
        self._bar.setAccessibleName(self.tr("Progress of the run"))
        self._bar.setTextVisible(False)
        self._bar.setFixedSize(theme.px(96), theme.px(8))
        self._progress = PlainLabel("", "small", "text2", elide=True)
        self._tasks = PlainLabel("", "small", "text2", elide=True)
        self._lay_out()
        for changed in (state.machine_changed, state.runs_changed, state.run_event, state.job_changed):
            changed.connect(self._refresh_soon)
        self.refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(20), 1, theme.px(20), 0)
        row.setSpacing(theme.px(8))
        middle = Qt.AlignmentFlag.AlignVCenter
        card: tuple[QWidget, ...] = (self._card, self._memory, self._used)
        run: tuple[QWidget, ...] = (self._dot, self._run, self._bar)
        for widget in card:
            row.addWidget(widget, 0, middle)
        row.addSpacing(theme.px(8))
        row.addWidget(Divider(vertical=True), 0, middle)
        row.addSpacing(theme.px(8))
        for widget in run:
            row.addWidget(widget, 0, middle)
        row.addWidget(self._progress, 1, middle)
        row.addWidget(self._tasks, 0, middle)

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(theme.px(600), theme.px(HEIGHT))

    def minimumSizeHint(self) -> QSize:
        """It gives way to the window."""
        return QSize(theme.px(200), theme.px(HEIGHT))

    def text(self) -> str:
        """All that is said, for whoever reads instead of looks."""
        labels = (self._card, self._used, self._run, self._progress, self._tasks)
        return ", ".join(label.text() for label in labels if not label.isHidden() and label.text())

    def _refresh_soon(self, *_: object) -> None:
        """A fast run takes fifty steps a second; nobody reads that fast."""
        if not self._is_due:
            self._is_due = True
            soon(self, self.refresh, REDRAW_MS)

    def refresh(self) -> None:
        """Show the facts as they are."""
        self._is_due = False
        self._show_card()
        self._show_run()
        self._show_tasks()
        self.setAccessibleDescription(self.text())

    def _show_card(self) -> None:
        gpus = self._state.gpus
        for widget in (self._memory, self._used):
            widget.setVisible(bool(gpus))
        if not gpus:
            self._card.setText(self.tr("No graphics card: training runs on the CPU") if self._state.is_gathered else "")
            return
        card = gpus[0]
        self._card.setText(card.name.removeprefix("NVIDIA ").removeprefix("GeForce "))
        used = card.total_bytes - card.free_bytes
        live = self._state.live_run
        memory = live.state.memory if live is not None and live.state.device != "cpu" else None
        ours = min(memory.process_bytes, used) if memory is not None else 0
        parts = [("other", self.tr("Other programs"), used - ours, ""), ("weights", self.tr("This run"), ours, "")]
        self._memory.set_budget([part for part in parts if part[2]])
        self._memory.set_limit(card.total_bytes)
        self._used.setText(self.tr("{0} / {1} GB").format(gb_text(used), gb_text(card.total_bytes)))

    def _show_run(self) -> None:
        live = self._state.live_run
        for widget in (self._dot, self._run, self._bar):
            widget.setVisible(live is not None)
        if live is None:
            self._progress.setText(self.tr("No run in progress"))
            return
        self._run.setText(live.folder.name)
        self._bar.setRange(0, live.state.num_steps or 1)
        self._bar.setValue(live.state.step)
        self._progress.setText(wording.progress(live.state))

    def _show_tasks(self) -> None:
        jobs = self._state.live_jobs
        if not jobs:
            self._tasks.setText(self.tr("No tasks"))
        elif len(jobs) == 1:
            self._tasks.setText(_job_text(jobs[0]))
        else:
            self._tasks.setText(self.tr("{0} tasks").format(len(jobs)))

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the ground and the line above it."""
        look = theme.current()
        painter = QPainter(self)
        painter.fillRect(self.rect(), look.colour("sunken"))
        painter.fillRect(0, 0, self.width(), 1, look.colour("line"))
        painter.end()


def _job_text(job: JobView) -> str:
    return f"{job.title}, {100 * job.done // job.total} %" if job.total else f"{job.title}\u2026"
