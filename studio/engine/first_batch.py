"""The rows of the first step, made readable: what the model sees, and which of it is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.engine.template import Example
from studio.runs.first_batch import MAX_ROWS, MAX_TOKENS, FirstBatch, SeenRow, Token


def first_batch(rows: Sequence[Example], tokenizer: Any) -> FirstBatch:
    """The step that learns from `rows`, with the first rows and tokens of it as text."""
    seen: list[SeenRow] = []
    room = MAX_TOKENS
    for row in rows[:MAX_ROWS]:
        if not room:
            break
        tokens = _tokens(row, room, tokenizer)
        seen.append(SeenRow(row.row, len(row.ids), row.num_supervised, tokens))
        room -= len(tokens)
    return FirstBatch(
        num_rows=len(rows),
        num_tokens=sum(len(row.ids) for row in rows),
        num_supervised=sum(row.num_supervised for row in rows),
        rows=tuple(seen),
    )


def _tokens(row: Example, most: int, tokenizer: Any) -> tuple[Token, ...]:
    ids, trained = row.ids[:most].tolist(), row.trained[:most].tolist()
    # The first token has nothing before it from which it could be predicted.
    return tuple(
        Token(number, str(tokenizer.decode([number])), is_trained and place > 0)
        for place, (number, is_trained) in enumerate(zip(ids, trained, strict=True))
    )
