"""Rows in the one form that every program reads: JSON lines with `messages` (or `text`), all other columns kept beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from studio import files
from studio.data.conversation import RawRow, RowError, RowProblem
from studio.data.formats import PAIRS, Mapping, to_messages

# The columns of each format that become messages; what was not chosen stays where it is.
_USED = {
    "messages": ("messages", "conversations", "system"),
    "sharegpt": ("conversations", "system"),
    "preference": ("prompt", "chosen", "system"),
    "labelled": ("prompt", "completion", "label", "system"),
    "text": ("text",),
    "alpaca": ("instruction", "input", "output", "history", "system"),
}


def canonical(raw: RawRow, mapping: Mapping | None = None) -> dict[str, Any] | RowProblem:
    """The row with its messages as OpenAI writes them, or what is wrong with it."""
    try:
        name, messages, tools = to_messages(raw.value, mapping)
    except RowError as error:
        return error.at(raw)
    if mapping:
        used = {mapping.question, mapping.answer, mapping.system, mapping.conversation}
    else:
        used = {*(_USED.get(name) or (*PAIRS[name], "system"))}
    kept = {key: value for key, value in raw.value.items() if key not in used}
    if messages[0].role == "text":
        return {**kept, "text": messages[0].content}
    return {
        **kept,
        "messages": [message.turn for message in messages],
        **({"tools": json.loads(tools)} if tools else {}),
    }


def write_rows(path: Path, values: Iterable[Any], needs_bytes: int = 0) -> int:
    """Write JSON lines; the file appears whole or not at all. Returns how many. Raises `DiskFullError`."""
    return write_lines(path, map(to_line, values), needs_bytes)


def write_lines(path: Path, lines: Iterable[bytes], needs_bytes: int = 0) -> int:
    """Write rows that are lines already, as `write_rows` does."""
    count = 0
    with files.new_file(path, needs_bytes=needs_bytes) as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def to_line(value: Any) -> bytes:
    """One line, readable where it can be: lone surrogates are escaped, as UTF-8 has no room for them."""
    try:
        return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii") + b"\n"


def exported(
    rows: Iterable[RawRow | RowProblem], left_out: list[RowProblem], mapping: Mapping | None = None
) -> Iterator[dict[str, Any]]:
    """The good rows in canonical form; each that is not good is added to `left_out`."""
    for raw in rows:
        found = raw if isinstance(raw, RowProblem) else canonical(raw, mapping)
        if isinstance(found, RowProblem):
            left_out.append(found)
        else:
            yield found
