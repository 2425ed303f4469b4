"""Where everything lives on the user's computer. Nobody else joins these paths."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

RESOURCES = Path(__file__).resolve().parent.parent / "resources"
EXAMPLES = RESOURCES / "examples"


def shared_place() -> Path:
    """What all workspaces of this user on this computer share while it is switched on: who holds which card.

    It must be the same for a window, a terminal and a timer of the system, which do not all know of `XDG_RUNTIME_DIR`.
    """
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "overlay-studio"  # each user has a folder of their own for temporary files
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    if runtime.is_dir() and runtime.stat().st_uid == os.getuid():
        return runtime / "overlay-studio"
    return Path(tempfile.gettempdir()) / f"overlay-studio-{os.getuid()}"


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a user's work. Delete it and the program is as new."""

    root: Path

    @classmethod
    def default(cls) -> Workspace:
        """`OVERLAY_HOME`, else the platform's data folder."""
        home = os.environ.get("OVERLAY_HOME")
        root = Path(home) if home else Path(platformdirs.user_data_dir("overlay-studio", appauthor=False))
        return cls(root.expanduser().resolve())

    @property
    def bases(self) -> Path:
        """Imported base models, one folder each."""
        return self.root / "bases"

    @property
    def runs(self) -> Path:
        """One folder per training run."""
        return self.root / "runs"

    @property
    def adapters(self) -> Path:
        """The library: one PEFT folder per adapter."""
        return self.root / "adapters"

    @property
    def exports(self) -> Path:
        """Merged models and files for other programs."""
        return self.root / "exports"

    @property
    def chats(self) -> Path:
        """Transcripts, one JSON-lines file each."""
        return self.root / "chats"

    @property
    def hub(self) -> Path:
        """What was learnt of models on the Hugging Face hub without their weights; safe to delete."""
        return self.root / "hub"

    @property
    def encoded(self) -> Path:
        """Datasets as the models see them, so that they need not be tokenised again; safe to delete."""
        return self.root / "cache" / "encoded"

    @property
    def coders(self) -> Path:
        """What transformers has said of bases' tokenizers and templates, so that it need not be asked again; safe to delete."""
        return self.root / "cache" / "coders"

    @property
    def unpacked(self) -> Path:
        """Datasets as JSON lines, so that any row is found at once; safe to delete."""
        return self.root / "cache" / "unpacked"

    @property
    def datasets(self) -> Path:
        """Datasets that were mended or edited here, one folder each, with all their versions; and those that were made here."""
        return self.root / "datasets"

    @property
    def written(self) -> Path:
        """Small datasets that were written by hand in the window, one JSON-lines file each."""
        return self.datasets / "written"

    @property
    def preferences(self) -> Path:
        """Which answer was thought the better one, JSON lines that are only ever added to."""
        return self.datasets / "preferences"

    @property
    def merged(self) -> Path:
        """Sets that were merged here out of several."""
        return self.datasets / "merged"

    @property
    def fetched(self) -> Path:
        """Datasets from the Hugging Face hub, each with a note of where it comes from."""
        return self.datasets / "hub"

    @property
    def pasted(self) -> Path:
        """Rows that were pasted, one file for each paste."""
        return self.datasets / "pasted"

    @property
    def mappings(self) -> Path:
        """Which columns are question and answer in datasets whose names do not tell, by their hash."""
        return self.datasets / ".mappings"

    @property
    def trash(self) -> Path:
        """What was removed and can be put back."""
        return self.root / "trash"

    @property
    def jobs(self) -> Path:
        """One folder per import, merge or export: its job, events and log."""
        return self.root / "jobs"

    @property
    def logs(self) -> Path:
        """What went wrong, for us to read."""
        return self.root / "logs"

    @property
    def recipes(self) -> Path:
        """Recipes saved from the window."""
        return self.root / "recipes"

    @property
    def queue(self) -> Path:
        """What waits for the card: the list, its locks and the log of who works through it."""
        return self.root / "queue"

    @property
    def reports(self) -> Path:
        """What the queue did while nobody watched, one text per time it was started."""
        return self.root / "reports"

    @property
    def settings(self) -> Path:
        """What the window remembers."""
        return self.root / "settings.json"

    @property
    def measurements(self) -> Path:
        """What runs on this computer's cards have really held, one JSON line each: later estimates learn from it."""
        return self.root / "measurements.jsonl"

    @property
    def window_lock(self) -> Path:
        """Held by the one window that is open on this workspace."""
        return self.root / "window.lock"

    def engine(self, device: str) -> Path:
        """The mailbox of the engine that holds `device` (`cuda-0`, `cpu`): one engine, one lease."""
        return self.root / "engine" / device
