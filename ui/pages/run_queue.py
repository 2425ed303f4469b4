"""The queue on the Runs page: what waits, in an order that mouse and keyboard change, and what was done meanwhile."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication, QItemSelectionModel, QModelIndex, Qt, Signal
from PySide6.QtGui import QDropEvent, QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.runs.report import Line
from ui import theme, wording
from ui.queue_view import QueueEntry, QueueView
from ui.state import AppState
from ui.widgets.buttons import Button, IconButton
from ui.widgets.labels import IconLabel, PlainLabel
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import MessageBar
from ui.widgets.page import Card
from ui.widgets.tables import ROLE_ROLE, Column, Index, Rows, TableView

MOST_ROWS, MOST_LINES = 4, 5
# Ending -> icon, colour role, filled.
_ENDINGS = {
    "finished": ("check-circle", "ok", True),
    "diverged": ("warning", "warn", True),
    "stopped": ("stop", "text2", True),
    "paused": ("pause", "warn", True),
    "interrupted": ("link-break", "warn", False),
    "failed": ("x-circle", "bad", True),
}
_JUDGED = {"fits": "ok", "tight": "warn", "over": "bad"}


def tr(text: str) -> str:
    """`text` in the user's language."""
    return QCoreApplication.translate("Queue", text)


class _QueueRows(Rows):
    """Rows that may be dragged; the last column is coloured by its judgement."""

    def __init__(self, columns: list[Column], parent: QWidget) -> None:
        super().__init__(columns, parent)
        self.judgements: list[str] = []

    def flags(self, index: Index) -> Qt.ItemFlag:
        """A row can be taken up; it is put down between two others, never on one."""
        base = super().flags(index)
        return base | (Qt.ItemFlag.ItemIsDragEnabled if index.isValid() else Qt.ItemFlag.ItemIsDropEnabled)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """As ever, and the colour of what does not fit."""
        if role == ROLE_ROLE and index.column() == len(self.columns) - 1:
            return _JUDGED.get(self.judgements[index.row()])
        return super().data(index, role)

    def supportedDropActions(self) -> Qt.DropAction:
        """Rows are moved."""
        return Qt.DropAction.MoveAction


class QueueTable(TableView):
    """The waiting runs. A row is moved by dragging it, or with Alt and an arrow; `moved` gives its new position, from 1."""

    moved = Signal(str, int)
    removed = Signal(str)

    def __init__(self) -> None:
        super().__init__(tr("Waiting runs"))
        columns = [
            Column(tr("Next"), numeric=True),
            Column(tr("Name"), stretch=True),
            Column(tr("Base model")),
            Column(tr("Dataset")),
            Column(tr("Memory"), numeric=True),
        ]
        self.rows = _QueueRows(columns, self)
        self.setModel(self.rows)
        self.setDragEnabled(True)
        self.setAcceptDrops(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.setDragDropOverwriteMode(False)
        self.setDropIndicatorShown(True)

    def chosen(self) -> str:
        """Id of the selected run, "" if none is."""
        index = self.currentIndex()
        return str(self.rows.key(index.row())) if index.isValid() else ""

    def set_entries(self, entries: tuple[QueueEntry, ...]) -> None:
        """Show these; the selection stays with its run."""
        chosen = self.chosen()
        self.rows.judgements = [entry.verdict for entry in entries]
        self.rows.set_rows([(entry.run_id, _cells(number, entry)) for number, entry in enumerate(entries, 1)])
        row = max(self.rows.row_of(chosen), 0)
        if entries:
            flags = QItemSelectionModel.SelectionFlag
            self.selectionModel().setCurrentIndex(self.rows.index(row, 0), flags.ClearAndSelect | flags.Rows)
        self.setFixedHeight(theme.px(34) + theme.px(theme.ROW) * min(max(len(entries), 1), MOST_ROWS))

    def shift(self, by: int) -> None:
        """Move the selected run up (-1) or down (1)."""
        position = self.currentIndex().row() + 1 + by
        if self.chosen() and 1 <= position <= self.rows.rowCount():
            self.moved.emit(self.chosen(), position)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Alt and an arrow move the row, Delete takes it off the list."""
        ways = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}
        if event.modifiers() & Qt.KeyboardModifier.AltModifier and event.key() in ways:
            self.shift(ways[Qt.Key(event.key())])
        elif event.key() == Qt.Key.Key_Delete and self.chosen():
            self.removed.emit(self.chosen())
        else:
            super().keyPressEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """Put the row down where the line shows. The list changes only when the queue's file has."""
        if event.source() is not self or not self.chosen():
            event.ignore()
            return
        place, origin = self._gap(event), self.currentIndex().row()
        position = place if place > origin else place + 1  # taken up, it leaves a gap above those behind it
        event.setDropAction(Qt.DropAction.IgnoreAction)
        event.accept()
        if position != origin + 1:
            self.moved.emit(self.chosen(), position)

    def _gap(self, event: QDropEvent) -> int:
        """How many rows lie above the place."""
        at = event.position().toPoint()
        index: QModelIndex = self.indexAt(at)
        if not index.isValid():
            return self.rows.rowCount()
        return index.row() + (at.y() > self.visualRect(index).center().y())


class QueueCard(Card):
    """What waits and who works through it. Hidden while there is nothing to tell."""

    def __init__(self, state: AppState) -> None:
        super().__init__(tr("Queue"), " ", compact=True)
        self._state = state
        self.start = Button(tr("Start queue"), "primary", "play", filled=True)
        self.stop = Button(tr("Stop after this one"), icon="stop")
        self.start.clicked.connect(lambda: self._wish("start"))
        self.stop.clicked.connect(lambda: self._wish("stop"))
        self.table = QueueTable()
        self.table.moved.connect(lambda run_id, position: state.queue_requested.emit("move", run_id, position))
        self.table.removed.connect(lambda run_id: state.queue_requested.emit("remove", run_id, None))
        self.table.doubleClicked.connect(lambda _: self._edit())
        self.table.selectionModel().currentRowChanged.connect(lambda *_: self._show_buttons())
        self._halt = MessageBar("warn", "")
        self.report = ReportPanel(state)
        self._actions = self._build_actions()
        for widget in (self._actions, self.stop, self.start):
            self.add_head(widget)
        for item in (self.report, self._halt, self.table):
            self.add(item)
        self.body.setSpacing(theme.px(8))
        for changed in (state.queue_changed, state.runs_changed):
            changed.connect(self.refresh)
        self.refresh()

    def _build_actions(self) -> QWidget:
        self.edit = Button(tr("Edit"), icon="pencil-simple")
        self.up = IconButton("caret-up", tr("Move up"))
        self.down = IconButton("caret-down", tr("Move down"))
        self.remove = Button(tr("Remove"), icon="trash")
        self.edit.clicked.connect(self._edit)
        self.up.clicked.connect(lambda: self.table.shift(-1))
        self.down.clicked.connect(lambda: self.table.shift(1))
        self.remove.clicked.connect(lambda: self.table.removed.emit(self.table.chosen()))
        result = QWidget()
        row = QHBoxLayout(result)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        for button in (self.edit, self.up, self.down, self.remove):
            row.addWidget(button)
        return result

    def _wish(self, verb: str) -> None:
        self._state.queue_requested.emit(verb, "", None)

    def _edit(self) -> None:
        if self.edit.isEnabled():
            self._state.queue_requested.emit("edit", self.table.chosen(), None)

    def refresh(self) -> None:
        """Show the queue as it is."""
        queue = self._state.queue
        waits = bool(queue.entries)
        self.setVisible(waits or bool(queue.current) or bool(queue.lines) or bool(queue.halt[0]))
        self.set_note(self._note_of(queue))
        self.table.set_entries(queue.entries)
        for part in (self.table, self._actions):
            part.setVisible(waits)
        goes_on = queue.is_driven and queue.is_started
        self.start.setVisible(not goes_on and (waits or bool(queue.current)))
        self.stop.setVisible(goes_on)
        self._halt.setVisible(bool(queue.halt[0]) or queue.is_interrupted)
        if queue.is_interrupted:
            words = tr("The queue was interrupted: its process is gone. Start queue goes on where it stood.")
        else:
            words = " ".join(filter(None, (tr("The queue stopped."), *queue.halt)))
        self._halt.show_message("warn", words)
        self.report.show_lines(queue)
        self._show_buttons()

    def _note_of(self, queue: QueueView) -> str:
        view = self._state.runs.get(queue.current)
        if queue.is_driven and queue.current:
            name = view.folder.name if view is not None else queue.current
            after = "" if queue.is_started else " " + tr("No other is begun after it.")
            return tr("{0} is being done.").format(name) + after
        live = self._state.live_run
        if queue.is_driven and live is not None:
            return tr("The first begins when {0} has ended.").format(live.folder.name)
        return tr("One run after the other, whether this window is open or not.") if queue.entries else ""

    def _show_buttons(self) -> None:
        entry, row = self._state.queue.entry(self.table.chosen()), self.table.currentIndex().row()
        self.edit.setEnabled(entry is not None and not entry.is_begun)
        self.edit.setToolTip(tr("It was begun: its recipe is settled.") if entry and entry.is_begun else "")
        self.up.setEnabled(row > 0)
        self.down.setEnabled(0 <= row < self.table.rows.rowCount() - 1)


class ReportPanel(QWidget):
    """The morning report: how many ended how, and each of them in a line."""

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self._state = state
        self._lines: tuple[Line, ...] = ()
        self.heading = PlainLabel("", "strong", elide=True)
        self._more = PlainLabel("", "small", "text2")
        self.open = Button(tr("Open the report"), icon="note")
        self.dismiss = Button(tr("Put away"), icon="check")
        self.open.clicked.connect(lambda: state.queue_requested.emit("report", "", None))
        self.dismiss.clicked.connect(lambda: state.queue_requested.emit("seen", "", None))
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(self.heading, 1)
        head.addWidget(self.open)
        head.addWidget(self.dismiss)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(theme.px(16))
        self._grid.setVerticalSpacing(theme.px(2))
        self._grid.setColumnStretch(2, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(6))
        column.addLayout(head)
        column.addLayout(self._grid)
        column.addWidget(self._more)

    def show_lines(self, queue: QueueView) -> None:
        """Show what was done; nothing of it, if it is no news."""
        self.setVisible(bool(queue.lines))
        counts = ", ".join(tr("{0} {1}").format(count, ending_text(ending)) for ending, count in queue.counts)
        self.heading.setText(
            (tr("While you were away: {0}") if queue.is_away else tr("Done so far: {0}")).format(counts)
        )
        if queue.lines == self._lines:
            return
        self._lines = queue.lines
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        for row, line in enumerate(queue.lines[-MOST_LINES:]):
            self._add_line(row, line)
        left = len(queue.lines) - MOST_LINES
        self._more.setVisible(left > 0)
        self._more.setText(tr("and {0} before them: the report tells of all").format(left))

    def _add_line(self, row: int, line: Line) -> None:
        icon, role, filled = _ENDINGS.get(line.ending, ("info", "text2", False))
        show = Button(tr("Show"), "link")
        show.setAccessibleName(tr("Show {0}").format(line.name))
        show.clicked.connect(lambda: self._state.run_selected.emit(line.run))
        parts = (
            IconLabel(icon, role, 16, filled=filled, name=ending_text(line.ending)),
            PlainLabel(line.name, "medium", elide=True),
            PlainLabel(line_text(line), "body", "text2", elide=True),
            show,
        )
        for place, part in enumerate(parts):
            self._grid.addWidget(part, row, place)


def ending_text(ending: str) -> str:
    """How a run ended, in one word."""
    words = {
        "finished": tr("finished"),
        "diverged": tr("diverged"),
        "stopped": tr("stopped"),
        "paused": tr("paused"),
        "interrupted": tr("interrupted"),
        "failed": tr("failed"),
    }
    return words.get(ending, ending)


def line_text(line: Line) -> str:
    """`finished in 2.3 h, loss 2.10 → 0.84, evaluation 0.91`; of one that ended badly, why."""
    words = [tr("{0} in {1}").format(ending_text(line.ending), wording.duration(line.seconds))]
    if line.first_loss is not None and line.last_loss is not None and line.step > 1:
        words.append(tr("loss {0} \u2192 {1}").format(f"{line.first_loss:.2f}", f"{line.last_loss:.2f}"))
    if line.evaluation is not None:
        words.append(tr("evaluation {0}").format(f"{line.evaluation:.2f}"))
    text = ", ".join(words)
    return f"{text}. {line.message}" if line.message else text


def _cells(number: int, entry: QueueEntry) -> list[str]:
    need = wording.ABOUT + tr("{0} GB").format(gb_text(entry.needs_bytes)) if entry.needs_bytes else tr("not known")
    words = {"fits": tr("fits"), "tight": tr("tight"), "over": tr("does not fit")}
    judged = f", {words[entry.verdict]}" if entry.verdict in words else ""
    name = f"{entry.name} ({tr('goes on')})" if entry.is_begun else entry.name
    return [str(number), name, entry.base.rsplit("/", 1)[-1], entry.dataset, need + judged]
