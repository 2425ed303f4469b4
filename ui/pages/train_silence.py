"""What is to be said of a run that says nothing, above its charts. It goes by itself when the run is heard again."""

from __future__ import annotations

from studio.runs.watchdog import Pace, Silence
from ui.widgets.messages import MessageBar


class SilenceBar(MessageBar):
    """One sentence and what to do; hidden while all is well."""

    def __init__(self) -> None:
        super().__init__("info", "")
        self.hide()

    def show_silence(self, silence: Silence | None) -> None:
        """Show it, or nothing."""
        if silence is not None:
            is_trouble = silence.pace in (Pace.SUSPENDED, Pace.HANGS)
            self.show_message("warn" if is_trouble else "info", f"{silence.message} {silence.hint}")
        self.setVisible(silence is not None)
