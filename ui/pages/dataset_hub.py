"""A set on the hub: what it offers, its first rows before anything is fetched, and the download."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from studio.data.detection import detect_rows
from studio.files import readable_bytes
from studio.runs.hub_jobs import HubLook
from ui import theme
from ui.dataset_view import RowSource
from ui.pages.dataset_rows import ROLES, ROW, TOKENS, TURNS, RowsModel
from ui.pages.dataset_source_dialog import SourceDialog
from ui.pages.dataset_words import tr
from ui.source_view import SourceView
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, TextField
from ui.widgets.fields import Field
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import MessageBar
from ui.widgets.numbers import format_int
from ui.widgets.page import Card
from ui.widgets.tables import TableView

WIDTH, TABLE_HEIGHT = 760, 300


class HubDialog(SourceDialog):
    """Asks for a name, shows what lies there, and calls `then` with the path of the rows once they are here.

    Closed during a download it ends that; what has come is kept, and the next download goes on from there.
    """

    def __init__(self, state: AppState, then: Callable[[str], object], parent: QWidget | None = None) -> None:
        super().__init__(tr("A dataset from the hub"), state, then, parent)
        self._shown: HubLook | None = None
        self.setMinimumWidth(theme.px(WIDTH))
        self._column.addLayout(self._build_name())
        self.message = MessageBar("info", "")
        self._column.addWidget(self.message)
        self._column.addWidget(self._build_offer(), 1)
        self._column.addLayout(self._build_foot())
        self._begin(self.name)

    # --- building ----------------------------------------------------------------------------------------------------

    def _build_name(self) -> QHBoxLayout:
        self.name = TextField(placeholder=tr("owner/name, or the address of its page"), icon="magnifying-glass")
        self.name.setAccessibleName(tr("Name or address of the dataset"))
        self.name.textChanged.connect(lambda _text: self._take_source())
        self.name.returnPressed.connect(self._look)
        self.look = Button(tr("Look"))
        self.look.setAutoDefault(False)
        self.look.clicked.connect(self._look)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(self.name, 1)
        row.addWidget(self.look)
        return row

    def _build_offer(self) -> QWidget:
        self._title, self._facts = PlainLabel("", "heading", elide=True), PlainLabel("", "small", "text2", elide=True)
        self.subset, self.split = Choice(), Choice()
        self.subset.value_changed.connect(lambda subset: self._request("part", (subset, "")))
        self.split.value_changed.connect(lambda split: self._request("part", (self.subset.value(), split)))
        choices = QHBoxLayout()
        choices.setSpacing(theme.px(16))
        self._fields = [Field(tr("Subset"), self.subset), Field(tr("Split"), self.split)]
        for field in self._fields:
            choices.addWidget(field, 1)
        self.rows = RowsModel(self)
        self._table = TableView(tr("The first rows"))
        self._table.setModel(self.rows)
        self._table.setMinimumHeight(theme.px(TABLE_HEIGHT))
        header = self._table.horizontalHeader()
        for column, width in ((ROW, 56), (TURNS, 60)):
            header.setSectionResizeMode(column, header.ResizeMode.Fixed)
            header.resizeSection(column, theme.px(width))
        for column in (ROLES, TOKENS):
            self._table.setColumnHidden(column, True)
        self._note = PlainLabel("", "small", "text2", wrap=True)
        self._offer = QWidget()
        column_ = QVBoxLayout(self._offer)
        column_.setContentsMargins(0, 0, 0, 0)
        column_.setSpacing(theme.px(8))
        column_.addWidget(self._title)
        column_.addWidget(self._facts)
        column_.addLayout(choices)
        self._sheet = Card()
        layout = self._sheet.layout()
        assert layout is not None
        layout.setContentsMargins(1, theme.px(4), 1, theme.px(4))
        self._sheet.add(self._table, 1)
        column_.addWidget(self._sheet, 1)
        column_.addWidget(self._note)
        return self._offer

    def _build_foot(self) -> QHBoxLayout:
        self._words = PlainLabel("", "small", "text2")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(theme.px(8))
        self.bar.setAccessibleName(tr("Progress"))
        self.stop = Button(tr("Stop"))
        self.stop.clicked.connect(lambda: self._request("cancel"))
        self.close_ = Button(tr("Cancel"))
        self.close_.clicked.connect(self.reject)
        self.take = Button(tr("Download"), "primary", icon="download-simple")
        self.take.clicked.connect(self._take)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(self._words)
        row.addWidget(self.bar, 1)
        row.addStretch(0)
        for button in (self.stop, self.close_, self.take):
            button.setAutoDefault(False)
            row.addWidget(button)
        return row

    # --- facts -------------------------------------------------------------------------------------------------------

    def _take_source(self) -> None:
        view = self._state.source
        if view.path:
            self.accept()
            return
        look = view.look
        self.look.setEnabled(bool(self.name.text().strip()))
        self._show_message(view)
        self._offer.setVisible(look is not None)
        if look is not None and look is not self._shown:
            self._show_look(look)
        self._shown = look
        self._show_progress(view)
        self.take.setVisible(look is not None)
        self.take.setEnabled(not view.busy)
        self.take.set_label(tr("Open") if look is not None and look.here else tr("Download"))

    def _show_message(self, view: SourceView) -> None:
        look = view.look
        if view.error:
            self.message.show_message("bad", f"{view.error} {view.hint}".strip())
        elif look is not None and look.why:
            self.message.show_message("warn", tr("{0} It was fetched before, and is here.").format(look.why))
        elif look is None and not view.busy:
            self.message.show_message("info", tr("Nothing is fetched before you have seen it. No script is ever run."))
        self.message.setVisible(bool(view.error or (look is not None and look.why) or (look is None and not view.busy)))

    def _show_look(self, look: HubLook) -> None:
        self._title.setText(look.source["hub_id"])
        self._facts.setText(_facts(look))
        self.subset.set_options([(name, name) for name in look.subsets], look.source["subset"])
        splits = look.subsets.get(look.source["subset"], [])
        self.split.set_options([(name, name) for name in splits], look.source["split"])
        for field in self._fields:
            field.setVisible(bool(look.subsets))
        detection = detect_rows(look.rows)
        self.rows.show_rows(RowSource(look.rows, is_whole=False), detection.mapping, None, None)
        self._sheet.setVisible(bool(look.rows))
        count = tr("The first {0} rows").format(format_int(len(look.rows)))
        self._note.setText(look.rows_error or f"{count}; {detection.reason}.")

    def _show_progress(self, view: SourceView) -> None:
        is_download = view.busy == "downloading"
        words = ""
        if view.busy == "looking":
            words = tr("Asking the hub\u2026")
        elif is_download:
            done, total = (readable_bytes(number) for number in (view.done, view.total))
            words = tr("{0} of {1}").format(done, total) if view.total > 1 else tr("Downloading\u2026")
        self._words.setText(words)
        self.bar.setVisible(bool(view.busy))
        self.bar.setRange(0, 1000 if is_download and view.total > 1 else 0)
        self.bar.setValue(1000 * view.done // max(view.total, 1))
        self.stop.setVisible(bool(view.busy))
        self.close_.setVisible(not view.busy)

    # --- wishes ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self.name.text().strip():
            self._request("look", self.name.text())

    def _take(self) -> None:
        look = self._state.source.look
        if look is not None and look.here:
            self._state.source.path = look.here
            self._take_source()
        else:
            self._request("fetch")


def _facts(look: HubLook) -> str:
    """Licence, size and commit in one line."""
    source = look.source
    parts = [
        "" if look.subsets else tr("subset {0}, split {1}").format(source["subset"], source["split"]),
        tr("Licence: {0}").format(source["licence"] or tr("not stated")),
        readable_bytes(look.num_bytes) if look.num_bytes else "",
        tr("{0} rows").format(format_int(look.num_rows)) if look.num_rows else "",
        tr("as Parquet made by the hub") if look.is_converted else "",
        tr("only for those who accepted its terms") if look.is_gated else "",
        tr("commit {0}").format(source["commit"][:8]),
        tr("on this computer") if look.here else "",
    ]
    return " \u00b7 ".join(part for part in parts if part)
