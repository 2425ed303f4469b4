"""What is wrong with a dataset, row by row, and what can be mended in one click. The user's file is only ever read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PySide6.QtCore import QModelIndex, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import MENDS, Finding, counts, findings, kind_text, mend_effect, mend_text, tr, version_text
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.messages import EmptyState, MessageBar
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Columns, ScrollColumn
from ui.widgets.tables import ROLE_ROLE, Column, Index, Rows, TableView
from ui.widgets.toggles import CheckBox

RIGHT_WIDTH = 400
KIND, ROW, LINE, WHERE, WHAT = range(5)


class _FindingRows(Rows):
    """Findings, the lost rows in red."""

    def __init__(self, parent: QWidget | None = None) -> None:
        columns = [Column(tr("Kind")), Column(tr("Row"), True), Column(tr("Line"), True), Column(tr("Where"))]
        super().__init__([*columns, Column(tr("What is wrong"), stretch=True)], parent)

    def show_findings(self, found: list[Finding]) -> None:
        """Replace them."""
        rows = [(one, _cells(one)) for one in found]
        icons = [("x-circle", "bad", True) if one.is_lost else ("warning", "warn", True) for one in found]
        self.set_rows(rows, icons)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What is wrong is what is to be read."""
        if role == ROLE_ROLE and index.column() == WHAT:
            return "text"
        return super().data(index, role)


def _cells(one: Finding) -> tuple[str, ...]:
    line = format_int(one.line) if one.line else ""
    return kind_text(one.kind), format_int(one.row + 1), line, one.column, one.message


class _MendLine(QWidget):
    """One mend: what it does, to how many rows, and the link that does it."""

    def __init__(self, name: str, apply: Callable[[], None]) -> None:
        super().__init__()
        self._effect = PlainLabel("", "small", "text2")
        self.apply = Button(tr("Apply"), "link")
        self.apply.setAccessibleName(tr("Apply: {0}").format(mend_text(name)))
        self.apply.clicked.connect(apply)
        words = QVBoxLayout()
        words.setSpacing(theme.px(2))
        words.addWidget(PlainLabel(mend_text(name), "medium", wrap=True))
        words.addWidget(self._effect)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, theme.px(4), 0, theme.px(4))
        row.setSpacing(theme.px(12))
        row.addLayout(words, 1)
        row.addWidget(self.apply)

    def show_effect(self, effect: str, num_rows: int, *, is_busy: bool) -> None:
        """Say what it would do; it can be done where it would do something."""
        self._effect.setText(effect)
        self.apply.setEnabled(bool(num_rows) and not is_busy)


class MendsCard(Card):
    """One-click mends, undo and redo."""

    mend_requested = Signal(str)
    undo_requested = Signal()
    redo_requested = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(tr("Mends"), compact=True, parent=parent)
        self.undo = Button(tr("Undo"), icon="arrow-counter-clockwise")
        self.redo = Button(tr("Redo"), icon="arrow-clockwise")
        self.undo.clicked.connect(self.undo_requested)
        self.redo.clicked.connect(self.redo_requested)
        for button in (self.undo, self.redo):
            self.add_head(button)
        self.lines = {name: _MendLine(name, partial(self.mend_requested.emit, name)) for name in MENDS}
        self._version = PlainLabel("", "small", "text2", wrap=True)
        lines = QVBoxLayout()
        lines.setSpacing(0)
        for name, line in self.lines.items():
            if name != MENDS[0]:
                lines.addWidget(Divider())
            lines.addWidget(line)
        lines.addStretch(1)
        inner = QWidget()
        inner.setLayout(lines)
        lines.setContentsMargins(0, 0, theme.px(12), 0)
        self.body.setSpacing(theme.px(8))
        notice = tr("Your file is never touched: each mend makes a version of its own.")
        self.add(MessageBar("info", notice))
        self.add(ScrollColumn(inner), 1)
        self.add(self._version)

    def show_view(self, view: DatasetView) -> None:
        """What each mend would do now, and what can be taken back."""
        for name, line in self.lines.items():
            effect, num_rows = mend_effect(name, view.survey)
            line.show_effect(effect, num_rows, is_busy=bool(view.busy))
        has_before = view.version is not None and view.version.number > 0
        self.undo.setEnabled(has_before and not view.busy)
        self.redo.setEnabled(view.can_redo and not view.busy)
        self._version.setText(tr("In force: {0}.").format(version_text(view)))


class ProblemsPanel(QWidget):
    """The tab. `row_requested` carries the number of a row to be looked at, `privacy_chosen` whether to look for secrets."""

    row_requested = Signal(int)
    privacy_chosen = Signal(bool)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._survey: object = None
        self._found: list[Finding] = []
        self.kinds = Choice(name=tr("Kind"))
        self.kinds.value_changed.connect(lambda _value: self._filter())
        self.privacy = CheckBox(tr("Also look for secrets and e-mail addresses (on this computer)"))
        self.privacy.value_changed.connect(self.privacy_chosen)
        self.mends = MendsCard()
        self._columns = Columns(self._build_left(), self.mends, RIGHT_WIDTH, sticky=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._columns)

    def _build_left(self) -> QWidget:
        left = QWidget()
        layout = QVBoxLayout(left)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.px(12))
        layout.addWidget(self.kinds)
        layout.addWidget(self.privacy)
        layout.addWidget(self._build_table(), 1)
        layout.addWidget(self._build_remedy())
        return left

    def _build_table(self) -> Card:
        self.model = _FindingRows(self)
        self.table = TableView(tr("Problems"))
        self.table.setModel(self.model)
        header = self.table.horizontalHeader()
        for place, width in ((KIND, 164), (ROW, 72), (LINE, 72), (WHERE, 120)):
            header.setSectionResizeMode(place, header.ResizeMode.Fixed)
            header.resizeSection(place, theme.px(width))
        self.table.selectionModel().currentRowChanged.connect(self._current_changed)
        self._empty = EmptyState("check-circle", "", "")
        self._stack = QStackedWidget()
        self._stack.addWidget(self.table)
        self._stack.addWidget(self._empty)
        sheet = Card()
        layout = sheet.layout()
        assert layout is not None
        layout.setContentsMargins(1, theme.px(4), 1, 1)
        sheet.add(self._stack, 1)
        return sheet

    def _build_remedy(self) -> Card:
        self._message = PlainLabel("", "body", wrap=True, selectable=True)
        self._fix = PlainLabel("", "body", "text2", wrap=True)
        self.show_row = Button(tr("Show the row"), "link")
        self.show_row.clicked.connect(self._ask_for_row)
        words, row = QVBoxLayout(), QHBoxLayout()
        words.setSpacing(theme.px(4))
        words.addWidget(self._message)
        words.addWidget(self._fix)
        row.addLayout(words, 1)
        row.addWidget(self.show_row, 0, Qt.AlignmentFlag.AlignTop)
        self.remedy = Card(compact=True)
        self.remedy.setAccessibleName(tr("Remedy"))
        self.remedy.add(row)
        self.remedy.hide()
        return self.remedy

    def set_narrow(self, narrow: bool) -> None:
        """Take the narrow widths."""
        self._columns.set_narrow(narrow)
        self.table.setColumnHidden(WHERE, narrow)

    def show_view(self, view: DatasetView) -> None:
        """Show what was found."""
        self.mends.show_view(view)
        if view.survey is self._survey and self._found:
            return
        self._survey = view.survey
        if view.survey is None:
            self._found = []
            sentence = tr("Problems are listed when the dataset has been looked through.")
            self._empty.set_text(tr("Not looked through yet"), sentence)
            self.kinds.set_options([("", tr("All kinds"))], "")
        else:
            self._found = findings(view.survey)
            self._empty.set_text(tr("Nothing is wrong"), tr("Each row can be learnt, and none repeats another."))
            number = counts(view.survey)
            options = [(kind, f"{kind_text(kind)} ({format_int(count)})") for kind, count in number.items()]
            everything = tr("All kinds ({0})").format(format_int(sum(number.values())))
            self.kinds.set_options([("", everything), *options], self.kinds.value() or "")
        self._filter()

    def show_kind(self, kind: str) -> None:
        """List only what is of this kind."""
        self.kinds.set_value(kind)
        self._filter()

    def _filter(self) -> None:
        kind = self.kinds.value() or ""
        found = [one for one in self._found if kind in ("", one.kind)]
        self.model.show_findings(found)
        self._stack.setCurrentIndex(0 if found else 1)
        self.remedy.hide()

    def _current(self) -> Finding | None:
        index = self.table.currentIndex()
        found = self.model.key(index.row()) if index.isValid() else None
        return found if isinstance(found, Finding) else None

    def _current_changed(self, index: QModelIndex, _before: QModelIndex) -> None:
        found = self.model.key(index.row()) if index.isValid() else None
        self.remedy.setVisible(isinstance(found, Finding))
        if isinstance(found, Finding):
            self._message.setText(found.message)
            self._fix.setText(found.fix)

    def _ask_for_row(self) -> None:
        found = self._current()
        if found is not None:
            self.row_requested.emit(found.row)
