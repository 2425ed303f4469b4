"""What learns from what: the choice of a base and of a dataset, each with a way to bring a new one."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from ui.pages.train_words import EXAMPLE_NAMES, data_name, example_path, tr
from ui.state import AppState
from ui.widgets.controls import Choice

# Values of entries that do something; no path and no name of a base can hold a zero character.
_STARTER, _FOLDER, _GGUF, _FILE = "\0starter", "\0folder", "\0gguf", "\0file"


class _OpenChoice(Choice):
    """A choice that can show a value outside its list, and whose last entries do something instead of being taken."""

    def offered(self, value: object) -> list[tuple[object, str]]:
        """The options, `value` among them."""
        raise NotImplementedError

    def act(self, action: str) -> None:
        """Do what an entry stands for."""
        raise NotImplementedError

    def set_value(self, value: object) -> None:
        """Show `value`, whether or not it is among the options."""
        if value is not None and self.findData(value) < 0:
            self.set_options(self.offered(value), value)
        else:
            super().set_value(value)

    def refill(self) -> None:
        """Offer what there is now."""
        self.set_options(self.offered(self._told), self._told)

    def _chosen(self, index: int) -> None:
        value = self.value()
        if isinstance(value, str) and value.startswith("\0"):
            self.set_value(self._told)
            self.act(value)
        else:
            super()._chosen(index)


class BaseChoice(_OpenChoice):
    """The bases on this computer, and entries that add one."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        self._state = state
        value = state.recipe.base.id
        super().__init__(self.offered(value), value, "cube", name=tr("Base model"), parent=parent)
        state.bases_changed.connect(self.refill)

    def offered(self, value: object) -> list[tuple[object, str]]:
        """Bases by name, then the ways to add one."""
        ids = [base.id for base in self._state.bases]
        options: list[tuple[object, str]] = [(each, each) for each in ids]
        if value not in ids:
            options.insert(0, (value, tr("{0} (not on this computer)").format(value)))
        if "starter" not in ids:
            options.append((_STARTER, tr("Add the starter base")))
        return [*options, (_FOLDER, tr("Add a folder\u2026")), (_GGUF, tr("Add a .gguf file\u2026"))]

    def act(self, action: str) -> None:
        """Ask for a base to be added."""
        if action == _STARTER:
            self._state.base_requested.emit("starter")
            return
        dialog = QFileDialog(self, tr("Add a base model"))
        if action == _FOLDER:
            dialog.setFileMode(QFileDialog.FileMode.Directory)
            dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        else:
            dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
            dialog.setNameFilter(tr("GGUF models") + " (*.gguf)")
        dialog.fileSelected.connect(self._state.base_requested)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()


class DataChoice(_OpenChoice):
    """The examples by their friendly names, the file in use, and a way to another."""

    file_chosen = Signal(str)

    def __init__(self, value: str, *, parent: QWidget | None = None) -> None:
        super().__init__(self.offered(value), value, "database", name=tr("Dataset"), parent=parent)

    def offered(self, value: object) -> list[tuple[object, str]]:
        """The examples, then the file in use if it is none of them."""
        options: list[tuple[object, str]] = [(example_path(key), tr(name)) for key, name in EXAMPLE_NAMES.items()]
        if value not in [path for path, _ in options]:
            options.insert(0, (value, data_name(str(value))))
        return [*options, (_FILE, tr("Choose a file\u2026"))]

    def act(self, _action: str) -> None:
        """Ask for a file."""
        dialog = QFileDialog(self, tr("Choose a dataset"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        suffixes = " (*.jsonl *.json *.csv *.tsv)"
        dialog.setNameFilters([tr("Datasets") + suffixes, tr("All files") + " (*)"])
        dialog.fileSelected.connect(self.choose)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def choose(self, path: str) -> None:
        """Take a file as the user's own choice."""
        if path and path != self._told:
            self.set_value(str(Path(path)))
            self.value_changed.emit(self._told)
