"""Datasets: see exactly what will be learnt, before it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QStackedWidget, QVBoxLayout, QWidget

from studio.memory.ladder import applied
from studio.places import EXAMPLES
from ui import theme
from ui.choosing import choose_file, choose_folder
from ui.dataset_view import DatasetView
from ui.pages.dataset_editing import RowsEditing
from ui.pages.dataset_lengths import LengthsPanel
from ui.pages.dataset_mask import MaskCard
from ui.pages.dataset_problems import ProblemsPanel
from ui.pages.dataset_rows import RowsPanel
from ui.pages.dataset_sets import OwnSets
from ui.pages.dataset_summary import SummaryCard
from ui.pages.dataset_words import counts, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Columns, Page
from ui.widgets.tabs import Tabs

MASK_WIDTH = 480
MOST_RECENT = 6
# Datasets up to here are measured without being asked for it, as soon as their lengths are looked at.
MEASURED_AT_ONCE_BYTES = 20_000_000
_KINDS = "(*.jsonl *.json *.ndjson *.csv *.tsv *.parquet *.arrow *.txt *.md *.gz *.zst)"


class DatasetsPage(Page):
    """The page."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(tr("Datasets"), tr("See exactly what will be learnt, before it is."), parent=parent)
        self._state = state
        self._recent: list[str] = []
        self.setAcceptDrops(True)
        self._build_actions()
        self._stack = QStackedWidget()
        self._stack.addWidget(self._build_none())
        self._stack.addWidget(self._build_some())
        self.sets = OwnSets(state, self)
        self._stack.addWidget(self.sets.writer)
        self.add(self._stack, 1)
        self._connect()
        self._take_facts()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build_actions(self) -> None:
        self.open_ = Button(tr("Open"), icon="folder-open")
        self._menu = QMenu(self)
        self._menu.setAccessibleName(tr("Open"))
        self._menu.aboutToShow.connect(self._fill_menu)
        self.open_.setMenu(self._menu)
        self.export = Button(tr("Export"), icon="export")
        out = QMenu(self)
        out.setAccessibleName(tr("Export"))
        out.addAction(tr("The good rows as JSON lines\u2026"), lambda: self._ask_where_to([]))
        out.addAction(tr("Merged with another set\u2026"), self._ask_for_other)
        self.export.setMenu(out)
        self.use = Button(tr("Train with this"), "primary", icon="play-circle")
        for button in (self.open_, self.export, self.use):
            self.header.row.addWidget(button)

    def _build_none(self) -> Card:
        example = Button(tr("Use the example"), "primary")
        example.clicked.connect(lambda: self.open_path(str(EXAMPLES / "pirate.jsonl")))
        choose = Button(tr("Choose a file\u2026"))
        choose.clicked.connect(self._ask_for_file)
        sentence = tr(
            "Drop a file or a folder here: JSON, CSV, Parquet, text. It is only ever read, and stays on this computer."
        )
        card = Card()
        card.body.addStretch(2)
        card.add(EmptyState("database", tr("No dataset open"), sentence, [example, choose]))
        self._links = QVBoxLayout()
        self._links.setSpacing(theme.px(4))
        card.add(self._links)
        card.body.addStretch(3)
        return card

    def _build_some(self) -> QWidget:
        self.summary = SummaryCard()
        self.tabs = Tabs([("rows", tr("Rows")), ("problems", tr("Problems")), ("lengths", tr("Lengths"))])
        self.rows, self.seen = RowsPanel(), MaskCard(self._state)
        some = QWidget()
        self.editing = RowsEditing(self._state, self.rows, self.seen, some)
        self._rows_columns = Columns(self.rows, self.editing.right, MASK_WIDTH, sticky=False)
        self.problems, self.lengths = ProblemsPanel(), LengthsPanel(self._state)
        self._panels = {"rows": self._rows_columns, "problems": self.problems, "lengths": self.lengths}
        self._inner = QStackedWidget()
        for panel in self._panels.values():
            self._inner.addWidget(panel)
        layout = QVBoxLayout(some)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(theme.px(12))
        layout.addWidget(self.summary)
        layout.addWidget(self.tabs)
        layout.addWidget(self._inner, 1)
        return some

    def _connect(self) -> None:
        state = self._state
        for signal in (state.dataset_changed, state.bases_changed, state.recipe_changed):
            signal.connect(self._take_facts)
        self.tabs.value_changed.connect(self._show_tab)
        self.use.clicked.connect(lambda: self._request("use"))
        self.summary.cancel_requested.connect(lambda: self._request("cancel"))
        self.summary.survey_requested.connect(lambda: self._request("survey"))
        self.summary.confirmed.connect(self._confirm)
        self.summary.guessed.connect(lambda mapping: self._request("guess", mapping))
        self.rows.row_chosen.connect(self._show_row)
        self.rows.search_requested.connect(lambda words: self._request("search", words))
        self.seen.base_chosen.connect(lambda base: self._request("base", base))
        mends = self.problems.mends
        mends.mend_requested.connect(lambda name: self._request("mend", [name]))
        mends.undo_requested.connect(lambda: self._request("undo"))
        mends.redo_requested.connect(lambda: self._request("redo"))
        self.problems.row_requested.connect(self._go_to_row)
        self.lengths.measure_requested.connect(lambda: self._request("measure"))
        self.lengths.limit_chosen.connect(self._use_limit)
        self.narrow_changed.connect(self._take_width)
        self.sets.turned.connect(self._take_facts)
        self.sets.writer.finished.connect(self.open_path)

    def _take_width(self, narrow: bool) -> None:
        self._rows_columns.set_narrow(narrow)
        for panel in (self.rows, self.problems, self.lengths, self.sets.writer):
            panel.set_narrow(narrow)

    def view_settings(self) -> dict[str, Any]:
        """The datasets opened last."""
        return {"recent": self._recent}

    def restore_view(self, settings: dict[str, Any]) -> None:
        """Offer them again."""
        found = settings.get("recent")
        self._recent = (
            [path for path in found if isinstance(path, str)][:MOST_RECENT] if isinstance(found, list) else []
        )
        self._show_links()

    # --- facts -------------------------------------------------------------------------------------------------------

    def _take_facts(self) -> None:
        view = self._state.dataset
        self._stack.setCurrentIndex(2 if self.sets.is_writing else 0 if view is None else 1)
        self.export.setVisible(view is not None and not self.sets.is_writing)
        self.use.setVisible(view is not None and not self.sets.is_writing)
        if view is None:
            self._show_links()
            return
        self._show_actions(view)
        self.editing.show_view(view)
        self.summary.show_view(view)
        number = sum(counts(view.survey).values()) if view.survey is not None else 0
        self.tabs.setTabText(1, tr("Problems ({0})").format(format_int(number)) if number else tr("Problems"))
        self._show_panel(view)

    def _show_actions(self, view: DatasetView) -> None:
        reason = self._reason(view)
        self.use.set_reason(reason)
        self.export.setEnabled(reason is None)

    def _reason(self, view: DatasetView) -> str | None:
        """Why it cannot be trained with yet."""
        if view.error:
            return tr("It cannot be read")
        if view.version is None or view.busy in ("opening", "mending", "editing", "writing"):
            return tr("One moment\u2026")
        if view.guess is not None:
            return tr("Confirm the columns")
        if view.survey is not None and not view.survey.num_good:
            return tr("No row can be learnt")
        return None if view.mapping is None or not view.busy else tr("One moment\u2026")

    def _show_panel(self, view: DatasetView) -> None:
        """Only the tab that is looked at is kept up to date."""
        match self.tabs.value():
            case "rows":
                self.rows.show_view(view)
                self.seen.show_view(view)
            case "problems":
                self.problems.show_view(view)
            case _:
                self.lengths.show_view(view)
                is_small = 0 < view.size_bytes <= MEASURED_AT_ONCE_BYTES
                if is_small and view.survey is not None and not view.measured_for and self.lengths.measure.isEnabled():
                    self._request("measure")

    def _show_tab(self, key: str) -> None:
        self._inner.setCurrentWidget(self._panels[key])
        if self._state.dataset is not None:
            self._show_panel(self._state.dataset)

    # --- wishes ------------------------------------------------------------------------------------------------------

    def _request(self, verb: str, value: object = None) -> None:
        self._state.dataset_requested.emit(verb, value)

    def open_path(self, path: str) -> None:
        """Open a file or a folder."""
        self.sets.leave()
        self._recent = [path, *(other for other in self._recent if other != path)][:MOST_RECENT]
        self.rows.words.set_value("")
        self._request("open", path)

    def _confirm(self) -> None:
        view = self._state.dataset
        if view is not None and view.guess is not None:
            self._request("confirm", view.guess)

    def _show_row(self, number: int) -> None:
        view = self._state.dataset
        if view is not None and view.wanted_row != number:
            self._request("show", number)

    def _go_to_row(self, number: int) -> None:
        self.tabs.set_value("rows")
        view = self._state.dataset
        if view is not None and view.found is not None:
            self.rows.words.set_value("")
            self._request("search", "")
        self._request("show", number)

    def _use_limit(self, limit: int) -> None:
        self._state.recipe_edited.emit(applied(self._state.recipe, "data.max_tokens", limit))

    # --- choosing ----------------------------------------------------------------------------------------------------

    def _fill_menu(self) -> None:
        self._menu.clear()
        self._menu.addAction(tr("A file\u2026"), self._ask_for_file)
        self._menu.addAction(tr("A folder\u2026"), self._ask_for_folder)
        self.sets.add_actions(self._menu)
        if self._recent:
            self._menu.addSeparator()
        for path in self._recent:
            # An ampersand in a name would underline the letter after it.
            self._menu.addAction(_name(path).replace("&", "&&"), partial(self.open_path, path))

    def _show_links(self) -> None:
        while self._links.count():
            item = self._links.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        offered = [
            (tr("Choose a folder\u2026"), self._ask_for_folder),
            (tr("New set, written by hand\u2026"), self.sets.begin),
        ]
        if self._recent:
            offered += [(_name(path), partial(self.open_path, path)) for path in self._recent]
        for text, act in offered:
            link = Button(text, "link")
            link.clicked.connect(act)
            row = QHBoxLayout()
            self._links.addWidget(_centred(link, row))

    def _ask_for_file(self) -> None:
        choose_file(self, tr("Choose a dataset"), f"{tr('Datasets')} {_KINDS};;{tr('All files')} (*)", self.open_path)

    def _ask_for_folder(self) -> None:
        choose_folder(self, tr("Choose a folder with datasets"), self.open_path)

    def _ask_for_other(self) -> None:
        title = tr("Choose the set that is to be merged in")
        choose_file(self, title, f"{tr('Datasets')} {_KINDS};;{tr('All files')} (*)", self._ask_where_to_merge)

    def _ask_where_to_merge(self, other: str) -> None:
        self._ask_where_to([other])

    def _ask_where_to(self, others: list[str]) -> None:
        dialog = QFileDialog(self, tr("Export the good rows as JSON lines"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("jsonl")
        dialog.setNameFilter(tr("JSON lines") + " (*.jsonl)")
        dialog.fileSelected.connect(partial(self.export_to, others=others))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def export_to(self, path: str, others: Sequence[str] = ()) -> None:
        """Write the good rows of the version in force, and those of `others`, to a new file."""
        self._request("export", (path, list(others)))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A file or a folder of this computer may be dropped."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open the first of what was dropped."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.open_path(paths[0])


def _name(path: str) -> str:
    """A file's name and the folder it lies in."""
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.home()))
    return f"{Path(path).parent.name}/{Path(path).name}"


def _centred(widget: QWidget, row: QHBoxLayout) -> QWidget:
    holder = QWidget()
    holder.setLayout(row)
    row.setContentsMargins(0, 0, 0, 0)
    row.addStretch(1)
    row.addWidget(widget)
    row.addStretch(1)
    return holder
