"""The Train page while a recipe is being written: settings at the left, what they cost at the right."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from studio.errors import StudioError
from studio.files import safe_name
from studio.places import Workspace
from studio.recipe import toml
from studio.recipe.fields import replaced
from studio.recipe.presets import PRESETS, matching
from studio.recipe.recipe import Recipe
from studio.recipe.table import FIELDS
from ui import theme
from ui.bridge import in_background
from ui.form import Form, FormGrid, matches
from ui.pages.train_choices import BaseChoice, DataChoice
from ui.pages.train_cost import CostPanel
from ui.pages.train_groups import MoreSettings
from ui.pages.train_words import at_once, counted, learns, num_steps, rows_split, run_name, short_count, shortened, tr
from ui.state import AppState
from ui.widgets.buttons import Button
from ui.widgets.controls import TextField
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import MessageBar
from ui.widgets.numbers import format_int
from ui.widgets.page import Card, Page, column
from ui.widgets.sliders import SliderField
from ui.widgets.toggles import Segmented

QUALITY = (("quick", "Quick"), ("balanced", "Balanced"), ("thorough", "Thorough"))
BASIC = (
    "training.epochs",
    "training.learning_rate",
    "data.max_tokens",
    "training.batch_rows",
    "adapter.rank",
    "training.seed",
)
STEPS = "training.steps"
SUFFIX = ".toml"


class TrainSetup(Page):
    """A recipe as a form. `run_wanted` asks for the run in progress to be shown."""

    run_wanted = Signal()

    def __init__(self, state: AppState) -> None:
        super().__init__(tr("Train"), tr("Draw a thin overlay on a frozen base."))
        self._state = state
        self.form = Form(state, self)
        self._tools = self._build_tools()
        self._live = MessageBar("info", "", tr("Show it"))
        self._live.action_triggered.connect(self.run_wanted)
        self._none = PlainLabel("", "body", "text2")
        self._setup, self._training = self._build_setup(), self._build_training()
        self.more = MoreSettings(state, self.form)
        self.more.expert_wanted.connect(self._open_group)
        self.cost = CostPanel(state)
        for card in (self.cost.memory, self.cost.start):
            card.field_wanted.connect(self.reveal)
        self.add(self._tools)
        self.add(self._live)
        left = column([self._none, self._setup, self._training, self.more])
        self.columns(left, self.cost)
        self.form.refusals_changed.connect(self._show_refused)
        undo = QShortcut(QKeySequence.StandardKey.Undo, self)
        undo.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        undo.activated.connect(self.cost.remedies.undo)
        self.narrow_changed.connect(self._rearrange)
        for signal in (state.recipe_changed, state.bases_changed, state.runs_changed):
            signal.connect(self.refresh)
        state.job_changed.connect(self._show_job)
        self.set_level("basic")
        self.refresh()

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _build_tools(self) -> QWidget:
        """The recipe's name and file at the left, how to look at it at the right."""
        tools = QWidget()
        row = QHBoxLayout(tools)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        self.name = TextField(icon="note", name=tr("Recipe name"))
        self.name.setFixedWidth(theme.px(200))
        # Bound by hand of the form, shown without the frame of a field: the row has no room for hints.
        self._name_field = self.form.bind("name", self.name)
        self._name_field.hide()
        self._name_field.setParent(tools)
        self._caption = PlainLabel(tr("Recipe"), "label", "text2")
        self._caption.setBuddy(self.name)
        self.save_button = Button(tr("Save\u2026"), icon="floppy-disk")
        self.open_button = Button(tr("Open\u2026"), icon="folder-open")
        self.save_button.clicked.connect(self.save_recipe)
        self.open_button.clicked.connect(self.open_recipe)
        self.search = TextField(placeholder=tr("Find a setting"), icon="magnifying-glass", name=tr("Find a setting"))
        self.search.setFixedWidth(theme.px(200))
        self.search.setClearButtonEnabled(False)
        self.search.value_changed.connect(self._find)
        self.level = Segmented([("basic", tr("Basic")), ("expert", tr("Expert"))], name=tr("Level"))
        self.level.value_changed.connect(self.set_level)
        for widget in (self._caption, self.name, self.save_button, self.open_button):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self.search)
        row.addWidget(self.level)
        tools.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        return tools

    def _build_setup(self) -> Card:
        card = Card(tr("Setup"))
        self.bases, self.data = BaseChoice(self._state), DataChoice(self._state.recipe.data.path)
        self.quality = SliderField([(key, tr(label)) for key, label in QUALITY], "balanced", name=tr("Quality"))
        self.quality.value_changed.connect(self._take_preset)
        self._quality_note = PlainLabel("", "small", "text3", elide=True)
        self._quality = self._labelled_quality()
        self._setup_fields = {
            "base.id": self.form.bind("base.id", self.bases, hint=""),
            "data.path": self.form.bind("data.path", self.data, hint=""),
        }
        self._setup_grid = FormGrid(list(self._setup_fields.values()), 2)
        card.add(self._setup_grid)
        card.add(self._quality)
        return card

    def _labelled_quality(self) -> QWidget:
        """The slider with its label, over the width of the card."""
        result = QWidget()
        result.setToolTip(tr("Sets epochs, rank and learning rate together."))
        label = PlainLabel(tr("Quality"), "label", "text2")
        label.setBuddy(self.quality)
        head = QHBoxLayout()
        head.setSpacing(theme.px(12))
        head.addWidget(label)
        head.addWidget(self._quality_note, 1)
        rows = QVBoxLayout(result)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(theme.px(4))
        rows.addLayout(head)
        rows.addWidget(self.quality)
        return result

    def _build_training(self) -> Card:
        card = Card(tr("Training"))
        hints = {
            "training.learning_rate": tr("Usual for LoRA: 1e-4 to 3e-4"),
            "data.max_tokens": tr("Longer rows are cut"),
            "training.seed": tr("Same seed, same run"),
        }
        self._training_fields = {path: self.form.bind(path, hint=hints.get(path, "")) for path in (*BASIC, STEPS)}
        self._training_grid = FormGrid(list(self._training_fields.values()))
        card.add(self._training_grid)
        return card

    # --- what is shown -------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the facts as they are now."""
        state = self._state
        preset = matching(state.recipe)
        if preset is not None:
            self.quality.set_value(preset)
        self._quality_note.setText("" if preset else tr("Your own settings below"))
        steps = num_steps(state)
        by_epochs = state.recipe.training.epochs is not None
        text = tr("\u2248 {0} steps").format(format_int(steps)) if steps is not None and by_epochs else ""
        self.form.set_hint("training.epochs", text if by_epochs else tr("Steps are set instead"))
        self.form.set_hint(STEPS, "" if not by_epochs else tr("Replaces the epochs"))
        self.form.set_hint("training.batch_rows", at_once(state.recipe))
        self.form.set_hint("adapter.rank", learns(state.trainable))
        self.form.set_hint("base.id", self._base_hint())
        self.form.set_hint("data.path", self._data_hint())
        self.form.set_alarm("data.path", f"{state.data.error} {state.data.hint}".strip())
        live = state.live_run
        self._live.setVisible(live is not None)
        if live is not None:
            self._live.show_message(
                "info", tr("A run is in progress: {0}").format(shortened(run_name(live))), tr("Show it")
            )

    def _show_refused(self) -> None:
        self.cost.start.set_refused(next(iter(self.form.refused), ""))

    def _base_hint(self) -> str:
        facts = self._state.facts
        if self._state.base is None or facts is None:
            return tr("Add it first: open the list")
        size = short_count(facts.num_parameters)
        return tr("{0} parameters, {1} layers, on this computer").format(size, facts.num_layers)

    def _data_hint(self) -> str:
        rows, held = rows_split(self._state)
        if rows < 1:
            return ""
        text = tr("\u2248 {0} to train, {1} held out").format(format_int(rows), format_int(held))
        bad = self._state.data.num_rows - self._state.data.num_good
        return text + (tr(", {0} cannot be used").format(counted(self._state, bad)) if bad > 0 else "")

    def _show_job(self, job: object) -> None:
        """How far the import of a base is, where the base is chosen."""
        is_over, kind = getattr(job, "is_over", True), getattr(job, "kind", "")
        done, total = getattr(job, "done", 0), getattr(job, "total", 0)
        if is_over or "merge" in kind or "export" in kind:
            self.form.set_hint("base.id", self._base_hint())
        else:
            share = f"{100 * done // total} %" if total else ""
            self.form.set_hint("base.id", tr("Adding {0} {1}").format(getattr(job, "title", ""), share).strip())

    def _rearrange(self, narrow: bool) -> None:
        """In a narrow window the tools share the row of the title."""
        self._caption.setVisible(not narrow)
        self.name.setFixedWidth(theme.px(144 if narrow else 200))
        self.search.setFixedWidth(theme.px(144 if narrow else 200))
        self.cost.set_narrow(narrow)
        self.body.removeWidget(self._tools)
        self.header.row.removeWidget(self._tools)
        if narrow:
            self.header.row.insertWidget(2, self._tools, 10_000)
        else:
            self.body.insertWidget(0, self._tools)
        self._tools.show()

    # --- what the user does --------------------------------------------------------------------------------------------

    def set_level(self, level: str) -> None:
        """`basic` or `expert`."""
        self.level.set_value(level)
        self.more.set_expert(level == "expert")
        self.cost.start.set_expert(level == "expert")
        self._find(self.search.text())

    def _open_group(self, name: str) -> None:
        self.set_level("expert")
        if name:
            self.more.groups[name].row.setFocus(Qt.FocusReason.OtherFocusReason)

    def _find(self, query: str) -> None:
        """Show the settings that fit the words in the search box; none: all of the level."""
        found = {entry.path for entry in FIELDS if matches(entry.path, query)} if query.strip() else None
        expert = self.level.value() == "expert"
        shown = [path for path in self._setup_fields if found is None or path in found]
        quality = found is None or query.strip().lower() in tr("Quality").lower()
        self._setup_grid.show_only([self._setup_fields[path] for path in shown])
        self._setup_grid.setVisible(bool(shown))
        self._quality.setVisible(quality)
        self._setup.setVisible(bool(shown) or quality)
        trained = [path for path in self._training_fields if found is None or path in found]
        steps_shown = expert or found is not None or self._state.recipe.training.steps is not None
        trained = [path for path in trained if path != STEPS or steps_shown]
        self._training_grid.show_only([self._training_fields[path] for path in trained])
        self._training.setVisible(bool(trained))
        self.more.set_found(found)
        nothing = not (shown or quality or trained or self.more.isVisibleTo(self))
        self._none.setVisible(nothing)
        self._none.setText(tr("No setting is called \u201c{0}\u201d.").format(query.strip()) if nothing else "")

    def reveal(self, path: str) -> None:
        """Bring a setting into view and give it the focus."""
        if self.search.text():
            self.search.clear()
            self._find("")
        if path in self.more.paths:
            self.set_level("expert")
            self.more.reveal(path)
        elif path == STEPS:
            self.set_level("expert")
        if self.form.field(path) is not None:
            self.form.focus(path)

    def _take_preset(self, key: object) -> None:
        recipe = PRESETS[str(key)](self._state.recipe)
        if recipe != self._state.recipe:
            self._state.recipe_edited.emit(recipe)

    # --- recipe files --------------------------------------------------------------------------------------------------

    def save_recipe(self) -> None:
        """Ask where to, then write the recipe there."""
        in_background(_recipes_folder, self._ask_where_to, self._failed)

    def open_recipe(self) -> None:
        """Ask for a recipe file, then take its recipe."""
        in_background(_recipes_folder, self._ask_which, self._failed)

    def _ask_where_to(self, folder: str) -> None:
        dialog = self._dialog(tr("Save the recipe"), folder)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(SUFFIX[1:])
        dialog.selectFile(safe_name(self._state.recipe.name, "recipe") + SUFFIX)
        dialog.fileSelected.connect(self.save_to)
        dialog.open()

    def _ask_which(self, folder: str) -> None:
        dialog = self._dialog(tr("Open a recipe"), folder)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self.load_from)
        dialog.open()

    def _dialog(self, title: str, folder: str) -> QFileDialog:
        dialog = QFileDialog(self, title, folder)
        dialog.setNameFilters([tr("Recipes") + f" (*{SUFFIX})", tr("All files") + " (*)"])
        dialog.finished.connect(dialog.deleteLater)
        return dialog

    def save_to(self, path: str) -> None:
        """Write the recipe to this file."""
        recipe = self._state.recipe

        def write() -> str:
            toml.save(recipe, Path(path))
            return path

        in_background(write, self._saved, self._failed)

    def load_from(self, path: str) -> None:
        """Take the recipe in this file."""
        in_background(lambda: _load(Path(path)), self._state.recipe_edited.emit, self._failed)

    def _saved(self, path: str) -> None:
        self._state.noticed.emit("ok", tr("The recipe was saved to {0}.").format(path), "")

    def _failed(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)


def _recipes_folder() -> str:
    """Where recipes are kept; made if it is not there."""
    folder = Workspace.default().recipes
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _load(path: Path) -> Recipe:
    """The recipe in a file; a dataset beside the file is found there afterwards, too."""
    recipe = toml.load(path)
    beside = path.parent / recipe.data.path
    return replaced(recipe, "data.path", str(beside.resolve())) if beside.is_file() else recipe
