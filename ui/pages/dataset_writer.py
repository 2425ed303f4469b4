"""A small set written by hand, row after row, without leaving the keyboard. It is kept at every pause."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QItemSelectionModel, QModelIndex, Signal
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.data.conversation import RawRow, RowProblem
from studio.data.handwritten import MOST_ROWS, WrittenSet
from studio.data.rewriting import EditedTurn
from studio.data.rows import judge
from ui import theme
from ui.bridge import soon
from ui.pages.dataset_edit_bar import add_key
from ui.pages.dataset_words import tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import TextField
from ui.widgets.fields import Field
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.messages import MessageBar
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Columns, ScrollColumn
from ui.widgets.tables import Column, Rows, TableView
from ui.widgets.turn_editor import TurnEditor

PAUSE_MS = 600
RIGHT_WIDTH = 560
MOST_WORDS = 120
_Row = tuple[EditedTurn, ...]
_BLANK: _Row = (EditedTurn("user", ""), EditedTurn("assistant", ""))


class SetWriter(QWidget):
    """Name, system prompt and rows. `finished` carries the path of the set that is to be looked at, `left` tells that one goes
    back to what was there before."""

    finished = Signal(str)
    left = Signal()

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._rows: list[_Row] = [_BLANK]
        self._current, self._edits = 0, 0
        self._kept_edits, self._is_finishing = 0, False
        self._deleted: tuple[int, _Row] | None = None
        self._build()
        self._connect()
        self._show_rows()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.name = TextField(placeholder=tr("my-set"))
        self.system = TextField(placeholder=tr("Who the assistant is, or how it speaks"))
        head = QHBoxLayout()
        head.setSpacing(theme.px(theme.GUTTER))
        self._where = Field(tr("Name"), self.name, hint=tr("Kept at every pause, as a file of that name"))
        system = tr("Said before each row, unless the row has one of its own")
        head.addWidget(self._where, 2)
        head.addWidget(Field(tr("System prompt of all rows, if any"), self.system, hint=system), 3)
        names = Card(compact=True)
        names.add(head)
        self._columns = Columns(self._build_table(), self._build_editor(), RIGHT_WIDTH, sticky=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.px(12))
        layout.addWidget(names)
        layout.addWidget(self._columns, 1)

    def _build_table(self) -> Card:
        columns = [Column(tr("Row")), Column(tr("Question"), stretch=True), Column(tr("Answer"), stretch=True)]
        self.model = Rows(columns, self)
        self.table = TableView(tr("Rows"))
        self.table.setModel(self.model)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, header.ResizeMode.Fixed)
        header.resizeSection(0, theme.px(84))
        self.note = PlainLabel("", "small", "text2", elide=True)
        sheet = Card()
        sheet.body.setSpacing(0)
        layout = sheet.layout()
        assert layout is not None
        layout.setContentsMargins(1, theme.px(4), 1, theme.px(8))
        sheet.add(self.table, 1)
        foot = QVBoxLayout()
        foot.setContentsMargins(theme.px(16), theme.px(8), theme.px(16), 0)
        foot.addWidget(self.note)
        sheet.add(foot)
        return sheet

    def _build_editor(self) -> Card:
        self.card = Card(tr("Row 1"))
        self.card.body.setSpacing(theme.px(12))
        self.duplicate = Button(tr("Duplicate"), "link")
        self.delete = Button(tr("Delete"), "link")
        self.duplicate.setToolTip(tr("Ctrl+D"))
        self.delete.setToolTip(tr("Ctrl+Shift+Delete, or Delete in the table"))
        for button in (self.duplicate, self.delete):
            self.card.add_head(button)
        self.turns = TurnEditor(min_lines=3)
        self.bar = MessageBar("info", "")
        self.bar.hide()
        self.verdict = PlainLabel("", "small", "text2", wrap=True)
        self.next, self.later, self.done = Button(tr("Next row")), Button(tr("Later"), "quiet"), Button("", "primary")
        self.done.set_label(tr("Done"))
        self.next.setToolTip(tr("Ctrl+Return"))
        self.later.setToolTip(tr("What is written stays: it is found again under Open"))
        foot = QHBoxLayout()
        foot.setSpacing(theme.px(8))
        foot.addWidget(self.next)
        foot.addStretch(1)
        foot.addWidget(self.later)
        foot.addWidget(self.done)
        holder = QWidget()
        inner = QVBoxLayout(holder)
        inner.setContentsMargins(0, 0, theme.px(12), 0)
        inner.addWidget(self.turns)
        inner.addStretch(1)
        for part, share in ((ScrollColumn(holder), 1), (self.bar, 0), (Divider(), 0), (self.verdict, 0)):
            self.card.add(part, share)
        self.card.add(foot)
        return self.card

    def _connect(self) -> None:
        self._state.writing_changed.connect(self._take_facts)
        for field in (self.name, self.system):
            field.value_changed.connect(lambda _text: self._edited())
            field.returnPressed.connect(self.turns.focus_first)
        self.turns.changed.connect(self._turns_changed)
        self.turns.submitted.connect(self.next.click)
        self.next.clicked.connect(self._go_on)
        self.duplicate.clicked.connect(self._duplicate)
        self.delete.clicked.connect(self._delete)
        self.bar.action_triggered.connect(self._put_back)
        self.later.clicked.connect(self._leave)
        self.done.clicked.connect(self._finish)
        self.table.selectionModel().currentRowChanged.connect(self._current_changed)
        add_key("Ctrl+D", self, self.duplicate)
        add_key("Ctrl+Shift+Delete", self, self.delete)
        add_key("Delete", self.table, self.delete)
        for keys, by in (("Ctrl+PgUp", -1), ("Ctrl+PgDown", 1)):
            add_key(keys, self, partial(self._walk, by))
        for keys in ("Return", "Enter"):
            add_key(keys, self.table, self.turns.focus_first)

    def set_narrow(self, narrow: bool) -> None:
        """Take the narrow widths."""
        self._columns.set_narrow(narrow)

    # --- what there is -----------------------------------------------------------------------------------------------

    def written(self) -> WrittenSet:
        """All that is written."""
        return WrittenSet(self.name.text().strip(), self.system.text(), tuple(self._rows))

    def focus(self) -> None:
        """Go to what is to be written next."""
        if self.name.text():
            self.turns.focus_first()
        else:
            self.name.setFocus()

    def begin(self, written: WrittenSet) -> None:
        """Write a new set, or go on with one behind its last row."""
        self.name.set_value(written.name)
        self.system.set_value(written.system)
        self._rows = [*written.rows] or [_BLANK]
        self._edits = self._kept_edits = 0
        self._is_finishing, self._deleted = False, None
        self.bar.hide()
        self._show_rows()
        self._go(len(self._rows) - 1)

    def _take_facts(self) -> None:
        writing = self._state.writing
        if writing.opened is not None:
            self.begin(writing.opened)
        self._where.set_error(None)
        if writing.error:
            self._where.set_error(writing.error)
            self._is_finishing = False
        elif self._is_finishing and writing.path is not None:
            self._is_finishing = False
            self.finished.emit(str(writing.path))
        self._tell()

    # --- keeping -----------------------------------------------------------------------------------------------------

    def _edited(self) -> None:
        """Something else is written now: it is kept when one pauses."""
        self._edits += 1
        soon(self, partial(self._paused, self._edits), PAUSE_MS)
        self._tell()

    def _paused(self, edits: int) -> None:
        if edits == self._edits:
            self._keep()

    def _keep(self) -> None:
        if self._edits != self._kept_edits:
            self._kept_edits = self._edits
            self._state.writing_requested.emit("keep", self.written())

    def hideEvent(self, event: QHideEvent) -> None:
        """Whoever looks at something else, or closes the window, has paused."""
        self._keep()
        super().hideEvent(event)

    def _leave(self) -> None:
        self._keep()
        self.left.emit()

    def _finish(self) -> None:
        self._is_finishing = True
        self._kept_edits = self._edits
        self._state.writing_requested.emit("keep", self.written())

    # --- rows --------------------------------------------------------------------------------------------------------

    def _turns_changed(self) -> None:
        self._rows[self._current] = tuple(self.turns.turns())
        self.model.set_row(self._current, *self._line(self._current))
        self._edited()

    def _go(self, place: int, *, focus: bool = True) -> None:
        """Write in the row at that place; the row that is left is kept."""
        self._current = place
        self.card.set_title(tr("Row {0}").format(format_int(place + 1)))
        self.turns.set_turns(self._rows[place])
        flags = QItemSelectionModel.SelectionFlag
        index = self.model.index(place, 0)
        self.table.selectionModel().setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)
        self.table.scrollTo(index)
        if focus:
            self.turns.focus_first()
        self._keep()
        self._tell()

    def _current_changed(self, index: QModelIndex, _before: QModelIndex) -> None:
        if index.isValid() and index.row() != self._current:
            self._go(index.row(), focus=False)

    def _walk(self, by: int) -> None:
        if 0 <= self._current + by < len(self._rows):
            self._go(self._current + by)

    def _go_on(self) -> None:
        """To the next row; behind the last one a new one begins, unless that is still blank."""
        is_last = self._current == len(self._rows) - 1
        if is_last and any(turn.content.strip() for turn in self._rows[-1]) and len(self._rows) < MOST_ROWS:
            self._insert(len(self._rows), _BLANK)
        elif not is_last:
            self._go(self._current + 1)

    def _duplicate(self) -> None:
        if len(self._rows) < MOST_ROWS:
            self._insert(self._current + 1, self._rows[self._current])

    def _insert(self, place: int, row: _Row) -> None:
        self._rows.insert(place, row)
        self._show_rows()
        self._edited()
        self._go(place)

    def _delete(self) -> None:
        place = self._current
        self._deleted = (place, self._rows.pop(place))
        self._rows = self._rows or [_BLANK]
        self._show_rows()
        self._edited()
        self._go(min(place, len(self._rows) - 1))
        self.bar.show_message("info", tr("Row {0} is deleted.").format(format_int(place + 1)), tr("Put it back"))
        self.bar.show()

    def _put_back(self) -> None:
        if self._deleted is not None:
            place, row = self._deleted
            self._deleted = None
            self.bar.hide()
            if self._rows == [_BLANK]:
                self._rows = []
            self._insert(min(place, len(self._rows)), row)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show_rows(self) -> None:
        lines = [self._line(place) for place in range(len(self._rows))]
        self._current = min(self._current, len(lines) - 1)
        self.model.set_rows([(place, cells) for place, (cells, _) in enumerate(lines)], [icon for _, icon in lines])

    def _line(self, place: int) -> tuple[tuple[str, str, str], tuple[str, str, bool] | None]:
        """How a row begins, and whether something is missing in it."""
        row = self._rows[place]
        texts = [next((turn.content for turn in row if turn.role == role), "") for role in ("user", "assistant")]
        question, answer = (" ".join(text[: 2 * MOST_WORDS].split())[:MOST_WORDS] for text in texts)
        if len(row) > 2:
            question = tr("{0} ({1} turns)").format(question, len(row))
        icon = ("warning", "warn", True) if self._missing(row) else None
        return (format_int(place + 1), question, answer), icon

    def _missing(self, row: _Row) -> str:
        """What keeps a row from being learnt; nothing also while nothing is written in it."""
        values = WrittenSet("", "", (row,)).values()
        found = judge(RawRow(0, 1, values[0])) if values else None
        empty = next((turn.role for turn in row if not turn.content.strip()), "")
        if isinstance(found, RowProblem) and found.kind == "content" and empty:
            names = {"user": tr("The question is empty."), "assistant": tr("The answer is empty.")}
            return names.get(empty, found.message)
        return found.message if isinstance(found, RowProblem) else ""

    def _tell(self) -> None:
        """What is missing in this row, how many there are, and where they are kept."""
        missing = self._missing(self._rows[self._current])
        self.verdict.set_role("warn" if missing else "text2")
        self.verdict.setText(missing or tr("Tab goes to the answer, Ctrl+Return to the next row, Ctrl+Page Up back."))
        num_rows = len(self.written().values())
        words = tr("{0} row.") if num_rows == 1 else tr("{0} rows.")
        path, is_kept = self._state.writing.path, self._edits == self._kept_edits
        kept = tr("Kept in {0}.").format(path.name) if path is not None and is_kept else ""
        self.note.setText(f"{words.format(format_int(num_rows))} {kept}".strip())
        self.done.set_reason(None if num_rows else tr("Write a row first"))
