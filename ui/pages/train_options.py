"""What the desktop does for a run: stay awake while it is at work, and tell how it ended."""

from __future__ import annotations

from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QWidget

from ui import theme
from ui.pages.train_words import tr
from ui.state import AppState
from ui.widgets.toggles import CheckBox


class RunOptions(QWidget):
    """Two check boxes. They say what the settings say; only the user's hand changes those."""

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self._state = state
        self.awake, self.notify = CheckBox(tr("Keep PC awake")), CheckBox(tr("Notify me"))
        self.awake.setToolTip(tr("The computer does not fall asleep while a run is at work."))
        self.notify.setToolTip(tr("The desktop says how a run ended, if you look elsewhere."))
        self.awake.clicked.connect(lambda wanted: state.option_requested.emit("keep_awake", wanted))
        self.notify.clicked.connect(lambda wanted: state.option_requested.emit("notify", wanted))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(20))
        row.addWidget(self.awake)
        row.addWidget(self.notify)
        state.options_changed.connect(self.refresh)
        self.refresh()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Go on with the line below the tabs."""
        painter = QPainter(self)
        painter.fillRect(0, self.height() - 1, self.width(), 1, theme.current().colour("line"))
        painter.end()

    def refresh(self) -> None:
        """Show what is set."""
        self.awake.setChecked(self._state.keep_awake)
        self.notify.setChecked(self._state.notify)
