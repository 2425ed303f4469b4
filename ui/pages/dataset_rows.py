"""The rows of a dataset in a table that holds only what can be seen: a million rows scroll like ten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from PySide6.QtCore import QItemSelectionModel, QModelIndex, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.data.formats import Mapping
from studio.data.sides import Split
from ui import theme
from ui.bridge import in_background
from ui.dataset_view import DatasetView, RowLine, RowSource
from ui.pages.dataset_edit_bar import EditBar, add_key
from ui.pages.dataset_words import tr
from ui.widgets.controls import TextField
from ui.widgets.labels import PlainLabel, plain_tip
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card
from ui.widgets.tables import ICON_ROLE, ROLE_ROLE, Column, Index, Rows, TableView

ROW, TURNS, ROLES, PROMPT, ANSWER, TOKENS, SIDE = range(7)
BLOCK = 32  # rows that are fetched together
MOST_BLOCKS, MOST_WANTED = 64, 3
# Qt numbers pixels with 32 bits, and a row is 40 px high or more.
MOST_ROWS = 20_000_000


class RowsModel(Rows):
    """Rows by their numbers, fetched a block at a time when they are looked at; the blocks seen last are kept."""

    def __init__(self, parent: QWidget | None = None) -> None:
        columns = [
            Column(tr("Row"), True),
            Column(tr("Turns"), True),
            Column(tr("Roles")),
            Column(tr("Question"), stretch=True),
            Column(tr("Answer"), stretch=True),
            Column(tr("Tokens"), True),
            Column(tr("Side")),
        ]
        super().__init__(columns, parent)
        self._source: RowSource | None = None
        self._mapping: Mapping | None = None
        self._numbers: Sequence[int] = ()
        self._lengths: Any = None
        self._split: Split | None = None
        self._blocks: OrderedDict[int, list[RowLine]] = OrderedDict()
        self._wanted: list[int] = []
        self._missed: set[int] = set()
        self._fetching = self._ahead_of = -1

    def show_rows(
        self,
        source: RowSource | None,
        mapping: Mapping | None,
        found: list[int] | None,
        lengths: Any,
        split: Split | None = None,
    ) -> None:
        """Show the rows of `source`, or those `found`; `lengths` as `studio.data.lengths` has them."""
        numbers: Sequence[int] = range(len(source)) if source is not None else ()
        if found is not None:
            numbers = [number for number in found if number < len(numbers)]
        if lengths is not self._lengths or split is not self._split:
            self._lengths, self._split = lengths, split
            if self.rowCount():
                self.dataChanged.emit(self.index(0, TOKENS), self.index(self.rowCount() - 1, SIDE))
        if (source, mapping) == (self._source, self._mapping) and numbers == self._numbers:
            return
        self.beginResetModel()
        self._source, self._mapping, self._numbers = source, mapping, numbers
        self._blocks.clear()
        self._wanted.clear()
        self._missed.clear()
        self._fetching = self._ahead_of = -1
        self.endResetModel()

    def number(self, place: int) -> int:
        """The number in the dataset of the row at a place of the table."""
        return self._numbers[place]

    def place_of(self, number: int) -> int:
        """The other way round; -1 if it is not shown."""
        try:
            return self._numbers.index(number)
        except ValueError:
            return -1

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's own default
        """How many rows there are."""
        return 0 if parent.isValid() else min(len(self._numbers), MOST_ROWS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """A cell; of a row that is not there yet, an ellipsis."""
        column = index.column()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return self.alignment(column)
        if role == ICON_ROLE:
            return None
        line = self.line(index.row())
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return self._text(index.row(), column, line)
        if line is None:
            return None
        if role == Qt.ItemDataRole.ToolTipRole:
            where = tr("Row {0}, line {1}").format(format_int(line.row + 1), format_int(line.line))
            return plain_tip(where if column == ROW else self._text(index.row(), column, line))
        if role == ROLE_ROLE:
            return "bad" if line.problem and column == PROMPT else self._side_role(index.row(), column)
        return None

    def _text(self, place: int, column: int, line: RowLine | None) -> str:
        if column == ROW:
            return format_int(self.number(place) + 1)
        if column == TOKENS:
            return self._tokens(self.number(place))
        if column == SIDE:
            return self._side(self.number(place))
        if line is None:
            return "\u2026" if column == PROMPT else ""
        if line.problem:
            return line.problem if column == PROMPT else ""
        return {TURNS: str(line.num_turns), ROLES: line.roles, PROMPT: line.prompt, ANSWER: line.answer}[column]

    def _side_role(self, place: int, column: int) -> str | None:
        """What is held out stands out."""
        if column != SIDE or self._split is None:
            return None
        return "atext" if self._split.is_held_out(self.number(place)) else "text3"

    def _side(self, number: int) -> str:
        is_held = self._split.is_held_out(number) if self._split is not None else None
        return "" if is_held is None else tr("evaluation") if is_held else tr("training")

    def _tokens(self, number: int) -> str:
        if self._lengths is None:
            return ""
        place = int(np.searchsorted(self._lengths.rows, number))
        is_there = place < len(self._lengths.rows) and self._lengths.rows[place] == number
        return format_int(int(self._lengths.tokens[place])) if is_there else "\u2013"

    # --- fetching ----------------------------------------------------------------------------------------------------

    def line(self, place: int) -> RowLine | None:
        """What is known of the row at a place; asks for it if nothing is."""
        block = place // BLOCK
        if block in self._blocks:
            self._blocks.move_to_end(block)
            lines = self._blocks[block]
            self._look_ahead(block)
            return lines[place % BLOCK] if place % BLOCK < len(lines) else None
        self._missed.add(block)
        if block == self._fetching:
            return None
        # Asked for last, wanted first: what was scrolled past meanwhile is forgotten.
        self._wanted = [*(other for other in self._wanted if other != block), block][-MOST_WANTED:]
        self._fetch_next()
        return None

    def _look_ahead(self, block: int) -> None:
        """The blocks before and after one that is looked at are fetched while there is nothing else to do."""
        if self._fetching >= 0 or self._wanted or block == self._ahead_of:
            return
        self._ahead_of = block
        last = (self.rowCount() - 1) // BLOCK
        beside = (block - 1, block + 1)
        self._wanted = [other for other in beside if 0 <= other <= last and other not in self._blocks]
        self._fetch_next()

    def _fetch_next(self) -> None:
        """One block at a time: two threads that read rows would keep the window from its interpreter."""
        source = self._source
        if self._fetching >= 0 or not self._wanted or source is None:
            return
        block = self._fetching = self._wanted.pop()
        numbers = self._numbers
        fetch = partial(source.lines, numbers[block * BLOCK : (block + 1) * BLOCK], self._mapping)
        in_background(fetch, partial(self._fetched, numbers, block), lambda _error: self._fetched(numbers, block, []))

    def _fetched(self, numbers: Sequence[int], block: int, lines: list[RowLine]) -> None:
        if not isValid(self) or numbers is not self._numbers:
            return
        self._fetching = -1
        self._blocks[block] = lines
        while len(self._blocks) > MOST_BLOCKS:
            self._blocks.popitem(last=False)
        if block in self._missed:  # nobody need be told of what nobody has looked at yet
            self._missed.discard(block)
            first, last = block * BLOCK, min((block + 1) * BLOCK, self.rowCount()) - 1
            self.dataChanged.emit(self.index(first, 0), self.index(last, SIDE))
        self._fetch_next()


class RowsPanel(QWidget):
    """Search, table and what it holds. `row_chosen` carries a row's number, `search_requested` words, `edit_requested` the row
    that was chosen, `add_requested` the row before which another is to stand, `remove_requested` all that were chosen."""

    row_chosen = Signal(int)
    search_requested = Signal(str)
    edit_requested = Signal(int)
    add_requested = Signal(int)
    remove_requested = Signal(object)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        name = tr("Search rows")
        self.words = TextField(placeholder=tr("Search rows (Return)"), icon="magnifying-glass", name=name)
        self.words.returnPressed.connect(lambda: self.search_requested.emit(self.words.text()))
        self.words.value_changed.connect(lambda text: None if text else self.search_requested.emit(""))
        self.model = RowsModel(self)
        self.table = TableView(tr("Rows"))
        self.table.setModel(self.model)
        header = self.table.horizontalHeader()
        for column, width in ((ROW, 76), (TURNS, 60), (ROLES, 124), (TOKENS, 72), (SIDE, 92)):
            header.setSectionResizeMode(column, header.ResizeMode.Fixed)
            header.resizeSection(column, theme.px(width))
        self.table.setSelectionMode(TableView.SelectionMode.ExtendedSelection)
        self.table.selectionModel().currentRowChanged.connect(self._current_changed)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._show_bar())
        self.bar = EditBar()
        self._connect_bar()
        self._note = PlainLabel("", "small", "text2", elide=True)
        sheet = Card()
        sheet.body.setSpacing(0)
        layout = sheet.layout()
        assert layout is not None
        layout.setContentsMargins(1, theme.px(4), 1, theme.px(8))
        self._stack = QStackedWidget()
        self._stack.addWidget(self.table)
        self._stack.addWidget(EmptyState("magnifying-glass", tr("Nothing matches"), tr("Try fewer or other words.")))
        sheet.add(self._stack, 1)
        foot = QVBoxLayout()
        foot.setContentsMargins(theme.px(16), theme.px(8), theme.px(16), 0)
        foot.addWidget(self._note)
        sheet.add(foot)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(theme.px(12))
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(self.words, 1)
        head.addWidget(self.bar)
        whole.addLayout(head)
        whole.addWidget(sheet, 1)

    def _connect_bar(self) -> None:
        self._view: DatasetView | None = None
        self.bar.edit_requested.connect(self._ask_to_edit)
        self.bar.add_requested.connect(self._ask_to_add)
        self.bar.remove_requested.connect(lambda: self.remove_requested.emit(self.chosen()))
        self.table.doubleClicked.connect(lambda _index: self.bar.edit.click())
        for keys, button in (("Delete", self.bar.remove), ("Return", self.bar.edit), ("Enter", self.bar.edit)):
            add_key(keys, self.table, button)

    def show_view(self, view: DatasetView, split: Split | None = None) -> None:
        """Show the rows that there are, each with its side of the split once that is known."""
        self._view = view
        self.model.show_rows(view.rows, view.reading, view.found, view.lengths, split)
        self.table.setColumnHidden(TOKENS, view.lengths is None)
        self.table.setColumnHidden(SIDE, split is None)
        self._stack.setCurrentIndex(1 if view.found is not None and not view.found else 0)
        self._note.setText(self._note_of(view))
        if view.wanted_row >= 0 and self.model.rowCount():
            self._follow(view.wanted_row)
        self._show_bar()

    def chosen(self) -> list[int]:
        """Numbers of the rows that are selected, in order."""
        places = sorted({place for first, last in self._ranges() for place in range(first, last + 1)})
        return [self.model.number(place) for place in places]

    def _num_chosen(self) -> int:
        """How many they are, without naming each of what may be a million."""
        return sum(last - first + 1 for first, last in self._ranges())

    def _ranges(self) -> list[tuple[int, int]]:
        """First and last place of each stretch of rows that is selected."""
        found = self.table.selectionModel().selection()
        return [(one.top(), one.bottom()) for one in map(found.at, range(found.count()))]

    def _show_bar(self) -> None:
        if self._view is not None:
            self.bar.show_view(self._view, self._num_chosen())

    def _ask_to_edit(self) -> None:
        if self._num_chosen() == 1:
            self.edit_requested.emit(self.chosen()[0])

    def _ask_to_add(self) -> None:
        """Behind the row that was chosen, or behind the last one."""
        index = self.table.currentIndex()
        number = self.model.number(index.row()) if index.isValid() else self._num_rows() - 1
        self.add_requested.emit(number + 1)

    def _num_rows(self) -> int:
        rows = self._view.rows if self._view is not None else None
        return len(rows) if rows is not None else 0

    def set_narrow(self, narrow: bool) -> None:
        """Where it is narrow, roles give way to texts."""
        self.table.setColumnHidden(ROLES, narrow)

    def _note_of(self, view: DatasetView) -> str:
        if view.rows is None:
            return ""
        if view.found is not None:
            return tr("{0} rows match \u201c{1}\u201d.").format(format_int(len(view.found)), view.words)
        if view.guess is not None:
            return tr("The first {0} rows; all of them when the columns are confirmed.").format(
                format_int(len(view.rows))
            )
        if not view.rows.is_whole:
            return tr("The first {0} rows; the rest as soon as they are found.").format(format_int(len(view.rows)))
        words = tr("{0} rows.").format(format_int(len(view.rows)))
        if len(view.rows) > MOST_ROWS:
            words += " " + tr("The first {0} are listed; search finds the others.").format(format_int(MOST_ROWS))
        if view.survey is not None and view.survey.num_good:
            turns = view.survey.turns
            words += " " + tr("Turns: median {0}, at most {1}.").format(turns.p50, turns.max)
            words += " " + ", ".join(f"{role} {format_int(count)}" for role, count in view.survey.roles.items()) + "."
        return words

    def _follow(self, number: int) -> None:
        place = self.model.place_of(number)
        if place < 0 or self.table.currentIndex().row() == place:
            return
        flag = QItemSelectionModel.SelectionFlag
        index = self.model.index(place, 0)
        self.table.selectionModel().setCurrentIndex(index, flag.ClearAndSelect | flag.Rows)
        self.table.scrollTo(index)

    def _current_changed(self, index: QModelIndex, _before: QModelIndex) -> None:
        if index.isValid():
            self.row_chosen.emit(self.model.number(index.row()))
