"""Where an export or a merged model is to go: a folder that does not exist yet, on a disk with enough room."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QCoreApplication, Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio import files
from studio.errors import StudioError
from studio.library.adapter import Adapter
from studio.places import Workspace
from ui import theme
from ui.bridge import in_background, soon
from ui.widgets.buttons import Button
from ui.widgets.controls import TextField
from ui.widgets.fields import Field
from ui.widgets.labels import PlainLabel
from ui.widgets.page import Card

LOOK_MS = 200


def _tr(text: str) -> str:
    return QCoreApplication.translate("AdaptersPage", text)


def button_row(*buttons: Button) -> QHBoxLayout:
    """Buttons at the right end, the one that goes on last."""
    row = QHBoxLayout()
    row.setSpacing(theme.px(8))
    row.addStretch(1)
    for button in buttons:
        row.addWidget(button)
    return row


def look_at(folder: Path) -> tuple[bool, int]:
    """Whether `folder` exists, and the free bytes of the disk that it would lie on."""
    return folder.exists(), files.free_bytes(folder)


class TargetField(QWidget):
    """The path of the new folder, with a button to choose what it lies in. `judged` tells when it was looked at."""

    judged = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._needs_bytes = 0
        self._problem = ""
        self._is_known = False
        self._path = TextField(name=self.tr("New folder"), icon="folder-open")
        self._field = Field(self.tr("New folder"), self._path)
        choose = Button(self.tr("Choose\u2026"))
        choose.setAccessibleName(self.tr("Choose where the new folder goes"))
        choose.clicked.connect(self._choose)
        self._path.value_changed.connect(self._edited)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        row.addWidget(self._field, 1)
        aside = QVBoxLayout()
        aside.addSpacing(theme.px(21))
        aside.addWidget(choose)
        aside.addStretch(1)
        row.addLayout(aside)

    def path(self) -> Path:
        """The folder, whole."""
        return Path(self._path.text().strip()).expanduser()

    def problem(self) -> str | None:
        """Why nothing can go there, as a button would say it; None if it can."""
        if not self._path.text().strip():
            return self.tr("Name a folder")
        if not self._is_known:
            return self.tr("Looking at the disk\u2026")
        return self._problem or None

    def ask_for(self, name: str, needs_bytes: int) -> None:
        """Propose the folder `name` among the workspace's exports; `needs_bytes` 0: unknown."""
        self._needs_bytes = needs_bytes
        self._path.set_value(str(Workspace.default().exports / files.safe_name(name, "export")))
        self._look()

    def set_needs(self, needs_bytes: int) -> None:
        """Need more or less room than before."""
        self._needs_bytes = needs_bytes
        self._look()

    def _edited(self, _text: str) -> None:
        self._is_known = False
        self.judged.emit()
        soon(self, self._look, LOOK_MS)

    def _look(self) -> None:
        self._is_known = False
        path = self.path()
        if not self._path.text().strip():
            self._field.set_error(None)
            self.judged.emit()
            return

        def arrived(found: tuple[bool, int]) -> None:
            if isValid(self) and path == self.path():
                self._judge(*found)

        def failed(error: StudioError) -> None:
            if isValid(self) and path == self.path():
                self._tell(error.message, self.tr("Choose another folder"))

        in_background(partial(look_at, path), arrived, failed)

    def _judge(self, exists: bool, free_bytes: int) -> None:
        needs, free = files.readable_bytes(self._needs_bytes), files.readable_bytes(free_bytes)
        if not self.path().is_absolute():
            self._tell(self.tr("Write the whole path."), self.tr("Write the whole path"))
        elif exists:
            self._tell(self.tr("It exists already; nothing is ever replaced."), self.tr("Choose a new folder"))
        elif self._needs_bytes > free_bytes:
            self._tell(self.tr("{0} are needed, {1} are free.").format(needs, free), self.tr("Not enough room"))
        else:
            self._tell("", "")
            self._field.set_hint(self.tr("Needs about {0}; {1} are free.").format(needs, free))

    def _tell(self, error: str, problem: str) -> None:
        self._is_known, self._problem = True, problem
        self._field.set_error(error)
        self.judged.emit()

    def _choose(self) -> None:
        dialog = QFileDialog(self, self.tr("Where the new folder goes"), str(self.path().parent))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(self.choose)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def choose(self, folder: str) -> None:
        """Let the new folder lie in `folder`, under the name it has."""
        self._path.set_value(str(Path(folder) / self.path().name))
        self._look()


class ExportPanel(Card):
    """Hand an adapter to other programs: a copy of its plain PEFT folder."""

    left = Signal()
    export_requested = Signal(str, str)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(_tr("Export"), parent=parent)
        self._adapter: Adapter | None = None
        self._what = PlainLabel("", "body", "text2", wrap=True)
        self._target = TargetField()
        self._target.judged.connect(self._judge)
        self._export = Button(self.tr("Export"), "primary", "export", size="action")
        self._export.clicked.connect(self._go)
        cancel = Button(self.tr("Back"), size="action")
        cancel.clicked.connect(self.left)
        self.add(self._what)
        self.add(self._target)
        self.body.addStretch(1)
        self.add(button_row(cancel, self._export))

    def show_adapter(self, adapter: Adapter) -> None:
        """Offer to export this one."""
        self._adapter = adapter
        self.set_title(self.tr("Export {0}").format(adapter.name))
        text = self.tr(
            "A copy of the overlay as a plain PEFT folder. Every program that knows PEFT lays it on the same base. "
            "The base itself is not copied."
        )
        self._what.setText(text)
        self._target.ask_for(adapter.name, adapter.bytes)

    def _judge(self) -> None:
        self._export.set_reason(self._target.problem())

    def _go(self) -> None:
        assert self._adapter is not None
        self.export_requested.emit(self._adapter.name, str(self._target.path()))
        self.left.emit()
