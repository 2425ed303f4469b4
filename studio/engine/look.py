"""A dataset as one base would see it, without the base's weights: how long its rows are, and any row token by token."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from studio.data.conversation import Conversation, RowProblem
from studio.data.formats import Mapping
from studio.data.lengths import Lengths, consequence
from studio.data.reading import raw_rows
from studio.data.rows import judge, stream
from studio.engine.encoders import encode_batches, num_workers
from studio.engine.row_cache import in_batches
from studio.engine.template import Coder
from studio.errors import DataError

Progress = Callable[[str, int, int], None]
MOST_PROBLEMS = 100
# Rows are measured as they are: this cuts none.
_NO_LIMIT = (1 << 31) - 1


def measure(
    coder: Coder, data: Path, max_tokens: int, kept: Path, progress: Progress, mapping: Mapping | None = None
) -> dict[str, Any]:
    """Encode all good rows and keep their `Lengths` in the file `kept`. Returns plain values: `tokens`, what a limit of
    `max_tokens` costs, and the rows in which nothing can be learnt, with the reason.

    Raises `DataError` if there is no good row, `BaseModelError` if the template is of no use.
    """

    def told(done: int, total: int) -> None:
        progress("bytes", done, total)

    batches = in_batches(stream(data, mapping, told))
    columns: list[Lengths] = []
    problems: list[dict[str, Any]] = []
    num_refused = 0
    with closing(encode_batches(coder, batches, _NO_LIMIT, num_workers(data))) as encoded:
        for batch in encoded:
            columns.append(_lengths(batch))
            refused = batch.filter(pc.is_valid(batch["problem"]))
            num_refused += refused.num_rows
            for row, message in zip(refused["row"].to_pylist(), refused["problem"].to_pylist(), strict=True):
                if len(problems) < MOST_PROBLEMS:
                    problems.append({"row": row, "kind": "template", "message": message})
    lengths = Lengths(
        *(np.concatenate([getattr(one, name) for one in columns]) for name in Lengths.__dataclass_fields__)
    )
    lengths.save(kept)
    total, supervised = int(lengths.tokens.sum()), int(lengths.supervised.sum())
    return {
        "tokens": {"total": total, "supervised": supervised, **vars(lengths.quantiles)},
        "consequence": asdict(consequence(lengths, max_tokens)),
        "lengths": str(kept),
        "num_refused": num_refused,
        "refused": problems,
    }


def _lengths(batch: pa.RecordBatch) -> Lengths:
    """Of the rows of a batch in which there is something to learn. The first token of a row is never learnt."""
    batch = batch.filter(pc.greater(batch["num_supervised"], 0))
    tokens = pc.list_value_length(batch["ids"]).to_numpy().astype(np.int64)
    ends = np.cumsum(tokens)
    starts = ends - tokens
    is_trained = batch["trained"].flatten().to_numpy(zero_copy_only=False).copy()
    is_trained[starts] = False
    places = np.flatnonzero(is_trained)
    first = places[np.searchsorted(places, starts)] - starts
    last = places[np.searchsorted(places, ends) - 1] - starts
    rows, supervised = (batch[name].to_numpy().astype(np.int64) for name in ("row", "num_supervised"))
    return Lengths(rows, tokens, first, last, supervised)


def show(coder: Coder, conversation: Conversation, max_tokens: int) -> dict[str, Any]:
    """One row as the model sees it: `tokens` with id, text, whether it is learnt and whether it is cut; `rendered`.

    Raises `DataError` if the answers in it cannot be told from the rest.
    """
    (example,) = coder.encode([conversation])
    if isinstance(example, DataError):
        raise example
    texts = coder.texts(example.ids.tolist())
    tokens = [
        {"id": number, "text": text, "trained": is_trained, "cut": place >= max_tokens}
        for place, (number, text, is_trained) in enumerate(
            zip(example.ids.tolist(), texts, example.trained.tolist(), strict=True)
        )
    ]
    return {
        "row": conversation.row,
        "line": conversation.line,
        "tokens": tokens,
        "rendered": coder.rendered(conversation),
        "num_tokens": len(tokens),
        "num_supervised": example.num_supervised,
        "num_cut": max(0, len(tokens) - max_tokens),
    }


def find_row(data: Path, number: int, mapping: Mapping | None = None) -> Conversation:
    """The good row of that number, counted from 0. Raises `DataError` if there is none, or a bad one."""
    last = -1
    for raw in raw_rows(data):
        last = raw.row
        if raw.row < number:
            continue
        found = raw if isinstance(raw, RowProblem) else judge(raw, mapping)
        if isinstance(found, RowProblem):
            raise DataError(f"Row {number} of {data.name} cannot be used. {found}", found.fix)
        return found[1]
    raise DataError(f"{data.name} has no row {number}: it has {last + 1}.", "Rows are counted from 0.")
