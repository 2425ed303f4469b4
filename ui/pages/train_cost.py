"""The right side of the recipe: will it fit, what can be done about it, how long is it, and the button that starts it."""

from __future__ import annotations

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui import theme
from ui.pages.train_fixes import Remedies
from ui.pages.train_memory import MemoryCard
from ui.pages.train_start import StartCard
from ui.pages.train_words import tr
from ui.state import AppState
from ui.widgets.messages import MessageBar


class CostPanel(QWidget):
    """Both cards, one over the other, as high as the page; between them what was changed by a button, and its undo."""

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self.remedies = Remedies(state, self)
        self.memory, self.start = MemoryCard(state, self.remedies), StartCard(state, self.remedies)
        self.undo = MessageBar("ok", "", tr("Undo"))
        self.undo.action_triggered.connect(self.remedies.undo)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(theme.CARD_GAP))
        column.addWidget(self.memory, 1)
        column.addWidget(self.undo)
        column.addWidget(self.start)
        for signal in (state.recipe_changed, state.bases_changed, state.runs_changed, state.machine_changed):
            signal.connect(self.refresh)
        state.engine_changed.connect(self.refresh)
        for signal in (state.fit_test_changed, state.queue_changed):
            signal.connect(self.start.refresh)
        self.start.tested.fixes_wanted.connect(self.memory.show_fixes)
        self.remedies.changed.connect(self._show_remedies)
        self.remedies.undo_changed.connect(self._show_undo)
        self.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        """Colours that were set before a widget got its place do not outlive the move."""
        super().showEvent(event)
        self.refresh()

    def set_narrow(self, narrow: bool) -> None:
        """Take less height and width."""
        self.memory.set_narrow(narrow)
        self.start.set_narrow(narrow)

    def refresh(self) -> None:
        """Show the facts as they are now."""
        self.remedies.refresh()
        self.memory.refresh()
        self.start.refresh()
        self._show_undo()

    def _show_remedies(self) -> None:
        self.memory.show_remedies()
        self.start.refresh()

    def _show_undo(self) -> None:
        """The last step, for as long as the recipe is as it left it."""
        words = self.remedies.last_step()
        self.undo.setVisible(bool(words))
        if words:
            self.undo.show_message("ok", tr("Changed: {0}").format(words), tr("Undo"))
