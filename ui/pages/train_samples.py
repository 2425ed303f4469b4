"""What the model answered on its way: three moments of a run side by side, prompt by prompt, with what is new marked."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.recipe.recipe import Recipe
from studio.runs.state import RunState
from ui import theme
from ui.pages.train_words import shortened, step_text, tr
from ui.widgets.answer import NEW, AnswerText
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, TextField
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.messages import EmptyState
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, ScrollColumn
from ui.widgets.word_changes import new_words

COLUMNS = 3


class _PromptCard(Card):
    """One prompt with an answer for each of the moments."""

    def __init__(self, prompt: str) -> None:
        super().__init__(compact=True)
        self.body.setSpacing(theme.px(10))
        self.setAccessibleName(shortened(prompt, 200))
        head = QHBoxLayout()
        head.setSpacing(theme.px(8))
        head.addWidget(IconLabel("user-circle", "text2", 18))
        head.addWidget(PlainLabel(shortened(prompt, 200), "strong", elide=True), 1)
        grid = QGridLayout()
        grid.setHorizontalSpacing(theme.px(theme.GUTTER))
        names = (tr("Answer in column {0}").format(index + 1) for index in range(COLUMNS))
        self.answers = [AnswerText(name=name) for name in names]
        self._drawn: list[tuple[str, str]] = [("", "")] * COLUMNS
        for index, answer in enumerate(self.answers):
            grid.addWidget(answer, 0, index, Qt.AlignmentFlag.AlignTop)
            grid.setColumnStretch(index, 1)
        grid.setRowStretch(1, 1)
        for item in (head, Divider(), grid):
            self.add(item)

    def show_answer(self, column: int, text: str, before: str | None, *, is_base: bool) -> None:
        """Write an answer, and mark its words that are not in `before`; None where there is nothing to hold it against."""
        answer = self.answers[column]
        if self._drawn[column] == (text, before or "") and answer.raw_text() == text:
            return
        self._drawn[column] = (text, before or "")
        answer.set_role("text2" if is_base else "text")
        answer.set_text(text)
        spans = [] if before is None else new_words(before, text)
        answer.set_marks([(start, end, NEW) for start, end in spans])
        new = "; ".join(text[start:end] for start, end in spans)
        answer.setAccessibleDescription(tr("New: {0}").format(new) if new else "")


class _AddPrompt(QWidget):
    """A button that becomes a line to write a prompt into."""

    wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.button = Button(tr("Add a prompt"), "quiet", "plus")
        self.field = TextField("", tr("What should it answer?"), name=tr("New prompt"))
        self.field.setMaxLength(4000)
        self.add = Button(tr("Add"))
        self.cancel = Button(tr("Cancel"), "quiet")
        self.note = PlainLabel("", "small", "text2", elide=True)
        self.button.clicked.connect(lambda: self._turn(is_open=True))
        self.cancel.clicked.connect(lambda: self._turn(is_open=False))
        self.add.clicked.connect(self._send)
        self.field.returnPressed.connect(self._send)
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(8), 0, theme.px(16), 0)
        row.setSpacing(theme.px(8))
        row.addWidget(self.button)
        row.addWidget(self.field, 2)
        row.addWidget(self.add)
        row.addWidget(self.cancel)
        row.addWidget(self.note, 3)
        for part in (self.field, self.add, self.cancel):
            part.hide()

    def _turn(self, *, is_open: bool) -> None:
        for part in (self.field, self.add, self.cancel):
            part.setVisible(is_open)
        self.button.setVisible(not is_open)
        (self.field if is_open else self.button).setFocus()

    def _send(self) -> None:
        prompt = self.field.text().strip()
        if prompt:
            self.wanted.emit(prompt)
            self.field.clear()
            self._turn(is_open=False)


class SamplesView(QWidget):
    """The samples of a run. The last column follows the run until the user chooses a step there."""

    prompt_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.has_parent = False  # whose overlay the run began with
        self._state = RunState()
        self._drawn: object = None
        self._asked: list[str] = []
        self._chosen: dict[int, int] = {}
        self._cards: dict[str, _PromptCard] = {}
        self.steps = [Choice(name=tr("Step of column {0}").format(index + 1)) for index in range(COLUMNS)]
        self.marked = PlainLabel("", "small", "text2", elide=True)
        self._heads = QWidget()
        row = QHBoxLayout(self._heads)
        row.setContentsMargins(theme.px(16), 0, theme.px(16), 0)
        row.setSpacing(theme.px(theme.GUTTER))
        for index, choice in enumerate(self.steps):
            choice.value_changed.connect(lambda step, index=index: self._choose(index, step))
            choice.setFixedWidth(theme.px(148))
            place = QHBoxLayout()
            place.setSpacing(theme.px(8))
            place.addWidget(choice)
            place.addWidget(self.marked if index == COLUMNS - 1 else PlainLabel(), 1)
            row.addLayout(place, 1)
        self._empty = EmptyState("chats-circle", tr("No samples yet"), tr("The first come before the first step."))
        self.adding = _AddPrompt()
        self.adding.wanted.connect(self._add_prompt)
        inside = QWidget()
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(theme.px(theme.CARD_GAP))
        self._column.addWidget(self.adding)
        self._column.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addWidget(self._heads)
        self._scroll = ScrollColumn(inside)
        column.addWidget(self._empty, 1)
        column.addWidget(self._scroll, 1)
        self.show_state(RunState(), None)

    def forget(self) -> None:
        """Make ready for another run."""
        self._chosen.clear()
        self._asked.clear()
        self._drawn = None

    def show_state(self, state: RunState, recipe: Recipe | None) -> None:
        """Show the samples of `state`; `recipe` says when the next ones are due."""
        self.adding.setVisible(state.status.is_live)
        self.adding.note.setText(_next_sample(state, recipe))
        # What was added is known from the run once its engine has heard it; until then from here.
        added = [*state.prompts_added, *(prompt for prompt in self._asked if prompt not in state.prompts_added)]
        drawn = (id(state), len(state.samples), tuple(added))
        if drawn == self._drawn:
            return
        self._state, self._drawn = state, drawn
        prompts = list(dict.fromkeys([*(sample.prompt for sample in state.samples), *added]))
        if prompts != list(self._cards):
            self._rebuild(prompts)
        self._heads.setVisible(bool(state.samples))
        self._empty.setVisible(not prompts)
        self._fill()

    def _rebuild(self, prompts: list[str]) -> None:
        for card in self._cards.values():
            self._column.removeWidget(card)
            card.hide()
            card.deleteLater()
        self._cards = {prompt: _PromptCard(prompt) for prompt in prompts}
        for index, card in enumerate(self._cards.values()):
            self._column.insertWidget(index, card)

    def _add_prompt(self, prompt: str) -> None:
        self._asked.append(prompt)
        self.prompt_wanted.emit(prompt)

    def _choose(self, column: int, step: object) -> None:
        assert isinstance(step, int)
        self._chosen[column] = step
        self._fill()

    def _fill(self) -> None:
        steps = list(dict.fromkeys(sample.step for sample in self._state.samples))
        shown = [self._offer(column, steps) for column in range(COLUMNS)] if steps else []
        texts = {(sample.prompt, sample.step): sample.text for sample in self._state.samples}
        for prompt, card in self._cards.items():
            for column in range(COLUMNS):
                # One moment needs one column, two need two.
                card.answers[column].setVisible(column < max(len(steps), 1))
                if not steps:
                    card.show_answer(column, tr("(asked with the next sample)"), None, is_base=True)
                    continue
                step = shown[column]
                text = texts.get((prompt, step))
                before = texts.get((prompt, shown[column - 1])) if column == COLUMNS - 1 else None
                missing = tr("(asked with the next sample)") if step == steps[-1] else tr("(not asked at this step)")
                if text is None:
                    card.show_answer(column, missing, None, is_base=True)
                else:
                    card.show_answer(column, text or tr("(an empty answer)"), before, is_base=step == 0)
        self.marked.setText(tr("marked: new since {0}").format(format_int(shown[-2])) if len(steps) > 2 else "")

    def _offer(self, column: int, steps: list[int]) -> int:
        """Let a column choose among `steps`; returned is the one it shows."""
        follow = (steps[0], steps[-2] if len(steps) > 2 else steps[len(steps) // 2], steps[-1])
        wanted = self._chosen.get(column, follow[column])
        wanted = wanted if wanted in steps else follow[column]
        self.steps[column].set_options([(step, step_text(step, self.has_parent)) for step in steps], wanted)
        self.steps[column].setVisible(column < len(steps))
        return wanted


def _next_sample(state: RunState, recipe: Recipe | None) -> str:
    """When a new prompt has its first answer."""
    every = recipe.keep.sample_every_steps if recipe is not None else 0
    if state.num_steps is None or recipe is None:
        return tr("New prompts are asked from the next sample on.")
    step = min((state.step // every + 1) * every, state.num_steps) if every else state.num_steps
    return tr("New prompts are asked from the next sample on, step {0}.").format(format_int(step))
