"""Rows as the model sees them, in Arrow's columns: written batch by batch, read as a mapped file.

A mapped file costs address space, not memory: the system reads what is asked for and may forget it again. Every good row of the
data is in there, also those that came out without anything to learn, so that which rows are held out can be decided when they
are read: another seed or share needs no new file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from studio.data.conversation import Conversation
from studio.data.survey import held_out, side_digest
from studio.engine.template import Coder, Example
from studio.errors import DataError

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("digest", pa.binary(32)),  # of the conversation or its group: it decides the side of the split
        ("ids", pa.list_(pa.int32())),
        ("trained", pa.list_(pa.bool_())),  # one bit each
        ("num_supervised", pa.int32()),
        ("is_cut", pa.bool_()),
        ("problem", pa.string()),  # why there is nothing to learn; null where there is something
    ]
)
_NOTHING = Example(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.bool_), 0)


def encode_rows(coder: Coder, conversations: Sequence[Conversation], max_tokens: int) -> pa.RecordBatch:
    """Encode rows, cutting them at `max_tokens`; one without anything left to learn is kept with its problem alone."""
    examples, is_cut, problems = [], [], []
    for conversation, found in zip(conversations, coder.encode(conversations), strict=True):
        problem = None
        if isinstance(found, DataError):
            example, problem = _NOTHING, f"line {conversation.line}: {found.message}"
            is_cut.append(False)
        else:
            example = found.cut(max_tokens)
            is_cut.append(len(found.ids) > max_tokens)
            if not example.num_supervised:
                example, problem = (
                    _NOTHING,
                    f"line {conversation.line}: no answer is left within {max_tokens} tokens.",
                )
        examples.append(example)
        problems.append(problem)
    starts = np.cumsum([0, *(len(example.ids) for example in examples)], dtype=np.int32)
    rows = np.array([conversation.row for conversation in conversations], dtype=np.int64)
    num_supervised = np.array([example.num_supervised for example in examples], dtype=np.int32)
    digests = b"".join(side_digest(conversation) for conversation in conversations)
    columns = [
        _column(pa.int64(), rows),
        _column(pa.binary(32), digests),
        _lists(starts, _column(pa.int32(), np.concatenate([_NOTHING.ids, *(x.ids for x in examples)]))),
        _lists(starts, _flags(np.concatenate([_NOTHING.trained, *(x.trained for x in examples)]))),
        _column(pa.int32(), num_supervised),
        _flags(np.array(is_cut, dtype=np.bool_)),
        pa.array(problems, pa.string()) if any(problems) else pa.nulls(len(problems), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


# Made from memory as it is: `pa.array` loads pandas to see whether it is given one of its arrays, which takes a worker half a
# second and 40 MB.


def _column(kind: pa.DataType, values: NDArray[Any] | bytes) -> pa.Array:
    """Values of a fixed width."""
    buffer = pa.py_buffer(values)
    return pa.Array.from_buffers(kind, buffer.size * 8 // kind.bit_width, [None, buffer])


def _flags(values: NDArray[np.bool_]) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))])


def _lists(starts: NDArray[np.int32], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(_column(pa.int32(), starts), values)


class Rows(Sequence[Example]):
    """Some rows of a mapped file, each made an `Example` when it is asked for. `places` are their places in the file."""

    def __init__(self, table: pa.Table, places: NDArray[np.int64]) -> None:
        self._table = table
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Example | Rows:
        if isinstance(index, slice):
            return Rows(self._table, self._places[index])
        place = self._places[index]
        number = int(np.searchsorted(self._starts, place, side="right")) - 1
        batch, at = self._batches[number], int(place - self._starts[number])
        return Example(
            batch.column("ids")[at].values.to_numpy(),
            batch.column("trained")[at].values.to_numpy(zero_copy_only=False),
            batch.column("row")[at].as_py(),
        )


@dataclass(frozen=True)
class Encoded:
    """Rows ready for training, and what became of those that are not. Tokens are those of one epoch."""

    examples: Rows
    num_cut: int
    num_dropped: int
    first_problem: str
    num_tokens: int
    num_supervised: int
    longest: int


class EncodedFile:
    """All rows of one dataset, encoded. Raises an `OSError` or an `ArrowException` if the file is none of ours."""

    def __init__(self, path: Path) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if self._table.schema != SCHEMA:
            raise pa.ArrowInvalid(f"{path.name} has other columns")

    def split(self, fraction: float, seed: int) -> tuple[Encoded, Encoded]:
        """Training and held-out rows, as `studio.data.survey.split` would part the conversations."""
        digests = (digest.as_py() for digest in self._table["digest"])
        is_held_out = held_out(digests, fraction, seed)
        return self._side(~is_held_out), self._side(is_held_out)

    def _side(self, is_ours: NDArray[np.bool_]) -> Encoded:
        num_supervised = self._table["num_supervised"].to_numpy()
        lengths = pc.list_value_length(self._table["ids"]).to_numpy()
        dropped = np.flatnonzero(is_ours & (num_supervised == 0))
        return Encoded(
            examples=Rows(self._table, np.flatnonzero(is_ours & (num_supervised > 0))),
            num_cut=int((is_ours & self._table["is_cut"].to_numpy()).sum()),
            num_dropped=len(dropped),
            first_problem=self._table["problem"][int(dropped[0])].as_py() if len(dropped) else "",
            num_tokens=int(lengths[is_ours].sum()),
            num_supervised=int(num_supervised[is_ours].sum()),
            longest=int(lengths[is_ours].max(initial=0)),
        )
