"""The rows that the model found hardest to predict: broken ones stand here first, and so do those worth learning."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from studio.runs.state import RunState
from ui import theme
from ui.pages.train_words import tr
from ui.widgets.answer import AnswerText
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn
from ui.widgets.tables import Column, Rows, table_view


class WorstView(QWidget):
    """A table, worst first, over the row that is chosen in it."""

    def __init__(self) -> None:
        super().__init__()
        self._judged: object = None
        self._rows: list[dict[str, Any]] = []
        self.empty = EmptyState(
            "magnifying-glass",
            tr("No rows judged yet"),
            tr("Rows are judged as they are read; the first ones take a moment."),
        )
        self.summary = PlainLabel("", "body", "text2", wrap=True)
        self.table = table_view(tr("Worst examples"))
        columns = [
            Column(tr("Row")),
            Column(tr("Loss"), True),
            Column(tr("Tokens"), True),
            Column(tr("Step"), True),
            Column(tr("Set")),
            Column(tr("Prompt"), stretch=True),
            Column(tr("Answer"), stretch=True),
        ]
        self._model = Rows(columns, self.table)
        self.table.setModel(self._model)
        self.table.selectionModel().currentRowChanged.connect(lambda index, _: self._choose(index.row()))
        self.prompt, self.answer = AnswerText(name=tr("Prompt")), AnswerText(name=tr("Answer in the dataset"))
        self.card = Card(compact=True)
        self.card.body.setSpacing(theme.px(6))
        for title, text in ((tr("Prompt"), self.prompt), (tr("Answer in the dataset"), self.answer)):
            self.card.add(PlainLabel(title, "caption", "text2"))
            self.card.add(text)
        self.card.body.addStretch(1)
        below = ScrollColumn(self.card)
        filled = QWidget()
        column = QVBoxLayout(filled)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        rows = Card(compact=True)
        rows.body.setSpacing(theme.px(12))
        rows.add(self.summary)
        rows.add(self.table, 1)
        column.addWidget(rows, 3)
        column.addWidget(below, 1)
        self._filled = filled
        self._stack = QStackedWidget()
        self._stack.addWidget(self.empty)
        self._stack.addWidget(filled)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._stack)

    def show_state(self, state: RunState) -> None:
        """Show the rows as they were judged last; the one chosen stays so."""
        judged = state.judgements[-1] if state.judgements else None
        if judged is None or not judged.rows:
            self._judged = None
            self._stack.setCurrentWidget(self.empty)
            return
        if judged is self._judged:
            return
        self._judged = judged
        current = self.table.currentIndex().row()
        key = self._model.key(current) if 0 <= current < len(self._rows) else None
        self._rows = [row for row in judged.rows if isinstance(row.get("row"), int)]
        self._model.set_rows([(row["row"], _cells(row)) for row in self._rows])
        said = tr(
            "The {0} rows with the highest loss when they were last read, as of step {1}. Look for broken ones first."
        )
        self.summary.setText(said.format(format_int(len(self._rows)), format_int(judged.step)))
        self._stack.setCurrentWidget(self._filled)
        index = max(0, self._model.row_of(key))
        self.table.selectRow(index)
        self._choose(index)

    def _choose(self, index: int) -> None:
        if not 0 <= index < len(self._rows):
            return
        row = self._rows[index]
        self.card.setAccessibleName(tr("Row {0}").format(format_int(row["row"] + 1)))
        self.prompt.set_text(str(row.get("prompt", "")) or tr("(no prompt)"))
        self.answer.set_text(str(row.get("answer", "")) or tr("(an empty answer)"))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A judged row as it stands in the table; what an event lacks is left out."""
    loss = row.get("loss")
    return (
        format_int(row["row"] + 1),
        f"{loss:.2f}" if isinstance(loss, int | float) and math.isfinite(loss) else tr("no value"),
        _count(row.get("num_supervised")),
        _count(row.get("step")),
        tr("Held out") if row.get("held_out") else tr("Training"),
        " ".join(str(row.get("prompt", "")).split()),
        " ".join(str(row.get("answer", "")).split()),
    )


def _count(number: object) -> str:
    return format_int(number) if isinstance(number, int) else "\u2013"
