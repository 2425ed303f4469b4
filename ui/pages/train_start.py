"""How long the run is, what is missing, and the button that starts it; while it does not fit, the one that makes it fit."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QHBoxLayout, QWidget

from studio.files import readable_bytes
from studio.memory.budget import verdict
from studio.recipe.fields import FIELDS
from ui import theme
from ui.form import sentence
from ui.pages.train_fixes import Remedies
from ui.pages.train_tested import FitTestPanel
from ui.pages.train_words import counted, num_steps, rows_split, run_name, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import MessageBar, StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card

_REASON_WIDTH = 360
LABELS = {entry.path: entry.label for entry in FIELDS}


class _Check(QWidget):
    """One line of the checklist: icon and word."""

    def __init__(self) -> None:
        super().__init__()
        self._icon = IconLabel("check-circle", "ok", 16, filled=True)
        self._word = PlainLabel("", "body", "text2")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(6))
        row.addWidget(self._icon)
        row.addWidget(self._word)

    def show_check(self, judgement: str, word: str, why: str) -> None:
        """`ok`, `warn`, `bad` or `open`, with the reason as tooltip."""
        icons = {"ok": "check-circle", "warn": "warning", "bad": "x-circle", "open": "circle"}
        role = "text3" if judgement == "open" else judgement
        self._icon.set_icon(icons[judgement], role, filled=judgement != "open")
        self._word.setText(word)
        self.setToolTip(plain_tip(why))
        self.setAccessibleName(f"{word}: {why}" if why else word)


class StartCard(Card):
    """How long it is, what is missing, and Start. `action_row` holds Start: another button may stand at its left."""

    field_wanted = Signal(str)

    def __init__(self, state: AppState, remedies: Remedies) -> None:
        super().__init__()
        self._state, self._remedies = state, remedies
        self._expert, self._narrow, self._refused = False, False, ""
        self._tiles, self._short = self._build_tiles(), PlainLabel("", "body", "text2", elide=True)
        checks = QHBoxLayout()
        checks.setSpacing(theme.px(18))
        self._checks = {name: _Check() for name in ("model", "data", "fits", "evaluation")}
        for check in self._checks.values():
            checks.addWidget(check)
        checks.addStretch(1)
        self.fix_all = Button("", "primary", size="action")
        self.fix_all.clicked.connect(remedies.apply_fit)
        self.start = Button(tr("Start training"), "primary", "play", size="action", filled=True)
        self.start.clicked.connect(self.start_training)
        self.action_row = QHBoxLayout()
        self.action_row.setSpacing(theme.px(8))
        self.tested = FitTestPanel(state)
        self.action_row.addWidget(self.tested.button)
        self.action_row.addWidget(self.fix_all)
        self.action_row.addStretch(1)
        self.action_row.addWidget(self.start)
        self.several = MessageBar("info", "", tr("Copy the command"))
        self.several.action_triggered.connect(state.command_requested)
        self.edited = MessageBar("info", "", tr("Cancel"))
        self.edited.action_triggered.connect(lambda: state.queue_requested.emit("cancel", state.edited_run, None))
        self._divider = Divider()
        self._problem = MessageBar("bad", "", tr("Show"))
        self._problem.action_triggered.connect(self._to_problem)
        for item in (
            self._tiles,
            self._short,
            self._divider,
            checks,
            self.tested,
            self._problem,
            self.several,
            self.edited,
            self.action_row,
        ):
            self.add(item)
        self.set_narrow(False)

    def _build_tiles(self) -> QWidget:
        self._steps, self._rows, self._disk = StatTile(tr("Length")), StatTile(tr("Learns from")), StatTile(tr("Disk"))
        result = QWidget()
        row = QHBoxLayout(result)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(16))
        for tile in (self._steps, self._rows, self._disk):
            row.addWidget(tile, 1)
        return result

    def start_training(self) -> None:
        """What the button and Ctrl+Return do, if nothing is missing: begin the run, or have it wait while another is at work."""
        if self.reason() is not None:
            return
        verb = self._queue_verb()
        if verb:
            self._state.queue_requested.emit(verb, self._state.edited_run, None)
        else:
            self._state.train_requested.emit()

    def _queue_verb(self) -> str:
        """What the button would do to the queue: `save` the recipe of a waiting run, `add` another run, "" for nothing."""
        if self._state.edited_run:
            return "save"
        return "add" if self._state.live_run is not None else ""

    def set_expert(self, expert: bool) -> None:
        """An expert may start what is thought not to fit."""
        self._expert = expert
        self.refresh()

    def set_narrow(self, narrow: bool) -> None:
        """Take less height and width."""
        self._narrow = narrow
        side, high = theme.px(16 if narrow else 24), theme.px(16 if narrow else 18)
        layout = self.layout()
        assert layout is not None
        layout.setContentsMargins(side, high, side, high)
        self.body.setSpacing(theme.px(10 if narrow else 12))
        self.refresh()

    def set_refused(self, label: str) -> None:
        """A field holds a text that the recipe could not take; "" for none. What runs must be what is read."""
        self._refused = label
        self.refresh()

    def reason(self) -> str | None:
        """Why the run cannot start, None if it can."""
        waits = bool(self._queue_verb())
        missing = self._lacking() if waits else self.missing()
        if missing is not None:
            return missing
        if self.tested.is_testing and not waits:
            return tr("Busy: fit test")
        return self._too_large() if self._is_over() and not self._expert else None

    def missing(self) -> str | None:
        """What keeps the recipe from being run or tested now, whatever its size; None if nothing does."""
        live = self._state.live_run
        return tr("Busy: run {0}").format(run_name(live)) if live is not None else self._lacking()

    def _lacking(self) -> str | None:
        """What the recipe lacks to be run at any time; None if nothing."""
        state = self._state
        if not state.bases:
            return tr("Add a base first")
        if state.base is None:
            return tr("Choose a base model")
        if state.data.error or not state.data.path:
            return tr("Choose a dataset")
        if self._refused:
            return tr("Mend: {0}").format(self._refused)
        if state.problems:
            label = LABELS.get(state.problems[0].field)
            return tr("Mend: {0}").format(label) if label else sentence(state.problems[0].message)
        return None

    def _is_over(self) -> bool:
        """Whether this computer's own card is too small; a card that is only compared with keeps nobody from training."""
        state = self._state
        if not state.gpus or state.budget is None:
            return False
        return verdict(state.budget, state.card_bytes, state.other_bytes) == "over"

    def _too_large(self) -> str:
        state = self._state
        assert state.budget is not None
        over = state.budget.process_bytes + state.other_bytes - state.card_bytes
        if self._narrow or over <= 0:
            return tr("Does not fit")
        return tr("Does not fit: {0} GB over").format(gb_text(over))

    def refresh(self) -> None:
        """Show the facts as they are now."""
        over = self._is_over()
        self._show_length(hidden=over)
        self._show_checks()
        reason = self.reason()
        self._show_problem()
        self._show_several()
        self._show_fix()
        self.tested.refresh(self.missing(), brief=not self.fix_all.isHidden())
        label, icon = self._act(over)
        self.start.set_label(label)
        self.start.set_kind("default" if over and not self.fix_all.isHidden() else "primary")
        self.start.setToolTip(plain_tip(reason or ""))
        metrics = QFontMetrics(theme.font("medium"))
        short = reason and metrics.elidedText(reason, Qt.TextElideMode.ElideRight, theme.px(_REASON_WIDTH - 72))
        self.start.set_reason(short)
        self.start.set_icon("" if reason else icon, filled=icon == "play")
        self._show_edited()

    def _act(self, over: bool) -> tuple[str, str]:
        """(label, icon) of the button."""
        match self._queue_verb():
            case "save":
                return tr("Save to queue"), "floppy-disk"
            case "add":
                return tr("Add to queue"), "plus"
        return (tr("Start anyway") if over else tr("Start training")), "play"

    def _show_edited(self) -> None:
        """Whose recipe this is, while it is that of a run that waits."""
        state = self._state
        entry = state.queue.entry(state.edited_run)
        self.edited.setVisible(bool(state.edited_run))
        words = tr("The recipe of {0}, which waits.").format(entry.name if entry else "")
        self.edited.show_message("info", words, tr("Cancel"))

    def _show_fix(self) -> None:
        """While it does not fit, the way to make it fit is the thing to do."""
        state = self._state
        over = state.budget is not None and verdict(state.budget, state.card_bytes, state.other_bytes) == "over"
        idle = state.live_run is None and not self.tested.is_testing
        plan = self._remedies.fit if over and idle else None
        shown = plan is not None and bool(plan.changes)
        self.fix_all.setVisible(shown)
        if shown:
            self.fix_all.set_label(self._remedies.fit_label())
            self.fix_all.setToolTip(plain_tip(self._remedies.fit_tip()))
            self.fix_all.set_kind("primary" if self._is_over() else "default")

    def _show_problem(self) -> None:
        """The first problem in full, and the way to its field."""
        found = next(iter(self._state.problems), None)
        self._problem.setVisible(found is not None)
        if found is not None:
            action = tr("Show") if found.field in LABELS else ""
            self._problem.show_message("bad", f"{sentence(found.message)} {found.fix}".strip(), action)

    def _show_several(self) -> None:
        """Who has several cards is told how to use them: the window trains on the first."""
        num_cards = len(self._state.gpus)
        self.several.setVisible(num_cards > 1 and self.missing() is None)
        words = tr(
            "The window trains on the first of your {0} cards, a command on all of them. Each holds the whole base."
        )
        self.several.show_message("info", words.format(num_cards), tr("Copy the command"))

    def _to_problem(self) -> None:
        if self._state.problems:
            self.field_wanted.emit(self._state.problems[0].field)

    def _show_length(self, *, hidden: bool) -> None:
        state = self._state
        self._tiles.setVisible(not hidden and not self._narrow)
        self._divider.setVisible(not hidden and not self._narrow)
        self._short.setVisible(not hidden and self._narrow)
        training = state.recipe.training
        steps, (rows, held) = num_steps(state), rows_split(state)
        about = "" if training.steps is not None else "\u2248 "
        length = tr("{0}{1} steps").format(about, format_int(steps)) if steps is not None else "\u2013"
        self._steps.set_value(length, tr("of {0} rows").format(format_int(training.batch_rows)))
        known = rows > 0
        note = tr("\u2248 {0} held out").format(format_int(held)) if held else tr("none held out")
        learns = tr("\u2248 {0} rows").format(format_int(rows)) if known else "\u2013"
        self._rows.set_value(learns, note if known else tr("not read yet"))
        free = readable_bytes(state.disk_free_bytes) if state.disk_free_bytes else "\u2013"
        self._disk.set_value(free, tr("free"))
        parts = [
            length,
            *([learns] if known else []),
            *([tr("{0} free").format(free)] if state.disk_free_bytes else []),
        ]
        self._short.setText(", ".join(parts))

    def _show_checks(self) -> None:
        state = self._state
        why = tr("None is on this computer") if state.base is None else state.base.id
        self._checks["model"].show_check("bad" if state.base is None else "ok", tr("Model"), why)
        self._checks["data"].show_check(*self._data_check())
        self._checks["fits"].show_check(*self._fits_check())
        held = state.recipe.data.validation_fraction > 0
        why = "" if held else tr("Nothing is held out: nothing shows when it learns by heart")
        self._checks["evaluation"].show_check("ok" if held else "warn", tr("Evaluation"), why)

    def _data_check(self) -> tuple[str, str, str]:
        data = self._state.data
        if data.error:
            return "bad", tr("Data"), f"{data.error} {data.hint}"
        if not data.num_good:
            return "open", tr("Data"), tr("Not read yet")
        if data.problems:
            return "warn", tr("Data"), "\n".join(data.problems[:5])
        return "ok", tr("Data"), tr("{0} good rows").format(counted(self._state, data.num_good))

    def _fits_check(self) -> tuple[str, str, str]:
        state = self._state
        if self.tested.refusal:
            return "bad", tr("Fits"), self.tested.refusal
        if state.budget is None:
            return "open", tr("Fits"), tr("Not known without a base")
        judgement = verdict(state.budget, state.card_bytes, state.other_bytes)
        against = tr("{0} GB card").format(gb_text(state.card_bytes))
        if not state.gpus and judgement == "over":
            return "warn", tr("Fits"), tr("Not on a {0}; on this processor it runs in main memory").format(against)
        return {"fits": "ok", "tight": "warn", "over": "bad"}[judgement], tr("Fits"), against
