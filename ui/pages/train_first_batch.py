"""What the first step learned from, as the model saw it: which tokens were trained, and which only read."""

from __future__ import annotations

from functools import partial

from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QTextEdit, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.runs.events import FirstBatchWritten
from studio.runs.first_batch import FirstBatch, SeenRow, read_first_batch
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from ui import theme
from ui.bridge import in_background
from ui.pages.train_words import tr
from ui.widgets.labels import PlainLabel, hard_broken
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card
from ui.widgets.tables import Column, Rows, table_view

LIST_WIDTH = 296


def pieces(row: SeenRow) -> list[tuple[str, bool]]:
    """A row's text in runs of (text, trained)."""
    result: list[tuple[str, bool]] = []
    for token in row.tokens:
        if result and result[-1][1] == token.trained:
            result[-1] = (result[-1][0] + token.text, token.trained)
        else:
            result.append((token.text, token.trained))
    return result


class TokenText(QTextEdit):
    """A row's text: trained tokens underlined on a soft fill, the others pale. Markup in it shows as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._row: SeenRow | None = None
        self.setReadOnly(True)
        self.setAcceptRichText(False)
        self.setUndoRedoEnabled(False)
        self.setTabChangesFocus(True)
        self.setAccessibleName(tr("Row as the model sees it"))
        theme.changed.connect(self._draw)

    def show_row(self, row: SeenRow | None) -> None:
        """Show another row."""
        self._row = row
        self._draw()

    def _draw(self) -> None:
        self.clear()
        self.document().setDefaultFont(theme.font("body", "-"))
        cursor, look = QTextCursor(self.document()), theme.current()
        for text, trained in pieces(self._row) if self._row is not None else ():
            form = QTextCharFormat()
            form.setForeground(look.colour("text" if trained else "text3"))
            if trained:
                form.setBackground(look.colour("soft"))
                form.setFontUnderline(True)
                form.setUnderlineColor(look.colour("atext"))
            cursor.insertText(hard_broken(text), form)
        if self._row is not None and self._row.is_cut:
            rest = QTextCharFormat()
            rest.setForeground(look.colour("text3"))
            cut = tr("\u2026 and {0} more tokens").format(format_int(self._row.num_tokens - len(self._row.tokens)))
            cursor.insertText(f"\n{cut}", rest)
        self.moveCursor(QTextCursor.MoveOperation.Start)


class FirstBatchView(QWidget):
    """The rows of the first batch at the left, the chosen one at the right."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: FirstBatchWritten | None = None
        self._rows: tuple[SeenRow, ...] = ()
        self.empty = EmptyState("database", tr("No first batch yet"), tr("It is written just before the first step."))
        self.table = table_view(tr("Rows of the first batch"))
        columns = [Column(tr("Row"), stretch=True), Column(tr("Tokens"), True), Column(tr("Trained"), True)]
        self._model = Rows(columns, self.table)
        self.table.setModel(self._model)
        self.table.selectionModel().currentRowChanged.connect(lambda index, _: self._choose(index.row()))
        self.summary = PlainLabel("", "body", "text2", wrap=True)
        self.heading = PlainLabel("", "strong")
        self.text = TokenText()
        right = Card(compact=True)
        right.add(self.heading)
        right.add(PlainLabel(tr("Underlined: learnt from. Pale: only read."), "small", "text2"))
        right.add(self.text, 1)
        left = Card(compact=True)
        left.setFixedWidth(theme.px(LIST_WIDTH))
        left.body.setSpacing(theme.px(12))
        left.add(self.summary)
        left.add(self.table, 1)
        self._filled = QWidget()
        row = QHBoxLayout(self._filled)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(16))
        row.addWidget(left)
        row.addWidget(right, 1)
        self._stack = QStackedWidget()
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self._filled)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._stack)

    def forget(self) -> None:
        """Make ready for another run."""
        self._shown, self._rows = None, ()
        self._stack.setCurrentWidget(self.empty)
        self.empty.set_text(tr("No first batch yet"), tr("It is written just before the first step."))

    def show_state(self, state: RunState, folder: RunFolder) -> None:
        """Read the batch once it is written."""
        written = state.first_batch
        if written is None:
            if not state.status.is_live and self._shown is None:
                self.empty.set_text(tr("No first batch"), tr("This run has not written one."))
            return
        if written == self._shown:
            return
        self._shown = written
        in_background(partial(read_first_batch, folder), partial(self._take, written), partial(self._failed, written))

    def _take(self, written: FirstBatchWritten, batch: FirstBatch | None) -> None:
        if batch is None:
            gone = StudioError(tr("Its file is gone."), tr("The run does not need it."))
            self._failed(written, gone)
            return
        if not isValid(self) or written is not self._shown:
            return
        self._rows = rows = batch.rows
        said = tr("{0} rows with {1} tokens: {2} are learnt from, {3} %.")
        share = round(100 * batch.num_supervised / max(batch.num_tokens, 1))
        counts = (format_int(n) for n in (batch.num_rows, batch.num_tokens, batch.num_supervised))
        cut = " " + tr("The first {0} are shown.").format(len(rows)) if len(rows) < batch.num_rows else ""
        self.summary.setText(said.format(*counts, share) + cut)
        counted = [(_name(row), format_int(row.num_tokens), format_int(row.num_supervised)) for row in rows]
        self._model.set_rows(list(enumerate(counted)))
        self._stack.setCurrentWidget(self._filled)
        if rows:
            self.table.selectRow(0)
            self._choose(0)

    def _failed(self, written: FirstBatchWritten, error: StudioError) -> None:
        if isValid(self) and written is self._shown:
            self.empty.set_text(tr("The first batch cannot be read"), f"{error.message} {error.hint}".strip())
            self._stack.setCurrentWidget(self.empty)

    def _choose(self, index: int) -> None:
        if not 0 <= index < len(self._rows):
            return
        row = self._rows[index]
        said = tr("{0}: {1} tokens, {2} of them trained")
        self.heading.setText(said.format(_name(row), format_int(row.num_tokens), format_int(row.num_supervised)))
        self.text.show_row(row)


def _name(row: SeenRow) -> str:
    return tr("Row {0}").format(format_int(row.row + 1))
