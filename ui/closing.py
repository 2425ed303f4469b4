"""The question before the window closes while something is going on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtWidgets import QDialog, QHBoxLayout, QVBoxLayout, QWidget

from ui import theme
from ui.state import JobView, RunView
from ui.widgets.buttons import Button
from ui.widgets.labels import PlainLabel
from ui.wording import progress

CANCEL = "cancel"


def _tr(text: str) -> str:
    return QCoreApplication.translate("closing", text)


class Question(QDialog):
    """A heading, a sentence and buttons in a row; `then` gets the key of the button pressed, or `cancel` for Escape.

    The first button is the default. It never blocks: the window goes on meanwhile.
    """

    def __init__(
        self,
        heading: str,
        sentence: str,
        buttons: Sequence[tuple[str, str]],
        then: Callable[[str], object],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._then, self._answer = then, CANCEL
        self.setWindowTitle(heading)
        self.setAccessibleName(heading)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(theme.px(480))
        column = QVBoxLayout(self)
        column.setContentsMargins(*(theme.px(24),) * 4)
        column.setSpacing(theme.px(12))
        column.addWidget(PlainLabel(heading, "heading", wrap=True))
        column.addWidget(PlainLabel(sentence, "body", "text2", wrap=True))
        column.addSpacing(theme.px(8))
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addStretch(1)
        for index, (key, label) in enumerate(buttons):
            button = Button(label, "primary" if index == 0 else "default")
            button.setDefault(index == 0)
            button.clicked.connect(lambda _=False, key=key: self._choose(key))
            # Reading order: what loses nothing stands at the right, where the hand goes.
            row.insertWidget(1, button)
        column.addLayout(row)
        self.finished.connect(self._finished)

    def _choose(self, key: str) -> None:
        self._answer = key
        self.accept()

    def _finished(self, _code: int) -> None:
        self.deleteLater()
        self._then(self._answer)


def ask_about_run(parent: QWidget, live: RunView, then: Callable[[str], object]) -> Question:
    """keep: let it train on without a window; stop: stop, save, then quit; or cancel."""
    question = Question(
        _tr("{0} is still training").format(live.folder.name),
        _tr(
            "It is at {0}. It can go on without a window; when you open Overlay Studio again, it is found again."
        ).format(progress(live.state)),
        [
            ("keep", _tr("Keep training in background")),
            ("stop", _tr("Stop and save, then quit")),
            (CANCEL, _tr("Cancel")),
        ],
        then,
        parent,
    )
    question.open()
    return question


def ask_about_jobs(parent: QWidget, jobs: Sequence[JobView], then: Callable[[str], object]) -> Question:
    """wait: quit when they are done; end: cancel them and quit; or cancel."""
    question = Question(
        _tr("A task is not done yet"),
        _tr("{0}. Cancelled, nothing of it remains.").format(", ".join(map(_told, jobs))),
        [("wait", _tr("Wait, then quit")), ("end", _tr("Cancel the task and quit")), (CANCEL, _tr("Do not quit"))],
        then,
        parent,
    )
    question.open()
    return question


def _told(job: JobView) -> str:
    """What it is, and how far."""
    return f"{job.title}: {100 * job.done // job.total} %" if job.total > 1 else job.title
