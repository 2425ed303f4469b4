"""The menu bar: every action of the window by name and by key."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial
from typing import Protocol

import PySide6
from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu, QMessageBox, QWidget

import studio
from studio.recipe.presets import STARTER
from studio.runs.create import versions
from studio.runs.state import Status
from ui.choosing import choose_file, choose_folder
from ui.facts import first_recipe
from ui.state import AppState, RunView
from ui.theme import Choice
from ui.wording import status_text

THEMES: tuple[tuple[Choice, str], ...] = (
    ("system", "&System"),
    ("light", "&Light"),
    ("dark", "&Dark"),
    ("contrast", "&High contrast"),
)
RESUMABLE = (Status.PAUSED, Status.STOPPED, Status.INTERRUPTED, Status.FAILED)


def _tr(text: str) -> str:
    return QCoreApplication.translate("menus", text)


class RecipeDesk(Protocol):
    """What the Train page does when a menu asks for it, with its own checks and dialogs."""

    def start_training(self) -> None:
        """Start, if nothing is missing."""

    def save_recipe(self) -> None:
        """Ask where to, and save."""

    def open_recipe(self) -> None:
        """Ask which, and open it."""


class Menus:
    """Fills the menu bar of `window` and keeps its actions in step with `state`. `desk` shows the Train page."""

    def __init__(
        self,
        window: QMainWindow,
        state: AppState,
        pages: list[tuple[str, str]],
        look: Choice,
        set_look: Callable[[Choice], None],
        log_folder: str,
        desk: Callable[[], RecipeDesk],
    ) -> None:
        self._window, self._state, self._desk = window, state, desk
        self._page = ""
        self._file()
        self._view(pages, look, set_look)
        self._run()
        self._help(log_folder)
        state.runs_changed.connect(self.refresh)
        state.recipe_changed.connect(self.refresh)
        self.refresh()

    def show_page(self, name: str) -> None:
        """Tell which page is shown: Start belongs to Train alone."""
        self._page = name
        self.refresh()

    def _menu(self, title: str) -> QMenu:
        menu = self._window.menuBar().addMenu(title)
        menu.setAccessibleName(title.replace("&", ""))
        return menu

    def _add(self, menu: QMenu, text: str, act: Callable[[], object], keys: str = "") -> QAction:
        action = QAction(text, self._window)
        if keys:
            action.setShortcut(QKeySequence(keys))
        action.triggered.connect(lambda _=False: act())
        menu.addAction(action)
        return action

    def _file(self) -> None:
        state, window, menu = self._state, self._window, self._menu(_tr("&File"))
        self._add(menu, _tr("&New recipe"), self._new, "Ctrl+N")
        self._add(menu, _tr("&Open recipe..."), lambda: self._desk().open_recipe(), "Ctrl+O")
        self._add(menu, _tr("&Save recipe as..."), lambda: self._desk().save_recipe(), "Ctrl+S")
        menu.addSeparator()
        bases = menu.addMenu(_tr("Add &base model"))
        self._add(bases, _tr("The &starter base"), lambda: state.base_requested.emit(STARTER))
        self._add(
            bases,
            _tr("From a &folder..."),
            lambda: choose_folder(window, _tr("Choose a model folder"), state.base_requested.emit),
        )
        self._add(
            bases,
            _tr("From a &GGUF file..."),
            lambda: choose_file(window, _tr("Choose a GGUF file"), "GGUF (*.gguf)", state.base_requested.emit),
        )
        self._add(menu, _tr("&Import adapter..."), lambda: import_adapter(window, state))
        menu.addSeparator()
        self._add(menu, _tr("&Quit"), window.close, "Ctrl+Q")

    def _new(self) -> None:
        self._state.recipe_edited.emit(first_recipe(self._state.bases))
        self._state.page_requested.emit("train")

    def _view(self, pages: list[tuple[str, str]], look: Choice, set_look: Callable[[Choice], None]) -> None:
        menu = self._menu(_tr("&View"))
        for number, (name, text) in enumerate(pages, start=1):
            self._add(menu, text, partial(self._state.page_requested.emit, name), f"Ctrl+{number}")
        menu.addSeparator()
        themes = menu.addMenu(_tr("&Theme"))
        group = QActionGroup(self._window)
        for choice, text in THEMES:
            action = self._add(themes, _tr(text), partial(set_look, choice))
            action.setCheckable(True)
            action.setChecked(choice == look)
            group.addAction(action)

    def _run(self) -> None:
        menu = self._menu(_tr("&Run"))
        self.start = self._add(menu, _tr("&Start training"), lambda: self._desk().start_training(), "Ctrl+Return")
        self.stop = self._add(menu, _tr("S&top and save"), lambda: self._wish("stop"), "Ctrl+.")
        self.pause = self._add(menu, _tr("&Pause"), lambda: self._wish("pause"))
        self.resume = self._add(menu, _tr("&Resume the last run"), self._resume)
        menu.addSeparator()
        self.copy = self._add(menu, _tr("&Copy the command"), self._state.command_requested.emit)

    def _wish(self, verb: str) -> None:
        live = self._state.live_run
        if live is not None:
            self._state.run_requested.emit(live.folder.id, verb)

    def _last(self) -> RunView | None:
        """The newest run, if it can go on; one that waits in the queue is none to be resumed."""
        waits = self._state.queue.entry
        newest = next((view for run_id, view in self._state.runs.items() if waits(run_id) is None), None)
        return newest if newest is not None and newest.state.status in RESUMABLE else None

    def _resume(self) -> None:
        last = self._last()
        if last is not None:
            self._state.run_requested.emit(last.folder.id, "resume")

    def refresh(self) -> None:
        """Only what would do something can be chosen; the tooltip of the rest is the reason."""
        state, last = self._state, self._last()
        is_live = state.live_run is not None
        self.start.setEnabled(self._page == "train" and not state.problems and state.is_gathered)
        self.start.setText(_tr("&Add to queue") if is_live else _tr("&Start training"))
        self.copy.setEnabled(not state.problems and state.is_gathered)
        for action in (self.stop, self.pause):
            action.setEnabled(is_live)
        self.resume.setEnabled(last is not None and not is_live)
        name = f" ({last.folder.name}, {status_text(last.state.status)})" if last is not None else ""
        self.resume.setText(_tr("&Resume the last run") + name.replace("&", "&&"))

    def _help(self, log_folder: str) -> None:
        menu = self._menu(_tr("&Help"))
        self._add(menu, _tr("Open &log folder"), lambda: self._state.folder_requested.emit(log_folder))
        about = self._add(menu, _tr("&About Overlay Studio"), lambda: show_about(self._window))
        about.setMenuRole(QAction.MenuRole.AboutRole)


def import_adapter(parent: QWidget, state: AppState) -> None:
    """Ask for a PEFT folder, and take it into the library."""
    title = _tr("Choose an adapter folder")
    choose_folder(parent, title, lambda path: state.adapter_requested.emit("import", path, ""))


def show_about(parent: QWidget) -> QMessageBox:
    """Versions and licences."""
    found = {"Python": platform.python_version(), "PySide6": PySide6.__version__, **versions()}
    found.pop("overlay-studio", None)
    box = QMessageBox(parent)
    box.setWindowTitle(_tr("About Overlay Studio"))
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(_tr("Overlay Studio {0}").format(studio.__version__))
    lines = [
        _tr("Teach a language model something new on your own graphics card. Nothing leaves this computer."),
        "",
        ", ".join(f"{name} {version}" for name, version in found.items()),
        "",
        _tr("Overlay Studio: Apache-2.0. Qt and PySide6: LGPL-3.0. Inter: SIL Open Font License. Phosphor icons: MIT."),
        _tr("Starter base SmolLM2-135M-Instruct: Apache-2.0."),
    ]
    box.setInformativeText("\n".join(lines))
    box.finished.connect(box.deleteLater)
    box.open()
    return box
