"""Read a dataset: every row of the file becomes a conversation or a problem with its line. Nothing is dropped silently."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from studio.data.conversation import ROLES, Conversation, Dataset, Message, RawRow, RowError, RowProblem
from studio.data.formats import Mapping, to_messages
from studio.data.reading import Progress, raw_rows
from studio.errors import DataError

__all__ = ["ROLES", "Conversation", "Dataset", "Message", "RowProblem", "judge", "read", "stream"]


def read(path: Path, mapping: Mapping | None = None, progress: Progress | None = None) -> Dataset:
    """Detect the format of `path` and read it: JSON, CSV, TSV, Parquet, Arrow, text or Markdown, packed or not, or a folder.

    Rows of different formats may stand in one file; the dataset is named after the most frequent one. Raises `DataError`
    if the file is missing, unreadable, empty or has not one good row.
    """
    conversations: list[Conversation] = []
    problems: list[RowProblem] = []
    formats: Counter[str] = Counter()
    for found in _judged(path, mapping, progress):
        if isinstance(found, RowProblem):
            problems.append(found)
        else:
            name, conversation = found
            formats[name] += 1
            conversations.append(conversation)
    if not conversations:
        raise nothing_to_train_on(path, problems[:1], len(problems))
    return Dataset(
        formats.most_common(1)[0][0],
        tuple(conversations),
        tuple(problems),
        len(conversations) + len(problems),
        dict(formats.most_common()),
    )


def stream(
    path: Path, mapping: Mapping | None = None, progress: Progress | None = None, group_by: str = ""
) -> Iterator[Conversation]:
    """The good rows of `path` one after another, for files too large to be held. Raises as `read` does, if late.

    Rows with the same value in the column `group_by`, if one is named, are a group; if no row has it, that is a `DataError`.
    """
    first: list[RowProblem] = []
    num_good = num_bad = 0
    has_group = not group_by
    for found in _judged(path, mapping, progress, group_by):
        if isinstance(found, RowProblem):
            num_bad += 1
            first = first or [found]
        else:
            num_good += 1
            has_group = has_group or bool(found[1].group)
            yield found[1]
    if not num_good:
        raise nothing_to_train_on(path, first, num_bad)
    if not has_group:
        raise DataError(
            f"No row of {path.name} has the column {group_by[:40]!r} by which rows are kept together.",
            "Correct data.group_by, or leave it empty.",
        )


def _judged(
    path: Path, mapping: Mapping | None, progress: Progress | None, group_by: str = ""
) -> Iterator[tuple[str, Conversation] | RowProblem]:
    """Each row: its format and the conversation, or what is wrong with it."""
    for raw in raw_rows(path, progress):
        yield raw if isinstance(raw, RowProblem) else judge(raw, mapping, group_by)


def judge(raw: RawRow, mapping: Mapping | None = None, group_by: str = "") -> tuple[str, Conversation] | RowProblem:
    """One row: its format and the conversation, or what is wrong with it."""
    try:
        name, messages, tools = to_messages(raw.value, mapping)
    except RowError as error:
        return error.at(raw)
    group = json.dumps(raw.value[group_by]) if group_by and raw.value.get(group_by) is not None else ""
    return name, Conversation(messages, raw.row, raw.line, tools, group)


def nothing_to_train_on(path: Path, first_problem: Sequence[RowProblem], num_rows: int) -> DataError:
    """Why a file without one good row is refused: what is wrong with the first."""
    if not first_problem:
        return DataError(f"{path.name} is empty.", "Choose a file with at least one conversation.")
    first = first_problem[0]
    count = "its only row" if num_rows == 1 else f"none of its {num_rows} rows"
    verb = "cannot be used" if num_rows == 1 else "can be used"
    return DataError(f"{path.name}: {count} {verb}. Line {first.line}: {first.message}", first.fix)
