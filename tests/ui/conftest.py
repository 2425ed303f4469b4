"""One application for the whole suite, and a guard that no test leaves anything running or complains unheard."""

import gc
import logging
import os
import threading
from collections.abc import Iterator

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import psutil
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QObject, QThread, QTimer, QtMsgType
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

from ui import theme

# The offscreen platform says this whenever a window is shown; it means nothing.
HARMLESS = ("This plugin does not support", "QFontDatabase: Cannot find font directory")
LOUD = (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg)


@pytest.fixture(scope="session")
def qapp_cls() -> type[QApplication]:
    return QApplication


@pytest.fixture(scope="session", autouse=True)
def _themed(qapp: QApplication) -> None:
    theme.apply(qapp, "light")
    assert "Inter" in QFontDatabase.families()


@pytest.fixture
def themed(qapp: QApplication) -> Iterator[QApplication]:
    """For a test that changes the theme: the light one is back afterwards."""
    yield qapp
    theme.apply(qapp, "light")


@pytest.fixture
def expected_warnings() -> list[str]:
    """Parts of warnings that this test expects: append to it; each must then really be heard."""
    return []


class _Listener(logging.Handler):
    """Collects log records from WARNING up, and Qt's own messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def _children() -> set[int]:
    """Process numbers of our children that are not yet over."""
    alive = psutil.Process().children(recursive=True)
    return {child.pid for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE}


def _close_windows() -> None:
    for widget in QApplication.topLevelWidgets():
        widget.close()
    for _ in range(3):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()


def _timers() -> list[QTimer]:
    """Timers below the windows or the application that are active, unless their window is closed."""
    roots: list[QObject] = [*QApplication.topLevelWidgets(), QCoreApplication.instance()]
    found = [each for root in roots for each in root.findChildren(QTimer)]
    return [timer for timer in found if timer.isActive() and not _in_closed_window(timer)]


def _qt_threads(num_before: int) -> list[QThread]:
    """QThreads that run; looked for among all objects, but only where the process has more threads than before."""
    if psutil.Process().num_threads() <= num_before:
        return []
    threads = [each for each in gc.get_objects() if isinstance(each, QThread)]
    return [each for each in threads if isValid(each) and each.isRunning()]


def _in_closed_window(timer: QObject) -> bool:
    parent = timer.parent()
    while parent is not None and not isinstance(parent, QWidget):
        parent = parent.parent()
    return isinstance(parent, QWidget) and not parent.window().isVisible()


@pytest.fixture(autouse=True)
def _nothing_left(qapp: QApplication, qtlog: object, expected_warnings: list[str]) -> Iterator[None]:
    """Fail a test that leaks a thread, a timer or a child process, or that warns unexpectedly."""
    listener = _Listener()
    threads, children = set(threading.enumerate()), _children()
    timers, num_threads = set(map(id, _timers())), psutil.Process().num_threads()
    logging.getLogger().addHandler(listener)
    yield
    _close_windows()
    loud = [record.message for record in qtlog.records if record.type in LOUD]
    listener.heard += [message for message in loud if not message.startswith(HARMLESS)]
    logging.getLogger().removeHandler(listener)
    # A dummy stands for a thread of Qt's own pool that logged something; it never goes away again.
    own = [each for each in threading.enumerate() if not isinstance(each, threading._DummyThread)]
    new_threads = [each for each in own if each not in threads and each.is_alive()]
    qt_threads = _qt_threads(num_threads)
    assert not new_threads, f"threads left: {new_threads}"
    assert not qt_threads, f"QThreads left: {qt_threads}"
    left = [timer for timer in _timers() if id(timer) not in timers]
    assert not left, f"timers left: {left}"
    assert not _children() - children, "child processes left"
    unheard = [part for part in expected_warnings if not any(part in message for message in listener.heard)]
    surprises = [message for message in listener.heard if not any(part in message for part in expected_warnings)]
    assert not surprises, f"unexpected warnings: {surprises}"
    assert not unheard, f"expected warnings never came: {unheard}"
