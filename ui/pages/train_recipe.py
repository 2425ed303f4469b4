"""The recipe of a run exactly as it was used, and what sets it apart: from the defaults, or from the run before it."""

from __future__ import annotations

from functools import partial
from typing import Any

from PySide6.QtWidgets import QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.recipe import toml
from studio.recipe.fields import FIELDS, get
from studio.recipe.recipe import Recipe
from studio.runs.folder import RunFolder
from ui import theme
from ui.bridge import in_background
from ui.form_controls import option_text
from ui.pages.train_words import tr
from ui.widgets.labels import PlainLabel
from ui.widgets.numbers import format_float, format_int
from ui.widgets.page import Card
from ui.widgets.tables import Column, Rows, table_view
from ui.widgets.toggles import Segmented

RIGHT_WIDTH = 496
# They are of every recipe its own.
OWN = ("name",)


def differences(recipe: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """(path, value here, value there) of each setting in which two recipes differ, in the order of the table."""
    pairs = ((field.path, get(recipe, field.path), get(other, field.path)) for field in FIELDS if field.path not in OWN)
    return [(path, here, there) for path, here, there in pairs if here != there]


class RecipeView(QWidget):
    """The file at the left, the differences at the right."""

    def __init__(self) -> None:
        super().__init__()
        self._recipe: Recipe | None = None
        self._before: tuple[str, Recipe] | None = None
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setAccessibleName(tr("Recipe"))
        self.text.setTabChangesFocus(True)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.against = Segmented(
            [("defaults", tr("Defaults")), ("before", tr("Run before"))], "defaults", name=tr("Differs from")
        )
        self.against.value_changed.connect(lambda _: self._compare())
        self.note = PlainLabel("", "small", "text2", wrap=True)
        self.table = table_view(tr("Differences"))
        columns = [Column(tr("Setting"), stretch=True), Column(tr("Here"), True), Column(tr("There"), True)]
        self._model = Rows(columns, self.table)
        self.table.setModel(self._model)
        card = Card(tr("What differs"), compact=True)
        card.add_head(self.against)
        card.add(self.note)
        card.add(self.table, 1)
        self._right = QWidget()
        self._right.setFixedWidth(theme.px(RIGHT_WIDTH))
        side = QVBoxLayout(self._right)
        side.setContentsMargins(0, 0, 0, 0)
        side.addWidget(card)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(16))
        row.addWidget(self.text, 1)
        row.addWidget(self._right)
        theme.changed.connect(self._restyle)
        self._restyle()

    def toPlainText(self) -> str:
        """The recipe as its file."""
        return self.text.toPlainText()

    def set_narrow(self, narrow: bool) -> None:
        """Leave the file more room, or less."""
        self._right.setFixedWidth(theme.px(400 if narrow else RIGHT_WIDTH))

    def show_recipe(self, text: str, recipe: Recipe | None, before: RunFolder | None) -> None:
        """Show a recipe (None: it could not be read, and `text` says why); `before` is the run that came before this one."""
        self.text.setPlainText(text)
        self._recipe, self._before = recipe, None
        self._compare()
        if recipe is not None and before is not None:
            in_background(partial(_read, before), partial(self._take, recipe), lambda _: None)

    def _take(self, recipe: Recipe, before: tuple[str, Recipe]) -> None:
        if isValid(self) and recipe is self._recipe:
            self._before = before
            self._compare()

    def _compare(self) -> None:
        self.against.set_option_enabled("before", self._before is not None, tr("There is no run before this one."))
        if self._before is None and self.against.value() == "before":
            self.against.set_value("defaults")
        if self._recipe is None:
            self._model.set_rows([])
            self.note.setText("")
            return
        name, other = tr("the defaults"), Recipe()
        if self.against.value() == "before" and self._before is not None:
            name, other = self._before
        found = differences(self._recipe, other)
        labels = {field.path: field.label for field in FIELDS}
        self._model.set_rows([(path, (labels[path], _text(here), _text(there))) for path, here, there in found])
        said = tr("1 setting differs from {0}.") if len(found) == 1 else tr("{1} settings differ from {0}.")
        self.note.setText(said.format(name, len(found)) if found else tr("Nothing differs from {0}.").format(name))

    def _restyle(self) -> None:
        self.text.setFont(theme.font("mono"))


def _text(value: Any) -> str:
    """A setting's value as the form writes it."""
    match value:
        case None:
            return "\u2013"
        case bool():
            return tr("on") if value else tr("off")
        case int():
            return format_int(value)
        case float():
            return format_float(value)
        case str():
            return option_text(value) if value else "\u2013"
        case _:
            return ", ".join(map(str, value)) or "\u2013"


def _read(folder: RunFolder) -> tuple[str, Recipe]:
    return folder.name, toml.from_dict(folder.job.get("recipe", {}), folder.id)
