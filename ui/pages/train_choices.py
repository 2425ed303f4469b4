"""What learns from what: the choice of a base and of a dataset, each with a way to bring a new one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QEnterEvent, QKeyEvent, QStandardItemModel
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.files import readable_bytes
from ui import fits, theme, wording
from ui.bridge import in_background
from ui.pages.train_words import EXAMPLE_NAMES, data_name, example_path, tr
from ui.state import AppState
from ui.widgets.controls import Choice
from ui.widgets.memory_choice import HEADING_ROLE, LIST_WIDTH, Fit, FitDelegate, set_fit

# Values of entries that do something; no path and no name of a base can hold a zero character.
_STARTER, _FOLDER, _GGUF, _FILE = "\0starter", "\0folder", "\0gguf", "\0file"
_HEADING, _GET = "\0heading:", "\0get:"


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

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """The arrows walk over what can be taken; where they would do something instead, the list opens."""
        step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()), 0)
        following = self.itemData(self.currentIndex() + step)
        if step and isinstance(following, str) and following.startswith("\0"):
            self.showPopup()
        else:
            super().keyPressEvent(event)

    def _chosen(self, index: int) -> None:
        value = self.value()
        if isinstance(value, str) and value.startswith("\0"):
            self.set_value(self._told)
            self.act(value)
        else:
            super()._chosen(index)


class BaseChoice(_OpenChoice):
    """The bases on this computer, each with what training on it would need; ways to add one; and others that would fit."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        self._state = state
        self._known: dict[str, fits.KnownBase] = {}
        self._asked: object = None
        value = state.recipe.base.id
        super().__init__(self.offered(value), value, "cube", name=tr("Base model"), parent=parent)
        self.setItemDelegate(FitDelegate(self))
        self.view().setMinimumWidth(theme.px(LIST_WIDTH))
        state.bases_changed.connect(self.refill)

    def offered(self, value: object) -> list[tuple[object, str]]:
        """Bases by name, then the ways to add one, then what else would fit."""
        ids = [base.id for base in self._state.bases]
        options: list[tuple[object, str]] = [(each, each) for each in ids]
        if value not in ids:
            options.insert(0, (value, tr("{0} (not on this computer)").format(value)))
        if "starter" not in ids:
            options.append((_STARTER, tr("Add the starter base")))
        options += [(_FOLDER, tr("Add a folder\u2026")), (_GGUF, tr("Add a .gguf file\u2026"))]
        if self._known:
            against = wording.gigabytes(self._state.card_bytes)
            options.append((_HEADING, tr("Others that fit a card of {0}, not on this computer").format(against)))
            options += [(_GET + hub_id, hub_id) for hub_id in self._known]
        return options

    def act(self, action: str) -> None:
        """Ask for a base to be added, or tell how to get one."""
        if action == _STARTER:
            self._state.base_requested.emit("starter")
            return
        if action.startswith(_GET):
            self._tell_how(self._known[action.removeprefix(_GET)])
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

    # --- what fits -----------------------------------------------------------------------------------------------------

    def showPopup(self) -> None:
        """Open the list; what each base needs is reckoned meanwhile, and written beside it when it is known."""
        self.reckon()
        super().showPopup()

    def enterEvent(self, event: QEnterEvent) -> None:
        """The list is about to be opened."""
        self.reckon()
        super().enterEvent(event)

    def reckon(self) -> None:
        """Find out, away from this thread, what fits, unless that was done for just this recipe and card."""
        state = self._state
        card, bases = fits.Card.of(state), tuple(state.base_facts.items())
        wanted = (state.recipe, card, tuple(name for name, _ in bases))
        if wanted == self._asked:
            return
        self._asked = wanted
        here = [name for base in state.bases for name in (base.id, base.hub_id)]

        def look() -> tuple[dict[str, Fit], list[fits.KnownBase]]:
            return fits.training_fits(bases, state.recipe, card), fits.known_bases(here, state.recipe, card)

        in_background(look, partial(self._reckoned, wanted), self._failed)

    def _reckoned(self, wanted: object, found: tuple[dict[str, Fit], list[fits.KnownBase]]) -> None:
        if not isValid(self) or wanted != self._asked:
            return  # the page is gone, or the recipe is another one by now
        local, known = found
        names = [each.hub_id for each in known]
        is_new, self._known = names != list(self._known), {each.hub_id: each for each in known}
        if is_new:
            self.refill()
        shown = local | {_GET + each.hub_id: each.fit for each in known}
        for index in range(self.count()):
            set_fit(self, index, shown.get(str(self.itemData(index))))
        if is_new and self.view().isVisible():
            super().showPopup()  # as high as it now has to be

    def set_options(self, options: object, value: object = None) -> None:
        """Offer other options; headings cannot be taken."""
        super().set_options(options, value)  # type: ignore[arg-type]
        model = self.model()
        assert isinstance(model, QStandardItemModel)
        for index in range(self.count()):
            if self.itemData(index) == _HEADING:
                self.setItemData(index, True, HEADING_ROLE)
                model.item(index).setEnabled(False)

    def _failed(self, error: StudioError) -> None:
        self._asked = None
        self._state.noticed.emit("bad", error.message, error.hint)

    def _tell_how(self, known: fits.KnownBase) -> None:
        """How to get a base that is not here. Nothing is downloaded that was not asked for."""
        command = f"hf download {known.hub_id}"
        box = QMessageBox(self)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setWindowTitle(tr("Get {0}").format(known.hub_id))
        size = readable_bytes(known.download_bytes)
        text = tr("{0} is not on this computer. It is a download of about {1}; licence: {2}.")
        box.setText(text.format(known.hub_id, size, known.licence))
        how = tr("The studio downloads nothing by itself. In a terminal, this command fetches it once:")
        box.setInformativeText(f"{how}\n\n{command}\n\n" + tr("It is in this list when the window is opened again."))
        copy = box.addButton(tr("Copy the command"), QMessageBox.ButtonRole.ActionRole)
        box.addButton(QMessageBox.StandardButton.Close)
        copy.clicked.connect(lambda: QApplication.clipboard().setText(command))
        box.finished.connect(box.deleteLater)
        box.open()


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
