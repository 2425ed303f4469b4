"""What a dataset holds, as far as can be told at once: all of a small one, the beginning of a large one in bounded memory.

The whole of a large dataset is the business of `studio.data.examine`.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from pathlib import Path

from studio.data.chosen import Chosen
from studio.data.columnar import num_parquet_rows
from studio.data.conversation import Conversation, RawRow, RowProblem
from studio.data.json_rows import value_rows
from studio.data.opening import kind_of, members, num_bytes, readable, unpacked
from studio.data.reading import raw_rows
from studio.data.rows import judge, nothing_to_train_on
from studio.data.survey import content_digest
from studio.errors import DataError

# About a second's worth of reading.
MOST_CHARACTERS, MOST_ROWS = 4 << 20, 20_000
MOST_PROBLEMS = 100


@dataclass(frozen=True)
class Beginning:
    """Counts of rows; if it `is_whole` they are exact, else about what they would be if the dataset went on as it begins.

    `num_duplicates` and what the longest row has are known of a whole dataset alone, and 0 else.
    """

    num_rows: int
    num_good: int
    problems: tuple[RowProblem, ...]
    is_whole: bool
    num_duplicates: int = 0
    most_characters: int = 0
    most_turns: int = 0


def look_at_beginning(chosen: Chosen) -> Beginning:
    """Look at a dataset. Raises `DataError` if it cannot be read, or if none of the rows that were looked at can be used."""
    with readable(chosen.path):
        rows, share = _beginning(chosen.path)
    judged = [raw if isinstance(raw, RowProblem) else judge(raw, chosen.mapping) for raw in rows]
    problems = [found for found in judged if isinstance(found, RowProblem)]
    good = [found[1] for found in judged if not isinstance(found, RowProblem)]
    if not good:
        raise _refusal(chosen.path, problems, is_whole=share == 1.0)
    if share == 1.0:
        return _whole(good, problems)
    num_rows = len(rows) / share
    num_good = num_rows * len(good) / len(rows)
    return Beginning(_rounded(num_rows), _rounded(num_good), tuple(problems[:MOST_PROBLEMS]), is_whole=False)


def _whole(good: list[Conversation], problems: list[RowProblem]) -> Beginning:
    return Beginning(
        len(good) + len(problems),
        len(good),
        tuple(problems[:MOST_PROBLEMS]),
        is_whole=True,
        num_duplicates=len(good) - len({content_digest(one) for one in good}),
        most_characters=max(one.num_characters for one in good),
        most_turns=max(len(one.messages) for one in good),
    )


def _refusal(path: Path, problems: list[RowProblem], *, is_whole: bool) -> DataError:
    if is_whole:
        return nothing_to_train_on(path, problems, len(problems))
    first = problems[0]
    message = f"{path.name}: none of its first {len(problems)} rows can be used. Line {first.line}: {first.message}"
    return DataError(message, first.fix)


def _rounded(number: float) -> int:
    """To the two digits that a beginning can tell."""
    return int(float(f"{number:.1e}"))


def _beginning(path: Path) -> tuple[list[RawRow | RowProblem], float]:
    """The first rows, and about which share of the dataset they are; 1.0 for all of them."""
    files, total = members(path), num_bytes(path)
    # An array would be read whole before its first row is there.
    large = [file for file in files if file.stat().st_size > MOST_CHARACTERS and kind_of(file).form == "values"]
    if large:
        return _first_values(large[0], total)
    rows: list[RawRow | RowProblem] = []
    news = (0, 0)  # rows read, and bytes of them

    def told(done: int, _total: int) -> None:
        nonlocal news
        news = (len(rows), done)

    size = 0
    for raw in raw_rows(path, told):
        if size >= MOST_CHARACTERS or len(rows) >= MOST_ROWS:
            return rows, min(_share(files, total, rows, size, news), 0.99)
        rows.append(raw)
        size += len(json.dumps(raw.value)) if isinstance(raw, RawRow) else 0
    return rows, 1.0


def _share(files: list[Path], total: int, rows: list[RawRow | RowProblem], size: int, news: tuple[int, int]) -> float:
    if all(file.suffix.lower() == ".parquet" for file in files):
        return len(rows) / max(1, sum(map(num_parquet_rows, files)))
    counted, done = news
    return done / total * len(rows) / counted if counted and done else size / total


def _first_values(path: Path, total: int) -> tuple[list[RawRow | RowProblem], float]:
    """The first elements of an array; the last that was read is torn and left out."""
    kind = kind_of(path)
    with unpacked(path, kind.packing) as (file, packed):
        text = codecs.getincrementaldecoder(kind.encoding)().decode(file.read(MOST_CHARACTERS))
        done = packed.tell()
    rows: list[RawRow | RowProblem] = [
        raw for raw in value_rows(text.removeprefix("\ufeff")) if isinstance(raw, RawRow)
    ]
    return rows, min(done / total, 0.99)
