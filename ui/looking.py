"""Rows as a base sees them: one worker keeps that base's tokenizer, and answers for one row after another."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from PySide6.QtCore import QObject

from studio.data.conversation import RawRow, RowProblem
from studio.errors import StudioError
from studio.models.bases import Base
from studio.models.templates import OWN
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.runs import events as e
from studio.runs.jobs import failure
from studio.runs.looks import SHOWN, ShowRow, read_answer, request_file
from studio.runs.processes import own_start
from ui.bridge import in_background
from ui.dataset_view import DatasetView, Shown
from ui.state import AppState
from ui.training_thread import TrainingThread


class Looking(QObject):
    """Shows rows of the dataset that is looked at. The worker starts with the first row and ends with `close`."""

    def __init__(self, workspace: Workspace, state: AppState, thread: TrainingThread, parent: QObject) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._thread = workspace, state, thread
        self._worker = ""
        self._folder = Path()
        self._eyes: object = None
        self._asked = 0
        thread.job_event.connect(self._on_job_event)

    def base(self, view: DatasetView) -> Base | None:
        """The base to see with: the one chosen, else the recipe's, else any on this computer."""
        bases = {base.id: base for base in self._state.bases}
        return bases.get(view.base) or self._state.base or next(iter(bases.values()), None)

    def template(self, view: DatasetView) -> str:
        """The chat template to see with: the base's own where it has one, else the one chosen, else the recipe's."""
        base = self.base(view)
        if base is None or base.id not in self._state.bare_bases:
            return OWN
        return view.template or self._state.recipe.data.chat_template

    def choose_template(self, view: DatasetView, name: Any) -> None:
        """See with another template; if it is the recipe's base that is seen with, that learns by it, too."""
        view.template, view.lengths, view.measured_for, view.shown = str(name), None, "", None
        base, recipe = self.base(view), self._state.recipe
        if base is not None and base.id == recipe.base.id:
            self._state.recipe_edited.emit(replaced(recipe, "data.chat_template", view.template))
        if view.wanted_row >= 0:
            self.show(view, view.wanted_row)
        self._state.dataset_changed.emit()

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._worker:
            self._thread.cancel_job(self._worker)
            self._worker = ""

    def show(self, view: DatasetView, row: Any) -> None:
        """Show the row of that number."""
        view.wanted_row, view.shown = int(row), None
        self._state.dataset_changed.emit()
        rows = view.rows
        if rows is None:
            return

        def failed(error: StudioError) -> None:
            if view.rows is not rows and view.wanted_row == int(row):
                self.show(view, row)  # all rows have taken the place of the first ones meanwhile
            else:
                self._failed(view, error)

        in_background(partial(rows.row, int(row)), partial(self._read, view), failed)

    def _read(self, view: DatasetView, raw: RawRow | RowProblem) -> None:
        if self._state.dataset is not view or raw.row != view.wanted_row:
            return
        base = self.base(view)
        if isinstance(raw, RowProblem):
            self._tell(view, Shown(raw.row, raw.line, error=raw.message, hint=raw.fix))
        elif base is None:
            hint = self.tr("Add one on the Train page: the starter base comes along.")
            self._tell(view, Shown(raw.row, raw.line, error=self.tr("There is no base to see it with."), hint=hint))
        else:
            self._ask(view, base, raw)

    def _ask(self, view: DatasetView, base: Base, raw: RawRow) -> None:
        eyes = (base.id, self._state.recipe.data.train_on, self.template(view), view.reading)
        if not self._worker or eyes != self._eyes:
            self.close()
            self._eyes, self._worker = eyes, uuid4().hex
            self._folder = self._workspace.jobs / f"looks-{self._worker}"
            pid, process_started = own_start()
            arguments: dict[str, object] = {
                "base": str(base.path),
                "asked": str(self._folder),
                "train_on": self._state.recipe.data.train_on,
                "template": self.template(view),
                "mapping": vars(view.reading) if view.reading else None,
                "pid": pid,
                "process_started": process_started,
            }
            self._thread.start_job(self._worker, "looks", arguments)
        self._asked += 1
        request = partial(_post, self._folder, ShowRow.of(self._asked, raw))
        in_background(request, lambda _: None, partial(self._failed, view))

    def _on_job_event(self, key: str, event: e.Event) -> None:
        view, error = self._state.dataset, failure(event)
        if key != self._worker or view is None:
            return
        if isinstance(event, e.Progressed) and event.what == SHOWN and event.done == self._asked:
            answer = partial(read_answer, self._folder, event.done)
            in_background(answer, partial(self._answered, view, event.done), partial(self._failed, view))
        elif isinstance(event, e.Finished):
            # It rests after some idle minutes. What was asked at that very moment is asked again.
            self._worker = ""
            if view.wanted_row >= 0 and view.shown is None:
                self.show(view, view.wanted_row)
        elif error is not None:
            self._worker = ""
            self._failed(view, error)

    def _answered(self, view: DatasetView, key: int, answer: dict[str, Any]) -> None:
        if key != self._asked or self._state.dataset is not view or view.wanted_row < 0:
            return
        shown = answer.get("shown")
        if shown is None:
            self._tell(view, Shown(view.wanted_row, error=answer["error"], hint=answer["hint"]))
        else:
            tokens = tuple(shown["tokens"])
            self._tell(view, Shown(shown["row"], shown["line"], tokens, shown["num_supervised"]))

    def _failed(self, view: DatasetView, error: StudioError) -> None:
        self._tell(view, Shown(view.wanted_row, error=error.message, hint=error.hint))

    def _tell(self, view: DatasetView, shown: Shown) -> None:
        if self._state.dataset is view:
            view.shown = shown
            self._state.dataset_changed.emit()


def _post(folder: Path, request: ShowRow) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    request_file(folder).post(request)
