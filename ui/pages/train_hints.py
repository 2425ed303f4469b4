"""What a run's curves suggest and what its engine warned of: each can be dismissed, and then stays away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.recipe.recipe import Recipe
from studio.runs.hints import Hint, HintKind, hints
from studio.runs.state import RunState
from ui import theme
from ui.pages.train_words import tr
from ui.widgets.buttons import Button, IconButton
from ui.widgets.labels import IconLabel, PlainLabel
from ui.widgets.messages import MessageBar, MessageKind
from ui.widgets.page import Card

MAX_WARNINGS = 3
MAX_HINTS = 2
LOOK_SECONDS = 2.0  # a look at a long run takes some milliseconds
GRAVE = (HintKind.DIVERGING, HintKind.MEMORISING, HintKind.MEMORY)


class HintCard(Card):
    """One suspicion: what is seen, by which numbers, what one may do; and the checkpoint that may be better, if there is one."""

    dismissed = Signal()
    checkpoint_wanted = Signal(int)

    def __init__(self, hint: Hint) -> None:
        super().__init__(compact=True)
        self.hint = hint
        self.setAccessibleName(hint.message)
        self.setAccessibleDescription(f"{hint.reason} {hint.advice}")
        grave = hint.kind in GRAVE
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        icon = QVBoxLayout()
        icon.setContentsMargins(0, theme.px(2), 0, 0)
        icon.addWidget(IconLabel("warning" if grave else "info", "warn" if grave else "atext", 16, filled=True))
        icon.addStretch(1)
        head.addLayout(icon)
        head.addWidget(PlainLabel(hint.message, "strong", wrap=True), 1)
        self.dismiss = IconButton("x", tr("Dismiss: {0}").format(hint.message), side=24, icon_size=14)
        self.dismiss.clicked.connect(self.dismissed)
        close = QVBoxLayout()
        close.addWidget(self.dismiss)
        close.addStretch(1)
        head.addLayout(close)
        self.body.setSpacing(theme.px(6))
        self.add(head)
        self.add(PlainLabel(hint.reason, "small", "text2", wrap=True, selectable=True))
        self.add(PlainLabel(hint.advice, "body", "text", wrap=True))
        self.use: Button | None = None
        if hint.checkpoint is not None:
            step = hint.checkpoint
            self.use = Button(tr("Use that checkpoint"), "link")
            self.use.setAccessibleDescription(tr("Put the adapter of step {0} into the library").format(step))
            self.use.clicked.connect(lambda: self.checkpoint_wanted.emit(step))
            row = QHBoxLayout()
            row.addWidget(self.use)
            row.addStretch(1)
            self.add(row)


class Hints(QWidget):
    """Hints first, the most urgent on top; then the last few warnings, which without advice are only information."""

    checkpoint_wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._dismissed: set[str | float] = set()
        self._shown: list[object] = []
        self._hints: list[Hint] = []
        self._looked_at, self._last_look = -1, 0.0
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(8))
        self.hide()

    def forget(self) -> None:
        """Make ready for another run."""
        self._dismissed.clear()
        self._hints, self._looked_at, self._last_look = [], -1, 0.0

    def show_state(self, state: RunState, recipe: Recipe | None) -> None:
        """Show what was not dismissed. A run that is over is looked back on, not advised."""
        if not state.status.is_live:
            self._hints = []
        elif self._looked_at != state.step and time.monotonic() - self._last_look > LOOK_SECONDS:
            self._hints, self._looked_at, self._last_look = hints(state, recipe), state.step, time.monotonic()
        self._fill(state)

    def _fill(self, state: RunState) -> None:
        found = [hint for hint in self._hints if hint.id not in self._dismissed][:MAX_HINTS]
        warnings = [warned for warned in state.warnings if warned.time not in self._dismissed][-MAX_WARNINGS:]
        # The numbers of a hint move on with the run; as long as it is the same suspicion it stands still.
        shown: list[object] = [*(hint.id for hint in found), *(warned.time for warned in warnings)]
        if shown == self._shown:
            return
        self._shown = shown
        bars: list[QWidget] = [self._card(hint, state) for hint in found]
        for warned in reversed(warnings):
            kind: MessageKind = "warn" if warned.hint else "info"
            bar = MessageBar(kind, f"{warned.message} {warned.hint}".strip(), tr("Dismiss"))
            bar.action_triggered.connect(partial(self._dismiss, warned.time, state))
            bars.append(bar)
        self._replace(bars)
        self.setVisible(bool(bars))

    def _card(self, hint: Hint, state: RunState) -> HintCard:
        card = HintCard(hint)
        card.dismissed.connect(partial(self._dismiss, hint.id, state))
        card.checkpoint_wanted.connect(self.checkpoint_wanted)
        return card

    def _replace(self, bars: Sequence[QWidget]) -> None:
        while (item := self._column.takeAt(0)) is not None:
            widget = item.widget()
            assert widget is not None
            widget.hide()
            widget.deleteLater()
        for bar in bars:
            self._column.addWidget(bar)

    def _dismiss(self, what: str | float, state: RunState) -> None:
        self._dismissed.add(what)
        self._fill(state)
