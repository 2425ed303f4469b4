"""Mends: functions of one row's value that put right what `examine` finds. They change copies; a file is never touched here."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio.data.canonical import canonical
from studio.data.checks import EMAIL, MOJIBAKE, without_secrets
from studio.data.conversation import RawRow, RowError, RowProblem
from studio.data.formats import PAIRS, Mapping, to_messages
from studio.data.turns import ROLE_NAMES
from studio.errors import DataError

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]|[\ud800-\udfff]")
_TEXT_COLUMNS = {
    "text",
    "system",
    "input",
    "content",
    "value",
    "chosen",
    "rejected",
    *(c for pair in PAIRS.values() for c in pair),
}
_LISTS = {"messages", "conversations"}


@dataclass(frozen=True)
class Mend:
    """One mend: what it is called, what it does in the user's words, and the new value of a row, which is None if it goes."""

    name: str
    label: str
    apply: Callable[[Any], Any]


@dataclass
class Tally:
    """What mends did: rows read, left as they were, changed by each mend and removed by each. Unreadable rows are those that
    no row could be made of; they are in no new version."""

    num_rows: int = 0
    num_kept: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "num_rows": self.num_rows,
            "num_kept": self.num_kept,
            "changed": dict(self.changed),
            "removed": dict(self.removed),
        }


def mended(
    rows: Iterable[RawRow | RowProblem], mends: Sequence[Mend], tally: Tally, dropped: dict[int, str] | None = None
) -> Iterator[Any]:
    """The values that remain, each mend in its turn applied to each. `dropped` names rows that go, and why."""
    for raw in rows:
        tally.num_rows += 1
        reason = (dropped or {}).get(raw.row)
        if reason or isinstance(raw, RowProblem):
            tally.removed[reason or "unreadable"] += 1
            continue
        value = raw.value
        for mend in mends:
            new = mend.apply(value)
            if new is None:
                tally.removed[mend.name] += 1
                break
            tally.changed[mend.name] += new != value
            value = new
        else:
            tally.num_kept += 1
            yield value
    tally.changed = +tally.changed


def named(names: Iterable[str], mapping: Mapping | None = None) -> list[Mend]:
    """The mends of these names, in the order in which they are to be applied. Raises `DataError` for another name.

    `repeats` remembers what it has seen: take a new one for each dataset.
    """
    known = {mend.name: mend for mend in (*_MENDS, _usable(mapping), _no_repeats(), _as_messages(mapping))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(f"There is no mend called {unknown[0][:30]!r}.", f"Choose of: {', '.join(known)}.")
    return [mend for name, mend in known.items() if name in set(names)]


def labels() -> dict[str, str]:
    """What each mend does, by its name."""
    return {mend.name: mend.label for mend in (*_MENDS, _usable(None), _no_repeats(), _as_messages(None))}


# --- texts -----------------------------------------------------------------------------------------------------------


def _in_texts(change: Callable[[str], str]) -> Callable[[Any], Any]:
    """Apply a change to every text of a row, however deep; names of columns stay."""

    def apply(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [apply(inner) for inner in value]
        if isinstance(value, dict):
            return {key: apply(inner) for key, inner in value.items()}
        return value

    return apply


def without_control(text: str) -> str:
    """Without control characters, byte order marks and halves of letters; line breaks and tabs stay."""
    return _CONTROL.sub("", text)


def unscrambled(text: str) -> str:
    """UTF-8 that was read as Windows-1252 put right, wherever that gives sound text; all else stays as it is."""
    if not MOJIBAKE.search(text):
        return text
    return "".join(map(_decoded, re.split(r"(\s+)", text)))


def _decoded(word: str) -> str:
    for encoding in ("cp1252", "latin-1"):
        try:
            return word.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return word


def _numbers_as_text(value: Any) -> Any:
    """Numbers where text belongs, in columns and in messages."""
    if not isinstance(value, dict):
        return value
    return {key: _as_text(key, inner) for key, inner in value.items()}


def _as_text(key: str, value: Any) -> Any:
    if key in _LISTS and isinstance(value, list):
        return [_numbers_as_text(turn) for turn in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if key in _TEXT_COLUMNS and is_number else value


# --- turns -----------------------------------------------------------------------------------------------------------


def _joined_turns(value: Any) -> Any:
    """Turns of the same speaker one after another become one; an assistant who speaks before anybody asked is left out."""
    if not isinstance(value, dict):
        return value
    return {
        key: _join(inner) if key in _LISTS and isinstance(inner, list) and all(map(_is_turn, inner)) else inner
        for key, inner in value.items()
    }


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and any(
        isinstance(turn.get(role), str) and isinstance(turn.get(content), str)
        for role, content in (("role", "content"), ("from", "value"))
    )


def _join(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for turn in turns:
        role, content = ("role", "content") if "role" in turn else ("from", "value")
        speaker = ROLE_NAMES.get(str(turn[role]).strip().lower(), turn[role])
        before = joined[-1] if joined else {}
        same = before and ROLE_NAMES.get(str(before.get(role)).strip().lower(), before.get(role)) == speaker
        if same and speaker in ("user", "assistant") and not turn.get("tool_calls") and not before.get("tool_calls"):
            joined[-1] = {**before, content: f"{before[content]}\n\n{turn[content]}"}
        elif speaker != "assistant" or any(_speaker(one) == "user" for one in joined):
            joined.append(turn)
    return joined


def _speaker(turn: dict[str, Any]) -> str:
    stated = str(turn.get("role", turn.get("from"))).strip().lower()
    return ROLE_NAMES.get(stated, stated)


# --- rows ------------------------------------------------------------------------------------------------------------


def _usable(mapping: Mapping | None) -> Mend:
    def apply(value: Any) -> Any:
        try:
            to_messages(value, mapping)
        except RowError:
            return None
        return value

    return Mend("unusable", "Leave out rows that cannot be learnt", apply)


def _no_repeats() -> Mend:
    seen: set[bytes] = set()

    def apply(value: Any) -> Any:
        key = hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).digest()[:16]
        if key in seen:
            return None
        seen.add(key)
        return value

    return Mend("repeats", "Leave out rows that repeat an earlier one", apply)


def _as_messages(mapping: Mapping | None) -> Mend:
    def apply(value: Any) -> Any:
        found = canonical(RawRow(0, 0, value), mapping)
        return value if isinstance(found, RowProblem) else found

    return Mend("messages", "Write every row as messages, which needs no mapping", apply)


_MENDS = (
    Mend("mojibake", "Put garbled letters right", _in_texts(unscrambled)),
    Mend("control", "Remove control characters", _in_texts(without_control)),
    Mend("trim", "Remove white space around texts", _in_texts(str.strip)),
    Mend("secrets", "Replace likely secrets by words in brackets", _in_texts(without_secrets)),
    Mend("email", "Put [e-mail] in the place of e-mail addresses", _in_texts(lambda text: EMAIL.sub("[e-mail]", text))),
    Mend("numbers", "Take numbers for text where text belongs", _numbers_as_text),
    Mend("turns", "Join turns of the same speaker", _joined_turns),
)
