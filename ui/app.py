"""Entry and composition root: the only place where workspace, state, conductor and window meet."""

from __future__ import annotations

import argparse
import locale
import logging
import sys
from collections.abc import Sequence
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication, QMessageBox

import studio
from studio.errors import BusyError, StudioError
from studio.memory.device import choose_device
from studio.places import Workspace
from ui import theme
from ui.bridge import UNFORESEEN, in_background
from ui.conductor import Conductor
from ui.notifying import Notifier
from ui.settings import Settings, save
from ui.state import AppState
from ui.voting import Voting
from ui.window import Window

DESKTOP_ID = "studio.overlay.OverlayStudio"
LOG_BYTES = 1_000_000
_log = logging.getLogger(__name__)


class Studio:
    """Everything that lives while the window is open."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self.state = AppState()
        self.conductor = Conductor(workspace, self.state, choose_device("auto"), settings)
        self.window = Window(workspace, self.state, settings)
        self.notifier = Notifier(self.state, self.window)
        self.voting = Voting(workspace, self.state)
        self._workspace, self._settings = workspace, settings
        self.window.settings_changed.connect(self._save_settings)
        self.window.settings_changed.connect(self.conductor.keep_awake.look)
        self.window.closed.connect(self.close)

    def open(self) -> None:
        """Show the window, then look for what there is to show in it."""
        self.window.show()
        self.conductor.start()

    def close(self) -> None:
        """End the thread; what goes on in other processes goes on."""
        self.conductor.close()
        save(self._workspace, self._settings.values())

    def _save_settings(self) -> None:
        values = self._settings.values()
        in_background(partial(save, self._workspace, values), lambda _: None, self._tell)

    def _tell(self, error: StudioError) -> None:
        self.state.noticed.emit("bad", error.message, error.hint)


class Mishaps(QObject):
    """Hears of exceptions that nobody caught, on whatever thread: each goes to the log, one at a time to the user."""

    happened = Signal(str)

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._box: QMessageBox | None = None
        self.happened.connect(self._show)

    def hear(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """For `sys.excepthook`. The program goes on: what was saved is saved, and other pages may still work."""
        if issubclass(kind, KeyboardInterrupt):
            QApplication.quit()
            return
        _log.error("not caught", exc_info=(kind, error, trace))
        self.happened.emit(str(error) or kind.__name__)

    def _show(self, what: str) -> None:
        if self._box is not None:
            return
        self._box = tell(
            f"Something went wrong inside Overlay Studio: {what}", f"{UNFORESEEN} The details are in {self._folder}."
        )
        self._box.finished.connect(self._forget)
        self._box.open()

    def _forget(self, _code: int) -> None:
        self._box = None


def tell(message: str, hint: str) -> QMessageBox:
    """A message box that is not yet shown."""
    box = QMessageBox(QMessageBox.Icon.Warning, "Overlay Studio", message, QMessageBox.StandardButton.Close)
    box.setInformativeText(hint)
    return box


def make_application(arguments: Sequence[str]) -> QApplication:
    """The application object, with its name and look."""
    app = QApplication([sys.argv[0], *arguments])
    # Qt takes over the user's locale, and C code then reads 0.9995 as 0 where the decimal sign is a comma: parsers of
    # model files among it. What people read and type goes through QLocale, which does not look at this.
    locale.setlocale(locale.LC_NUMERIC, "C")
    app.setApplicationName("overlay-studio")
    app.setApplicationDisplayName("Overlay Studio")
    app.setApplicationVersion(studio.__version__)
    app.setDesktopFileName(DESKTOP_ID)
    app.setWindowIcon(theme.app_icon())
    return app


def take_lock(workspace: Workspace) -> FileLock:
    """One window per workspace: two would fight over one draft. Raises `BusyError`; the lock ends with this process."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.window_lock, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"Overlay Studio is open already for {workspace.root}.",
            "Use the window that is there, or set OVERLAY_HOME to another folder for a second one.",
        ) from error
    return lock


def start_log(folder: Path) -> logging.Handler:
    """Send what is worth knowing later to `window.log`, at most two files of a megabyte."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        folder / "window.log", maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


def main(argv: Sequence[str] | None = None) -> int:
    """Open the window; returns the exit code when it is closed."""
    parser = argparse.ArgumentParser(
        prog="overlay-studio",
        description="Teach a language model something new on your own graphics card.",
        epilog="OVERLAY_HOME names the folder that holds your work.",
    )
    parser.add_argument("--version", action="version", version=f"Overlay Studio {studio.__version__}")
    _, rest = parser.parse_known_args(argv)
    app = make_application(rest)
    workspace = Workspace.default()
    settings = Settings.load(workspace)
    theme.apply(app, settings.theme if settings.theme in theme.NAMES else "system")  # type: ignore[arg-type]
    try:
        lock = take_lock(workspace)
        start_log(workspace.logs)
    except (StudioError, OSError) as error:
        hint = error.hint if isinstance(error, StudioError) else "Set OVERLAY_HOME to a folder that you may write to."
        sys.stderr.write(f"{error} {hint}\n")
        tell(str(error), hint).exec()
        return 2
    mishaps = Mishaps(workspace.logs)
    sys.excepthook = mishaps.hear
    opened = Studio(workspace, settings)
    opened.open()
    code = app.exec()
    lock.release()
    return code


if __name__ == "__main__":
    sys.exit(main())
