"""What the panel at the end of a run leads to: its buttons, as wishes of the state."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication

import studio
from studio.errors import StudioError
from studio.recipe.recipe import Recipe
from studio.runs.folder import RunFolder
from ui.bridge import in_background
from ui.pages.train_ending import THIRD, EndingCard
from ui.pages.train_words import tr
from ui.state import AppState, RunView


class AfterRun(QObject):
    """Listens to the panel on behalf of the run that is shown."""

    def __init__(self, state: AppState, card: EndingCard, parent: QObject) -> None:
        super().__init__(parent)
        self._state, self._card = state, card
        self._view: RunView | None = None
        self._recipe: Recipe | None = None
        card.resume_wanted.connect(self._resume)
        card.chat_wanted.connect(self._chat)
        card.export_wanted.connect(self._export)
        card.folder_wanted.connect(self._open_folder)
        card.third_wanted.connect(self._third)
        card.report_wanted.connect(self._report)

    def show_run(self, view: RunView, recipe: Recipe | None) -> None:
        """Speak for this run; without its recipe it cannot be begun again."""
        self._view, self._recipe = view, recipe
        if recipe is None:
            self._card.third.setEnabled(False)

    def _resume(self) -> None:
        if self._view is not None:
            self._state.run_requested.emit(self._view.folder.id, "resume")

    def _chat(self) -> None:
        if self._view is not None and self._view.state.adapter:
            self._state.chat_selected.emit(self._view.state.adapter)

    def _export(self) -> None:
        """Show the adapter in the library, where it is merged and exported."""
        if self._view is not None and self._view.state.adapter:
            self._state.adapter_selected.emit(self._view.state.adapter)

    def _open_folder(self) -> None:
        if self._view is not None:
            self._state.folder_requested.emit(str(self._view.folder.path))

    def _third(self) -> None:
        if self._view is not None and self._recipe is not None:
            rate = float(f"{self._recipe.training.learning_rate / THIRD:.2g}")
            self._state.again_with_requested.emit(self._view.folder.id, {"training.learning_rate": rate})

    def _report(self) -> None:
        if self._view is not None:
            said = f"{self._card.heading.text()}\n{self._card.text.text()}"
            in_background(partial(_report, self._view.folder, said), self._to_clipboard, self._failed)

    def _to_clipboard(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self._state.noticed.emit(
            "info", tr("The report is in the clipboard."), tr("Read it before you pass it on: a log may name files.")
        )

    def _failed(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)


def _report(folder: RunFolder, said: str) -> str:
    """What to send along when asking for help: the ending, the versions, and the last words of the log."""
    packages = folder.job.get("versions", {}) if folder.is_readable else {}
    lines = [f"Overlay Studio {studio.__version__}", said, ""]
    lines += [f"{name} {version}" for name, version in packages.items()] if isinstance(packages, dict) else []
    return "\n".join([*lines, "", *folder.last_lines()])
