"""The recipe being edited, and what follows from it: problems, memory, data. Keeps a draft, so that nothing typed is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication

from studio.errors import StudioError
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe import toml
from studio.recipe.recipe import Recipe
from studio.runs.launch import command_for
from ui import facts
from ui.bridge import in_background, soon
from ui.state import AppState, DataView, PastPeak

DATA_DELAY_MS = 250
DRAFT_DELAY_MS = 800


class Drafting(QObject):
    """Answers `recipe_edited`, and opens and saves recipes. Looking at base and data goes on in the background."""

    def __init__(self, workspace: Workspace, state: AppState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._state = workspace, state
        self._bases: dict[str, facts.BaseFacts] = {}
        self._data: dict[facts.DataStamp, DataView] = {}
        self._asked_base = ""
        self._reading = ""
        self._drafted: Recipe | None = None
        self._is_saving = False
        state.recipe_edited.connect(self.edit)
        state.recipe_open_requested.connect(self._open)
        state.recipe_save_requested.connect(self._save_as)
        state.command_requested.connect(self._copy_command)
        state.bases_changed.connect(self.forget_bases)
        state.runs_changed.connect(self._find_past_peak)

    def start_from(self, recipe: Recipe) -> None:
        """Take the recipe that the disk holds; nothing needs saving."""
        self._drafted = recipe
        self.edit(recipe)

    def edit(self, recipe: Recipe) -> None:
        """Make `recipe` the one that is shown, and tell what follows from it."""
        state = self._state
        state.recipe = recipe
        if state.data.path != recipe.data.path:
            state.data = DataView(recipe.data.path)
            soon(self, partial(self._look_at_data, recipe.data.path), DATA_DELAY_MS)
        if recipe.base.id not in self._bases:
            self._look_at_base(recipe.base.id)
        self._judge()
        if recipe != self._drafted:
            soon(self, partial(self._draft, recipe), DRAFT_DELAY_MS)

    def judge_again(self) -> None:
        """What the estimate rests on has changed, though not the recipe."""
        if self._state.is_gathered:
            self._judge()

    def forget_bases(self) -> None:
        """Bases have come or gone: look again."""
        self._bases.clear()
        self._asked_base = ""
        self._look_at_base(self._state.recipe.base.id)
        in_background(partial(facts.look_at_base_facts, list(self._state.bases)), self._all_bases_seen, self._tell)
        in_background(partial(facts.bases_without_template, list(self._state.bases)), self._bare_seen, self._tell)

    def _bare_seen(self, found: frozenset[str]) -> None:
        self._state.bare_bases = found
        self._state.base_facts_changed.emit()

    def _all_bases_seen(self, found: dict[str, ModelFacts]) -> None:
        self._state.base_facts = found
        self._state.base_facts_changed.emit()

    def look_again_at_data(self) -> None:
        """The file may have been changed by its editor; costs one stat if it was not."""
        if self._state.is_gathered:
            self._look_at_data(self._state.recipe.data.path)

    def flush(self) -> None:
        """Save the draft now, on this thread: the window is closing."""
        if self._state.recipe != self._drafted and self._state.is_gathered:
            self._write_draft(self._state.recipe)

    # --- parts -----------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        state = self._state
        base = self._bases.get(state.recipe.base.id, facts.BaseFacts())
        found = facts.judge(state.recipe, base, state.data, state.limits)
        state.facts, state.problems = base.facts, found.problems
        state.budget, state.trainable = found.budget, found.trainable
        self._find_past_peak()
        state.recipe_changed.emit()

    def _find_past_peak(self) -> None:
        state, found = self._state, None
        if state.budget is not None and state.gpus:
            card, test = state.gpus[0].name, state.fit_test
            tested = test.peak_on(card, state.recipe, state.data.num_good) if test is not None else None
            found = facts.past_peak(state.runs.values(), state.recipe.base.id, state.budget, card)
            # This very recipe is nearer than any run.
            found = PastPeak("", "", tested) if tested is not None else found
        state.past_peak = found

    def _look_at_base(self, base_id: str) -> None:
        if not self._state.is_gathered or self._asked_base == base_id:
            return
        self._asked_base = base_id
        in_background(
            partial(facts.look_at_base, self._workspace, base_id), partial(self._base_seen, base_id), self._tell
        )

    def _base_seen(self, base_id: str, found: facts.BaseFacts) -> None:
        self._bases[base_id] = found
        if self._asked_base == base_id:
            self._asked_base = ""
        if base_id == self._state.recipe.base.id:
            self._judge()

    def _look_at_data(self, path: str) -> None:
        if path in (self._reading, "") or path != self._state.recipe.data.path:
            return  # read at this moment, or typed on meanwhile
        self._reading = path
        known = dict(self._data)

        def look() -> tuple[facts.DataStamp, DataView]:
            stamp = facts.data_stamp(self._workspace, path)
            return stamp, known.get(stamp) or facts.look_at_data(self._workspace, path)

        in_background(look, self._data_seen, self._data_unseen)

    def _data_seen(self, found: tuple[facts.DataStamp, DataView]) -> None:
        stamp, view = found
        self._reading = self._reading if self._reading != view.path else ""
        if stamp[1]:
            self._data[stamp] = view
        if view.path == self._state.recipe.data.path and view != self._state.data:
            self._state.data = view
            self._judge()

    def _data_unseen(self, error: StudioError) -> None:
        self._reading = ""
        self._tell(error)

    def _draft(self, recipe: Recipe) -> None:
        if recipe != self._state.recipe:
            return  # edited again meanwhile: that edit has a timer of its own
        if self._is_saving:
            soon(self, partial(self._draft, recipe), DRAFT_DELAY_MS)
            return
        self._is_saving = True
        in_background(partial(self._write_draft, recipe), self._draft_saved, self._draft_refused)

    def _write_draft(self, recipe: Recipe) -> Recipe:
        toml.save(recipe, facts.draft_path(self._workspace))
        return recipe

    def _draft_saved(self, recipe: Recipe) -> None:
        self._is_saving, self._drafted = False, recipe

    def _draft_refused(self, error: StudioError) -> None:
        self._is_saving = False
        self._tell(error)

    def _open(self, path: str) -> None:
        in_background(partial(facts.open_recipe, Path(path)), self._opened, self._tell)

    def _opened(self, recipe: Recipe) -> None:
        self.edit(recipe)
        self._state.page_requested.emit("train")

    def _save_as(self, path: str) -> None:
        def saved(_: None) -> None:
            self._state.noticed.emit("ok", self.tr("The recipe is saved as {0}.").format(Path(path).name), "")

        in_background(partial(toml.save, self._state.recipe, Path(path)), saved, self._tell)

    def _copy_command(self) -> None:
        state, num_cards = self._state, max(1, len(self._state.gpus))

        def copied(command: str) -> None:
            QGuiApplication.clipboard().setText(command)
            hint = self.tr("It trains by the recipe as it is now; the run appears under Runs.")
            if num_cards > 1:
                hint = (
                    self.tr("It trains on all {0} cards, each with a part of the rows.").format(num_cards) + f" {hint}"
                )
            state.noticed.emit("ok", self.tr("The command is in the clipboard: paste it into a terminal."), hint)

        in_background(partial(command_for, self._workspace, state.recipe, num_cards), copied, self._tell)

    def _tell(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)
