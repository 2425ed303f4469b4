"""Read a dataset: every row of the file becomes a conversation or a problem with its line. Nothing is dropped silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from studio.data.conversation import ROLES, Conversation, Dataset, Message, RowError, RowProblem
from studio.data.formats import to_messages
from studio.data.reading import raw_rows
from studio.errors import DataError

__all__ = ["ROLES", "Conversation", "Dataset", "Message", "RowProblem", "read"]


def read(path: Path) -> Dataset:
    """Detect the format of `path` and read it: JSON lines, a JSON array, CSV or TSV, in UTF-8 or UTF-16.

    Rows of different formats may stand in one file; the dataset is named after the most frequent one. Raises `DataError`
    if the file is missing, unreadable, empty or has not one good row.
    """
    conversations: list[Conversation] = []
    problems: list[RowProblem] = []
    formats: Counter[str] = Counter()
    for raw in raw_rows(path):
        if isinstance(raw, RowProblem):
            problems.append(raw)
            continue
        try:
            name, messages = to_messages(raw.value)
        except RowError as error:
            problems.append(RowProblem(raw.row, raw.line, error.kind, error.message, error.fix))
            continue
        formats[name] += 1
        conversations.append(Conversation(messages, raw.row, raw.line))
    if not conversations:
        raise _nothing_to_train_on(path, problems)
    return Dataset(
        formats.most_common(1)[0][0], tuple(conversations), tuple(problems), len(conversations) + len(problems)
    )


def _nothing_to_train_on(path: Path, problems: list[RowProblem]) -> DataError:
    if not problems:
        return DataError(f"{path.name} is empty.", "Choose a file with at least one conversation.")
    first = problems[0]
    count = "its only row" if len(problems) == 1 else f"none of its {len(problems)} rows"
    verb = "cannot be used" if len(problems) == 1 else "can be used"
    return DataError(f"{path.name}: {count} {verb}. Line {first.line}: {first.message}", first.fix)
