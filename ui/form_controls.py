"""The controls that only a recipe needs, and which of all controls a setting's kind asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QCoreApplication, Signal
from PySide6.QtGui import QTextCursor, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QWidget

from studio.recipe.table import Field as Setting
from ui import theme
from ui.widgets.controls import Choice, NumberField, TextField
from ui.widgets.toggles import CheckBox

OTHER = "\0other"  # the option that opens the second half of an `OtherChoice`; no recipe holds such a text
_LINE_BREAK = "\u2028"  # how Qt writes a line break within one paragraph
_OPTIONS = {
    "nf4": "NF4, 4 bits",
    "fp4": "FP4, 4 bits",
    "int8": "8 bits",
    "none": "None",
    "assistant": "Answers only",
    "last_answer": "Last answer only",
    "everything": "Everything",
    "all-linear": "All linear layers",
    "attention": "Attention only",
    "cosine": "Cosine",
    "linear": "Linear",
    "constant": "Constant",
    "paged_adamw_8bit": "Paged AdamW, 8-bit",
    "paged_adamw_32bit": "Paged AdamW, 32-bit",
    "adamw_8bit": "AdamW, 8-bit",
    "adamw_torch": "AdamW, 32-bit",
    "auto": "Automatic",
    "all": "All layers",
    "own": "The base's own",
    "chatml": "ChatML",
    "alpaca": "Alpaca",
    "vicuna": "Vicuna",
    "plain": "Plain",
}


def option_text(value: object) -> str:
    """A choice of the recipe in the user's words; one without such words as it is written in the file."""
    text = _OPTIONS.get(str(value))
    return QCoreApplication.translate("Form", text) if text else str(value)


class OptionalNumber(NumberField):
    """A whole number that may be left empty: None, when its alternative is set. Emptying it is told as None."""

    def __init__(self, entry: Setting, **range_and_unit: Any) -> None:
        self._default, self._empty = entry.default, True
        super().__init__(0, **range_and_unit)

    def set_value(self, value: object) -> None:
        """Show a number, or nothing for None."""
        self._empty = value is None
        super().set_value(int(self._minimum or 0) if value is None else value)
        if self._empty:
            self.clear()

    def _problem_of(self, value: float | None) -> str:
        # A setting with a default of its own cannot be empty, unless its alternative is set.
        if not self.text().strip() and (self._empty or self._default is None):
            return ""
        return super()._problem_of(value)

    def _edited(self, text: str) -> None:
        if text.strip():
            self._empty = False
            super()._edited(text)
            return
        self._judge(self._problem_of(None))
        if not self._problem and not self._empty:
            self._empty = True
            self._value = int(self._minimum or 0)
            self.value_changed.emit(None)

    def _tidy(self) -> None:
        if not self._empty:
            super()._tidy()


class ListField(QPlainTextEdit):
    """A list of texts, one to a paragraph; Shift+Enter breaks a line within one. Empty paragraphs do not count."""

    value_changed = Signal(object)

    def __init__(self, *, name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.setFixedHeight(theme.px(76))
        self._silent = False
        self.textChanged.connect(self._edited)

    def value(self) -> tuple[str, ...]:
        """The texts."""
        blocks = []
        block = self.document().begin()
        while block.isValid():
            blocks.append(block.text().replace(_LINE_BREAK, "\n"))
            block = block.next()
        return tuple(text for text in blocks if text)

    def set_value(self, value: Sequence[str]) -> None:
        """Show these texts."""
        self._silent = True
        self.setPlainText("\n".join(text.replace("\n", _LINE_BREAK) for text in value))
        self.moveCursor(QTextCursor.MoveOperation.End)
        self._silent = False

    def _edited(self) -> None:
        if not self._silent:
            self.value_changed.emit(self.value())

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll only while focused; else the page scrolls."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class OtherChoice(QWidget):
    """A choice whose last option opens a second field: a number of layers, or names of modules parted by commas."""

    value_changed = Signal(object)
    problem_changed = Signal(str)

    def __init__(self, entry: Setting, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = entry.other == "int"
        other = self.tr("A number") if self._whole else self.tr("Names")
        options = [(choice, option_text(choice)) for choice in entry.choices]
        self.choice = Choice([*options, (OTHER, other)], name=entry.label)
        name = f"{entry.label}: {other}"
        self.other: NumberField | TextField
        if self._whole:
            self.other = NumberField(1, minimum=entry.minimum, maximum=entry.maximum, unit=entry.unit, name=name)
            self.other.problem_changed.connect(self.problem_changed)
        else:
            self.other = TextField(placeholder="q_proj, v_proj", name=name)
        self.setFocusProxy(self.choice)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        row.addWidget(self.choice, 1)
        row.addWidget(self.other, 1)
        self.other.hide()
        self.choice.value_changed.connect(self._chosen)
        self.other.value_changed.connect(self._typed)

    def set_value(self, value: object) -> None:
        """Show a choice, or what stands instead of one."""
        is_choice = isinstance(value, str)
        self.other.setVisible(not is_choice)
        self.choice.set_value(value if is_choice else OTHER)
        if not is_choice and isinstance(value, (tuple, list)):
            self.other.set_value(", ".join(value))
        elif not is_choice:
            self.other.set_value(value)

    def _chosen(self, value: object) -> None:
        self.other.setVisible(value == OTHER)
        if value == OTHER:
            self.other.setFocus()
            self._typed(self.other.value())
        else:
            self.problem_changed.emit("")
            self.value_changed.emit(value)

    def _typed(self, value: object) -> None:
        if self._whole:
            self.value_changed.emit(value)
        else:
            names = (name.strip() for name in str(value).split(","))
            self.value_changed.emit(tuple(name for name in names if name))


def control_for(entry: Setting) -> QWidget:
    """The control that a setting's kind asks for."""
    if entry.kind in ("int", "float"):
        limits: dict[str, Any] = {
            "minimum": entry.minimum,
            "maximum": entry.maximum,
            "unit": entry.unit,
            "name": entry.label,
        }
        if entry.optional:
            return OptionalNumber(entry, **limits)
        return NumberField(entry.minimum or 0, whole=entry.kind == "int", **limits)
    if entry.kind == "bool":
        return CheckBox(QCoreApplication.translate("Form", "On"), name=entry.label)
    if entry.kind == "list":
        return ListField(name=entry.label)
    if entry.kind == "choice":
        if entry.other:
            return OtherChoice(entry)
        return Choice([(choice, option_text(choice)) for choice in entry.choices], name=entry.label)
    return TextField(name=entry.label)
