"""One row to be edited, as turns or as the JSON that it is; judged while one writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from studio.data.conversation import RawRow, RowProblem
from studio.data.edits import INSERT, REPLACE, Edit
from studio.data.formats import Mapping
from studio.data.rewriting import EditedTurn, becomes_messages, turns_of, with_turns
from studio.data.rows import judge
from studio.errors import DataError
from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import tr
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn
from ui.widgets.text_area import TextArea, can_show
from ui.widgets.turn_editor import TurnEditor

# More than this in one row is not written by hand; and Qt's text layout crawls where a word is as long as a picture in base64.
MOST_CHARACTERS = 200_000
_ENDLESS_WORD = re.compile(r"\S{20000}")
_MOST_LINES = 26


@dataclass(frozen=True)
class EditedRow:
    """What is being edited: a row of a version, or a new one that is to stand before it. `written` is the line of a row that
    cannot be read; `value` is None then."""

    kind: str
    row: int
    path: str
    version: int
    value: Any
    written: str = ""
    mapping: Mapping | None = None
    line: int = 0


def row_to_edit(view: DatasetView, raw: RawRow | RowProblem, written: str) -> EditedRow:
    """A row of the version in force."""
    assert view.version is not None
    value = raw.value if isinstance(raw, RawRow) else None
    return EditedRow(REPLACE, raw.row, view.path, view.version.number, value, written, view.mapping, raw.line)


def row_to_add(view: DatasetView, before: int) -> EditedRow:
    """A new row, in the columns that the user has mapped or else as messages."""
    assert view.version is not None
    mapping = view.mapping
    if mapping is None:
        value: dict[str, Any] = {"messages": []}
    elif mapping.conversation:
        value = {mapping.conversation: []}
    else:
        value = {column: "" for column in (mapping.question, mapping.answer) if column}
    return EditedRow(INSERT, before, view.path, view.version.number, value, mapping=mapping)


class RowEditor(Card):
    """The card beside the rows. `applied` carries the `Edit`, `closed` tells that nothing is edited any more."""

    applied = Signal(object)
    closed = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(tr("Edit the row"), parent=parent)
        self.body.setSpacing(theme.px(12))
        self._row: EditedRow | None = None
        self._base: Any = None  # what the turns are turns of
        self._start: Any = None  # the row as it was when this began, or why it was none
        self.switch = Button("", "link")
        self.switch.clicked.connect(self._switch)
        self.add_head(self.switch)
        self.turns, self.text = TurnEditor(), TextArea(tr("The row as JSON"), 8, _MOST_LINES, mono=True)
        for part in (self.turns, self.text):
            part.changed.connect(self._judge)
            part.submitted.connect(self._apply)
        self._inner = QStackedWidget()
        for part in (self.turns, self.text):
            self._inner.addWidget(ScrollColumn(_padded(part)))
        self._icon, self.verdict = IconLabel("info", "text2", 16), PlainLabel("", "body", "text2", wrap=True)
        self.apply, self.discard = Button(tr("Apply")), Button(tr("Discard"), "quiet")
        self.apply.setToolTip(tr("Ctrl+Return"))
        self.discard.setToolTip(tr("Escape, while nothing has changed"))
        self.apply.clicked.connect(self._apply)
        self.discard.clicked.connect(self.close_row)
        self.add(self._inner, 1)
        self.add(Divider())
        self._build_foot()

    def _build_foot(self) -> None:
        words, row = QHBoxLayout(), QHBoxLayout()
        words.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        words.addWidget(self.verdict, 1)
        row.addStretch(1)
        row.addWidget(self.discard)
        row.addWidget(self.apply)
        self.add(words)
        self.add(row)

    # --- what is edited ----------------------------------------------------------------------------------------------

    def edit(self, row: EditedRow) -> str:
        """Begin with a row. What speaks against it, or nothing: another one is half written, or this one is too large."""
        if self.is_changed():
            return tr("Apply or discard the row that is being edited first.")
        written = row.written if row.value is None else _as_json(row.value)
        if len(written) > MOST_CHARACTERS or _ENDLESS_WORD.search(written):
            return tr("Row {0} is too large to be edited here.").format(format_int(row.row + 1))
        self._row = None  # nothing is judged before all of it is there
        self.text.set_text(written)
        self._row, self._base = row, row.value
        number = format_int(row.row + 1)
        self.set_title(
            tr("New row, before {0}").format(number) if row.kind == INSERT else tr("Edit row {0}").format(number)
        )
        turns = turns_of(row.value, row.mapping)
        if row.kind == INSERT and turns == []:
            turns = [EditedTurn("user", ""), EditedTurn("assistant", "")]
        self._show_mode(turns if turns is not None and _can_show(turns) else None)
        self._start = self._value()
        self._judge()
        return ""

    def is_editing(self) -> bool:
        """Whether a row is being edited."""
        return self._row is not None

    def is_changed(self) -> bool:
        """Whether something would be lost."""
        if self._row is None:
            return False
        value = self._value()
        if isinstance(value, str) and isinstance(self._start, str):
            return self.text.text() != self._row.written
        return bool(value != self._start)

    def show_view(self, view: DatasetView) -> None:
        """Close when the row that is edited is of a version that is no longer in force; wait while one is written."""
        row = self._row
        if row is None or view.version is None:
            return
        if (view.path, view.version.number) != (row.path, row.version):
            self.close_row()
            return
        self.setEnabled(view.busy != "editing")

    def close_row(self) -> None:
        """Edit nothing any more."""
        self._row = None
        self.setEnabled(True)
        self.closed.emit()

    # --- two ways to write it ----------------------------------------------------------------------------------------

    def _show_mode(self, turns: list[EditedTurn] | None) -> None:
        """As turns, or as JSON if there are none."""
        self._inner.setCurrentIndex(1 if turns is None else 0)
        if turns is not None:
            self.turns.set_turns(turns)
            self.turns.focus_first()
        else:
            self.text.setFocus(Qt.FocusReason.OtherFocusReason)
        self.switch.set_label(tr("Edit as turns") if turns is None else tr("Edit as JSON"))

    def _is_turns(self) -> bool:
        return self._inner.currentIndex() == 0

    def _switch(self) -> None:
        """Go on in the other way with what has been written so far."""
        value, row = self._value(), self._row
        if isinstance(value, str) or row is None:
            return
        self._base = value
        if self._is_turns():
            self.text.set_text(_as_json(value))
            self._show_mode(None)
        else:
            self._show_mode(turns_of(value, row.mapping))
        self._judge()

    def _value(self) -> dict[str, Any] | str:
        """The row as it would be written, or why it cannot be."""
        row = self._row
        assert row is not None
        if self._is_turns():
            try:
                return with_turns(self._base, self.turns.turns(), row.mapping)
            except DataError as error:
                return f"{error.message} {error.hint}"
        try:
            value = json.loads(self.text.text())
        except RecursionError:
            return tr("This row is nested too deeply.")
        except ValueError as error:
            return tr("This is no JSON: {0}.").format(error)
        return value if isinstance(value, dict) else tr("A row is a JSON object: {\u2026}.")

    # --- judging -----------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        if self._row is None:
            return
        value, row = self._value(), self._row
        turns = turns_of(value, row.mapping)
        self.switch.setVisible(self._is_turns() or (turns is not None and _can_show(turns)))
        self.switch.setEnabled(isinstance(value, dict))
        if isinstance(value, str):
            self._tell("bad", value, tr("Not yet a row"))
            return
        found = judge(RawRow(row.row, row.line, value), row.mapping)
        if isinstance(found, RowProblem):
            # A bad example may be kept on purpose, for training with preferences.
            reason = None if found.kind == "unwanted" else tr("Not yet a row")
            self._tell("bad" if reason else "warn", f"{found.message} {found.fix}", reason)
        elif row.kind == REPLACE and row.mapping is None and becomes_messages(row.value, value):
            words = tr("Its columns cannot hold these turns: the row becomes messages. Other columns stay.")
            self._tell("warn", words, None)
        else:
            self._tell("ok", tr("It can be learnt."), None)

    def _tell(self, kind: str, words: str, reason: str | None) -> None:
        icons = {"bad": "x-circle", "warn": "warning", "ok": "check-circle"}
        self._icon.set_icon(icons[kind], kind, filled=True)
        self.verdict.setText(words)
        self.apply.set_reason(reason if self.is_changed() else tr("Nothing changed"))

    def _apply(self) -> None:
        value = self._value() if self._row is not None else ""
        if self.apply.isEnabled() and self._row is not None and not isinstance(value, str):
            self.applied.emit(Edit(self._row.kind, self._row.row, value))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape leaves a row in which nothing has been changed."""
        if event.key() == Qt.Key.Key_Escape and not self.is_changed():
            self.close_row()
        else:
            super().keyPressEvent(event)


def _can_show(turns: list[EditedTurn]) -> bool:
    return all(can_show(turn.content) for turn in turns)


def _as_json(value: Any) -> str:
    """For people, with escapes where letters could not be shown."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if can_show(text) else json.dumps(value, indent=2)


def _padded(part: QWidget) -> QWidget:
    """With room for the bar that scrolls it."""
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, theme.px(12), 0)
    column.addWidget(part)
    column.addStretch(1)
    return holder
