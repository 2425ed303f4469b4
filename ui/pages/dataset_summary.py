"""The dataset in one card: what it is, how sure that is, what was counted, and what goes on."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from ui import theme
from ui.dataset_view import DatasetView
from ui.pages.dataset_words import busy_text, format_text, place_text, tr, version_text
from ui.widgets.buttons import Button
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
        self.message = MessageBar("info", "")
        self.message.action_triggered.connect(self._act)
        self.add(self.message)
        self._view: DatasetView | None = None

    def _build_tiles(self) -> QHBoxLayout:
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
        row = QHBoxLayout()
        row.setSpacing(theme.px(16))
        for tile in self.tiles.values():
            row.addWidget(tile, 1)
        return row

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

    def show_view(self, view: DatasetView) -> None:
        """Show what is known."""
        self._view = view
        self._name.setText(Path(view.path).name)
        self._place.setText(place_text(view))
        self._version.setText(version_text(view))
        self._format.setText(format_text(view))
        self._progress.setVisible(bool(view.busy))
        self._words.setText(busy_text(view))
        self._bar.setRange(0, view.total if view.total > 1 else 0)
        self._bar.setValue(view.done)
        self._show_counts(view)
        self._show_message(view)

    def _show_counts(self, view: DatasetView) -> None:
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
            count = found.pair_counts[kind]
            self.tiles[kind].set_value(format_int(count), role="warn" if count else "text")

    def _show_message(self, view: DatasetView) -> None:
        guess = view.detection.mapping if view.detection is not None and view.mapping is None else None
        self.message.show()
        if view.error:
            self.message.show_message("bad", f"{view.error} {view.hint}".strip())
        elif guess is not None:
            columns = {tr("question"): guess.question, tr("answer"): guess.answer, tr("system"): guess.system}
            columns[tr("conversation")] = guess.conversation
            told = ", ".join(f"{name}: {column}" for name, column in columns.items() if column)
            words = tr("Which column is what cannot be told for certain. The rows below are read so: {0}.")
            self.message.show_message("warn", words.format(told), tr("That is right"))
        elif view.survey is None and not view.busy:
            self.message.show_message("info", tr("It has not been looked through to its end."), tr("Look through it"))
        else:
            self.message.hide()

    def _act(self) -> None:
        view = self._view
        if view is None:
            return
        if view.detection is not None and view.detection.mapping is not None and view.mapping is None:
            self.confirmed.emit()
        else:
            self.survey_requested.emit()
