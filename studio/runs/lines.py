"""One frozen dataclass per line of JSON: the form in which events and wishes lie on the disk.

A reader skips what it does not know: an unknown name (a newer engine wrote it), an unknown key, a torn last line (what a
crash leaves). It never guesses: a known name with a missing key is skipped too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from studio import files

T = TypeVar("T")


class Vocabulary(Generic[T]):
    """The dataclasses that may stand on a line, by their names."""

    def __init__(self, key: str, kinds: Iterable[type[T]]) -> None:
        self._key = key
        self._kinds = {kind.__name__: kind for kind in kinds}

    def to_dict(self, record: T) -> dict[str, Any]:
        """The record as JSON would hold it, its name first."""
        assert type(record).__name__ in self._kinds, f"{type(record).__name__} is not in this vocabulary"
        # Not `asdict`: it deep-copies, and a line is written for each token of an answer.
        return {self._key: type(record).__name__, **vars(record)}

    def to_line(self, record: T) -> str:
        """One line of JSON without its newline. NaN and infinity are refused: no other program could read them."""
        return json.dumps(self.to_dict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def from_dict(self, value: object) -> T | None:
        """The record, or None if this is none of ours."""
        if not isinstance(value, dict) or not isinstance(value.get(self._key), str):
            return None
        kind = self._kinds.get(value[self._key])
        if kind is None:
            return None
        names = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
        try:
            return kind(**{name: entry for name, entry in value.items() if name in names})
        except TypeError:
            return None

    def from_line(self, line: str) -> T | None:
        """The record, or None if the line is torn, foreign or newer than this program."""
        try:
            return self.from_dict(json.loads(line))
        except (ValueError, RecursionError):
            return None


class Mailbox(Generic[T]):
    """A file of lines that one side appends to and the other follows. The file is the truth; nobody waits for anybody."""

    def __init__(self, path: Path, vocabulary: Vocabulary[T]) -> None:
        self.path = path
        self._vocabulary = vocabulary
        self._offset = 0
        self._torn = b""

    def post(self, record: T) -> None:
        """Append one line."""
        files.append_line(self.path, self._vocabulary.to_line(record))

    def read(self) -> list[T]:
        """What has come since the last call; an unfinished last line is left for the next one."""
        try:
            if self.path.stat().st_size <= self._offset:
                return []
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._torn = (self._torn + data).split(b"\n")
        records = (self._vocabulary.from_line(line.decode("utf-8", "replace")) for line in lines if line.strip())
        return [record for record in records if record is not None]
