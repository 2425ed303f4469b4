"""The Train page: a recipe to be written, or a run to be watched."""

from __future__ import annotations

from typing import Any

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QStackedWidget

from ui.pages.train_running import TrainRunning
from ui.pages.train_setup import TrainSetup
from ui.pages.train_words import tr
from ui.state import AppState


class TrainPage(QStackedWidget):
    """The recipe and the run, one at a time. Coming to the page while a run is in progress shows that run."""

    def __init__(self, state: AppState) -> None:
        super().__init__()
        self.setAccessibleName(tr("Train"))
        self._state = state
        self._wanted = ""
        self.setup, self.running = TrainSetup(state), TrainRunning(state)
        self.addWidget(self.setup)
        self.addWidget(self.running)
        self.setup.run_wanted.connect(self._show_live)
        self.running.recipe_wanted.connect(self.show_recipe)
        state.run_selected.connect(self.show_run)
        state.runs_changed.connect(self._on_runs)

    def show_recipe(self) -> None:
        """Show the recipe."""
        self._wanted = ""
        self.setCurrentWidget(self.setup)

    def show_run(self, run: str) -> None:
        """Show a run; one that is not known yet as soon as it is."""
        view = self._state.runs.get(run)
        if view is None:
            self._wanted = run
            return
        self._wanted = ""
        self.setCurrentWidget(self.running)
        self.running.show_run(view)

    def start_training(self) -> None:
        """What Ctrl+Return does: start, or tell what is missing. Where a run is shown, show first what would be started."""
        if self.currentWidget() is not self.setup:
            if self._state.live_run is None:
                self.show_recipe()
            return
        start = self.setup.cost.start
        reason = start.reason()
        if reason is not None:
            self._state.noticed.emit("warn", reason, "")
        start.start_training()

    def save_recipe(self) -> None:
        """Ask where to save the recipe."""
        self.setup.save_recipe()

    def open_recipe(self) -> None:
        """Ask for a recipe file, and show its recipe."""
        self.show_recipe()
        self.setup.open_recipe()

    def view_settings(self) -> dict[str, Any]:
        """What is worth remembering of how the page is looked at, as plain values."""
        return {
            "level": self.setup.level.value(),
            "open_groups": sorted(self.setup.more.open_groups),
            "logarithmic_loss": self.running.charts.loss.logarithmic(),
        }

    def restore_view(self, settings: dict[str, Any]) -> None:
        """Take `view_settings` of an earlier time; what is not understood is passed over."""
        groups = settings.get("open_groups")
        known = self.setup.more.groups
        if isinstance(groups, list):
            self.setup.more.open_groups = {name for name in groups if isinstance(name, str) and name in known}
        level = settings.get("level")
        self.setup.set_level(level if level in ("basic", "expert") else self.setup.level.value())
        self.running.charts.loss.set_logarithmic(settings.get("logarithmic_loss") is True)

    def showEvent(self, event: QShowEvent) -> None:
        """Show the run in progress, if there is one; the recipe, if it is that of a run that waits."""
        super().showEvent(event)
        if not event.spontaneous() and self._state.edited_run:
            self.show_recipe()
        elif not event.spontaneous():
            self._show_live()

    def _show_live(self) -> None:
        live = self._state.live_run
        if live is not None:
            self.show_run(live.folder.id)

    def _on_runs(self) -> None:
        if self._wanted:
            self.show_run(self._wanted)
