"""Several sets become one: which, with which weights, and what comes out. The sets themselves are only ever read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.data.mixing import MOST_WEIGHT, Weighed, shares
from studio.errors import StudioError
from ui import theme
from ui.choosing import choose_file, choose_target
from ui.dataset_view import DatasetView, Export
from ui.pages.dataset_words import percent, tr
from ui.state import AppState
from ui.widgets.buttons import Button, IconButton
from ui.widgets.controls import NumberField, TextField
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.numbers import format_int
from ui.widgets.page import ScrollColumn

LEAST_WEIGHT, MOST_SEED = 0.01, 2**32 - 1
NAME, WEIGHT, ROWS, SHARE, REMOVE = range(5)
_WAITING = "\u2026"


class _Line:
    """One set in the grid: its name, its weight, and what it gives."""

    def __init__(self, path: str, note: str) -> None:
        self.path = path
        self.name = PlainLabel(Path(path).name, "medium", elide=True)
        self.note = PlainLabel(note, "small", "text2", elide=True)
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(self.name)
        words.addWidget(self.note)
        self.words = QWidget()
        self.words.setLayout(words)
        words.setContentsMargins(0, 0, 0, 0)
        self.weight = NumberField(
            1.0,
            minimum=LEAST_WEIGHT,
            maximum=MOST_WEIGHT,
            whole=False,
            name=tr("Weight of {0}").format(Path(path).name),
        )
        self.weight.setFixedWidth(theme.px(88))
        self.rows, self.share = (PlainLabel(_WAITING, "body", "text2") for _ in range(2))
        for figure in (self.rows, self.share):
            figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.remove = IconButton("x", tr("Take {0} out").format(Path(path).name))

    def widgets(self) -> list[QWidget]:
        """In the order of the columns."""
        return [self.words, self.weight, self.rows, self.share, self.remove]


class MergeDialog(QDialog):
    """`export_requested` carries an `Export`, `weigh_requested` the path of a set that is to be counted."""

    export_requested = Signal(object)
    weigh_requested = Signal(str)

    def __init__(self, state: AppState, view: DatasetView, kinds: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state, self._view, self._kinds = state, view, kinds
        self.setWindowTitle(tr("Merge sets"))
        self.setAccessibleName(tr("Merge sets"))
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.resize(theme.px(720), theme.px(480))
        self.lines = [_Line(view.path, tr("the set that is open"))]
        self._build()
        self.add_other.clicked.connect(self._ask_for_file)
        self.open_new.clicked.connect(lambda: self._finish(Export(name=self.name.text().strip() or "merged")))
        self.export.clicked.connect(self._ask_where_to)
        state.dataset_changed.connect(self._reckon)
        self.finished.connect(self.deleteLater)
        self._arrange()

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(*(theme.px(24),) * 4)
        column.setSpacing(theme.px(12))
        column.addWidget(PlainLabel(tr("Merge sets"), "heading"))
        words = tr(
            "A weight of 2 takes every row twice, 0.5 every second one. Which rows, follows from their contents and the seed."
        )
        column.addWidget(PlainLabel(words, "body", "text2", wrap=True))
        inner = QWidget()
        self._grid = QGridLayout(inner)
        self._grid.setContentsMargins(
            theme.px(4), theme.px(4), theme.px(12), theme.px(4)
        )  # room for the ring of the focus
        self._grid.setHorizontalSpacing(theme.px(16))
        self._grid.setVerticalSpacing(theme.px(8))
        self._grid.setColumnStretch(NAME, 1)
        for place, title in ((NAME, "Set"), (WEIGHT, "Weight"), (ROWS, "Rows"), (SHARE, "\u2248 Tokens")):
            label = PlainLabel(tr(title), "caption", "text2")
            label.setAlignment(Qt.AlignmentFlag.AlignRight if place in (ROWS, SHARE) else Qt.AlignmentFlag.AlignLeft)
            self._grid.addWidget(label, 0, place)
        column.addWidget(ScrollColumn(inner), 1)
        self.add_other = Button(tr("Add a set\u2026"), icon="folder-open")
        self.total = PlainLabel("", "medium")
        below = QHBoxLayout()
        below.addWidget(self.add_other)
        below.addStretch(1)
        below.addWidget(self.total)
        column.addLayout(below)
        column.addWidget(Divider())
        column.addLayout(self._build_foot())

    def _build_foot(self) -> QHBoxLayout:
        self.name = TextField(f"{Path(self._view.path).stem}-merged", name=tr("Name of the new set"))
        self.seed = NumberField(self._state.recipe.training.seed, minimum=0, maximum=MOST_SEED, name=tr("Seed"))
        self.seed.setFixedWidth(theme.px(96))
        self.export = Button(tr("Export\u2026"))
        self.open_new = Button(tr("Make a new set"), "primary")
        foot = QHBoxLayout()
        foot.setSpacing(theme.px(8))
        for title, field, stretch in ((tr("Seed"), self.seed, 0), (tr("Name"), self.name, 1)):
            label = PlainLabel(title, "label", "text2")
            label.setBuddy(field)
            foot.addWidget(label)
            foot.addWidget(field, stretch)
        foot.addWidget(self.export)
        foot.addWidget(self.open_new)
        return foot

    # --- the sets ----------------------------------------------------------------------------------------------------

    def add_set(self, path: str) -> None:
        """Merge another set in; one that is there already counts for more by its weight."""
        if any(line.path == path for line in self.lines):
            return
        self.lines.append(_Line(path, str(Path(path).parent)))
        self._arrange()
        self.weigh_requested.emit(path)
        self._reckon()

    def _take_out(self, line: _Line) -> None:
        self.lines.remove(line)
        for widget in line.widgets():
            widget.hide()
            widget.deleteLater()
        self._arrange()

    def _arrange(self) -> None:
        for number, line in enumerate(self.lines, start=1):
            if self._grid.indexOf(line.words) < 0:
                line.remove.clicked.connect(partial(self._take_out, line))
                line.weight.value_changed.connect(lambda _value: self._reckon())
                line.weight.problem_changed.connect(lambda _problem: self._reckon())
            for place, widget in enumerate(line.widgets()):
                self._grid.addWidget(widget, number, place)
            line.remove.setVisible(number > 1)
        for number in range(1, self._grid.rowCount() + 2):
            self._grid.setRowStretch(number, 1 if number == len(self.lines) + 1 else 0)
        self._reckon()

    def _found(self, line: _Line) -> Weighed | StudioError | None:
        """What is in a set; None while that is found out."""
        if line is not self.lines[0]:
            return self._view.weighed.get(line.path)
        survey = self._view.survey
        return Weighed(survey.num_rows, survey.num_good, survey.num_characters) if survey is not None else None

    def _reckon(self) -> None:
        """What each set gives, and what comes out."""
        if self._state.dataset is not self._view:
            self.reject()
            return
        found = [self._found(line) for line in self.lines]
        weights = [float(line.weight.value()) for line in self.lines]
        known = [(one, weight) for one, weight in zip(found, weights, strict=True) if isinstance(one, Weighed)]
        given = iter(shares(known))
        for line, one, weight in zip(self.lines, found, weights, strict=True):
            line.note.set_role("bad" if isinstance(one, StudioError) else "text2")
            if isinstance(one, Weighed):
                num_rows, share = next(given)
                line.rows.setText(_rows(num_rows, weight))
                line.share.setText(percent(share))
            elif isinstance(one, StudioError):
                line.note.setText(one.message)
                line.rows.setText("\u2013")
                line.share.setText("\u2013")
        total = sum(num_rows for num_rows, _ in shares(known))
        is_exact = all(weight == int(weight) for _, weight in known)
        self.total.setText(tr("{0} rows come out").format(("" if is_exact else "\u2248 ") + format_int(total)))
        self._judge(found)

    def _judge(self, found: list[Weighed | StudioError | None]) -> None:
        reason = None
        if any(line.weight.problem() for line in self.lines) or self.seed.problem():
            reason = tr("Correct the number in red")
        elif any(isinstance(one, StudioError) for one in found):
            reason = tr("Take out the set in red")
        elif any(one is None for one in found) or self._view.busy:
            reason = tr("Counting\u2026")
        elif len(self.lines) == 1 and self.lines[0].weight.value() == 1:
            reason = tr("Add a set")
        self.open_new.set_reason(reason)
        self.export.setEnabled(reason is None)

    # --- asking ------------------------------------------------------------------------------------------------------

    def _ask_for_file(self) -> None:
        choose_file(self, tr("Choose the set that is to be merged in"), self._kinds, self.add_set)

    def _ask_where_to(self) -> None:
        kinds = tr("JSON lines") + " (*.jsonl)"
        name = f"{self.name.text().strip() or 'merged'}.jsonl"
        choose_target(self, tr("Export the merged set"), name, kinds, lambda path: self._finish(Export(out=path)))

    def _finish(self, wanted: Export) -> None:
        others = tuple(line.path for line in self.lines[1:])
        weights = tuple(float(line.weight.value()) for line in self.lines)
        self.export_requested.emit(Export(wanted.out, others, weights, int(self.seed.value()), wanted.name))
        self.accept()


def _rows(count: int, weight: float) -> str:
    return format_int(count) if weight == int(weight) else f"\u2248 {format_int(count)}"
