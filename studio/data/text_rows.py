"""Rows from prose: paragraphs of a text or Markdown file, gathered into pieces that a context can hold."""

from __future__ import annotations

from collections.abc import Iterator

from studio.data.conversation import RawRow, RowProblem
from studio.data.lines import Line, line_problem

# About a thousand tokens of English. A paragraph is never cut, so that a piece may be longer.
PIECE_CHARACTERS = 4000


def text_rows(lines: Iterator[Line]) -> Iterator[RawRow | RowProblem]:
    """One row `{"text": ...}` for each piece: whole paragraphs, and a new piece before a Markdown heading if one is half full."""
    row, begins, length = 0, 1, 0
    piece: list[str] = []
    for line in lines:
        if line.text is None:
            yield line_problem(row, line)
            row += 1
            continue
        text = line.text
        is_end = (not text.strip() and length >= PIECE_CHARACTERS) or (
            text.startswith("#") and length >= PIECE_CHARACTERS // 2
        )
        if is_end and piece:
            yield RawRow(row, begins, {"text": "\n".join(piece).strip("\n")})
            row, piece, length = row + 1, [], 0
        if not piece:
            if not text.strip():
                continue
            begins = line.number
        piece.append(text)
        length += len(text) + 1
    if piece:
        yield RawRow(row, begins, {"text": "\n".join(piece).strip("\n")})
