"""What stands beside a run's charts: the numbers of this moment, the latest answer, warnings; and how a run ended."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.runs import events as e
from studio.runs.state import RunState, Status
from ui import theme
from ui.measured import Peak, layers
from ui.pages.train_words import duration, short_count, tr
from ui.widgets.answer import AnswerText
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import MessageBar, MessageKind, StatTile
from ui.widgets.numbers import format_float, format_int
from ui.widgets.page import Card
from ui.widgets.series import smooth

BACK_STEPS = 50
_TAIL = 2000
MAX_WARNINGS = 3
DASH = "\u2013"


def best(evaluations: list[e.Evaluated]) -> e.Evaluated | None:
    """The evaluation with the lowest loss; the first of equals."""
    sound = [each for each in evaluations if math.isfinite(each.loss)]
    return min(sound, key=lambda each: each.loss, default=None)


def seconds_trained(state: RunState) -> float:
    """Time spent on steps: pauses do not count."""
    return sum(taken.seconds for taken in state.steps)


class NowCard(Card):
    """The numbers of this moment."""

    def __init__(self) -> None:
        super().__init__(tr("Now"))
        self.loss = StatTile(tr("Loss, smoothed"), DASH, large=True)
        self.evaluation = StatTile(tr("Evaluation"), DASH, large=True)
        pair = QHBoxLayout()
        pair.addWidget(self.loss, 1)
        pair.addWidget(self.evaluation, 1)
        grid = QGridLayout()
        grid.setVerticalSpacing(theme.px(6))
        grid.setColumnStretch(0, 1)
        self.rows: dict[str, PlainLabel] = {}
        rows = {
            "rate": (tr("Learning rate"), ""),
            "norm": (tr("Gradient norm"), ""),
            "speed": (tr("Speed"), tr("tok/s")),
            "memory": (tr("Memory"), tr("GB")),
            "estimate": (tr("Memory, estimated"), tr("GB")),
        }
        self._estimate: list[PlainLabel] = []
        for index, (key, (label, unit)) in enumerate(rows.items()):
            self.rows[key] = PlainLabel(DASH, "medium")
            self.rows[key].setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.rows[key].setAccessibleDescription(f"{label} {unit}".strip())
            line = [PlainLabel(label, "body", "text2"), self.rows[key], PlainLabel(unit, "small", "text3")]
            for place, part in enumerate(line):
                grid.addWidget(part, index, place)
            self._estimate = line
        self.body.setSpacing(theme.px(12))
        for item in (pair, Divider(), grid):
            self.add(item)

    def show_state(self, state: RunState, smoothing: float) -> None:
        """Take the numbers from `state`; `smoothing` is that of the curve beside them."""
        self.set_title(tr("Now") if state.status.is_live else tr("At the end"))
        self._show_loss(state, smoothing)
        self._show_evaluation(state)
        last = state.steps[-1] if state.steps else None
        self.rows["rate"].setText(format_float(float(f"{last.learning_rate:.3g}")) if last else DASH)
        self.rows["norm"].setText(f"{last.grad_norm:.2f}" if last else DASH)
        self.rows["speed"].setText(short_count(last.num_tokens / max(last.seconds, 1e-9)) if last else DASH)
        self._show_memory(Peak.of(state))
        self.rows["memory"].setToolTip(layers(state))

    def _show_memory(self, peak: Peak) -> None:
        """The peak so far; the estimate below it where the two can be compared."""
        self.rows["memory"].setText(gb_text(peak.measured_bytes) if peak.measured_bytes is not None else DASH)
        estimated = peak.estimated_bytes
        for part in self._estimate:
            part.setVisible(estimated is not None)
        if estimated is not None:
            self.rows["estimate"].setText(f"\u2248 {gb_text(estimated)}")

    def _show_loss(self, state: RunState, smoothing: float) -> None:
        if not state.steps:
            self.loss.set_value(DASH, "")
            return
        values = np.array([taken.loss for taken in state.steps[-_TAIL:]])
        values[~np.isfinite(values)] = np.nan
        line = smooth(values, smoothing)
        note = ""
        if len(line) > BACK_STEPS and math.isfinite(line[-1] - line[-1 - BACK_STEPS]):
            change = f"{line[-1] - line[-1 - BACK_STEPS]:+.2f}".replace("-", "\u2212")
            note = tr("{0} in {1} steps").format(change, BACK_STEPS)
        self.loss.set_value(f"{line[-1]:.2f}" if math.isfinite(line[-1]) else tr("no value"), note)

    def _show_evaluation(self, state: RunState) -> None:
        if not state.evaluations:
            self.evaluation.set_value(DASH, tr("none yet"))
            return
        last, lowest = state.evaluations[-1], best(state.evaluations)
        if lowest is None:
            note = ""
        elif lowest.step == last.step or lowest.loss == last.loss:
            note = tr("best so far")
        else:
            note = tr("best {0} at step {1}").format(f"{lowest.loss:.2f}", format_int(lowest.step))
        self.evaluation.set_value(f"{last.loss:.2f}", note)


class SampleCard(Card):
    """The latest answer to a fixed prompt, and what the base said to it at step 0."""

    def __init__(self) -> None:
        super().__init__(tr("Latest sample"))
        self._step = PlainLabel("", "small", "text2")
        self.add_head(self._step)
        self.body.setSpacing(theme.px(6))
        self.prompt = AnswerText(name=tr("Prompt"))
        self.answer = AnswerText("a", name=tr("Latest answer"))
        self.before = AnswerText(name=tr("Answer of the base"))
        self._titles = [PlainLabel(text, "caption", "text2") for text in (tr("Prompt"), "", tr("Step 0, the base"))]
        for title, text in zip(self._titles, (self.prompt, self.answer, self.before), strict=True):
            self.add(title)
            self.add(text)
        self.all = Button(tr("All samples"), "link")
        row = QHBoxLayout()
        row.addWidget(self.all)
        row.addStretch(1)
        self.add(row)

    def show_state(self, state: RunState) -> None:
        """Show the last sample of `state`, if there is one."""
        self.setVisible(bool(state.samples))
        if not state.samples:
            return
        last = state.samples[-1]
        same = [sample for sample in state.samples if sample.prompt == last.prompt]
        first = same[0] if same[0].step == 0 and same[0] is not last else None
        step = tr("step {0}").format(format_int(last.step))
        self._step.setText(step)
        self._titles[1].setText(
            tr("Step 0, the base") if last.step == 0 else tr("Step {0}").format(format_int(last.step))
        )
        texts = (last.prompt, last.text or tr("(an empty answer)"), first.text if first else "")
        for widget, text in zip((self.prompt, self.answer, self.before), texts, strict=True):
            # Text that stays keeps its selection.
            if widget.raw_text() != text:
                widget.set_text(text)
        self._titles[2].setVisible(first is not None)
        self.before.setVisible(first is not None)


class Warnings(QWidget):
    """What the engine warned of, the latest first; each can be dismissed. Without advice it is only information."""

    def __init__(self) -> None:
        super().__init__()
        self._dismissed: set[float] = set()
        self._shown: list[float] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(8))
        self.hide()

    def show_state(self, state: RunState) -> None:
        """Show the last few that were not dismissed."""
        open_ = [warned for warned in state.warnings if warned.time not in self._dismissed][-MAX_WARNINGS:]
        times = [warned.time for warned in open_]
        if times == self._shown:
            return
        self._shown = times
        while (item := self._column.takeAt(0)) is not None:
            widget = item.widget()
            assert widget is not None
            widget.hide()
            widget.deleteLater()
        for warned in reversed(open_):
            kind: MessageKind = "warn" if warned.hint else "info"
            bar = MessageBar(kind, f"{warned.message} {warned.hint}".strip(), tr("Dismiss"))
            bar.action_triggered.connect(lambda time=warned.time: self._dismiss(state, time))
            self._column.addWidget(bar)
        self.setVisible(bool(open_))

    def _dismiss(self, state: RunState, time: float) -> None:
        self._dismissed.add(time)
        self.show_state(state)


class EndingCard(Card):
    """How a run ended, why, and what comes next. Never in the way of looking at its charts."""

    resume_wanted = Signal()
    chat_wanted = Signal()
    again_wanted = Signal()

    def __init__(self) -> None:
        super().__init__(compact=True)
        self._icon = IconLabel("check-circle", "ok", 24, filled=True)
        self.heading = PlainLabel("", "heading")
        self.text = PlainLabel("", "body", "text2", wrap=True, selectable=True)
        self.again = Button(tr("New run from this"), icon="arrow-clockwise")
        self.resume = Button(tr("Resume"), "primary", "play", filled=True)
        self.chat = Button(tr("Chat with it"), "primary", "chats-circle")
        self.again.clicked.connect(self.again_wanted)
        self.resume.clicked.connect(self.resume_wanted)
        self.chat.clicked.connect(self.chat_wanted)
        words = QVBoxLayout()
        words.setSpacing(theme.px(2))
        words.addWidget(self.heading)
        words.addWidget(self.text)
        row = QHBoxLayout()
        row.setSpacing(theme.px(12))
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        for button in (self.again, self.resume, self.chat):
            row.addWidget(button)
        self.add(row)

    def show_state(self, state: RunState, busy: str | None) -> None:
        """Say how `state` ended; hidden while it has not. `busy` is why it cannot be resumed just now."""
        endings = {
            Status.FINISHED: ("check-circle", "ok"),
            Status.STOPPED: ("stop", "text2"),
            Status.PAUSED: ("pause", "warn"),
            Status.FAILED: ("x-circle", "bad"),
            Status.INTERRUPTED: ("link-break", "warn"),
        }
        self.setVisible(state.status in endings)
        if state.status not in endings:
            return
        icon, role = endings[state.status]
        self._icon.set_icon(icon, role, filled=True)
        self.heading.setText(self._headline(state))
        self.text.setText(self._sentence(state))
        finished = state.status is Status.FINISHED
        self.resume.setVisible(not finished)
        self.resume.set_reason(busy)
        self.chat.setVisible(bool(state.adapter))
        self.chat.set_kind("primary" if finished else "default")
        self.setAccessibleName(self.heading.text())

    def _headline(self, state: RunState) -> str:
        step = format_int(state.step)
        match state.status:
            case Status.FINISHED:
                return tr("Finished after {0}").format(duration(seconds_trained(state)))
            case Status.PAUSED if state.ending and state.ending.cause:
                return tr("Paused at step {0}").format(step)
            case Status.PAUSED:
                return tr("Paused at step {0}. The card is free.").format(step)
            case Status.STOPPED:
                return tr("Stopped at step {0}").format(step)
            case Status.FAILED:
                return tr("Failed at step {0}").format(step) if state.steps else tr("Failed before the first step")
        return tr("Interrupted at step {0}").format(step) if state.steps else tr("Interrupted before the first step")

    def _sentence(self, state: RunState) -> str:
        if state.status is Status.PAUSED and state.ending:
            return f"{state.ending.cause} {state.ending.hint}".strip()
        if state.status is not Status.FINISHED:
            ending = state.ending
            return f"{ending.message} {ending.hint}".strip() if ending else ""
        parts = []
        lowest = best(state.evaluations)
        if lowest is not None:
            last = state.evaluations[-1]
            parts.append(tr("Evaluation {0}, best {1} at step {2}.").format(
                f"{last.loss:.2f}", f"{lowest.loss:.2f}", format_int(lowest.step)))  # fmt: skip
        memory = Peak.of(state).text
        if memory:
            parts.append(tr("Peak memory: {0}.").format(memory))
        if state.adapter:
            parts.append(tr("The adapter {0} is in your library.").format(state.adapter))
        return " ".join(parts)
