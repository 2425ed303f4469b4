"""Edits by hand on their way to the process that makes them, and what is to be said when they are made."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from PySide6.QtCore import QCoreApplication

from studio.data.edits import Edit
from ui.dataset_view import DatasetView
from ui.state import AppState


def edit_arguments(view: DatasetView, edits: Iterable[Edit]) -> dict[str, object]:
    """The job `edit` for rows of the version in force; values travel as JSON text, for they may hold halves of letters."""
    assert view.version is not None
    told = json.dumps([[edit.kind, edit.row, edit.value] for edit in edits])
    return {"source": view.path, "edits": told, "of": view.version.number}


def tell_lost(state: AppState, result: dict[str, Any]) -> None:
    """What the user did by hand is told where the version is; what was left out besides is told for itself."""
    num_lost = result["removed"].get("unreadable", 0)
    if num_lost:
        words = QCoreApplication.translate(
            "Editing", "{0} rows that cannot be read are not in the new version. Your file is as it was."
        )
        state.noticed.emit("warn", words.format(f"{num_lost:,}"), "")
