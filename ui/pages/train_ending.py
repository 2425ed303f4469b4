"""How a run ended, why, and what comes next: a panel above its charts, never in their way."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.runs.state import RunState, Status
from ui import theme
from ui.measured import Peak
from ui.pages.train_now import best, seconds_trained
from ui.pages.train_words import duration, energy, short_count, tr
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import StatTile
from ui.widgets.numbers import format_int
from ui.widgets.page import Card

LOOKS = {
    Status.FINISHED: ("check-circle", "ok"),
    Status.STOPPED: ("stop", "text2"),
    Status.PAUSED: ("pause", "warn"),
    Status.FAILED: ("x-circle", "bad"),
    Status.INTERRUPTED: ("link-break", "warn"),
}
# What no new start of the same recipe can mend: something in it has to change first.
NEEDS_CHANGES = ("data", "recipe", "basemodel", "changed", "outofmemory")
DIVERGED = "diverged"
THIRD = 3


class EndingCard(Card):
    """Heading, cause and next steps; of a finished run its figures too. One of its buttons is the primary one."""

    resume_wanted = Signal()
    chat_wanted = Signal()
    again_wanted = Signal()
    export_wanted = Signal()
    folder_wanted = Signal()
    report_wanted = Signal()
    third_wanted = Signal()

    def __init__(self) -> None:
        super().__init__(compact=True)
        self._icon = IconLabel("check-circle", "ok", 24, filled=True)
        self.heading = PlainLabel("", "heading")
        self.text = PlainLabel("", "body", "text2", wrap=True, selectable=True)
        words = QVBoxLayout()
        words.setSpacing(theme.px(2))
        words.addWidget(self.heading)
        words.addWidget(self.text)
        words.addStretch(1)
        said = QHBoxLayout()
        said.setSpacing(theme.px(12))
        icon = QVBoxLayout()
        icon.addWidget(self._icon)
        icon.addStretch(1)
        said.addLayout(icon)
        said.addLayout(words, 1)
        self._way = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._way.setSpacing(theme.px(12))
        self._way.addLayout(said, 1)
        self._way.addLayout(self._buttons())
        self.body.setSpacing(theme.px(12))
        self.add(self._way)
        self.figures = self._tiles()
        self.add(self.figures)

    def _buttons(self) -> QHBoxLayout:
        self.report = Button(tr("Copy report"), "quiet", "copy")
        self.folder = Button(tr("Open folder"), "quiet", "folder-open")
        self.again = Button(tr("Train again with changes"), icon="arrow-clockwise")
        self.export = Button(tr("Export\u2026"), icon="export")
        self.third = Button(tr("Start again with a third of the learning rate"), icon="arrow-clockwise")
        self.resume = Button(tr("Resume"), icon="play", filled=True)
        self.chat = Button(tr("Compare with base"), icon="chats-circle")
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addStretch(1)
        for button, wanted in (
            (self.report, self.report_wanted),
            (self.folder, self.folder_wanted),
            (self.again, self.again_wanted),
            (self.export, self.export_wanted),
            (self.resume, self.resume_wanted),
            (self.third, self.third_wanted),
            (self.chat, self.chat_wanted),
        ):
            button.clicked.connect(wanted)
            row.addWidget(button)
        return row

    def _tiles(self) -> QWidget:
        names = {
            "duration": tr("Duration"),
            "best": tr("Best checkpoint"),
            "tokens": tr("Tokens"),
            "memory": tr("Peak memory"),
            "energy": tr("Energy"),
        }
        self.tiles = {key: StatTile(name) for key, name in names.items()}
        result = QWidget()
        column = QVBoxLayout(result)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addWidget(Divider())
        row = QHBoxLayout()
        row.setSpacing(theme.px(theme.GUTTER))
        for tile in self.tiles.values():
            row.addWidget(tile, 1)
        column.addLayout(row)
        return result

    def set_narrow(self, narrow: bool) -> None:
        """Put the buttons below the words, or beside them."""
        way = QBoxLayout.Direction
        self._way.setDirection(way.TopToBottom if narrow else way.LeftToRight)

    def show_state(self, state: RunState, busy: str | None) -> None:
        """Say how `state` ended; hidden while it has not. `busy` is why it cannot be resumed just now."""
        self.setVisible(state.status in LOOKS)
        if state.status not in LOOKS:
            return
        self._icon.set_icon(*LOOKS[state.status], filled=True)
        self.heading.setText(_headline(state))
        self.text.setText(_sentence(state))
        self.setAccessibleName(self.heading.text())
        self._show_buttons(state, busy)
        finished = state.status is Status.FINISHED
        self.figures.setVisible(finished)
        if finished:
            self._show_figures(state)

    def _show_buttons(self, state: RunState, busy: str | None) -> None:
        finished, kind = state.status is Status.FINISHED, state.ending.kind if state.ending else ""
        shown = {
            self.report: state.status in (Status.FAILED, Status.INTERRUPTED),
            self.folder: finished,
            self.export: finished and bool(state.adapter),
            self.third: kind == DIVERGED,
            # The same rows at the same rate end in the same way.
            self.resume: not finished and kind not in ("changed", DIVERGED),
            self.chat: bool(state.adapter),
        }
        for button, is_shown in shown.items():
            button.setVisible(is_shown)
        for button in (self.resume, self.third):
            button.set_reason(busy)
        first = (
            self.chat if finished and state.adapter
            else self.third if kind == DIVERGED
            else self.again if finished or kind in NEEDS_CHANGES
            else self.resume
        )  # fmt: skip
        for button in (self.again, self.third, self.resume, self.chat):
            button.set_kind("primary" if button is first else "default")

    def _show_figures(self, state: RunState) -> None:
        seconds, peak = seconds_trained(state), Peak.of(state)
        self.tiles["duration"].set_value(duration(seconds), tr("{0} steps").format(format_int(state.step)))
        lowest = best(state.evaluations)
        where = tr("step {0}").format(format_int(lowest.step)) if lowest else tr("nothing was held out")
        self.tiles["best"].set_value(f"{lowest.loss:.2f}" if lowest else "\u2013", where)
        tokens = sum(taken.num_tokens for taken in state.steps)
        speed = tr("{0} per second").format(short_count(tokens / seconds)) if seconds else ""
        self.tiles["tokens"].set_value(short_count(tokens), speed)
        held = peak.measured_bytes
        self.tiles["memory"].set_value("\u2013" if held is None else tr("{0} GB").format(gb_text(held)), _against(peak))
        self.tiles["energy"].setVisible(state.energy_joules is not None)
        if state.energy_joules is not None:
            since = state.resumes[-1] if state.resumes else 0
            whose = tr("of the card, from step {0}").format(format_int(since)) if since else tr("of the card")
            self.tiles["energy"].set_value(energy(state.energy_joules), whose)


def _against(peak: Peak) -> str:
    """`about 13.7 GB estimated, 4 % under`: how near the estimate came."""
    held, estimated = peak.measured_bytes, peak.estimated_bytes
    if held is None:
        return tr("not measured")
    if estimated is None:
        return tr("no estimate") if peak.on_card else tr("of main memory")
    off = round(100 * (held - estimated) / estimated)
    word = (
        tr("as estimated") if not off else tr("{0} % over").format(off) if off > 0 else tr("{0} % under").format(-off)
    )
    return tr("\u2248 {0} GB estimated, {1}").format(gb_text(estimated), word)


def _headline(state: RunState) -> str:
    step, kind = format_int(state.step), state.ending.kind if state.ending else ""
    match state.status:
        case Status.FINISHED:
            return tr("Finished after {0}").format(duration(seconds_trained(state)))
        case Status.PAUSED if state.ending and state.ending.cause:
            return tr("Paused at step {0}").format(step)
        case Status.PAUSED:
            return tr("Paused at step {0}. The card is free.").format(step)
        case Status.STOPPED:
            return tr("Stopped at step {0}").format(step)
        case Status.FAILED if kind == DIVERGED:
            return tr("Diverged after step {0}, and stopped before any harm").format(step)
        case Status.FAILED if kind == "outofmemory":
            return (
                tr("Out of memory at step {0}").format(step)
                if state.steps
                else tr("Out of memory before the first step")
            )
        case Status.FAILED if kind == "data":
            return tr("The dataset cannot be used")
        case Status.FAILED:
            return tr("Failed at step {0}").format(step) if state.steps else tr("Failed before the first step")
    return tr("Interrupted at step {0}").format(step) if state.steps else tr("Interrupted before the first step")


def _sentence(state: RunState) -> str:
    ending = state.ending
    if state.status is Status.PAUSED and ending:
        return f"{ending.cause} {ending.hint}".strip()
    if state.status is not Status.FINISHED:
        return f"{ending.message} {ending.hint}".strip() if ending else ""
    parts = []
    if state.ended_early is not None:
        early = tr("It ended early: the evaluation was never better than at step {0}.")
        parts.append(early.format(format_int(state.ended_early.best_step)))
    if state.adapter:
        parts.append(tr("The adapter {0} is in your library.").format(state.adapter))
    return " ".join(parts)
