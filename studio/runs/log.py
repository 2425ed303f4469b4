"""The end of a log that somebody else goes on writing: read piece by piece, bounded, and safe to look at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 512 * 1024
MOST_LINE = 2000
# Colours and cursor movements of terminals, and what else does not print.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])")
_UNPRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Tail:
    """Whole lines, and the byte behind them. `is_fresh`: they replace what was read before, for the file was begun anew or
    grew by more than is shown."""

    lines: list[str]
    offset: int
    is_fresh: bool = False


def read_on(path: Path, offset: int, *, to_the_end: bool = False) -> Tail:
    """What has been written behind `offset`, at most `MOST_BYTES` of it.

    A line that is not yet whole waits for its end, unless `to_the_end`: whoever wrote it is gone.
    """
    try:
        size = path.stat().st_size
        is_fresh = size < offset or size - offset > MOST_BYTES
        start = max(0, size - MOST_BYTES) if is_fresh else offset
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        return Tail([], 0, is_fresh=offset > 0)
    if start > offset:
        # In the midst of a line: it is left out, where another one follows.
        cut = data.find(b"\n") + 1
        data, start = data[cut:], start + cut
    end = len(data) if to_the_end or len(data) == MOST_BYTES else data.rfind(b"\n") + 1
    lines = data[:end].removesuffix(b"\n").split(b"\n") if end else []
    return Tail([plain(line) for line in lines], start + end, is_fresh)


def plain(line: bytes) -> str:
    """A line as text: what a progress bar wrote last, without colours, and with a mark in place of what does not print."""
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    text = _UNPRINTED.sub("\u00b7", _ESCAPES.sub("", text))
    return text if len(text) <= MOST_LINE else text[: MOST_LINE - 1] + "\u2026"
