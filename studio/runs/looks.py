"""Rows to be shown as a base sees them: asked for in one file, answered in others, by a worker that keeps its tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.data.conversation import RawRow
from studio.runs.lines import Mailbox, Vocabulary

SHOWN = "shown"


@dataclass(frozen=True)
class ShowRow:
    """Show this row. `value` is its value as JSON in ASCII, for it may hold what UTF-8 cannot; `key` names the answer."""

    key: int
    row: int
    line: int
    value: str

    @classmethod
    def of(cls, key: int, raw: RawRow) -> ShowRow:
        """To ask for a row as it was read."""
        return cls(key, raw.row, raw.line, json.dumps(raw.value))

    @property
    def raw(self) -> RawRow:
        """The row again."""
        return RawRow(self.row, self.line, json.loads(self.value))


def request_file(folder: Path) -> Mailbox[ShowRow]:
    """Where rows are asked for."""
    return Mailbox(folder / "asked.jsonl", Vocabulary("ask", [ShowRow]))


def answer_path(folder: Path, key: int) -> Path:
    """Where the answer lies, as JSON in ASCII in its value `answer`: any text survives that."""
    return folder / f"shown-{key}.json"


def read_answer(folder: Path, key: int) -> dict[str, Any]:
    """`{"shown": {...}}` as `studio.engine.look.show` makes it, or `{"error": message, "hint": hint}`."""
    answer: dict[str, Any] = json.loads(files.read_json(answer_path(folder, key))["answer"])
    return answer
