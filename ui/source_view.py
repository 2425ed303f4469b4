"""What is known of rows that are not a file on this computer yet. No Qt, no widgets."""

from __future__ import annotations

from dataclasses import dataclass

from studio.data.pasted import Pasted
from studio.runs.hub_jobs import HubLook


@dataclass
class SourceView:
    """A set on the hub, or rows that were pasted, as far as it is known; grows in place."""

    name: str = ""
    """The set that is asked for, as it was typed."""
    busy: str = ""
    """What is going on: looking, downloading or keeping; empty if nothing is."""
    done: int = 0
    total: int = 0
    look: HubLook | None = None
    pasted: Pasted | None = None
    path: str = ""
    """Where the rows lie, once they are here."""
    error: str = ""
    hint: str = ""
