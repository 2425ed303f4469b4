"""Rows as text: what they are is told while they are pasted, then they become a file of their own."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QWidget

from studio.data.pasted import Pasted
from ui import theme
from ui.fetching import MOST_PASTED_ROWS
from ui.pages.dataset_source_dialog import SourceDialog
from ui.pages.dataset_words import tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.messages import MessageBar
from ui.widgets.numbers import format_int

WIDTH, HEIGHT = 720, 520
_KINDS = {".jsonl": "JSON lines", ".json": "JSON", ".csv": "CSV", ".tsv": "TSV", ".txt": "Plain text"}
_FORMATS = {"messages": "OpenAI messages", "sharegpt": "ShareGPT", "text": "text without answers"}


class PasteDialog(SourceDialog):
    """Asks for text, and calls `then` with the path of the file that was made of it."""

    def __init__(self, state: AppState, then: Callable[[str], object], parent: QWidget | None = None) -> None:
        super().__init__(tr("Pasted rows"), state, then, parent)
        self.resize(theme.px(WIDTH), theme.px(HEIGHT))
        self.text = QPlainTextEdit()
        self.text.setFont(theme.font("mono"))
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setTabChangesFocus(False)
        self.text.setAccessibleName(tr("Rows"))
        self.text.setPlaceholderText('{"messages": [{"role": "user", "content": "\u2026"}, \u2026]}')
        self.text.textChanged.connect(self._judge)
        self.message = MessageBar("info", "")
        cancel = Button(tr("Cancel"))
        cancel.clicked.connect(self.reject)
        self.open_ = Button(tr("Open"), "primary")
        self.open_.clicked.connect(lambda: self._request("keep", self.text.toPlainText()))
        foot = QHBoxLayout()
        foot.setSpacing(theme.px(8))
        foot.addStretch(1)
        foot.addWidget(cancel)
        foot.addWidget(self.open_)
        self._column.addWidget(self.text, 1)
        self._column.addWidget(self.message)
        self._column.addLayout(foot)
        self._begin(self.text)

    def _judge(self) -> None:
        text = self.text.toPlainText()
        if text.strip():
            self._request("judge", text)
        else:
            self._request("new")

    def _take_source(self) -> None:
        view = self._state.source
        if view.path:
            self.accept()
            return
        if view.error:
            self.message.show_message("warn", f"{view.error} {view.hint}".strip())
        elif view.pasted is not None:
            self.message.show_message("warn" if view.pasted.num_problems else "ok", _told(view.pasted))
        else:
            self.message.show_message("info", tr("JSON, JSON lines, CSV or TSV with its header, or plain text."))
        self.open_.set_reason(None if view.pasted is not None and not view.busy else tr("Paste some rows first"))


def _told(found: Pasted) -> str:
    """`4 rows · OpenAI messages · JSON lines`."""
    number = len(found.rows)
    count = tr("1 row") if number == 1 else tr("{0} rows").format(format_int(number))
    if number == MOST_PASTED_ROWS:
        count = tr("{0} rows or more").format(format_int(number))
    name = found.detection.format
    parts = [count, tr(_FORMATS.get(name, name or "no known format")), tr(_KINDS[found.suffix])]
    if found.num_problems:
        parts.append(tr("{0} cannot be read").format(format_int(found.num_problems)))
    return " \u00b7 ".join(parts)
