"""The dataset that is looked at: reading and hashing in the background, all long work in processes of its own.

Nothing here holds the interpreter's lock for long, so that the window stays quick however large the file is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject

from studio.data.examine import Options
from studio.data.lengths import Lengths
from studio.data.row_table import open_table
from studio.data.searching import side_in
from studio.data.sides import Sides
from studio.errors import StudioError
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.runs import events as e
from studio.runs.dataset_jobs import LOOKING, Survey
from studio.runs.jobs import failure
from ui.bridge import in_background
from ui.dataset_files import (
    Opened,
    columns_of,
    first_look,
    look_at_version,
    read_survey,
    remember_for_training,
    remember_mapping,
    undone,
)
from ui.dataset_view import DatasetView, RowSource
from ui.dataset_work import BUSY, CHANGING, Work, Works
from ui.editing import edit_arguments, tell_lost
from ui.exporting import Exporting
from ui.fetching import Fetching
from ui.handwriting import Handwriting
from ui.looking import Looking
from ui.state import AppState
from ui.training_thread import TrainingThread


class Surveying(QObject):
    """Answers `dataset_requested`: each verb is a method below, with its value."""

    def __init__(
        self, workspace: Workspace, state: AppState, thread: TrainingThread, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace, self._state = workspace, state
        self._works = Works(thread)
        self._is_turning = False
        self._looking = Looking(workspace, state, thread, self)
        self._exporting = Exporting(state, thread, self)
        self._others = Handwriting(workspace, state, self), Fetching(workspace, state, thread, self)
        self._verbs: dict[str, Callable[[DatasetView, Any], None]] = {
            "cancel": self._cancel,
            "survey": self._look_through,
            "guess": self._guess,
            "confirm": self._confirm,
            "base": self._choose_base,
            "template": self._looking.choose_template,
            "show": self._looking.show,
            "search": self._search,
            "measure": self._measure,
            "mend": self._mend,
            "edit": self._edit,
            "undo": partial(self._go_back, forward=False),
            "redo": partial(self._go_back, forward=True),
            "use": self._use,
            "export": self._export,
            "weigh": self._exporting.weigh,
        }
        state.dataset_requested.connect(self._answer)
        thread.job_event.connect(self._on_job_event)

    def close(self) -> None:
        """Nobody will look at the answers any more."""
        for part in (self._works, self._looking, self._exporting, *self._others):
            part.close()
        if self._state.dataset is not None and self._state.dataset.rows is not None:
            self._state.dataset.rows.close()

    def _answer(self, verb: str, value: object) -> None:
        view = self._state.dataset
        if verb == "open":
            self._open(str(value))
        elif verb == "privacy":
            self._set_privacy(bool(value))
        elif view is not None:
            self._verbs[verb](view, value)

    def _changed(self) -> None:
        self._state.dataset_changed.emit()

    def _is_shown(self, view: DatasetView) -> bool:
        return self._state.dataset is view

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open(self, path: str) -> None:
        before = self._state.dataset
        if before is not None:
            self._works.end(before, *(kind for kind in BUSY if kind not in CHANGING))
            self._looking.close()
            self._let_go(before)
        self._is_turning = False
        view = DatasetView(str(Path(path).expanduser().absolute()), busy="opening")
        self._state.dataset = view
        self._changed()
        in_background(
            partial(first_look, Path(view.path)), partial(self._seen_first, view), partial(self._failed, view)
        )

    def _seen_first(self, view: DatasetView, opened: Opened) -> None:
        if self._is_shown(view):
            self._take(view, opened)
            self._look_at_version(view)

    def _look_at_version(
        self, view: DatasetView, change: Callable[[], None] = lambda: None, *, in_place: bool = False
    ) -> None:
        """`change` the versions, then find out which is in force, and look through it. If `in_place`, what was looked at stays
        on the screen until all rows of the new version are there."""

        def look() -> Opened:
            change()
            return look_at_version(self._workspace, Path(view.path), whole=in_place)

        self._is_turning = True
        view.busy = view.busy or "opening"
        self._changed()
        in_background(look, partial(self._seen_version, view), partial(self._failed, view))

    def _seen_version(self, view: DatasetView, opened: Opened) -> None:
        if not self._is_shown(view):
            if opened.table is not None:
                opened.table.close()
            return
        self._is_turning = False
        view.busy = ""
        view.survey = view.sides = view.lengths = view.found = view.shown = None
        view.measured_for = ""
        words, view.words = view.words, ""
        row, view.wanted_row = view.wanted_row, -1
        if opened.table is None:
            self._looking.close()
            self._take(view, opened)
        else:
            self._take(view, opened)
            if row >= 0:
                self._looking.show(view, min(row, len(opened.table) - 1))
        if view.guess is None:
            self._look_through(view, None)
        if opened.table is not None:
            self._search(view, words)

    def _take(self, view: DatasetView, opened: Opened) -> None:
        self._let_go(view)
        rows, is_whole = (opened.first_rows, False) if opened.table is None else (opened.table, True)
        view.rows = RowSource(rows, is_whole=is_whole)
        view.size_bytes, view.detection, view.mapping = opened.size_bytes, opened.detection, opened.mapping
        view.version, view.can_redo, view.steps = opened.version, opened.can_redo, list(opened.steps)
        view.num_edited = opened.num_edited
        view.columns, view.origin = columns_of(opened.first_rows), opened.origin
        view.error = view.hint = ""
        self._changed()

    def _let_go(self, view: DatasetView) -> None:
        if view.rows is not None:
            in_background(view.rows.close, lambda _: None, self._tell)

    def _guess(self, view: DatasetView, mapping: Any) -> None:
        """Read the first rows in another way; nothing is decided by that."""
        if view.detection is not None:
            view.detection = replace(view.detection, mapping=mapping)
            self._changed()

    def _confirm(self, view: DatasetView, mapping: Any) -> None:
        change = partial(remember_mapping, self._workspace, Path(view.path), mapping)
        self._look_at_version(view, change)

    def _go_back(self, view: DatasetView, _value: object, *, forward: bool) -> None:
        if self._make_way(view):
            change = partial(undone, self._workspace, Path(view.path), forward=forward)
            self._look_at_version(view, change, in_place=True)

    # --- work in processes -------------------------------------------------------------------------------------------

    def _begin(
        self, view: DatasetView, kind: str, arguments: dict[str, object], sides_of: tuple[int, str] = (0, "")
    ) -> None:
        key = self._works.start(view, kind, arguments, sides_of)
        if kind in CHANGING:
            self._exporting.watch(key, kind, self.tr("Writing a new version of {0}").format(Path(view.path).name))
        self._changed()

    def _cancel(self, view: DatasetView, _value: object) -> None:
        self._works.end(view, *BUSY)

    def _make_way(self, view: DatasetView) -> bool:
        """Whether the version may change now: what only looks at this one is given up, for it begins anew with the next."""
        if self._is_turning or view.version is None or any(kind in CHANGING for kind in self._works.kinds(view)):
            return False
        self._works.give_up(view)
        return True

    def _look_through(self, view: DatasetView, _value: object) -> None:
        data, training = self._state.recipe.data, self._state.recipe.training
        options = Options(
            privacy=self._state.privacy,
            fraction=data.validation_fraction,
            seed=training.seed,
            group_by=data.group_by,
        )
        sides_of = (options.seed, options.group_by)
        self._begin(view, "survey", {"data": str(_path(view)), "options": vars(options)}, sides_of=sides_of)

    def _set_privacy(self, wanted: bool) -> None:
        """Look for secrets too, or no longer: what is open is looked through anew."""
        self._state.privacy = wanted
        self._look_again()

    def _look_again(self) -> None:
        view = self._state.dataset
        if view is not None and view.version is not None and view.guess is None:
            self._works.end(view, "survey")
            self._look_through(view, None)

    def _search(self, view: DatasetView, words: Any) -> None:
        view.words = str(words).strip()
        self._works.end(view, "search")
        rest, _ = side_in(view.words)
        if rest:
            self._begin(view, "search", {"data": str(_path(view)), "words": rest})
        else:
            view.found = self._on_side(view, None)
            self._changed()

    def _on_side(self, view: DatasetView, rows: list[int] | None) -> list[int] | None:
        """Those of the rows, or of all, that are on the side that was asked for, if one was."""
        _, side = side_in(view.words)
        split = view.split(self._state.recipe)
        return rows if side is None or split is None else split.only(rows, held_out=side)

    def _measure(self, view: DatasetView, _value: object) -> None:
        base = self._looking.base(view)
        if base is None or view.busy:
            return
        data = self._state.recipe.data
        arguments = {"base": str(base.path), "data": str(_path(view)), "train_on": data.train_on}
        arguments["template"] = self._looking.template(view)
        self._begin(view, "lengths", {**arguments, "max_tokens": data.max_tokens})
        view.measured_for = base.id

    def _mend(self, view: DatasetView, names: Any) -> None:
        if not view.busy:
            self._begin(view, "mend", {"source": view.path, "names": list(names)})

    def _edit(self, view: DatasetView, edits: Any) -> None:
        """`edits` are `studio.data.edits.Edit`s of rows of the version in force. They become one new version."""
        if self._make_way(view):
            self._begin(view, "edit", edit_arguments(view, edits))

    def _export(self, view: DatasetView, wanted: Any) -> None:
        self._exporting.export(view, _path(view), wanted)

    def _use(self, view: DatasetView, _value: object) -> None:
        """Put the version in force into the recipe, to be read as its rows are shown."""
        path = _path(view)

        def use(_: None) -> None:
            self._state.recipe_edited.emit(replaced(self._state.recipe, "data.path", str(path)))
            self._state.page_requested.emit("train")

        if view.mapping is None:
            use(None)
        else:
            remembered = partial(remember_for_training, self._workspace, path, view.mapping)
            in_background(remembered, use, partial(self._failed, view))

    def _choose_base(self, view: DatasetView, base: Any) -> None:
        view.base, view.lengths, view.measured_for = str(base), None, ""
        self._looking.close()
        row, view.shown = view.wanted_row, None
        self._changed()
        if row >= 0:
            self._looking.show(view, row)

    # --- what comes of it --------------------------------------------------------------------------------------------

    def _on_job_event(self, key: str, event: e.Event) -> None:
        work = self._works.heard(key, event)
        if work is None or not (self._is_shown(work.view) or work.kind in CHANGING):
            return
        error = failure(event)
        if isinstance(event, e.Progressed):
            self._progressed(work, event)
        elif isinstance(event, e.Finished):
            self._finished(work, event.result)
        elif isinstance(event, e.Died) and event.signal == "SIGTERM":
            self._rest(work.view)
        elif error is not None:
            self._refused(work, error)

    def _progressed(self, work: Work, event: e.Progressed) -> None:
        view = work.view
        if work.kind != "lengths":
            view.busy = event.what
        view.done, view.total = event.done, event.total
        if event.what == LOOKING and view.rows is not None and not view.rows.is_whole and not work.is_opening_table:
            work.is_opening_table = True
            open_rows = partial(open_table, self._workspace, _path(view))
            in_background(open_rows, partial(self._rows_opened, view, view.version), partial(self._failed, view))
        self._changed()

    def _rows_opened(self, view: DatasetView, version: object, table: Any) -> None:
        if not self._is_shown(view) or view.version is not version:
            table.close()
            return
        self._let_go(view)
        view.rows = RowSource(table, is_whole=True)
        self._changed()

    def _finished(self, work: Work, result: dict[str, Any]) -> None:
        view, version = work.view, work.view.version
        failed = partial(self._failed, view)
        match work.kind:
            case "survey":
                load = partial(read_survey, result)
                in_background(load, partial(self._keep_survey, work, version), failed)
            case "lengths":
                view.num_refused = result["num_refused"]
                load_lengths = partial(Lengths.load, Path(result["lengths"]))
                in_background(load_lengths, partial(self._keep, view, version, "lengths"), failed)
            case "search":
                self._keep(view, version, "found", self._on_side(view, result["rows"]))
            case "mend":
                self._mended(view, result)
            case "edit":
                tell_lost(self._state, result)
                self._look_at_version(view, in_place=True)

    def _mended(self, view: DatasetView, result: dict[str, Any]) -> None:
        num_changed, num_removed = (sum(result[name].values()) for name in ("changed", "removed"))
        words = self.tr("Rows: {0} changed, {1} left out. Your file is as it was.")
        self._state.noticed.emit("ok", words.format(f"{num_changed:,}", f"{num_removed:,}"), "")
        self._look_at_version(view)

    def _keep_survey(self, work: Work, version: object, found: tuple[Survey, Sides]) -> None:
        if work.view.version is version:
            work.view.set_sides(found[1], *work.sides_of)
        self._keep(work.view, version, "survey", found[0])

    def _keep(self, view: DatasetView, version: object, name: str, value: object) -> None:
        """Something is known now, unless it is of a version that is no longer in force."""
        if view.version is version:
            setattr(view, name, value)
        self._rest(view)

    def _rest(self, view: DatasetView) -> None:
        self._works.rest(view)
        self._changed()

    def _refused(self, work: Work, error: StudioError) -> None:
        if work.kind == "survey":
            self._failed(work.view, error)
        else:
            self._tell(error)
            self._rest(work.view)

    def _failed(self, view: DatasetView, error: StudioError) -> None:
        if self._is_shown(view):
            self._is_turning = False
            view.busy, view.error, view.hint = "", error.message, error.hint
            self._changed()

    def _tell(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)


def _path(view: DatasetView) -> Path:
    """Of the version in force."""
    return view.version.path if view.version is not None else Path(view.path)
