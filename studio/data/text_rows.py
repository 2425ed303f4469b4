"""Rows from prose: paragraphs of a text or Markdown file, gathered into pieces that a context can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from studio.data.conversation import GOES_ON, RawRow, RowProblem
from studio.data.lines import Line, line_problem

# About a thousand tokens of English. A paragraph is never cut, so that a piece may be longer.
PIECE_CHARACTERS = 4000


def text_rows(lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    """One row `{"text": ...}` for each piece: whole paragraphs, and a new piece before a Markdown heading if one is half full.

    A piece after which the text goes on says so: nothing ends there that a model should learn to end.
    """
    row, begins, length = 0, 1, 0
    piece: list[str] = []
    done: RawRow | None = None  # full, and whether anything follows is not known yet
    for line in lines:
        if done and (line.text is None or line.text.strip()):
            yield _going_on(done)
            done = None
        if line.text is None:
            yield line_problem(row, line)
            row += 1
            continue
        if piece and _is_full(line.text, length):
            done = RawRow(row, begins, {"text": "\n".join(piece).strip("\n")})
            row, piece, length = row + 1, [], 0
            if line.text.strip():
                yield _going_on(done)
                done = None
        if not piece:
            if not line.text.strip():
                continue
            begins = line.number
        piece.append(line.text)
        length += len(line.text) + 1
    if piece:
        yield RawRow(row, begins, {"text": "\n".join(piece).strip("\n")})
    elif done:
        yield done


def _is_full(text: str, length: int) -> bool:
    """Whether a piece of that length ends before the line `text`."""
    return length >= (
        PIECE_CHARACTERS // 2 if text.startswith("#") else PIECE_CHARACTERS if not text.strip() else math.inf
    )


def _going_on(piece: RawRow) -> RawRow:
    return replace(piece, value={**piece.value, GOES_ON: True})
