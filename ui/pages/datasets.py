"""Datasets: see exactly what will be learnt, before it is."""

from __future__ import annotations

from typing import Any

from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog, QMenu, QStackedWidget, QVBoxLayout, QWidget

from studio.memory.ladder import applied
from studio.recipe.fields import replaced
from ui import theme
from ui.dataset_view import DatasetView, Export
from ui.pages.dataset_editing import RowsEditing
from ui.pages.dataset_glance import GlancePanel
from ui.pages.dataset_lengths import LengthsPanel
from ui.pages.dataset_mask import MaskCard
from ui.pages.dataset_merge import MergeDialog
from ui.pages.dataset_problems import ProblemsPanel
from ui.pages.dataset_rows import RowsPanel
from ui.pages.dataset_sets import OwnSets
from ui.pages.dataset_sources import Sources, kinds
from ui.pages.dataset_split import SplitPanel
from ui.pages.dataset_summary import SummaryCard
from ui.pages.dataset_words import counts, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.numbers import format_int
from ui.widgets.page import Columns, Page
from ui.widgets.tabs import Tabs

MASK_WIDTH = 480
# Datasets up to here are measured, or parted anew, without being asked for it as soon as that is looked at.
MEASURED_AT_ONCE_BYTES = 20_000_000


class DatasetsPage(Page):
    """The page."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__(tr("Datasets"), tr("See exactly what will be learnt, before it is."), parent=parent)
        self._state = state
        self.sets = OwnSets(state, self)
        self.sources = Sources(state, self.sets, self)
        self._parted_for: tuple[str, int, str] | None = None
        self.setAcceptDrops(True)
        self._build_actions()
        self._stack = QStackedWidget()
        self._stack.addWidget(self.sources.card)
        self._stack.addWidget(self._build_some())
        self._stack.addWidget(self.sets.writer)
        self.add(self._stack, 1)
        self._connect()
        self._take_facts()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build_actions(self) -> None:
        self.open_ = Button(tr("Open"), icon="folder-open")
        self.open_.setMenu(self.sources.menu)
        self.export = Button(tr("Export"), icon="export")
        out = QMenu(self)
        out.setAccessibleName(tr("Export"))
        out.addAction(tr("The good rows as JSON lines\u2026"), self._ask_where_to)
        out.addAction(tr("Merge with other sets\u2026"), self.merge)
        self.export.setMenu(out)
        self.use = Button(tr("Train with this"), "primary", icon="play-circle")
        for button in (self.open_, self.export, self.use):
            self.header.row.addWidget(button)

    def _build_some(self) -> QWidget:
        self.summary = SummaryCard()
        names = {"rows": "Rows", "problems": "Problems", "glance": "Glance", "split": "Split", "lengths": "Lengths"}
        self.tabs = Tabs([(key, tr(name)) for key, name in names.items()])
        self.rows, self.seen = RowsPanel(), MaskCard(self._state)
        some = QWidget()
        self.editing = RowsEditing(self._state, self.rows, self.seen, some)
        self._rows_columns = Columns(self.rows, self.editing.right, MASK_WIDTH, sticky=False)
        self.problems, self.glance = ProblemsPanel(), GlancePanel()
        self.split, self.lengths = SplitPanel(self._state), LengthsPanel(self._state)
        self._panels = {
            "rows": self._rows_columns,
            "problems": self.problems,
            "glance": self.glance,
            "split": self.split,
            "lengths": self.lengths,
        }
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
        for signal in (state.dataset_changed, state.bases_changed, state.base_facts_changed, state.recipe_changed):
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
        self.seen.template_chosen.connect(lambda name: self._request("template", name))
        mends = self.problems.mends
        mends.mend_requested.connect(lambda name: self._request("mend", [name]))
        mends.undo_requested.connect(lambda: self._request("undo"))
        mends.redo_requested.connect(lambda: self._request("redo"))
        self.problems.privacy_chosen.connect(lambda wanted: self._request("privacy", wanted))
        self.problems.row_requested.connect(self._go_to_row)
        self.glance.search_requested.connect(self._search_for)
        self.split.search_requested.connect(self._search_for)
        self.split.survey_requested.connect(lambda: self._request("survey"))
        self.split.leaks_requested.connect(self._show_leaks)
        self.split.setting_chosen.connect(self._set)
        self.lengths.measure_requested.connect(lambda: self._request("measure"))
        self.lengths.limit_chosen.connect(self._use_limit)
        self.narrow_changed.connect(self._take_width)
        self.sources.chosen.connect(self.open_path)
        self.sets.turned.connect(self._take_facts)
        self.sets.writer.finished.connect(self.open_path)

    def _take_width(self, narrow: bool) -> None:
        self._rows_columns.set_narrow(narrow)
        for panel in (self.rows, self.problems, self.split, self.lengths, self.sets.writer):
            panel.set_narrow(narrow)

    def view_settings(self) -> dict[str, Any]:
        """The datasets opened last, and whether secrets are looked for."""
        return {"recent": self.sources.recent, "privacy": self._state.privacy}

    def restore_view(self, settings: dict[str, Any]) -> None:
        """Offer them again, and look for what was looked for."""
        if settings.get("privacy") is True:
            self._request("privacy", True)
        self.sources.restore(settings.get("recent"))

    # --- facts -------------------------------------------------------------------------------------------------------

    def _take_facts(self) -> None:
        view = self._state.dataset
        self._stack.setCurrentIndex(2 if self.sets.is_writing else 0 if view is None else 1)
        self.export.setVisible(view is not None and not self.sets.is_writing)
        self.use.setVisible(view is not None and not self.sets.is_writing)
        if view is None:
            self.sources.show_links()
            return
        self.sources.remember(view.path)
        self._show_actions(view)
        self.editing.show_view(view)
        split = view.split(self._state.recipe)
        self.summary.show_view(view, split.num_leaks if split is not None else None)
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
        if view.version is None or view.busy in ("opening", "mending", "editing"):
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
                self.rows.show_view(view, view.split(self._state.recipe))
                self.seen.show_view(view)
            case "problems":
                self.problems.privacy.set_value(self._state.privacy)
                self.problems.show_view(view)
            case "glance":
                self.glance.show_view(view)
            case "split":
                self.split.show_view(view)
                self._part_anew(view)
            case _:
                self.lengths.show_view(view)
                if self._is_small(view) and not view.measured_for and self.lengths.measure.isEnabled():
                    self._request("measure")

    def _part_anew(self, view: DatasetView) -> None:
        """Where it takes a moment only, once for each column and seed: whoever cancels it has cancelled it."""
        recipe = self._state.recipe
        wanted = (view.path, recipe.training.seed, recipe.data.group_by)
        if wanted != self._parted_for and self._is_small(view) and not view.busy and view.split(recipe) is None:
            self._parted_for = wanted
            self._request("survey")

    @staticmethod
    def _is_small(view: DatasetView) -> bool:
        """Whether it is done at once what takes a look at every row."""
        return view.survey is not None and 0 < view.size_bytes <= MEASURED_AT_ONCE_BYTES

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

    def _search_for(self, words: str) -> None:
        self.tabs.set_value("rows")
        self.rows.words.set_value(words)
        self._request("search", words)

    def _show_leaks(self) -> None:
        view = self._state.dataset
        if view is None or view.survey is None:
            return
        split = view.split(self._state.recipe)
        if split is not None and view.survey.pair_counts["leaks"] != split.num_leaks and not view.busy:
            self._request("survey")  # the list is of another fraction
        self.tabs.set_value("problems")
        self.problems.show_kind("leaks")

    def _set(self, setting: str, value: object) -> None:
        self._state.recipe_edited.emit(replaced(self._state.recipe, setting, value))
        view = self._state.dataset
        if view is not None and "side:" in view.words:
            self._request("search", view.words)

    def _use_limit(self, limit: int) -> None:
        self._state.recipe_edited.emit(applied(self._state.recipe, "data.max_tokens", limit))

    # --- going out, coming in ----------------------------------------------------------------------------------------

    def merge(self) -> None:
        """Ask which sets are to become one with this."""
        view = self._state.dataset
        if view is not None:
            dialog = MergeDialog(self._state, view, kinds(), self)
            dialog.weigh_requested.connect(lambda path: self._request("weigh", path))
            dialog.export_requested.connect(lambda wanted: self._request("export", wanted))
            dialog.open()

    def _ask_where_to(self) -> None:
        dialog = QFileDialog(self, tr("Export the good rows as JSON lines"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("jsonl")
        dialog.setNameFilter(tr("JSON lines") + " (*.jsonl)")
        dialog.fileSelected.connect(self.export_to)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def export_to(self, path: str) -> None:
        """Write the good rows of the version in force to a new file."""
        self._request("export", Export(path))

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
