"""The window: navigation, the pages in a stack, messages above them and the status strip below."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

from PySide6.QtCore import QByteArray, QSize, Qt, QUrl, Signal, SignalInstance
from PySide6.QtGui import QCloseEvent, QDesktopServices, QResizeEvent
from PySide6.QtWidgets import QApplication, QHBoxLayout, QMainWindow, QVBoxLayout, QWidget

from studio.places import Workspace
from ui import theme, wording
from ui.closing import CANCEL, ask_about_jobs, ask_about_run
from ui.menus import Menus, RecipeDesk
from ui.notices import Notices
from ui.page_stack import PAGES, PageStack, make_page
from ui.settings import Settings
from ui.starting import ask_about_change
from ui.state import AppState
from ui.status_strip import StatusStrip
from ui.widgets.sidebar import NavItem, Sidebar

MINIMUM = QSize(1024, 680)
FIRST_SIZE = QSize(1440, 900)


class Window(QMainWindow):
    """Shows pages and passes wishes on; it knows nothing of files and processes."""

    closed = Signal()
    """It is hidden, and everything may end now."""
    settings_changed = Signal()

    def __init__(
        self,
        workspace: Workspace,
        state: AppState,
        settings: Settings,
        make: Callable[[str, AppState], QWidget] = make_page,
    ) -> None:
        super().__init__()
        self._state, self._settings = state, settings
        self._stack = PageStack(state, settings.views, make)
        # What has been decided about closing: about the run (keep, stop) and about tasks (wait, end).
        self._about_run = self._about_jobs = ""
        self._is_asking = False
        self.setWindowTitle(self.tr("Overlay Studio"))
        self.setMinimumSize(MINIMUM)
        self._build()
        titles = [(item.name, item.text) for group in self._groups() for item in group]
        look = settings.theme if settings.theme in (*theme.NAMES, "system") else "system"
        self.menus = Menus(self, state, titles, look, self.set_look, str(workspace.logs), self._desk)  # type: ignore[arg-type]
        self._connect()
        self._restore()

    def _groups(self) -> list[list[NavItem]]:
        return [
            [NavItem("home", self.tr("Home"), "house", "Ctrl+1")],
            [NavItem("datasets", self.tr("Datasets"), "database", "Ctrl+2")],
            [
                NavItem("train", self.tr("Train"), "play-circle", "Ctrl+3"),
                NavItem("runs", self.tr("Runs"), "chart-line-up", "Ctrl+4"),
            ],
            [
                NavItem("adapters", self.tr("Adapters"), "stack-simple", "Ctrl+5"),
                NavItem("chat", self.tr("Chat"), "chats-circle", "Ctrl+6"),
            ],
        ]

    def _build(self) -> None:
        self.sidebar = Sidebar(self._groups())
        self.notices = Notices(self._state)
        self.strip = StatusStrip(self._state)
        right = QVBoxLayout()
        right.setSpacing(0)
        right.addWidget(self.notices)
        right.addWidget(self._stack, 1)
        row = QHBoxLayout()
        row.setSpacing(0)
        row.addWidget(self.sidebar)
        row.addLayout(right, 1)
        centre = QWidget()
        column = QVBoxLayout(centre)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(row, 1)
        column.addWidget(self.strip)
        self.setCentralWidget(centre)
        # Somewhere for the focus to be before anybody pressed Tab; else Home wears a ring from the start.
        centre.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        centre.setFocus(Qt.FocusReason.OtherFocusReason)

    def _connect(self) -> None:
        state = self._state
        self.sidebar.page_requested.connect(state.page_requested)
        state.page_requested.connect(self.show_page)
        for chosen, page in (
            (state.run_selected, "train"),
            (state.adapter_selected, "adapters"),
            (state.chat_selected, "chat"),
        ):
            chosen.connect(partial(self._show_choice, page, chosen))
        state.runs_changed.connect(self._on_runs_changed)
        state.run_event.connect(self._badge)
        state.job_changed.connect(self._go_on_closing)
        state.folder_requested.connect(self._open_folder)
        state.input_changed.connect(partial(ask_about_change, self, state))

    # --- pages -----------------------------------------------------------------------------------------------------

    def page(self) -> str:
        """The name of the page shown."""
        return self.sidebar.current()

    def show_page(self, name: str) -> None:
        """Show a page, built now if it was not needed before."""
        self._stack.show_page(name)
        self.sidebar.set_current(name)
        self.menus.show_page(name)

    def _desk(self) -> RecipeDesk:
        """The Train page, shown."""
        self.show_page("train")
        return cast(RecipeDesk, self._stack.built["train"])

    def _show_choice(self, page: str, chosen: SignalInstance, value: str) -> None:
        """Show the page that is meant; one built only now has not heard the signal, so it is told again."""
        is_new = page not in self._stack.built
        self.show_page(page)
        if is_new:
            chosen.emit(value)

    def _badge(self) -> None:
        live = self._state.live_run
        self.sidebar.set_badge("runs", wording.percent(live.state) if live is not None else "")

    def _on_runs_changed(self) -> None:
        self._badge()
        self._go_on_closing()

    def _open_folder(self, path: str) -> None:
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(path)):
            self._state.noticed.emit("info", self.tr("The folder is {0}").format(path), "")

    # --- look ------------------------------------------------------------------------------------------------------

    def set_look(self, look: theme.Choice) -> None:
        """Change the theme, and remember it."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        theme.apply(app, look)
        self._settings.theme = look
        self.settings_changed.emit()

    def _restore(self) -> None:
        saved = QByteArray.fromBase64(self._settings.geometry.encode("ascii", "replace"))
        if saved.isEmpty() or not self.restoreGeometry(saved):
            screen = self.screen().availableSize()
            self.resize(FIRST_SIZE.boundedTo(screen))
        self.show_page(self._settings.page if self._settings.page in PAGES else PAGES[0])

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Where it is narrow the sidebar becomes a rail."""
        super().resizeEvent(event)
        narrow = event.size().width() < theme.px(theme.NARROW_BELOW)
        self.sidebar.set_narrow(narrow)
        self.notices.set_narrow(narrow)

    # --- closing ---------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        """Close if nothing is going on or all has been decided, else ask."""
        live, jobs = self._state.live_run, self._state.live_jobs
        if live is not None and self._about_run != "keep":
            event.ignore()
            if not self._about_run:
                self._ask(ask_about_run, live, self._decide_about_run)
        elif jobs:
            event.ignore()
            if not self._about_jobs:
                self._ask(ask_about_jobs, jobs, self._decide_about_jobs)
        else:
            self._settings.geometry = bytes(self.saveGeometry().toBase64().data()).decode("ascii")
            self._settings.page = self.page()
            self._stack.remember()
            event.accept()
            # Hidden first: whatever takes a moment now is not looked at.
            self.hide()
            self.closed.emit()

    def _ask(self, question: Callable[..., object], about: object, then: Callable[[str], None]) -> None:
        if not self._is_asking:
            self._is_asking = True
            question(self, about, then)

    def _decide_about_run(self, answer: str) -> None:
        self._is_asking = False
        live = self._state.live_run
        if answer == CANCEL:
            return
        self._about_run = answer
        if answer == "stop" and live is not None:
            self._state.run_requested.emit(live.folder.id, "stop")
            self._state.noticed.emit("info", self.tr("Stopping the run, and saving it; then the window closes."), "")
        else:
            self.close()

    def _decide_about_jobs(self, answer: str) -> None:
        self._is_asking = False
        if answer == CANCEL:
            self._about_run = ""
            return
        self._about_jobs = answer
        if answer == "end":
            for job in self._state.live_jobs:
                self._state.job_cancel_requested.emit(job.key)
        self._go_on_closing()

    def _go_on_closing(self, _job: object = None) -> None:
        """What was waited for may be over now."""
        live = self._state.live_run
        if (self._about_run == "stop" and live is None) or (self._about_jobs and not self._state.live_jobs):
            self.close()
