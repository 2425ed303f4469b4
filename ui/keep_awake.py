"""While a run of this computer is live the computer does not fall asleep, if the user lets us.

A window that is closed lets go; it asks the run's engine to stay awake itself (`StayAwake`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, QThread, Signal

from studio.runs import wishes as w
from studio.runs.awake import ASLEEP, ASLEEP_HINT, kept_awake
from ui.settings import Settings
from ui.state import AppState


class KeepAwake(QObject):
    """Looks whenever a run begins or ends. What cannot be had is said once."""

    def __init__(self, state: AppState, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state, self._settings = state, settings
        self._vigil: _Vigil | None = None
        self._ending: set[_Vigil] = set()
        self._was_told = False
        state.runs_changed.connect(self.look)
        state.options_changed.connect(self.look)

    @property
    def is_on(self) -> bool:
        """Whether the system has been asked to stay awake."""
        return self._vigil is not None

    def look(self) -> None:
        """Begin or end, by the runs there are and by what the settings say now."""
        wanted = self._settings.keep_awake and self._state.live_run is not None
        if wanted and self._vigil is None:
            self._vigil = _Vigil(self)
            self._vigil.answered.connect(self._on_answered)
            self._vigil.start()
        elif not wanted:
            self._end()

    def close(self, wish: Callable[[w.Wish], None] | None = None) -> None:
        """Let go, and wait until that is done. With `wish` the engine of a run in progress is asked to take over."""
        live = self._state.live_run
        if wish is not None and live is not None and self._settings.keep_awake:
            wish(w.StayAwake(run=live.folder.id))
        self._state.runs_changed.disconnect(self.look)
        self._state.options_changed.disconnect(self.look)
        self._end()
        for vigil in list(self._ending):
            vigil.wait()

    def _end(self) -> None:
        if self._vigil is not None:
            vigil, self._vigil = self._vigil, None
            self._ending.add(vigil)
            vigil.finished.connect(lambda: self._ended(vigil))
            vigil.over.set()

    def _ended(self, vigil: _Vigil) -> None:
        self._ending.discard(vigil)
        vigil.deleteLater()

    def _on_answered(self, could_be_had: bool) -> None:
        if not could_be_had and not self._was_told:
            self._was_told = True
            self._state.noticed.emit("warn", self.tr(ASLEEP), self.tr(ASLEEP_HINT))


class _Vigil(QThread):
    """One stretch of wakefulness: a desktop that is slow to answer must not hold the window up."""

    answered = Signal(bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.over = threading.Event()

    def run(self) -> None:
        """Ask, wait, let go."""
        with kept_awake() as could_be_had:
            self.answered.emit(could_be_had)
            self.over.wait()
