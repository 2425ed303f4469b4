"""Runs: every training run on this computer, newest first, and what became of the one chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QItemSelectionModel
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.errors import StudioError
from studio.recipe.fields import replaced
from studio.runs.create import read_job
from studio.runs.state import RunState, Status
from ui import theme, wording
from ui.bridge import soon
from ui.measured import Peak, layers
from ui.pages.run_queue import QueueCard
from ui.state import AppState, RunView
from ui.widgets.buttons import Button
from ui.widgets.controls import TextField
from ui.widgets.labels import PlainLabel
from ui.widgets.loss_plot import LossPlot
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import STATUS, EmptyState, MessageBar, MessageKind, StatTile, StatusPill
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Page, ScrollColumn
from ui.widgets.tables import Column, Rows, table_view

REDRAW_MS = 500
PANEL_WIDTH = 336
LOW_BELOW = 640
LEAST_SHEET = 168
RESUMABLE = (Status.WAITING, Status.PAUSED, Status.STOPPED, Status.INTERRUPTED, Status.FAILED)
KINDS: dict[Status, MessageKind] = {Status.FAILED: "bad", Status.INTERRUPTED: "warn"}


class RunsPage(Page):
    """A table of runs over a panel with the curve, the ending and the buttons of the one that is selected."""

    def __init__(self, state: AppState) -> None:
        self._filter = TextField("", "Filter", "magnifying-glass", name="Filter runs")
        super().__init__("Runs", "What was trained here, and how it went", [self._filter])
        self._state = state
        self._is_due = False
        self._chosen = ""
        self._filter.setFixedWidth(theme.px(240))
        self._filter.setPlaceholderText(self.tr("Filter by name, base or dataset"))
        self._filter.textChanged.connect(self.refresh)
        self._build()
        gone_by = (state.runs_changed, state.adapters_changed, state.run_event, state.machine_changed)
        for changed in (*gone_by, state.queue_changed):
            changed.connect(self._refresh_soon)
        self.refresh()

    # --- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        columns = [
            Column(self.tr("Status")),
            Column(self.tr("Name"), stretch=True),
            Column(self.tr("Base model")),
            Column(self.tr("Dataset")),
            Column(self.tr("Started")),
            Column(self.tr("Steps"), numeric=True),
            Column(self.tr("Loss"), numeric=True),
            Column(self.tr("Evaluation"), numeric=True),
            Column(self.tr("Duration"), numeric=True),
        ]
        self.table = table_view(self.tr("Runs"))
        self.rows = Rows(columns, self.table)
        self.table.setModel(self.rows)
        self.table.selectionModel().currentRowChanged.connect(self._on_selected)
        self.table.doubleClicked.connect(lambda _: self._show())
        sheet = Card(compact=True)
        sheet.setAccessibleName(self.tr("All runs"))
        sheet.add(self.table, 1)
        sheet.setMinimumHeight(theme.px(LEAST_SHEET))
        self._panel = RunPanel(self._state)
        self.queue = QueueCard(self._state)
        full = QWidget()
        column = QVBoxLayout(full)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(theme.CARD_GAP))
        column.addWidget(self.queue)
        column.addWidget(sheet, 5)
        column.addWidget(self._panel, 6)
        tour = Button(self.tr("Try the 2-minute tour"), "primary", "play", size="action", filled=True)
        tour.clicked.connect(self._state.tour_requested)
        train = Button(self.tr("Set up a run"), size="action")
        train.clicked.connect(lambda: self._state.page_requested.emit("train"))
        sentence = self.tr("A run keeps its recipe, its curve and its checkpoints. The tour makes a first one.")
        empty = EmptyState("chart-line-up", self.tr("No runs yet"), sentence, [tour, train])
        self._stack = QStackedWidget()
        self._stack.addWidget(ScrollColumn(full))  # with a long queue above them, the runs may not find room
        self._stack.addWidget(empty)
        self._empty = empty
        self.body.addWidget(self._stack, 1)

    def _show(self) -> None:
        if self._chosen:
            self._state.run_selected.emit(self._chosen)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the table its room."""
        super().resizeEvent(event)
        self._panel.set_low(event.size().height() < theme.px(LOW_BELOW))

    # --- facts -----------------------------------------------------------------------------------------------------

    def _refresh_soon(self, *_: object) -> None:
        if not self._is_due:
            self._is_due = True
            soon(self, self.refresh, REDRAW_MS)

    def refresh(self) -> None:
        """Show the runs as they are; the selection stays with its run."""
        self._is_due = False
        state = self._state
        self._stack.setCurrentIndex(0 if state.runs else 1)
        self._filter.setVisible(bool(state.runs))
        if not state.is_gathered and not state.runs:
            self._empty.set_text(self.tr("Looking\u2026"), self.tr("Reading the runs on this computer."))
        else:
            words = self.tr("A run keeps its recipe, its curve and its checkpoints. The tour makes a first one.")
            self._empty.set_text(self.tr("No runs yet"), words)
        wanted = self._filter.text().casefold().split()
        # What has yet to begin stands in the queue.
        views = [view for run_id, view in state.runs.items() if not _waits(state, run_id)]
        views = [view for view in views if all(word in _searchable(view) for word in wanted)]
        self._fill(views)

    def _fill(self, views: list[RunView]) -> None:
        ids = [view.folder.id for view in views]
        chosen = self._chosen if self._chosen in ids else next(iter(ids), "")
        selection = self.table.selectionModel()
        scroll = self.table.verticalScrollBar().value()
        blocked = selection.blockSignals(True)
        self.rows.set_rows([(view.folder.id, cells(view)) for view in views], [_icon(view.state) for view in views])
        if chosen:
            index = self.rows.index(self.rows.row_of(chosen), 0)
            flags = QItemSelectionModel.SelectionFlag
            selection.setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
        selection.blockSignals(blocked)
        self.table.verticalScrollBar().setValue(scroll)
        self.table.viewport().update()
        self._choose(chosen)

    def _on_selected(self, current: Any, _before: Any) -> None:
        if current.isValid():
            self._choose(str(self.rows.key(current.row())))

    def _choose(self, run_id: str) -> None:
        self._chosen = run_id
        self._panel.show_run(self._state.runs.get(run_id))


class RunPanel(QWidget):
    """The loss curve of one run, how it ended, and what can be done with it."""

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._view: RunView | None = None
        self._low = False
        self.plot = LossPlot()
        self._side = Card(compact=True)
        self._side.setFixedWidth(theme.px(PANEL_WIDTH))
        self._name = PlainLabel("", "heading", elide=True)
        self._pill = StatusPill("Ready")
        self._line = PlainLabel("", "small", "text2", wrap=True)
        self._ending = MessageBar("info", "")
        self._tiles = {
            "evaluation": StatTile(self.tr("Best evaluation")),
            "rank": StatTile(self.tr("Rank")),
            "memory": StatTile(self.tr("Peak memory")),
        }
        self._build_side()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(theme.CARD_GAP))
        column.addWidget(self._ending)
        row = QHBoxLayout()
        row.setSpacing(theme.px(theme.CARD_GAP))
        row.addWidget(self.plot, 1)
        row.addWidget(self._side)
        column.addLayout(row, 1)

    def _build_side(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(self._name, 1)
        head.addWidget(self._pill)
        self._side.body.setSpacing(theme.px(10))
        self._side.add(head)
        self._side.add(self._line)
        tiles = QHBoxLayout()
        tiles.setSpacing(theme.px(12))
        for tile, share in zip(self._tiles.values(), (6, 5, 7), strict=True):
            tiles.addWidget(tile, share)
        self._side.add(tiles)
        self._side.body.addStretch(1)
        tr = self.tr
        self.open = Button(tr("Open"), icon="play-circle")
        self.resume = Button(tr("Resume"), icon="arrow-clockwise")
        self.stop = Button(tr("Stop and save"), icon="stop")
        self.again = Button(tr("New run from this"), icon="copy")
        self.chat = Button(tr("Chat with it"), icon="chats-circle")
        self.folder = Button(tr("Open folder"), icon="folder-open")
        for button, act in (
            (self.open, lambda view: self._state.run_selected.emit(view.folder.id)),
            (self.resume, lambda view: self._state.run_requested.emit(view.folder.id, "resume")),
            (self.stop, lambda view: self._state.run_requested.emit(view.folder.id, "stop")),
            (self.again, self._begin_again),
            (self.chat, lambda view: self._state.chat_selected.emit(view.state.adapter)),
            (self.folder, lambda view: self._state.folder_requested.emit(str(view.folder.path))),
        ):
            button.clicked.connect(lambda _=False, act=act: self._view and act(self._view))
        grid = QGridLayout()
        grid.setSpacing(theme.px(8))
        grid.addWidget(self.open, 0, 0)
        grid.addWidget(self.resume, 0, 1)
        grid.addWidget(self.stop, 0, 1)
        grid.addWidget(self.again, 1, 0)
        grid.addWidget(self.chat, 1, 1)
        grid.addWidget(self.folder, 2, 0)
        self._side.add(grid)

    def set_low(self, low: bool) -> None:
        """Where there is little height, do without the numbers that the table or the plot show too."""
        for tile in self._tiles.values():
            tile.setVisible(not low)
        if low != self._low:
            self._low = low
            self.show_run(self._view)

    def _begin_again(self, view: RunView) -> None:
        """The run's own recipe, with its dataset where the run found it."""
        try:
            job = read_job(view.folder)
        except StudioError as error:
            self._state.noticed.emit("bad", error.message, error.hint)
            return
        self._state.recipe_edited.emit(replaced(job.recipe, "data.path", str(job.data)))
        self._state.page_requested.emit("train")

    def show_run(self, view: RunView | None) -> None:
        """Show a run, or nothing."""
        self._view = view
        self.setVisible(view is not None)
        if view is None:
            return
        state = view.state
        self._name.setText(view.folder.name)
        self._pill.set_word(wording.WORDS[state.status])
        self._line.setText("\n".join(filter(None, (_line(view), Peak.of(state).text if self._low else ""))))
        self._show_ending(state)
        self._show_curve(state)
        self._show_tiles(view)
        can_resume = state.status in RESUMABLE
        self.stop.setVisible(state.status.is_live)
        self.resume.setVisible(not state.status.is_live)
        self.resume.setEnabled(can_resume and self._state.live_run is None)
        self.resume.setToolTip("" if can_resume else self.tr("This run is finished."))
        has_adapter = bool(state.adapter) and self._state.adapter(state.adapter) is not None
        self.chat.setEnabled(has_adapter)
        self.chat.setToolTip("" if has_adapter else self.tr("There is no adapter of this run in the library."))

    def _show_ending(self, state: RunState) -> None:
        ending = state.ending
        self._ending.setVisible(ending is not None)
        if ending is not None:
            kind = KINDS.get(state.status, "info")
            self._ending.show_message(kind, f"{ending.message} {ending.hint}".strip())

    def _show_tiles(self, view: RunView) -> None:
        state = view.state
        best = min(state.evaluations, key=lambda found: found.loss, default=None)
        where = self.tr("step {0}").format(format_int(best.step)) if best is not None else self.tr("none yet")
        self._tiles["evaluation"].set_value(f"{best.loss:.3f}" if best is not None else "\u2013", where)
        recipe = view.folder.job.get("recipe")
        adapter = recipe.get("adapter") if isinstance(recipe, dict) else None
        rank = adapter.get("rank") if isinstance(adapter, dict) else None
        learning = wording.count(state.prepared.num_trainable) if state.prepared is not None else ""
        self._tiles["rank"].set_value(
            f"{rank}" if rank else "\u2013", self.tr("{0} learn").format(learning) if learning else ""
        )
        peak = Peak.of(state)
        note = self.tr("on the CPU") if state.device == "cpu" else self.tr("on the card") if state.device else ""
        if peak.estimated_bytes is not None:
            note = self.tr("\u2248 {0} estimated").format(gb_text(peak.estimated_bytes))
        self._tiles["memory"].set_value(wording.size(peak.measured_bytes) if peak.measured_bytes else "\u2013", note)
        self._tiles["memory"].setToolTip("\n".join(filter(None, (peak.text, layers(state)))))

    def _show_curve(self, state: RunState) -> None:
        self.plot.set_series([taken.step for taken in state.steps], [taken.loss for taken in state.steps])
        self.plot.set_evaluations([(found.step, found.loss) for found in state.evaluations])
        self.plot.set_checkpoints([saved.step for saved in state.checkpoints])
        self.plot.set_total_steps(state.num_steps or 0)


# --- words -----------------------------------------------------------------------------------------------------------


def _waits(state: AppState, run_id: str) -> bool:
    entry = state.queue.entry(run_id)
    return entry is not None and not entry.is_begun


def _part(view: RunView, section: str, key: str) -> str:
    """A text from the run's job, which may be of any shape."""
    table = view.folder.job.get(section)
    return str(table.get(key, "")) if isinstance(table, dict) else ""


def _base(view: RunView) -> str:
    return _part(view, "base", "id").rsplit("/", 1)[-1]


def _dataset(view: RunView) -> str:
    return Path(_part(view, "data", "path")).stem


def _searchable(view: RunView) -> str:
    words = (view.folder.name, _base(view), _dataset(view), wording.status_text(view.state.status))
    return " ".join(words).casefold()


def cells(view: RunView) -> list[str]:
    """What the table says of a run, in the order of its columns; the last loss is what the curve shows at its end."""
    state = view.state
    seconds = wording.run_seconds(state)
    return [
        wording.status_text(state.status),
        view.folder.name,
        _base(view),
        _dataset(view),
        wording.moment(state.began) if state.began is not None else "",
        wording.steps(state),
        f"{state.steps[-1].loss:.3f}" if state.steps else "",
        f"{state.evaluations[-1].loss:.3f}" if state.evaluations else "",
        wording.duration(seconds) if seconds is not None else "",
    ]


def _icon(state: RunState) -> tuple[str, str, bool]:
    icon, filled, colour, _ = STATUS[wording.WORDS[state.status]]
    return icon or "circle", colour, filled


def _line(view: RunView) -> str:
    words = [f"{_base(view)} + {_dataset(view)}"]
    if view.state.status.is_live:
        words.append(wording.progress(view.state))
    if view.state.adapter:
        words.append(f"\u2192 {view.state.adapter}")
    return "\n".join(words)
