"""What the model answered on its way: three moments of a run side by side, prompt by prompt."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.runs.state import RunState
from ui import theme
from ui.pages.train_words import shortened, tr
from ui.widgets.answer import AnswerText
from ui.widgets.controls import Choice
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn

COLUMNS = 3


class _PromptCard(Card):
    """One prompt with an answer for each of the moments."""

    def __init__(self, prompt: str) -> None:
        super().__init__(compact=True)
        self.body.setSpacing(theme.px(10))
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(IconLabel("user-circle", "text2", 18))
        head.addWidget(PlainLabel(shortened(prompt, 200), "strong", elide=True), 1)
        grid = QGridLayout()
        grid.setHorizontalSpacing(theme.px(theme.GUTTER))
        names = (tr("Answer in column {0}").format(index + 1) for index in range(COLUMNS))
        self.answers = [AnswerText(name=name) for name in names]
        for index, answer in enumerate(self.answers):
            grid.addWidget(answer, 0, index, Qt.AlignmentFlag.AlignTop)
            grid.setColumnStretch(index, 1)
        grid.setRowStretch(1, 1)
        for item in (head, Divider(), grid):
            self.add(item)


class SamplesView(QWidget):
    """The samples of a run. The last column follows the run until the user chooses a step there."""

    def __init__(self) -> None:
        super().__init__()
        self._state = RunState()
        self._drawn = -1
        self._chosen: dict[int, int] = {}
        self._cards: dict[str, _PromptCard] = {}
        self.steps = [Choice(name=tr("Step of column {0}").format(index + 1)) for index in range(COLUMNS)]
        self._heads = QWidget()
        row = QHBoxLayout(self._heads)
        row.setContentsMargins(theme.px(16), 0, theme.px(16), 0)
        row.setSpacing(theme.px(theme.GUTTER))
        for index, choice in enumerate(self.steps):
            choice.value_changed.connect(lambda step, index=index: self._choose(index, step))
            row.addWidget(choice, 1)
        self._empty = EmptyState("chats-circle", tr("No samples yet"), tr("The first come before the first step."))
        inside = QWidget()
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(theme.CARD_GAP))
        self._column.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addWidget(self._heads)
        self._scroll = ScrollColumn(inside)
        column.addWidget(self._scroll, 1)
        column.addWidget(self._empty, 1)
        self.show_state(RunState())

    def forget(self) -> None:
        """Make ready for another run."""
        self._chosen.clear()
        self._drawn = -1

    def show_state(self, state: RunState) -> None:
        """Show the samples of `state`."""
        if state is self._state and len(state.samples) == self._drawn:
            return
        self._state, self._drawn = state, len(state.samples)
        prompts = list(dict.fromkeys(sample.prompt for sample in state.samples))
        if prompts != list(self._cards):
            for card in self._cards.values():
                self._column.removeWidget(card)
                card.hide()
                card.deleteLater()
            self._cards = {prompt: _PromptCard(prompt) for prompt in prompts}
            for index, card in enumerate(self._cards.values()):
                self._column.insertWidget(index, card)
        for widget in (self._heads, self._scroll):
            widget.setVisible(bool(prompts))
        self._empty.setVisible(not prompts)
        self._fill()

    def _choose(self, column: int, step: object) -> None:
        assert isinstance(step, int)
        self._chosen[column] = step
        self._fill()

    def _fill(self) -> None:
        steps = list(dict.fromkeys(sample.step for sample in self._state.samples))
        if not steps:
            return
        follow = (steps[0], steps[-2] if len(steps) > 2 else steps[len(steps) // 2], steps[-1])
        options: list[tuple[object, str]] = [(step, _step_text(step)) for step in steps]
        texts = {(sample.prompt, sample.step): sample.text for sample in self._state.samples}
        for column, choice in enumerate(self.steps):
            wanted = self._chosen.get(column, follow[column])
            wanted = wanted if wanted in steps else follow[column]
            choice.set_options(options, wanted)
            # One moment needs one column, two need two.
            choice.setVisible(column < len(steps))
            for prompt, card in self._cards.items():
                text = texts.get((prompt, wanted), tr("(not asked at this step)"))
                if card.answers[column].raw_text() != text:
                    card.answers[column].set_text(text)
                card.answers[column].setVisible(column < len(steps))


def _step_text(step: int) -> str:
    return tr("Step 0, the base") if step == 0 else tr("Step {0}").format(format_int(step))
