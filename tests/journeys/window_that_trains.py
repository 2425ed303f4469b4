"""The window as a process of its own, which begins to train its draft recipe: to be killed by a test."""

from __future__ import annotations

import sys

from studio.places import Workspace
from ui import theme
from ui.app import Studio, make_application
from ui.bridge import every
from ui.settings import Settings


def main() -> int:
    app = make_application([])
    theme.apply(app, "light")
    workspace = Workspace.default()
    studio = Studio(workspace, Settings.load(workspace))
    studio.open()
    begun = []

    def begin() -> None:
        if not begun and studio.state.is_gathered and studio.state.budget is not None and not studio.state.problems:
            begun.append(True)
            studio.state.train_requested.emit()

    every(studio.window, 50, begin)
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
