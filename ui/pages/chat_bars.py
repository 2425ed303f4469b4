"""The two rows around the lanes of a chat: which base and how many lanes above, the question below."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from ui import theme
from ui.pages.chat_lanes import MAX_LANES
from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, TextField
from ui.widgets.labels import PlainLabel
from ui.widgets.memory_choice import LIST_WIDTH, Fit, FitDelegate, FitNote, set_fit
from ui.widgets.page import Card
from ui.widgets.text_area import TextArea
from ui.widgets.toggles import CheckBox, Segmented


class BaseRow(QWidget):
    """The base, what it takes in memory, the number of lanes, and whether all lanes draw with the same seed."""

    base_chosen = Signal(str)
    unload_requested = Signal()
    num_lanes_changed = Signal(int)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        label = PlainLabel(self.tr("Base"), "label", "text2")
        self._base = Choice(icon="cube", name=self.tr("Base"))
        label.setBuddy(self._base)
        self._base.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._base.value_changed.connect(lambda base: self.base_chosen.emit(str(base)))
        self._base.setItemDelegate(FitDelegate(self._base))
        self._base.view().setMinimumWidth(theme.px(LIST_WIDTH))
        self._fits: dict[str, Fit] = {}
        self._fit = FitNote(self.tr("Memory for chat"))
        self._note = PlainLabel("", "small", "text2", elide=True)
        self._unload = Button(self.tr("Unload"), "link")
        self._unload.setToolTip(self.tr("Gives its memory back; the next question loads it again"))
        self._unload.clicked.connect(self.unload_requested)
        options = [(str(number), str(number)) for number in range(1, MAX_LANES + 1)]
        self._lanes = Segmented(options, name=self.tr("Lanes"))
        self._lanes.value_changed.connect(lambda number: self.num_lanes_changed.emit(int(number)))
        self._same_seed = CheckBox(self.tr("Same seed"))
        self._same_seed.setToolTip(self.tr("All lanes roll the same dice: what differs comes from the overlay"))
        self._same_seed.setChecked(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        for widget in (label, self._base, self._fit, self._note, self._unload):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(PlainLabel(self.tr("Lanes"), "label", "text2"))
        row.addWidget(self._lanes)
        row.addSpacing(theme.px(8))
        row.addWidget(self._same_seed)

    def same_seed(self) -> bool:
        """Whether all lanes are to draw with the same seed."""
        return self._same_seed.isChecked()

    def show_bases(self, bases: Sequence[str], base: str) -> None:
        """Offer these bases, `base` being taken."""
        self._base.set_options([(each, each) for each in bases], base)
        self._base.updateGeometry()

    def show_fits(self, fits: dict[str, Fit]) -> None:
        """Show what each base would need, by its id: in the list, and beside it for the one that is taken."""
        self._fits = fits
        for index in range(self._base.count()):
            set_fit(self._base, index, fits.get(str(self._base.itemData(index))))
        self._show_fit()

    def _show_fit(self) -> None:
        """What is in memory needs no estimate."""
        self._fit.show_fit(None if self._note.text() else self._fits.get(str(self._base.value())))

    def show_lanes(self, number: int) -> None:
        """Show how many lanes there are."""
        self._lanes.set_value(str(number))

    def show_memory(self, note: str, *, may_unload: bool) -> None:
        """Say what of the base is in memory."""
        self._note.setText(note)
        self._note.setVisible(bool(note))
        self._unload.setVisible(may_unload)
        self._show_fit()

    def set_choosable(self, choosable: bool) -> None:
        """Whether base and lanes may change now: not while they answer."""
        why = "" if choosable else self.tr("Stop the answers first")
        self._base.setEnabled(choosable)
        self._base.setToolTip(why)
        for number in range(1, MAX_LANES + 1):
            self._lanes.set_option_enabled(str(number), choosable, why)


class AskBar(Card):
    """System prompt, question, and the button that sends it, which stops the answers while they come."""

    sent = Signal(str)
    stop_requested = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(compact=True, parent=parent)
        self.setAccessibleName(self.tr("Question"))
        padding = theme.px(12)
        layout = self.layout()
        assert layout is not None
        layout.setContentsMargins(padding, padding, padding, padding)
        self._answering = False
        self._system = TextField(placeholder=self.tr("System prompt"), name=self.tr("System prompt"))
        self._system.setToolTip(self.tr("What every lane is told before the first question. May stay empty."))
        self._system.setFixedHeight(theme.px(theme.ACTION))
        self._system.setMinimumWidth(theme.px(140))
        self._prompt = TextArea(self.tr("Message"))
        self._send = Button(self.tr("Send"), "primary", "paper-plane-right", size="action", filled=True)
        self._send.setMinimumWidth(theme.px(96))
        self.setFocusProxy(self._prompt)
        self._prompt.submitted.connect(self._submit)
        self._prompt.changed.connect(self._judge)
        self._send.clicked.connect(self._press)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        bottom = Qt.AlignmentFlag.AlignBottom
        row.addWidget(self._system, 2, bottom)
        row.addWidget(self._prompt, 8, bottom)
        row.addWidget(self._send, 0, bottom)
        self.add(row)
        self._judge()

    def system(self) -> str:
        """The system prompt."""
        return self._system.text()

    def set_system(self, text: str) -> None:
        """Write another system prompt."""
        self._system.setText(text)

    def set_question(self, text: str) -> None:
        """Write a question into the field and go there."""
        self._prompt.set_text(text)
        self._prompt.setFocus(Qt.FocusReason.OtherFocusReason)

    def show_lanes(self, number: int) -> None:
        """Say whom a question goes to."""
        words = {1: self.tr("Ask something"), 2: self.tr("Ask both lanes"), 3: self.tr("Ask all three lanes")}
        self._prompt.set_placeholder(self.tr("{0} (Ctrl+Return sends)").format(words[number]))

    def set_answering(self, answering: bool) -> None:
        """Offer to stop instead of to send."""
        self._answering = answering
        self._send.set_reason(None)
        self._send.set_label(self.tr("Stop") if answering else self.tr("Send"))
        self._send.set_kind("default" if answering else "primary")
        self._send.set_icon("stop" if answering else "paper-plane-right", filled=True)
        self._judge()

    def _judge(self) -> None:
        if not self._answering:
            self._send.set_reason(None if self._prompt.text().strip() else self.tr("Send"))

    def _press(self) -> None:
        if self._answering:
            self.stop_requested.emit()
        else:
            self._submit()

    def _submit(self) -> None:
        text = self._prompt.text().strip()
        if text and not self._answering:
            self._prompt.set_text("")
            self.sent.emit(text)
