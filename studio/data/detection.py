"""Which format a dataset is in, how sure that is, and why; where the names do not tell, a guess that the user confirms.

Only the first rows are looked at. Roles and columns are read as `studio.data.formats` reads them: what is detected here is what
training will see.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from studio.data.conversation import RawRow, RowError, RowProblem
from studio.data.formats import PAIRS, Mapping, format_of, to_messages
from studio.data.reading import raw_rows
from studio.data.turns import ROLE_NAMES

SAMPLE_ROWS = 200
SURE = 0.9
_BY_NAME, _BY_LIKENESS, _BY_SHAPE = 0.99, 0.7, 0.4
_QUESTIONS = (
    "question",
    "query",
    "prompt",
    "instruction",
    "input",
    "user",
    "human",
    "problem",
    "request",
    "source",
    "q",
)
_ANSWERS = ("answer", "response", "output", "completion", "assistant", "reply", "solution", "target", "bot", "a")
_SYSTEMS = ("system", "systemprompt", "systemmessage", "persona")
_WHY = {
    "messages": "its rows have a list of messages with role and content",
    "sharegpt": "its rows have a list conversations with from and value",
    "preference": "its rows have the columns chosen and rejected",
    "labelled": "its rows have a completion with a label that is true or false",
    "text": "its rows have a column text and no answer",
}


@dataclass(frozen=True)
class Detection:
    """`format` is a name of `studio.data.formats`, `mapped` for a guess, empty if nothing fits. `confidence` is from 0 to 1.

    `mapping` is there for a guess alone: nothing is read by it before the user has confirmed it.
    """

    format: str
    confidence: float
    reason: str
    mapping: Mapping | None = None

    @property
    def is_sure(self) -> bool:
        """Whether nobody needs to be asked."""
        return self.mapping is None and self.confidence >= SURE


def detect(path: Path) -> Detection:
    """Look at the first rows of a dataset. Raises `DataError` if it cannot be read."""
    return detect_rows(islice(raw_rows(path), SAMPLE_ROWS))


def detect_rows(rows: Iterable[RawRow | RowProblem]) -> Detection:
    """The format of these rows."""
    seen = list(rows)
    tables = [raw.value for raw in seen if isinstance(raw, RawRow) and isinstance(raw.value, dict)]
    if not tables:
        return Detection("", 0.0, "no row could be read as a table of named values")
    names = Counter(name for name in map(format_of, tables) if name)
    if names:
        (name, count), *others = names.most_common()
        good = sum(map(_is_good, tables))
        reason = f"{_WHY.get(name) or _pair_reason(name)}; {good} of the first {len(seen)} rows can be used"
        if others:
            reason += f"; {sum(other for _, other in others)} rows look like {', '.join(other for other, _ in others)}"
        return Detection(name, round(_BY_NAME * count / len(seen), 2), reason)
    return _guess(tables, len(seen))


def _pair_reason(name: str) -> str:
    return f"its rows have the columns {' and '.join(PAIRS[name])}"


def _is_good(row: dict[str, Any], mapping: Mapping | None = None) -> bool:
    try:
        to_messages(row, mapping)
    except RowError:
        return False
    return True


# --- guesses -------------------------------------------------------------------------------------------------------


def _guess(rows: Sequence[dict[str, Any]], num_seen: int) -> Detection:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for confidence, mapping, why in _candidates(rows, columns):
        share = sum(_is_good(row, mapping) for row in rows) / num_seen
        if share:
            return Detection("mapped", round(confidence * share, 2), f"{why}; please confirm", mapping)
    return Detection("", 0.0, f"none of its columns holds text that could be learnt: {', '.join(columns[:8])}")


def _candidates(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Iterable[tuple[float, Mapping, str]]:
    """Mappings that could be meant, most likely first."""
    for column in columns:
        mapping = _conversation(column, [row[column] for row in rows if column in row])
        if mapping:
            yield _BY_LIKENESS, mapping, f"the column {column} holds lists of messages"
    texts = [column for column in columns if any(isinstance(row.get(column), str) for row in rows)]
    question, answer = _like(texts, _QUESTIONS), _like(texts, _ANSWERS)
    system = _like(texts, _SYSTEMS)
    if question and answer:
        yield _BY_LIKENESS, Mapping(question, answer, system), f"{question} and {answer} sound like question and answer"
    others = [column for column in texts if column != system]
    if len(others) == 2:
        yield (
            _BY_SHAPE,
            Mapping(others[0], others[1], system),
            "there are two columns of text, of which the second may be the answer",
        )
    if others:
        longest = max(others, key=lambda column: sum(len(str(row.get(column, ""))) for row in rows))
        yield _BY_SHAPE / 2, Mapping(answer=longest), f"the column {longest} holds the longest texts"


def _like(columns: Sequence[str], names: Sequence[str]) -> str:
    plain = {re.sub(r"[^a-z]", "", column.lower()): column for column in columns}
    return next((plain[name] for name in names if name in plain), "")


def _conversation(column: str, values: Sequence[Any]) -> Mapping | None:
    """Which keys of these messages are role and content: the role's values are few and known, the content's are longest."""
    messages = [turn for value in values if isinstance(value, list) for turn in value if isinstance(turn, dict)]
    keys = list(dict.fromkeys(key for turn in messages for key, text in turn.items() if isinstance(text, str)))
    roles = [key for key in keys if all(str(turn.get(key, "")).strip().lower() in ROLE_NAMES for turn in messages)]
    others = [key for key in keys if key not in roles]
    if not roles or not others:
        return None
    content = max(others, key=lambda key: sum(len(str(turn.get(key, ""))) for turn in messages))
    return Mapping(conversation=column, role_key=roles[0], content_key=content)
