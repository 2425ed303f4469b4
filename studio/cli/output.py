"""What a command prints, and where: results on stdout, everything else on stderr.

With `--json` stdout carries JSON and nothing else, so that a program can read it without looking.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any, TextIO

_BAR_CHARACTERS = 24


class Output:
    """Two streams and the choice between text and JSON."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._out = out
        self._err = err
        self.bar = ProgressBar(err)

    def result(self, document: Any, text: str) -> None:
        """The one thing that the command was asked for: as a JSON document, or as text."""
        self.bar.clear()
        _write(self._out, json.dumps(document, allow_nan=False) if self.as_json else text)

    def event(self, line: dict[str, Any]) -> None:
        """One event, for programs that follow; nothing in text mode."""
        if self.as_json:
            self.bar.clear()
            _write(self._out, json.dumps(line, allow_nan=False))

    def say(self, text: str) -> None:
        """A sentence on how it goes: on stdout for people, on stderr if a program reads stdout."""
        self.bar.clear()
        _write(self._err if self.as_json else self._out, text)

    def stream(self, text: str) -> None:
        """A piece of an answer as it comes; people only."""
        if not self.as_json:
            self.bar.clear()
            self._out.write(text)
            self._out.flush()

    def note(self, text: str) -> None:
        """Something worth knowing that is not part of the result."""
        self.bar.clear()
        _write(self._err, text)


class ProgressBar:
    """One line on stderr that renews itself; where that is no terminal, a line at every twentieth of the way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._is_shown = False
        self._last_told = -1

    def begin(self) -> None:
        """A new piece of work: its first line is told again."""
        self.clear()
        self._last_told = -1

    def update(self, done: int, total: int, text: str) -> None:
        """Show `done` of `total`, with `text` behind it."""
        share = min(1.0, done / total) if total > 0 else 0.0
        if not self._is_terminal:
            twentieth = int(share * 20)
            if twentieth != self._last_told:
                self._last_told = twentieth
                _write(self._stream, f"{done}/{total}  {text}")
            return
        full = int(share * _BAR_CHARACTERS)
        line = f"[{'#' * full}{'.' * (_BAR_CHARACTERS - full)}] {done}/{total}  {text}"
        columns = shutil.get_terminal_size().columns
        self._stream.write(f"\r{line[: columns - 1].ljust(columns - 1)}")
        self._stream.flush()
        self._is_shown = True

    def clear(self) -> None:
        """Make room for ordinary lines."""
        if self._is_shown:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{' ' * (columns - 1)}\r")
            self._stream.flush()
            self._is_shown = False


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under their headings."""
    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _write(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
