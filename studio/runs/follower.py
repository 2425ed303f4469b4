"""Follow one run in one engine to its last word, and have it stopped if its loss climbs: the night is left to the next one."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from studio.errors import EngineError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.engine import Engine
from studio.runs.folder import RunFolder
from studio.runs.hints import HintKind, hints
from studio.runs.queue import Turn, changing
from studio.runs.state import RunState

POLL_SECONDS = 0.5
LOOK_SECONDS = 5.0  # between two looks at the curve


class Follower:
    """Follows a run from where its events stand when this is made; `last` is its last word, once there is one."""

    def __init__(
        self, workspace: Workspace, run: RunFolder, turn: Turn, engine: Engine, pause: threading.Event
    ) -> None:
        self._workspace, self._run, self._turn, self._engine, self._pause = workspace, run, turn, engine, pause
        self._news = run.events
        self._state = RunState.replay(self._news.read())
        self.last: e.Event | None = None
        self._is_stopping = bool(turn.diverged)
        self._looked = time.monotonic()

    def follow(self) -> RunState:
        """The state at the end. Raises `EngineError` if the engine ended before it took the run up."""
        is_begun = self._state.status.is_live
        while True:
            # Looked at before reading: what the engine wrote before its end must not be missed.
            alive = self._engine.is_alive
            for event in self._news.read():
                self._state.advance(event)
                is_begun |= isinstance(event, e.Started)
                if is_begun and isinstance(event, e.LAST_WORDS):
                    self.last = event
                    return self._state
            if not alive:
                return self._after_death(is_begun)
            self._look()
            self._pause.wait(POLL_SECONDS)

    def _after_death(self, is_begun: bool) -> RunState:
        if not is_begun:
            raise EngineError(
                f"The engine ended before it took up {self._run.name}.",
                f"Its log says why: {self._engine.session / 'log.txt'}",
            )
        return self._run.bury(self._engine.exit_code, self._engine.end_signal)

    def _look(self) -> None:
        """Stop a run whose loss climbs: what it has learnt is saved, and the night is left to the next one."""
        if self._is_stopping or time.monotonic() - self._looked < LOOK_SECONDS or not self._state.status.is_live:
            return
        self._looked = time.monotonic()
        climbing = next((hint for hint in hints(self._state) if hint.kind is HintKind.DIVERGING), None)
        if climbing is None:
            return
        self._is_stopping = True
        # Written down first: whoever goes on after us must know that this was no wish of the user's.
        with changing(self._workspace) as queue:
            if queue.turn is not None:
                queue.turn = replace(queue.turn, diverged=f"{climbing.message} {climbing.reason} {climbing.advice}")
        self._engine.post(w.Stop(run=self._run.id, save=True))
