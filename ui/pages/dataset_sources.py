"""Where rows come from: a file, a folder, the hub, what is pasted, what is written by hand, and what was open before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QVBoxLayout, QWidget

from studio.places import EXAMPLES
from ui import theme
from ui.choosing import choose_file, choose_folder
from ui.pages.dataset_hub import HubDialog
from ui.pages.dataset_paste import PasteDialog
from ui.pages.dataset_sets import OwnSets
from ui.pages.dataset_words import tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.messages import EmptyState
from ui.widgets.page import Card

MOST_RECENT = 6
_KINDS = "(*.jsonl *.json *.ndjson *.csv *.tsv *.parquet *.arrow *.txt *.md *.gz *.zst)"


class Sources(QObject):
    """Offers them in the menu of a button, and on a card for the time when no dataset is open."""

    chosen = Signal(str)
    """The path of what is to be opened."""

    def __init__(self, state: AppState, sets: OwnSets, page: QWidget) -> None:
        super().__init__(page)
        self._state, self._sets, self._page = state, sets, page
        self.recent: list[str] = []
        self.menu = QMenu(page)
        self.menu.setAccessibleName(tr("Open"))
        self.menu.aboutToShow.connect(self._fill_menu)
        self._links = QVBoxLayout()
        self._links.setSpacing(theme.px(4))
        self.card = self._build_card()

    def _build_card(self) -> Card:
        example = Button(tr("Use the example"), "primary")
        example.clicked.connect(lambda: self.chosen.emit(str(EXAMPLES / "pirate.jsonl")))
        choose = Button(tr("Choose a file\u2026"))
        choose.clicked.connect(self._ask_for_file)
        sentence = tr(
            "Drop a file or a folder here: JSON, CSV, Parquet, text. It is only ever read, and stays on this computer."
        )
        card = Card()
        card.body.addStretch(2)
        card.add(EmptyState("database", tr("No dataset open"), sentence, [example, choose]))
        card.add(self._links)
        card.body.addStretch(3)
        return card

    # --- what was open before ----------------------------------------------------------------------------------------

    def remember(self, path: str) -> None:
        """It is open now, and offered again later."""
        if path not in self.recent[:1]:
            self.recent = [path, *(other for other in self.recent if other != path)][:MOST_RECENT]

    def restore(self, paths: object) -> None:
        """What was open when the window was closed, as settings have it."""
        self.recent = [path for path in paths if isinstance(path, str)][:MOST_RECENT] if isinstance(paths, list) else []
        self.show_links()

    # --- offering ----------------------------------------------------------------------------------------------------

    def _fill_menu(self) -> None:
        self.menu.clear()
        self.menu.addAction(tr("A file\u2026"), self._ask_for_file)
        self.menu.addAction(tr("A folder\u2026"), self._ask_for_folder)
        self.menu.addAction(tr("From the hub\u2026"), self.ask_hub)
        self.menu.addAction(tr("Pasted rows\u2026"), self.ask_for_paste)
        self._sets.add_actions(self.menu)
        if self.recent:
            self.menu.addSeparator()
        for path in self.recent:
            # An ampersand in a name would underline the letter after it.
            self.menu.addAction(_name(path).replace("&", "&&"), partial(self.chosen.emit, path))

    def show_links(self) -> None:
        """Offer on the card what there is to be offered now."""
        while self._links.count():
            item = self._links.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        offered: list[tuple[str, Callable[[], object]]] = [
            (tr("Choose a folder\u2026"), self._ask_for_folder),
            (tr("From the hub\u2026"), self.ask_hub),
            (tr("Pasted rows\u2026"), self.ask_for_paste),
            (tr("New set, written by hand\u2026"), self._sets.begin),
        ]
        offered += [(_name(path), partial(self.chosen.emit, path)) for path in self.recent]
        for text, act in offered:
            link = Button(text, "link")
            link.clicked.connect(act)
            self._links.addWidget(_centred(link))

    # --- asking ------------------------------------------------------------------------------------------------------

    def _ask_for_file(self) -> None:
        choose_file(self._page, tr("Choose a dataset"), kinds(), self.chosen.emit)

    def _ask_for_folder(self) -> None:
        choose_folder(self._page, tr("Choose a folder with datasets"), self.chosen.emit)

    def ask_hub(self) -> HubDialog:
        """Ask for a set on the hub; it is opened once it is here."""
        return HubDialog(self._state, self.chosen.emit, self._page)

    def ask_for_paste(self) -> PasteDialog:
        """Ask for rows as text; they are opened as a file of their own."""
        return PasteDialog(self._state, self.chosen.emit, self._page)


def kinds() -> str:
    """Of files, for a file dialog."""
    return f"{tr('Datasets')} {_KINDS};;{tr('All files')} (*)"


def _name(path: str) -> str:
    """A file's name and the folder it lies in."""
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.home()))
    return f"{Path(path).parent.name}/{Path(path).name}"


def _centred(widget: QWidget) -> QWidget:
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.addStretch(1)
    row.addWidget(widget)
    row.addStretch(1)
    return holder
