"""What the studio has to say wherever the user is: a few message bars above the page."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui import theme
from ui.bridge import soon
from ui.state import AppState
from ui.widgets.messages import MessageBar
from ui.widgets.page import MARGIN_NARROW

MOST = 3
GONE_AFTER_MS = 10_000


class Notices(QWidget):
    """The newest messages, oldest first. Good news leaves by itself, trouble stays until it is dismissed."""

    def __init__(self, state: AppState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(self.tr("Messages"))
        self._bars: list[MessageBar] = []
        self._column = QVBoxLayout(self)
        self.set_narrow(False)
        self._column.setSpacing(theme.px(8))
        self.hide()
        state.noticed.connect(self.add)

    def set_narrow(self, narrow: bool) -> None:
        """Keep in line with the page below."""
        side = theme.px(MARGIN_NARROW if narrow else theme.MARGIN)
        self._column.setContentsMargins(side, theme.px(16), side, 0)

    def texts(self) -> list[str]:
        """What is shown now."""
        return [bar.accessibleName() for bar in self._bars]

    def add(self, kind: str, sentence: str, hint: str) -> None:
        """Show a message; one that is there already moves to the end instead."""
        text = f"{sentence} {hint}".strip()
        for old in [bar for bar in self._bars if bar.accessibleName() == text]:
            self._dismiss(old)
        while len(self._bars) >= MOST:
            self._dismiss(self._bars[0])
        bar = MessageBar(kind, text, self.tr("Dismiss"), parent=self)  # type: ignore[arg-type]
        bar.action_triggered.connect(lambda: self._dismiss(bar))
        self._bars.append(bar)
        self._column.addWidget(bar)
        self.show()
        if kind in ("info", "ok"):
            soon(bar, lambda: self._dismiss(bar), GONE_AFTER_MS)

    def _dismiss(self, bar: MessageBar) -> None:
        if bar in self._bars:
            self._bars.remove(bar)
            self._column.removeWidget(bar)
            bar.hide()
            bar.deleteLater()
            self.setVisible(bool(self._bars))
