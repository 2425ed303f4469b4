"""The Datasets page on a bench: over real files, the real core and real workers, without the window around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QLabel, QWidget

from studio.places import Workspace
from studio.recipe.fields import replaced
from tests.ui.tokenizing_base import write_tokenizing_base
from ui.conductor import Conductor
from ui.pages.datasets import DatasetsPage
from ui.state import AppState

WAIT_MS = 240_000  # a worker that loads the libraries takes seconds, and minutes where all cores are busy
HOSTILE = "<b>bold</b>"
ROWS: list[Any] = [
    {"messages": [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": "Ahoy"}]},
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A pirate, " * 9}]},
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A pirate, " * 9}]},
    {"messages": [{"role": "user", "content": "Why?"}, {"role": "parrot", "content": "Because."}]},
    {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "caf\u00c3\u00a9"}]},
]


class Bench:
    """A window's worth of objects without the window: workspace, conductor and page."""

    def __init__(self, folder: Path, qtbot: Any) -> None:
        self.folder, self.bot = folder, qtbot
        self.workspace = Workspace(folder / "home")
        write_tokenizing_base(self.workspace.bases / "tiny")
        self.state = AppState()
        self.conductor = Conductor(self.workspace, self.state)
        self.notices: list[tuple[str, str, str]] = []
        self.state.noticed.connect(lambda *told: self.notices.append(told))
        self.conductor.start()
        self.wait(lambda: self.state.is_gathered)
        recipe = self.state.recipe
        for field, value in (("base.id", "tiny"), ("data.max_tokens", 64), ("training.micro_batch_tokens", 64)):
            recipe = replaced(recipe, field, value)
        self.state.recipe_edited.emit(recipe)
        self.page = DatasetsPage(self.state)
        qtbot.addWidget(self.page)
        self.page.resize(1240, 820)
        self.page.show()

    def close(self) -> None:
        jobs = list(self.conductor.thread_._jobs.values())
        self.conductor.close()
        for job in jobs:
            job.process.wait()

    def wait(self, condition: Callable[[], Any]) -> None:
        self.bot.waitUntil(lambda: bool(condition()), timeout=WAIT_MS)

    def write(self, rows: list[Any], name: str = "rows.jsonl") -> Path:
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def open(self, path: Path) -> None:
        self.page.open_path(str(path))
        self.settle()

    def settle(self) -> None:
        """Until it has been looked through."""
        self.wait(lambda: self.view.survey is not None and not self.view.busy)

    @property
    def view(self) -> Any:
        return self.state.dataset

    def press(self, name: str) -> None:
        found = [one for one in self.page.findChildren(QAbstractButton) if one.accessibleName() == name]
        (button,) = [one for one in found if one.isVisible() and one.isEnabled()]
        self.bot.mouseClick(button, Qt.MouseButton.LeftButton)

    def cell(self, row: int, column: int) -> str:
        model = self.page.rows.model
        self.wait(lambda: model.line(row) is not None)
        return str(model.index(row, column).data())

    def tile(self, name: str) -> str:
        return self.page.summary.tiles[name].accessibleName()

    def texts(self, parent: QWidget | None = None) -> str:
        return "\n".join(label.text() for label in (parent or self.page).findChildren(QLabel) if label.isVisible())
