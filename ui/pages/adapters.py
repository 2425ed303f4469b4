"""Adapters: the overlays on this computer under their bases, and what can be done with the chosen one."""

from __future__ import annotations

from PySide6.QtCore import QItemSelectionModel, QModelIndex
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from studio.library.adapter import Adapter
from ui import theme
from ui.pages.adapter_details import AdapterDetails
from ui.pages.adapter_merge import MergePanel
from ui.pages.adapter_shelf import MADE, Group, Shelf, ShelfDelegate, group, matches, worth
from ui.pages.adapter_target import ExportPanel
from ui.state import AppState, JobView
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, TextField
from ui.widgets.labels import IconLabel, PlainLabel
from ui.widgets.messages import EmptyState, MessageBar
from ui.widgets.page import Card, Page, column
from ui.widgets.tables import table_view

RIGHT_WIDTH = 520


class AdaptersPage(Page):
    """The page."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__("", parent=parent)
        self.setAccessibleName(self.tr("Adapters"))
        self.header.set_title(self.tr("Adapters"))
        self.header.set_purpose(self.tr("Overlays you can lay on a base, swap and compare."))
        self._state = state
        self._groups: list[Group] = []
        self._chosen = ""
        self._trashed = ""
        self._wanted = ""
        self._build()
        self._connect()
        self._take_facts()

    # --- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._import = Button(self.tr("Import\u2026"), icon="download-simple")
        self.header.row.addWidget(self._import)
        self._details, self._merge, self._export = AdapterDetails(), MergePanel(), ExportPanel()
        self._right = QStackedWidget()
        for panel in (self._details, self._merge, self._export):
            self._right.addWidget(panel)
        self._undo = MessageBar("info", "")
        self._undo.hide()
        left = column([self._undo, self._build_filters(), self._build_sheet()], stretch_last=True)
        self._some = QWidget()
        inner = QVBoxLayout(self._some)
        inner.setContentsMargins(0, 0, 0, 0)
        self._columns_ = self.columns(left, self._right, RIGHT_WIDTH, sticky=False)
        self.body.removeWidget(self._columns_)
        inner.addWidget(self._columns_)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._build_none())
        self._stack.addWidget(self._some)
        self._stack.addWidget(QWidget())  # until the disk has been looked at, nobody knows what is missing
        self.add(self._stack, 1)
        self.setFocusProxy(self._table)

    def _build_filters(self) -> QHBoxLayout:
        self._words = TextField(
            placeholder=self.tr("Search adapters"), icon="magnifying-glass", name=self.tr("Search adapters")
        )
        self._base = Choice(name=self.tr("Base"))
        self._tag = Choice(name=self.tr("Tag"))
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(self._words, 2)
        for choice in (self._base, self._tag):
            choice.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            row.addWidget(choice, 1)
        return row

    def _build_sheet(self) -> Card:
        self._shelf = Shelf(self)
        self._table = table_view(self.tr("Adapters"))
        self._table.setModel(self._shelf)
        self._table.setItemDelegate(ShelfDelegate(self._table))
        self._worth = PlainLabel("", "small", "text2", wrap=True)
        clear = Button(self.tr("Show all"))
        clear.clicked.connect(self._show_all)
        nothing = EmptyState("magnifying-glass", self.tr("Nothing matches"), self.tr("Try fewer words."), [clear])
        self._inner = QStackedWidget()
        self._inner.addWidget(self._table)
        self._inner.addWidget(nothing)
        footer = QHBoxLayout()
        footer.setContentsMargins(theme.px(16), theme.px(8), theme.px(16), theme.px(12))
        footer.setSpacing(theme.px(8))
        footer.addWidget(IconLabel("info", "text2"))
        footer.addWidget(self._worth, 1)
        sheet = Card()
        layout = sheet.layout()
        assert layout is not None
        layout.setContentsMargins(1, theme.px(4), 1, 1)
        sheet.body.setSpacing(0)
        sheet.add(self._inner, 1)
        sheet.add(footer)
        return sheet

    def _build_none(self) -> Card:
        train = Button(self.tr("Train one"), "primary")
        train.clicked.connect(lambda: self._state.page_requested.emit("train"))
        fetch = Button(self.tr("Import a folder\u2026"))
        fetch.clicked.connect(self._ask_for_folder)
        card = Card()
        sentence = self.tr("An overlay is what training makes: some megabytes that change how a base answers.")
        card.add(EmptyState("stack-simple", self.tr("No overlays yet"), sentence, [train, fetch]), 1)
        return card

    def _connect(self) -> None:
        state, details = self._state, self._details
        for signal in (state.bases_changed, state.adapters_changed):
            signal.connect(self._take_facts)
        state.adapter_selected.connect(self.select)
        state.job_changed.connect(self._take_job)
        state.noticed.connect(self._noticed)
        self._import.clicked.connect(self._ask_for_folder)
        self._undo.action_triggered.connect(self._bring_back)
        self._words.value_changed.connect(lambda _text: self._filter())
        for choice in (self._base, self._tag):
            choice.value_changed.connect(lambda _value: self._filter())
        self._table.selectionModel().currentRowChanged.connect(self._row_chosen)
        details.chat_requested.connect(self._use_in_chat)
        details.merge_requested.connect(self._offer_merge)
        details.export_requested.connect(self._offer_export)
        details.requested.connect(self._request)
        self._merge.left.connect(self._show_details)
        self._merge.merge_requested.connect(self._begin_merge)
        self._merge.cancel_requested.connect(state.job_cancel_requested)
        self._export.left.connect(self._show_details)
        self._export.export_requested.connect(state.export_requested)
        self.narrow_changed.connect(self._take_width)

    # --- facts -----------------------------------------------------------------------------------------------------

    def _take_facts(self) -> None:
        adapters = self._state.adapters
        names = {adapter.name for adapter in adapters}
        self._stack.setCurrentIndex(1 if adapters or self._trashed else 0 if self._state.is_gathered else 2)
        self._show_undo(names)
        bases = {each.title: each.title for each in group(adapters, self._state.bases)}
        tags = sorted({tag for adapter in adapters for tag in adapter.tags})
        self._base.set_options([("", self.tr("All bases")), *bases.items()], self._base.value() or "")
        self._tag.set_options([("", self.tr("All tags")), *((tag, tag) for tag in tags)], self._tag.value() or "")
        self._filter()

    def _show_undo(self, names: set[str]) -> None:
        if self._trashed and self._trashed not in names:
            text = self.tr("{0} is in the trash.").format(self._trashed)
            self._undo.show_message("info", text, self.tr("Undo"))
            self._undo.show()
        else:
            self._undo.hide()

    def _filter(self) -> None:
        words, base, tag = self._words.text(), str(self._base.value() or ""), str(self._tag.value() or "")
        found = [adapter for adapter in self._state.adapters if matches(adapter, words, tag)]
        self._groups = [each for each in group(found, self._state.bases) if base in ("", each.title)]
        self._shelf.set_groups(self._groups)
        self._span()
        self._inner.setCurrentIndex(0 if self._groups else 1)
        self._worth.setText(worth(self._groups))
        self._choose(self._wanted or self._chosen)

    def _span(self) -> None:
        self._table.clearSpans()
        for row in range(self._shelf.rowCount()):
            if self._shelf.is_group(row):
                self._table.setSpan(row, 0, 1, len(self._shelf.columns))

    def _take_width(self, narrow: bool) -> None:
        self._table.setColumnHidden(MADE, narrow)

    # --- choosing --------------------------------------------------------------------------------------------------

    def select(self, name: str) -> None:
        """Show this adapter, whatever is filtered; if it is not listed yet, as soon as it is."""
        self._wanted = name
        if self._shelf.row_of(name) < 0 and self._state.adapter(name) is not None:
            self._show_all()
        self._choose(name)
        self._show_details()

    def _show_all(self) -> None:
        self._words.set_value("")
        self._base.set_value("")
        self._tag.set_value("")
        self._filter()

    def _choose(self, name: str) -> None:
        row = self._shelf.row_of(name) if name else -1
        if row < 0:
            row = self._shelf.row_of(self._shelf.first()) if self._shelf.first() else -1
        else:
            self._wanted = ""
        self._right.setVisible(row >= 0)
        if row < 0:
            return
        index = self._shelf.index(row, 0)
        flag = QItemSelectionModel.SelectionFlag
        if self._table.currentIndex() == index:
            self._show(row)
        self._table.selectionModel().setCurrentIndex(index, flag.ClearAndSelect | flag.Rows)
        if self._shelf.is_group(row - 1):
            self._table.scrollTo(self._shelf.index(row - 1, 0))
        self._table.scrollTo(index)

    def _row_chosen(self, index: QModelIndex, _before: QModelIndex) -> None:
        if index.isValid() and not self._shelf.is_group(index.row()):
            if self._shelf.key(index.row()) != self._chosen:
                self._show_details()
            self._show(index.row())

    def _show(self, row: int) -> None:
        self._chosen = str(self._shelf.key(row))
        found = self._find(self._chosen)
        if found is not None:
            self._details.show_adapter(*found)

    def _find(self, name: str) -> tuple[Adapter, Group] | None:
        for each in self._groups:
            for adapter in each.adapters:
                if adapter.name == name:
                    return adapter, each
        return None

    def _show_details(self) -> None:
        self._right.setCurrentWidget(self._details)

    # --- wishes ----------------------------------------------------------------------------------------------------

    def _use_in_chat(self, name: str) -> None:
        self._state.chat_selected.emit(name)
        self._state.page_requested.emit("chat")

    def _request(self, verb: str, name: str, value: str) -> None:
        if verb == "remove":
            self._trashed = name
        self._state.adapter_requested.emit(verb, name, value)

    def _bring_back(self) -> None:
        name, self._trashed = self._trashed, ""
        self._undo.hide()
        self._state.adapter_requested.emit("restore", name, "")

    def _ask_for_folder(self) -> None:
        dialog = QFileDialog(self, self.tr("Import an adapter: choose its PEFT folder"))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(self.import_folder)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def import_folder(self, folder: str) -> None:
        """Take the adapter in `folder` into the library."""
        self._state.adapter_requested.emit("import", folder, "")

    # --- merging and exporting -------------------------------------------------------------------------------------

    def _offer_merge(self, name: str) -> None:
        found = self._find(name)
        if found is not None and found[1].base is not None:
            self._merge.show_adapter(found[0], found[1].base)
            self._right.setCurrentWidget(self._merge)

    def _begin_merge(self, name: str, folder: str, dtype: str) -> None:
        self._merge.know(set(self._state.jobs))
        self._state.merge_requested.emit(name, folder, dtype)

    def _offer_export(self, name: str) -> None:
        found = self._find(name)
        if found is not None:
            self._export.show_adapter(found[0])
            self._right.setCurrentWidget(self._export)

    def _take_job(self, job: JobView) -> None:
        self._merge.take_job(job)

    def _noticed(self, kind: str, _sentence: str, _hint: str) -> None:
        if kind == "bad":
            self._merge.refused()
