"""A form over the recipe's field table: fields that show the recipe, and edits that become a new recipe.

What a field holds and what the recipe holds may differ for one reason only: the text was refused. It then stays as it was
typed, with the reason in the hint's place, until the user mends it or something else changes that setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from PySide6.QtCore import QCoreApplication, QObject, Qt, Signal, SignalInstance
from PySide6.QtWidgets import QScrollArea, QWidget

from studio.errors import RecipeError
from studio.recipe.fields import get, replaced
from studio.recipe.recipe import Recipe
from studio.recipe.table import Field as Setting
from studio.recipe.table import field as setting
from ui import theme
from ui.form_controls import OtherChoice, control_for
from ui.state import AppState
from ui.widgets.controls import NumberField
from ui.widgets.fields import Field, FieldGrid
from ui.widgets.labels import PlainLabel, plain_tip


class Control(Protocol):
    """What a form can bind: `set_value` is silent, `value_changed` is the user's own hand."""

    @property
    def value_changed(self) -> SignalInstance:
        """Carries the new value."""

    def set_value(self, value: Any) -> None:
        """Show a value of the recipe."""


@dataclass
class _Bound:
    """One bound setting. `shown` is the recipe's value that its control was last given, or gave."""

    entry: Setting
    field: Field
    control: Control
    shown: Any = None
    refusal: str = ""
    alarm: str = ""


class Form(QObject):
    """Fields bound to `state.recipe`: an edit that holds is told as `state.recipe_edited`, one that does not is told back."""

    refusals_changed = Signal()
    """A text was refused, or one is no longer: see `refused`."""

    def __init__(self, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self._bound: dict[str, _Bound] = {}
        state.recipe_changed.connect(self.refresh)

    def bind(self, path: str, control: QWidget | None = None, *, hint: str | None = None) -> Field:
        """A field for the setting at `path`, with the control its kind asks for unless one is given."""
        entry = setting(path)
        control = control or control_for(entry)
        field = Field(entry.label, control, hint=entry.raw_name if hint is None else hint)
        bound = _Bound(entry, field, control)  # type: ignore[arg-type]
        self._bound[path] = bound
        _explain(field, entry)
        bound.control.value_changed.connect(partial(self._edited, bound))
        if isinstance(control, NumberField | OtherChoice):
            control.problem_changed.connect(partial(self._refuse, bound))
        field.reset_requested.connect(partial(self._reset, bound))
        bound.shown = get(self._state.recipe, path)
        bound.control.set_value(bound.shown)
        self._judge(bound)
        return field

    def field(self, path: str) -> Field | None:
        """The field of a setting, None if it is not in the form."""
        bound = self._bound.get(path)
        return bound.field if bound else None

    @property
    def refused(self) -> list[str]:
        """Labels of the fields whose text is not what the recipe holds."""
        return [bound.entry.label for bound in self._bound.values() if bound.refusal]

    def set_hint(self, path: str, hint: str) -> None:
        """Say something else below a field."""
        self._bound[path].field.set_hint(hint)

    def set_alarm(self, path: str, text: str) -> None:
        """Show at a field what is wrong with what it names, such as a dataset that cannot be read; "" takes it back."""
        self._bound[path].alarm = text
        self._judge(self._bound[path])

    def is_changed(self, path: str) -> bool:
        """Whether the recipe's value differs from what a setting starts with."""
        entry, value = setting(path), get(self._state.recipe, path)
        if entry.group == "Setup" or (entry.optional and value is None):
            return False
        return bool(value != _start_value(entry, self._state.recipe))

    def refresh(self) -> None:
        """Show the recipe as it is now; what the user is typing stays where the recipe did not change."""
        for path, bound in self._bound.items():
            value = get(self._state.recipe, path)
            if value != bound.shown:
                bound.shown = value
                bound.control.set_value(value)
                self._refuse(bound, "")
            self._judge(bound)

    def focus(self, path: str) -> None:
        """Give a field the focus and scroll to it; it must be visible."""
        field = self._bound[path].field
        field.control.setFocus(Qt.FocusReason.ShortcutFocusReason)
        parent = field.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(field, 0, theme.px(48))
            parent = parent.parentWidget()

    def _edited(self, bound: _Bound, value: Any) -> None:
        try:
            recipe = replaced(self._state.recipe, bound.entry.path, value)
        except RecipeError:
            self._refuse(bound, _refusal(bound.entry, value))
            return
        self._refuse(bound, "")
        bound.shown = get(recipe, bound.entry.path)
        if recipe != self._state.recipe:
            self._state.recipe_edited.emit(recipe)
        self._judge(bound)

    def _refuse(self, bound: _Bound, why: str) -> None:
        changed, bound.refusal = why != bound.refusal, why
        self._judge(bound)
        if changed:
            self.refusals_changed.emit()

    def _reset(self, bound: _Bound) -> None:
        value = _start_value(bound.entry, self._state.recipe)
        bound.control.set_value(value)
        self._edited(bound, value)

    def _judge(self, bound: _Bound) -> None:
        """The mark of a changed value, and what is wrong: the text itself first, then the recipe, then what it names."""
        bound.field.set_changed(self.is_changed(bound.entry.path))
        found = next((each for each in self._state.problems if each.field == bound.entry.path), None)
        problem = f"{sentence(found.message)} {found.fix}".strip() if found else ""
        bound.field.set_error(bound.refusal or problem or bound.alarm)


def matches(path: str, query: str) -> bool:
    """Whether every word of `query` stands in the label, the help or the libraries' name of a setting."""
    entry = setting(path)
    text = " ".join((entry.label, entry.help, entry.raw_name, entry.group, path)).casefold()
    return all(word in text for word in query.casefold().split())


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")


def _start_value(entry: Setting, recipe: Recipe) -> Any:
    return 2 * recipe.adapter.rank if entry.path == "adapter.alpha" else entry.default


def _explain(field: Field, entry: Setting) -> None:
    """The help as tooltip of label and control, and as the answer to Shift+F1."""
    tip = plain_tip(f"{entry.help}\n\n{entry.raw_name}")
    field.setWhatsThis(tip)
    field.control.setToolTip(tip)
    for label in field.findChildren(PlainLabel):
        if label.buddy() is field.control:
            label.setToolTip(tip)


def _refusal(entry: Setting, value: Any) -> str:
    """Why the recipe cannot take a value, for the kinds whose controls do not judge by themselves."""
    words: Callable[[str], str] = partial(QCoreApplication.translate, "Form")
    if entry.kind == "text":
        return words("Too long") if value else words("This cannot be empty")
    if entry.other == "list":
        return words("Write at least one name")
    if entry.kind == "list":
        return words("At most 100 texts")
    return words("This value cannot be used")


class FormGrid(FieldGrid):
    """A grid of fields of which some can be left out, as a search does; the others close up."""

    def __init__(self, fields: Sequence[QWidget], columns: int = 3, *, minimum_width: int = 168) -> None:
        self._all = list(fields)
        super().__init__(fields, columns, minimum_width=minimum_width)

    def show_only(self, shown: Sequence[QWidget]) -> None:
        """Keep these fields, in the grid's own order."""
        for field in self._all:
            self._grid.removeWidget(field)
            field.setVisible(field in shown)
        self._fields = [field for field in self._all if field in shown]
        columns, self._columns = self._columns, 0
        self._arrange(columns)
