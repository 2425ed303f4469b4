"""Telling how a run ended to a user who looks elsewhere, if he lets us, and to one who does not look at all.

Inside the window the conductor's message bars say so in any case.
"""

from __future__ import annotations

from PySide6.QtCore import QObject
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from studio.runs import events as e
from ui import theme
from ui.bridge import soon
from ui.state import AppState, RunView
from ui.wording import duration, run_seconds

SHOWN_MS = 10_000
Icon = QSystemTrayIcon.MessageIcon


class Notifier(QObject):
    """Speaks for the window: to the desktop's notifications where there are any, else by a sign in the list of windows."""

    def __init__(self, state: AppState, window: QWidget) -> None:
        super().__init__(window)
        self._state, self._window = state, window
        self._tray: QSystemTrayIcon | None = None
        self._shown = 0
        state.run_event.connect(self._on_event)

    def _on_event(self, run: str, event: e.Event) -> None:
        view = self._state.runs.get(run)
        told = self.words(view, event) if view is not None else None
        if told is None:
            return
        title, text, icon = told
        # A screen reader says it wherever its user is.
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self._window, f"{title} {text}"))
        if self._state.notify and not self._window.isActiveWindow():
            self._notify(title, text, icon)

    def words(self, view: RunView, event: e.Event) -> tuple[str, str, Icon] | None:
        """(title, text, icon) of what is worth interrupting somebody for; None for what he did himself, and for the rest."""
        name, ending = view.folder.name, view.state.ending
        match event:
            case e.Finished():
                seconds = run_seconds(view.state)
                text = self.tr("After {0}.").format(duration(seconds)) if seconds is not None else ""
                return self.tr("{0} is done").format(name), text, Icon.Information
            case e.Paused(cause=cause) if cause:
                return self.tr("{0} had to pause").format(name), f"{cause} {event.hint}".strip(), Icon.Warning
            case e.Failed() | e.Died() if ending is not None:
                return self.tr("{0} has ended").format(name), f"{ending.message} {ending.hint}".strip(), Icon.Critical
            case _:
                return None

    def _notify(self, title: str, text: str, icon: Icon) -> None:
        QApplication.alert(self._window)
        if not QSystemTrayIcon.isSystemTrayAvailable() or not QSystemTrayIcon.supportsMessages():
            return
        if self._tray is None:
            self._tray = QSystemTrayIcon(theme.app_icon(), self)
            self._tray.messageClicked.connect(self._come_forward)
        self._tray.setToolTip(title)
        self._tray.show()
        self._tray.showMessage(title, text, icon, SHOWN_MS)
        self._shown += 1
        shown = self._shown
        soon(self, lambda: self._put_away(shown), 2 * SHOWN_MS)

    def _put_away(self, shown: int) -> None:
        """No icon stays behind once the last message is over."""
        if self._tray is not None and shown == self._shown:
            self._tray.hide()

    def _come_forward(self) -> None:
        self._window.show()
        self._window.raise_()
        self._window.activateWindow()
