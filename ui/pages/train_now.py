"""What stands beside a run's charts: the numbers of this moment, and the latest answer."""

from __future__ import annotations

import math

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QHBoxLayout

from studio.memory.device import CardLoad
from studio.runs import events as e
from studio.runs.state import RunState
from ui import theme
from ui.measured import Peak, layers
from ui.pages.train_words import short_count, step_text, tr
from ui.widgets.answer import NEW, AnswerText
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.memory_layout import gb_text
from ui.widgets.messages import StatTile
from ui.widgets.numbers import format_float, format_int
from ui.widgets.page import Card
from ui.widgets.series import Series, broken, smooth
from ui.widgets.word_changes import Span, new_words

BACK_STEPS = 50
_TAIL = 2000
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
            "celsius": (tr("Temperature"), "\u00b0C"),
            "watts": (tr("Power"), tr("W")),
            "busy": (tr("GPU busy"), "%"),
        }
        self._lines: dict[str, list[PlainLabel]] = {}
        for index, (key, (label, unit)) in enumerate(rows.items()):
            self.rows[key] = PlainLabel(DASH, "medium")
            self.rows[key].setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.rows[key].setAccessibleDescription(f"{label} {unit}".strip())
            line = [PlainLabel(label, "body", "text2"), self.rows[key], PlainLabel(unit, "small", "text3")]
            for place, part in enumerate(line):
                grid.addWidget(part, index, place)
            self._lines[key] = line
        self.body.setSpacing(theme.px(12))
        for item in (pair, Divider(), grid):
            self.add(item)
        self.show_card(None)

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
        self._show("estimate", None if estimated is None else f"\u2248 {gb_text(estimated)}")

    def show_card(self, load: CardLoad | None) -> None:
        """How hard the card works that the run is on; what is not known is left out."""
        celsius, watts, busy = (load.temperature_celsius, load.power_watts, load.utilisation) if load else (None,) * 3
        self._show("celsius", None if celsius is None else f"{celsius}")
        self._show("watts", None if watts is None else f"{watts:.0f}")
        self._show("busy", None if busy is None else f"{busy:.0%}".removesuffix("%"))

    def _show(self, key: str, text: str | None) -> None:
        """Write a row, or leave it out."""
        for part in self._lines[key]:
            part.setVisible(text is not None)
        self.rows[key].setText(text or DASH)

    def _show_loss(self, state: RunState, smoothing: float) -> None:
        if not state.steps:
            self.loss.set_value(DASH, "")
            return
        tail = Series()
        tail.set(*zip(*((taken.step, taken.loss) for taken in state.steps[-_TAIL:]), strict=True))
        # As the curve beside it: nothing is smoothed across a gap.
        line = smooth(broken(tail.steps, tail.values, state.resumes)[1], smoothing)
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
            note = tr("best {0} at {1}").format(f"{lowest.loss:.2f}", format_int(lowest.step))
        self.evaluation.set_value(f"{last.loss:.2f}", note)


class SampleCard(Card):
    """The latest answer to a fixed prompt, and what was said to it at step 0."""

    def __init__(self) -> None:
        super().__init__(tr("Latest sample"))
        self.has_parent = False  # whose overlay the run began with
        self._marks: list[tuple[int, int, int]] = []
        self._step = PlainLabel("", "small", "text2")
        self.add_head(self._step)
        self.body.setSpacing(theme.px(6))
        self.prompt = AnswerText(name=tr("Prompt"))
        self.answer = AnswerText("a", name=tr("Latest answer"))
        self.before = AnswerText(name=tr("Answer at step 0"))
        self.before.set_role("text2")
        self._titles = [PlainLabel(text, "caption", "text2") for text in (tr("Prompt"), "", "")]
        self.marked = PlainLabel("", "caption", "text2")
        for title, text in zip(self._titles, (self.prompt, self.answer, self.before), strict=True):
            line = QHBoxLayout()
            line.addWidget(title)
            line.addStretch(1)
            if text is self.answer:
                line.addWidget(self.marked)
            self.add(line)
            self.add(text)
        self.all = Button(tr("All samples"), "link")
        row = QHBoxLayout()
        row.addWidget(self.all)
        row.addStretch(1)
        self.add(row)

    def show_state(self, state: RunState) -> None:
        """Show the last answer to the first prompt of `state`, if there is one: always the same, so that it can be followed."""
        self.setVisible(bool(state.samples))
        if not state.samples:
            return
        same = [sample for sample in state.samples if sample.prompt == state.samples[0].prompt]
        last = same[-1]
        first = same[0] if same[0].step == 0 and same[0] is not last else None
        step = tr("step {0}").format(format_int(last.step))
        self._step.setText(step)
        self._titles[1].setText(step_text(last.step, self.has_parent))
        self._titles[2].setText(step_text(0, self.has_parent))
        texts = (last.prompt, last.text or tr("(an empty answer)"), first.text if first else "")
        for widget, text in zip((self.prompt, self.answer, self.before), texts, strict=True):
            # Text that stays keeps its selection.
            if widget.raw_text() != text:
                widget.set_text(text)
                self._marks = [] if widget is self.answer else self._marks
        self._mark(same)
        self._titles[2].setVisible(first is not None)
        self.before.setVisible(first is not None)

    def _mark(self, same: list[e.SampleWritten]) -> None:
        """Mark what is new in the latest of the answers to one prompt since the one before it."""
        earlier = same[-2] if len(same) > 1 else None
        spans = new_words(earlier.text, same[-1].text) if earlier is not None else []
        marks = [(start, end, NEW) for start, end in spans]
        if marks != self._marks:
            self._marks = marks
            self.answer.set_marks(marks)
        said = tr("marked: new since {0}").format(format_int(earlier.step)) if earlier is not None and marks else ""
        self.marked.setText(said)
        self.answer.setAccessibleDescription(_said(said, same[-1].text, spans))


def _said(title: str, text: str, spans: list[Span]) -> str:
    """Marks for somebody who does not see them."""
    return f"{title}: " + "; ".join(text[start:end] for start, end in spans) if spans else ""
