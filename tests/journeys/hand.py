"""A user's hand and eye: it finds things by the names that a screen reader would say, and uses mouse and keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLabel, QWidget
from pytestqt.exceptions import TimeoutError
from pytestqt.qtbot import QtBot

SECONDS = 20
T = TypeVar("T", bound=QWidget)


class Hand:
    """Uses one window."""

    def __init__(self, bot: QtBot, window: QWidget, shots: Path | None) -> None:
        self._bot, self._window, self._shots = bot, window, shots

    def until(self, condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
        """Wait for something, with the window alive meanwhile."""

        def check() -> None:
            assert condition(), f"waited in vain for {what}"

        self._bot.waitUntil(check, timeout=int(seconds * 1000))

    def names(self) -> list[str]:
        """What a screen reader could say now; for the message when something is not found."""
        return sorted({name for widget in _visible() for name in _names(widget)})

    def find(self, name: str, kind: type[QWidget] = QWidget, *, focusable: bool = False) -> QWidget:
        """The visible widget of that name, waited for; `focusable`: one that takes the cursor, not its label."""
        found: list[QWidget] = []

        def look() -> bool:
            found[:] = [widget for widget in _visible() if isinstance(widget, kind) and name in _names(widget)]
            found[:] = [widget for widget in found if not focusable or widget.focusPolicy() != Qt.FocusPolicy.NoFocus]
            return bool(found)

        try:
            self.until(look, name)
        except (AssertionError, TimeoutError):
            self.shot("not-found")
            raise AssertionError(f"there is no {name!r} among {self.names()}") from None
        # Several may bear a name (a card and its heading): the innermost is what one clicks on.
        return min(found, key=lambda widget: widget.width() * widget.height())

    def sees(self, text: str) -> bool:
        """Whether some visible label or named thing holds this text."""
        return any(text in said for widget in _visible() for said in _said(widget))

    def all(self, kind: type[T]) -> list[T]:
        """Every visible widget of a kind."""
        return [widget for widget in _visible() if isinstance(widget, kind)]

    def sees_in(self, widget: QWidget, text: str) -> bool:
        """Whether something inside `widget` holds this text."""
        return any(text in said for inner in widget.findChildren(QWidget) if inner.isVisible() for said in _said(inner))

    def click(self, name: str, kind: type[QWidget] = QWidget) -> None:
        """Click on the middle of it."""
        widget = self.find(name, kind)
        self.until(widget.isEnabled, f"{name} to be usable")
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=QPoint(widget.width() // 2, widget.height() // 2))

    def press(self, name: str) -> None:
        """Click on a button that may be named like other things."""
        self.click(name, QAbstractButton)

    def write(self, name: str, text: str) -> None:
        """Put the cursor there, replace what stands there, leave the field."""
        field = self.find(name, focusable=True)
        QTest.mouseClick(field, Qt.MouseButton.LeftButton, pos=QPoint(field.width() // 3, field.height() // 2))
        # Without a window manager no window is the active one; where the cursor would be, the window knows all the same.
        target = field.window().focusWidget()
        assert target is not None, f"{name} takes no focus"
        QTest.keyClick(target, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClick(target, Qt.Key.Key_Delete)
        QTest.keyClicks(target, text)
        QTest.keyClick(target, Qt.Key.Key_Tab)

    def choose(self, name: str, option: str) -> None:
        """Open a choice and take an option, by keyboard."""
        combo = self.find(name, QComboBox)
        assert isinstance(combo, QComboBox)
        index = next((i for i in range(combo.count()) if option in combo.itemText(i)), None)
        assert index is not None, f"{name} offers {[combo.itemText(i) for i in range(combo.count())]}"
        combo.setFocus()
        step = Qt.Key.Key_Down if index > combo.currentIndex() else Qt.Key.Key_Up
        while combo.currentIndex() != index:
            QTest.keyClick(combo, step)

    def shot(self, name: str) -> None:
        """Keep a picture, if somebody wants to look at them."""
        if self._shots is not None:
            self._shots.mkdir(parents=True, exist_ok=True)
            QTest.qWait(150)
            self._window.grab().save(str(self._shots / f"{name}.png"))


def _visible() -> list[QWidget]:
    return [
        widget for widget in QApplication.allWidgets() if widget.isVisible() and not widget.visibleRegion().isEmpty()
    ]


def _names(widget: QWidget) -> set[str]:
    """Its own name and what labels it: on Linux a choice is named by what is chosen, and by its label only in relation."""
    interface = QAccessible.queryAccessibleInterface(widget)
    names = {widget.accessibleName()}
    if interface is not None and interface.isValid():
        names.add(interface.text(QAccessible.Text.Name))
        labels = interface.relations(QAccessible.RelationFlag.Label)
        names |= {label.text(QAccessible.Text.Name) for label, _ in labels if label.isValid()}
    return names - {""}


def _said(widget: QWidget) -> list[str]:
    texts = list(_names(widget))
    if isinstance(widget, QLabel):
        texts.append(widget.text())
    return texts
