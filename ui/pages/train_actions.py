"""What can be asked of a run in progress, and what has become of it: each button shows that it was heard."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from studio.runs import events as e
from studio.runs.state import RunState, Status
from ui import theme
from ui.bridge import soon
from ui.pages.train_words import tr
from ui.widgets.buttons import Button
from ui.widgets.numbers import format_int

FORCE_AFTER_MS = 30_000
ENDING = ("stop", "discard", "pause")
# What a wish brings about; samples may be several, and are over when the next step is taken.
DONE_BY: dict[str, type[e.Event]] = {"save": e.CheckpointSaved, "evaluate": e.Evaluated}


class RunActions(QWidget):
    """The buttons in the header of a run. `asked(verb)` is a verb of `AppState.run_requested`."""

    asked = Signal(str)
    back_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, int] = {}  # verb to the last step taken when it was asked for
        self._wish, self._wish_number, self._is_overdue = "", 0, False
        self._narrow = False
        self.back = Button(tr("Back to recipe"), "quiet")
        self.back.clicked.connect(self.back_wanted)
        self._words = {
            "sample": (tr("Sample now"), tr("Sampling\u2026")),
            "evaluate": (tr("Evaluate now"), tr("Evaluating\u2026")),
            "save": (tr("Save now"), tr("Saving\u2026")),
        }
        self.wishes = {verb: Button(text, "quiet") for verb, (text, _) in self._words.items()}
        for verb, button in self.wishes.items():
            button.clicked.connect(partial(self.asked.emit, verb))
        self._build_menus()
        self.pause = Button(tr("Pause"), icon="pause")
        self.pause.clicked.connect(partial(self.asked.emit, "pause"))
        self.force = Button(tr("Force stop"), "danger")
        self.force.setToolTip(tr("Ends the engine at once. The run goes on from its last checkpoint."))
        self.force.clicked.connect(partial(self.asked.emit, "force"))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        for button in (self.back, *self.wishes.values(), self.more, self.force, self.stop, self.pause):
            row.addWidget(button)

    def _build_menus(self) -> None:
        # In a narrow window the three share a menu.
        self.more = Button(tr("More"), "quiet")
        menu = QMenu(self.more)
        self._entries = {
            verb: menu.addAction(text, partial(self.asked.emit, verb)) for verb, (text, _) in self._words.items()
        }
        self.more.setMenu(menu)
        self.stop = Button(tr("Stop"), icon="stop")
        menu = QMenu(self.stop)
        menu.addAction(tr("Stop and save"), partial(self.asked.emit, "stop"))
        menu.addAction(tr("Stop without saving"), partial(self.asked.emit, "discard"))
        self.stop.setMenu(menu)

    @property
    def wish(self) -> str:
        """How the user wants the run to end, while it has not: stop, discard, pause; "" for not at all."""
        return self._wish

    def forget(self) -> None:
        """Make ready for another run."""
        self._waiting.clear()
        self._wish, self._is_overdue = "", False
        self._wish_number += 1

    def take(self, verb: str, step: int) -> None:
        """Something was asked for, here or elsewhere, after `step` steps."""
        if verb in ENDING:
            self._wish, self._is_overdue = verb, False
            self._wish_number += 1
            soon(self, partial(self._offer_force, self._wish_number), FORCE_AFTER_MS)
        elif verb in self._words:
            self._waiting[verb] = step
        elif verb == "resume":
            self.forget()

    def hear(self, event: e.Event) -> None:
        """Something has happened: perhaps what was asked for."""
        if isinstance(event, e.LAST_WORDS):
            self.forget()
        for verb, asked_at in list(self._waiting.items()):
            # A wish is read when a step is done, and granted before the next one.
            is_over = isinstance(event, e.StepTaken) and event.step > asked_at + 1
            if is_over or isinstance(event, DONE_BY.get(verb, ())):
                del self._waiting[verb]

    def _offer_force(self, number: int) -> None:
        if number == self._wish_number and self._wish:
            self._is_overdue = True
            self.force.show()
            self.pause.hide()

    def show_state(self, state: RunState, narrow: bool) -> None:
        """Offer what can be asked for now."""
        live, running = state.status.is_live, state.status is Status.RUNNING
        self.stop.setVisible(live)
        self.pause.setVisible(live and not self._is_overdue)
        self.force.setVisible(live and self._is_overdue)
        for button in (self.stop, self.pause):
            button.setEnabled(not self._wish)
        for button in (*self.wishes.values(), self.more):
            button.setVisible(live and (button is self.more) == narrow)
        self.more.setEnabled(running and not self._wish)
        for verb, button in self.wishes.items():
            is_waiting, why_not = verb in self._waiting, _why_not(verb, state)
            can = running and not self._wish and not is_waiting and not why_not
            button.set_label(self._words[verb][is_waiting])
            button.setText(self._words[verb][is_waiting])
            button.setToolTip(why_not)
            button.setEnabled(can)
            self._entries[verb].setText(self._words[verb][is_waiting])
            self._entries[verb].setEnabled(can)

    def doing(self, state: RunState) -> str:
        """What has been heard and is about to be done: `stopping in step 413...`; "" for nothing."""
        if not state.status.is_live:
            return ""
        step = format_int(state.step + 1)
        if self._wish:
            return (
                tr("stopping in step {0}\u2026").format(step)
                if state.status is Status.RUNNING
                else tr("stopping\u2026")
            )
        verbs = {"save": tr("saving"), "evaluate": tr("evaluating"), "sample": tr("sampling")}
        words = [word for verb, word in verbs.items() if verb in self._waiting]
        if not words or state.phase != "training":
            return ""  # what it is busy with stands in the pill
        return tr("{0} after step {1}\u2026").format(", ".join(words), step)


def _why_not(verb: str, state: RunState) -> str:
    """Why a wish could not be granted."""
    if verb == "evaluate" and state.prepared is not None and not state.prepared.num_held_out:
        return tr("No rows are held out to evaluate with.")
    return ""
