"""What is known about one adapter, and what can be done with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QMenu, QVBoxLayout, QWidget
from shiboken6 import isValid

from studio.errors import StudioError
from studio.library.adapter import WEIGHTS, Adapter, read_sidecar
from studio.library.soundness import check
from studio.models.headers import read_header
from studio.recipe.table import FIELDS
from ui import theme
from ui.bridge import in_background
from ui.pages.adapter_inline import InlineText, TagRow
from ui.pages.adapter_shelf import Group, made, size_of
from ui.widgets import numbers
from ui.widgets.buttons import Button, IconButton
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.messages import MessageBar, StatTile
from ui.widgets.page import Card, ScrollColumn


@dataclass(frozen=True)
class Reading:
    """What only the files of an adapter tell: learned parameters, the recipe as used, and what is wrong with them."""

    num_parameters: int
    recipe: dict[str, Any]
    problems: tuple[str, ...]


def read_files(adapter: Adapter) -> Reading:
    """Read and check the files. Raises `StudioError` if they cannot be read at all."""
    tensors = read_header(adapter.path / WEIGHTS)
    recipe = read_sidecar(adapter.path).get("recipe")
    return Reading(
        sum(math.prod(tensor.shape) for tensor in tensors),
        recipe if isinstance(recipe, dict) else {},
        tuple(check(adapter)),
    )


def recipe_rows(recipe: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, value) of every setting that the recipe holds, in the order of the form."""
    rows = []
    for entry in FIELDS:
        section = recipe.get(entry.section) if entry.section else recipe
        value = section.get(entry.key) if isinstance(section, dict) else None
        if value is not None and value != []:
            # "0.05 share of rows" is no way to speak: what is left out there is in the label.
            unit = "" if entry.unit.startswith("share") else entry.unit
            rows.append((entry.label, f"{_written(value)} {unit}".strip()))
    return rows


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return numbers.format_int(value)
    if isinstance(value, float):
        return numbers.format_float(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def parameters(count: int) -> str:
    """`33.0 M`: a number of parameters, short."""
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


class AdapterDetails(Card):
    """The panel. `requested` carries (verb, adapter's name, value) as `AppState.adapter_requested` takes them."""

    chat_requested = Signal(str)
    merge_requested = Signal(str)
    export_requested = Signal(str)
    requested = Signal(str, str, str)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setAccessibleName(self.tr("Adapter"))
        self.body.setSpacing(theme.px(12))
        self._adapter: Adapter | None = None
        self._name_text = InlineText(self.tr("Name"), "title")
        self._note_text = InlineText(self.tr("Note"), "body", empty=self.tr("Add a note"))
        self._origin = PlainLabel("", "small", "text2", elide=True)
        self._tags = TagRow()
        self._warning = MessageBar("warn", "")
        self._build_head()
        self.add(self._warning)
        self.add(self._build_actions())
        self.add(Divider())
        self.add(self._build_figures())
        self.add(Divider())
        self._build_recipe()
        self._connect()

    # --- building --------------------------------------------------------------------------------------------------

    def _build_head(self) -> None:
        self._more = IconButton("dots-three-bold", self.tr("More"))
        self._menu = QMenu(self)
        verbs = (
            (self.tr("Rename"), self._name_text.edit),
            (self.tr("Tags"), self._tags.edit),
            (self.tr("Note"), self._note_text.edit),
            (self.tr("Check files"), self._check),
            (self.tr("Open folder"), self._open_folder),
            (self.tr("Move to trash"), partial(self._request, "remove", "")),
        )
        for text, act in verbs:
            self._menu.addAction(text).triggered.connect(lambda _checked=False, do=act: do())
        self._more.clicked.connect(self._open_menu)
        row = QHBoxLayout()
        row.addWidget(self._name_text, 1)
        row.addWidget(self._more)
        self.add(row)
        words = QVBoxLayout()
        words.setSpacing(theme.px(6))
        for widget in (self._note_text, self._origin, self._tags):
            words.addWidget(widget)
        self.add(words)

    def _build_actions(self) -> QHBoxLayout:
        self._chat = Button(self.tr("Use in Chat"), "primary", "chats-circle")
        self._merge = Button(self.tr("Merge\u2026"))
        self._export = Button(self.tr("Export\u2026"))
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        for button in (self._chat, self._merge, self._export):
            row.addWidget(button)
        row.addStretch(1)
        return row

    def _build_figures(self) -> QGridLayout:
        self._figures = {
            "rank": StatTile(self.tr("Rank, alpha")),
            "learned": StatTile(self.tr("Learned")),
            "steps": StatTile(self.tr("Steps")),
            "loss": StatTile(self.tr("Eval loss")),
            "size": StatTile(self.tr("Size")),
            "files": StatTile(self.tr("Files")),
        }
        grid = QGridLayout()
        grid.setHorizontalSpacing(theme.px(16))
        grid.setVerticalSpacing(theme.px(12))
        for index, tile in enumerate(self._figures.values()):
            grid.addWidget(tile, index // 3, index % 3, Qt.AlignmentFlag.AlignTop)
            grid.setColumnStretch(index % 3, 1)
        return grid

    def _build_recipe(self) -> None:
        self.add(PlainLabel(self.tr("Recipe as used"), "heading"))
        self._recipe_none = PlainLabel("", "body", "text2", wrap=True)
        self._recipe = QGridLayout()
        self._recipe.setContentsMargins(0, 0, theme.px(16), 0)
        self._recipe.setHorizontalSpacing(theme.px(16))
        self._recipe.setVerticalSpacing(theme.px(6))
        self._recipe.setColumnStretch(1, 1)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._recipe_none)
        column.addLayout(self._recipe)
        column.addStretch(1)
        self.add(ScrollColumn(content), 1)

    def _connect(self) -> None:
        self._chat.clicked.connect(lambda: self.chat_requested.emit(self._name()))
        self._merge.clicked.connect(lambda: self.merge_requested.emit(self._name()))
        self._export.clicked.connect(lambda: self.export_requested.emit(self._name()))
        self._name_text.edited.connect(partial(self._request, "rename"))
        self._note_text.edited.connect(partial(self._request, "note"))
        self._tags.added.connect(partial(self._request, "tag"))
        self._tags.removed.connect(partial(self._request, "untag"))

    # --- showing ---------------------------------------------------------------------------------------------------

    def show_adapter(self, adapter: Adapter, group: Group) -> None:
        """Show an adapter, and the group it stands in: whether its base is here."""
        is_same = self._adapter is not None and self._adapter.fingerprint == adapter.fingerprint
        self._adapter = adapter
        self.setAccessibleName(adapter.name)
        self._name_text.set_text(adapter.name)
        self._note_text.set_text(adapter.note)
        text = self.tr("Trained on {0}, {1}") if adapter.run else self.tr("Made for {0}, {1}")
        self._origin.setText(text.format(group.title, made(adapter.created)))
        self._tags.set_tags(adapter.tags)
        self._warning.hide()
        reason = None if group.base is not None else self.tr("Needs its base")
        self._chat.set_reason(reason)
        self._merge.setVisible(reason is None)
        if reason is not None:
            self._warn(self.tr("{0}: {1}.").format(group.title, group.why))
        self._show_figures(adapter)
        if not is_same:
            self._show_reading(None)
        self._read(adapter)

    def _warn(self, text: str) -> None:
        self._warning.show_message("warn", text)
        self._warning.show()

    def _show_figures(self, adapter: Adapter) -> None:
        metrics, unknown = adapter.metrics, self.tr("unknown")
        figures = self._figures
        alpha = numbers.format_float(adapter.alpha)
        kind = " ".join(word for word, on in (("rsLoRA", adapter.rslora), ("DoRA", adapter.dora)) if on)
        figures["rank"].set_value(f"{adapter.rank}, {alpha}", kind)
        steps = metrics.get("steps")
        figures["steps"].set_value(unknown if steps is None else numbers.format_int(int(steps)))
        figures["size"].set_value(size_of(adapter.bytes))
        before, after = metrics.get("first_evaluation_loss"), metrics.get("evaluation_loss")
        label = self.tr("held-out rows")
        if after is None:
            before, after, label = metrics.get("first_loss"), metrics.get("loss"), self.tr("training rows")
        if after is None:
            figures["loss"].set_value(unknown, "")
        elif before is None or before == after:
            figures["loss"].set_value(f"{after:.2f}", label)
        else:
            figures["loss"].set_value(f"{before:.2f} \u2192 {after:.2f}", label)

    def _read(self, adapter: Adapter) -> None:
        def arrived(reading: Reading) -> None:
            if isValid(self) and self._adapter is adapter:
                self._show_reading(reading)

        def failed(error: StudioError) -> None:
            if isValid(self) and self._adapter is adapter:
                self._show_reading(Reading(0, {}, (error.message,)))

        in_background(partial(read_files, adapter), arrived, failed)

    def _show_reading(self, reading: Reading | None) -> None:
        """Show what the files say; None: they are being read."""
        if reading is None:
            self._figures["learned"].set_value("\u2026")
            self._figures["files"].set_value(self.tr("checking\u2026"))
            self._show_recipe([], "")
            return
        known = reading.num_parameters
        self._figures["learned"].set_value(parameters(known) if known else self.tr("unknown"))
        if reading.problems:
            self._figures["files"].set_value(self.tr("damaged"), role="bad")
            self._warning.show_message("bad", reading.problems[0])
            self._warning.show()
        else:
            self._figures["files"].set_value(self.tr("checked"), role="ok")
        none = self.tr("It came without one: it was not trained in this studio.")
        self._show_recipe(recipe_rows(reading.recipe), none)

    def _show_recipe(self, rows: list[tuple[str, str]], none: str) -> None:
        while (item := self._recipe.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        for number, (label, value) in enumerate(rows):
            top = Qt.AlignmentFlag.AlignTop
            self._recipe.addWidget(PlainLabel(label, "body", "text2"), number, 0, top)
            self._recipe.addWidget(PlainLabel(value, "body", wrap=True, selectable=True), number, 1)
        self._recipe_none.setText(none)
        self._recipe_none.setVisible(bool(none) and not rows)

    # --- acting ----------------------------------------------------------------------------------------------------

    def edit_name(self) -> None:
        """Begin to rename."""
        self._name_text.edit()

    def _name(self) -> str:
        assert self._adapter is not None
        return self._adapter.name

    def _request(self, verb: str, value: str) -> None:
        self.requested.emit(verb, self._name(), value)

    def _check(self) -> None:
        assert self._adapter is not None
        self._request("check", "")
        self._figures["files"].set_value(self.tr("checking\u2026"))
        self._read(self._adapter)

    def _open_folder(self) -> None:
        assert self._adapter is not None
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._adapter.path)))

    def _open_menu(self) -> None:
        corner = self._more.rect().bottomRight()
        self._menu.popup(self._more.mapToGlobal(corner) - self._menu.rect().topRight())
