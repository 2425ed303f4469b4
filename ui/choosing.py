"""Files and folders chosen by the user, without stopping the window while he looks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QFileDialog, QWidget

Then = Callable[[str], object]


def choose_file(parent: QWidget, title: str, kinds: str, then: Then) -> QFileDialog:
    """Ask for a file of `kinds` ("Recipes (*.toml)") that exists; `then` gets its path."""
    return _open(QFileDialog(parent, title, str(Path.home()), kinds), QFileDialog.FileMode.ExistingFile, then)


def choose_folder(parent: QWidget, title: str, then: Then) -> QFileDialog:
    """Ask for a folder that exists; `then` gets its path."""
    return _open(QFileDialog(parent, title, str(Path.home())), QFileDialog.FileMode.Directory, then)


def choose_target(parent: QWidget, title: str, name: str, kinds: str, then: Then) -> QFileDialog:
    """Ask where to write a file of `kinds`, `name` being offered; `then` gets its path."""
    dialog = QFileDialog(parent, title, str(Path.home() / name), kinds)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
    dialog.setDefaultSuffix(Path(name).suffix.removeprefix("."))
    dialog.selectFile(name)
    return _open(dialog, QFileDialog.FileMode.AnyFile, then)


def _open(dialog: QFileDialog, mode: QFileDialog.FileMode, then: Then) -> QFileDialog:
    dialog.setFileMode(mode)
    dialog.setObjectName("chooser")
    dialog.finished.connect(dialog.deleteLater)
    dialog.fileSelected.connect(then)
    dialog.open()
    return dialog
