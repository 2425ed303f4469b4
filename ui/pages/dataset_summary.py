"""The dataset in one card: what it is, how sure that is, what was counted, and what goes on."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from studio.data.formats import Mapping
from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import busy_text, format_text, place_text, tr, version_text
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice
from ui.widgets.labels import IconLabel, PlainLabel
from ui.widgets.messages import MessageBar, StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card

_NONE = "\u2013"


class SummaryCard(Card):
    """Name, format, counts, progress, and the two questions that only the user can answer."""

    cancel_requested = Signal()
    survey_requested = Signal()
    confirmed = Signal()
    guessed = Signal(object)
    """Mapping: how the columns might be meant."""
    problems_requested = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(compact=True, parent=parent)
        self.setAccessibleName(tr("Dataset"))
        self.body.setSpacing(theme.px(10))
        self._name, self._place = PlainLabel("", "heading"), PlainLabel("", "small", "text2", elide=True)
        self._version = PlainLabel("", "small", "text2", elide=True)
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(IconLabel("database", "atext", 18, filled=True))
        head.addWidget(self._name)
        head.addWidget(self._place)
        head.addStretch(1)
        head.addWidget(self._version)
        self._format = PlainLabel("", "small", "text2", elide=True)
        self.add(head)
        self.add(self._format)
        self.add(self._build_tiles())
        self.add(self._build_progress())
        self.add(self._build_columns())
        self.message = MessageBar("info", "")
        self.message.action_triggered.connect(self._act)
        self.add(self.message)
        self._view: DatasetView | None = None

    def _build_tiles(self) -> QWidget:
        names = {
            "rows": tr("Rows"),
            "good": tr("Can be learnt"),
            "problems": tr("Problems"),
            "warnings": tr("To look at"),
            "repeats": tr("Repeats"),
            "near": tr("Near repeats"),
            "conflicts": tr("Conflicts"),
            "leaks": tr("Leaks"),
        }
        self.tiles = {key: StatTile(name, _NONE) for key, name in names.items()}
        self._counts = QWidget()
        row = QHBoxLayout(self._counts)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(16))
        for tile in self.tiles.values():
            row.addWidget(tile, 1)
        return self._counts

    def _build_progress(self) -> QWidget:
        self._progress = QWidget()
        self._words = PlainLabel("", "small", "text2")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(theme.px(8))
        self._bar.setAccessibleName(tr("Progress"))
        cancel = Button(tr("Cancel"), "link")
        cancel.clicked.connect(self.cancel_requested)
        row = QHBoxLayout(self._progress)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(12))
        row.addWidget(self._words)
        row.addWidget(self._bar, 1)
        row.addWidget(cancel)
        return self._progress

    def _build_columns(self) -> QWidget:
        self._columns = QWidget()
        names = {"question": tr("Question"), "answer": tr("Answer"), "system": tr("System prompt")}
        self.choices = {what: Choice(name=name) for what, name in names.items()}
        row = QHBoxLayout(self._columns)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        for what, choice in self.choices.items():
            choice.value_changed.connect(lambda _value: self._guess())
            row.addWidget(PlainLabel(names[what], "label", "text2"))
            row.addWidget(choice, 1)
        return self._columns

    def show_view(self, view: DatasetView, num_leaks: int | None = None) -> None:
        """Show what is known; `num_leaks` are those of the recipe's split, None if they are the survey's."""
        self._view = view
        self._name.setText(Path(view.path).name)
        self._place.setText(place_text(view))
        self._version.setText(version_text(view))
        self._format.setText(format_text(view))
        self._progress.setVisible(bool(view.busy))
        self._words.setText(busy_text(view))
        self._bar.setRange(0, view.total if view.total > 1 else 0)
        self._bar.setValue(view.done)
        self._show_counts(view, num_leaks)
        self._show_message(view)

    def _show_counts(self, view: DatasetView, num_leaks: int | None) -> None:
        found = view.survey
        if found is None:
            for tile in self.tiles.values():
                tile.set_value(_NONE, role="text3")
            if view.rows is not None and view.rows.is_whole:
                self.tiles["rows"].set_value(format_int(len(view.rows)))
            return
        num_problems, num_warnings = sum(found.problem_counts.values()), sum(found.warning_counts.values())
        self.tiles["rows"].set_value(format_int(found.num_rows))
        self.tiles["good"].set_value(format_int(found.num_good), role="ok" if found.num_good else "bad")
        self.tiles["problems"].set_value(format_int(num_problems), role="bad" if num_problems else "text")
        self.tiles["warnings"].set_value(format_int(num_warnings), role="warn" if num_warnings else "text")
        for kind in ("repeats", "near", "conflicts", "leaks"):
            count = num_leaks if kind == "leaks" and num_leaks is not None else found.pair_counts[kind]
            self.tiles[kind].set_value(format_int(count), role="warn" if count else "text")

    def _show_message(self, view: DatasetView) -> None:
        guess = view.guess
        self.message.show()
        self._show_columns(view, guess)
        if view.error:
            self.message.show_message("bad", f"{view.error} {view.hint}".strip())
        elif guess is not None:
            words = tr("Which column is what cannot be told for certain. The rows below show how they would be read.")
            if guess.conversation:
                words += " " + tr("Conversations are taken from the column {0}.").format(guess.conversation)
            self.message.show_message("warn", words, tr("That is right"))
        elif view.survey is None and not view.busy:
            self.message.show_message("info", tr("It has not been looked through to its end."), tr("Look through it"))
        else:
            self.message.hide()

    def _show_columns(self, view: DatasetView, guess: Mapping | None) -> None:
        self._columns.setVisible(guess is not None and not guess.conversation)
        self._counts.setVisible(guess is None)  # nothing is counted before that is settled
        if guess is None:
            return
        options = [("", tr("none")), *((name, name) for name in view.columns)]
        for what, choice in self.choices.items():
            choice.set_options(options if what != "answer" else options[1:], getattr(guess, what))

    def _guess(self) -> None:
        question, answer, system = (str(self.choices[what].value() or "") for what in ("question", "answer", "system"))
        self.guessed.emit(Mapping(question, answer, system))

    def _act(self) -> None:
        view = self._view
        if view is None:
            return
        if view.guess is not None:
            self.confirmed.emit()
        else:
            self.survey_requested.emit()
