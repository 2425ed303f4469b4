"""What the window remembers from one day to the next. Lost settings cost nothing but a click."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from studio import files
from studio.errors import DamagedError, StudioError
from studio.places import Workspace

_log = logging.getLogger(__name__)


@dataclass
class Settings:
    """Look, last page, place on the screen (Qt's own geometry, base64), which steps of the way were taken once, by the name of
    a page how it was looked at, whether the computer is kept from falling asleep while a run is at work, and whether the
    desktop is told how a run ended."""

    theme: str = "system"
    page: str = "home"
    geometry: str = ""
    milestones: list[str] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep_awake: bool = True
    notify: bool = True

    @classmethod
    def load(cls, workspace: Workspace) -> Settings:
        """What was saved; defaults for whatever is missing or unreadable."""
        try:
            saved = files.read_json(workspace.settings)
        except (OSError, DamagedError):
            return cls()
        defaults = cls()
        known = {each.name: type(getattr(defaults, each.name)) for each in fields(cls)}
        return cls(**{name: saved[name] for name, kind in known.items() if isinstance(saved.get(name), kind)})

    def values(self) -> dict[str, Any]:
        """A snapshot, for saving on another thread."""
        return asdict(self)


def save(workspace: Workspace, values: dict[str, Any]) -> None:
    """Write a snapshot. Failing to is worth a line in the log, not a message."""
    try:
        files.write_json(workspace.settings, values)
    except (OSError, StudioError) as error:
        _log.info("settings not saved: %s", error)
