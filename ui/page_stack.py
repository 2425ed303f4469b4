"""The pages, each built when it is first shown and looked at as it was last time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from PySide6.QtWidgets import QStackedWidget, QWidget

from ui.state import AppState

PAGES = ("home", "datasets", "train", "runs", "adapters", "chat")


@runtime_checkable
class Remembering(Protocol):
    """A page that can be looked at in ways worth remembering."""

    def view_settings(self) -> dict[str, Any]:
        """Plain values."""

    def restore_view(self, settings: dict[str, Any]) -> None:
        """Take them again; they may have been damaged or written by another version."""


def make_page(name: str, state: AppState) -> QWidget:
    """The page of that name. Imported only when it is first shown: the window opens sooner."""
    match name:
        case "datasets":
            from ui.pages.datasets import DatasetsPage

            return DatasetsPage(state)
        case "train":
            from ui.pages.train import TrainPage

            return TrainPage(state)
        case "runs":
            from ui.pages.runs import RunsPage

            return RunsPage(state)
        case "adapters":
            from ui.pages.adapters import AdaptersPage

            return AdaptersPage(state)
        case "chat":
            from ui.pages.chat import ChatPage

            return ChatPage(state)
        case _:
            from ui.pages.home import HomePage

            return HomePage(state)


class PageStack(QStackedWidget):
    """One page at a time. `views` is what pages said of themselves (`Remembering`), by name: read here, and brought up to
    date by `remember`.
    """

    def __init__(
        self, state: AppState, views: dict[str, dict[str, Any]], make: Callable[[str, AppState], QWidget] = make_page
    ) -> None:
        super().__init__()
        self._state, self._views, self._make = state, views, make
        self.built: dict[str, QWidget] = {}

    def show_page(self, name: str) -> QWidget:
        """Show a page, built now if it was not needed before."""
        if name not in self.built:
            page = self.built[name] = self._make(name, self._state)
            view = self._views.get(name)
            if isinstance(page, Remembering) and isinstance(view, dict):
                page.restore_view(view)
            self.addWidget(page)
        self.setCurrentWidget(self.built[name])
        return self.built[name]

    def remember(self) -> None:
        """Ask each page how it is looked at."""
        for name, page in self.built.items():
            if isinstance(page, Remembering):
                self._views[name] = page.view_settings()
