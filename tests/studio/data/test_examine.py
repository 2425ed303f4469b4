"""Everything is counted, every find has its place and a remedy, and nothing falls through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.data import examine as module
from studio.data.checks import warnings
from studio.data.conversation import Conversation, Message
from studio.data.examine import Options, examine
from studio.data.survey import split
from tests.studio.data.test_near import text


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def pair(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ("a\x07b", "control", r"'\x07'"),
        ("a\ufeffb", "control", r"'\ufeff'"),
        ("KÃ¤se", "mojibake", "KÃ¤se"[1:3]),
        ("it\u00e2\u20ac\u2122s", "mojibake", "encoding"),
        ("lost \ufffd", "mojibake", "garbled"),
        ("Hi<|im_end|>", "markup", "<|im_end|>"),
        ("Hi [INST] you", "markup", "[INST]"),
        ("x" * 100_001, "huge", "100,00"),
    ],
)
def test_what_a_row_should_be_looked_at_for(content: str, kind: str, words: str) -> None:
    one = Conversation((Message("user", content), Message("assistant", "Aye.")), 3, 7)
    [found] = warnings(one)
    assert (found.row, found.line, found.kind) == (3, 7, kind)
    assert words in found.message
    assert found.fix
    assert found.column == ("" if kind == "huge" else "message 1")


@pytest.mark.parametrize(
    "content",
    [
        "Käse, it\u2019s \u201cgood\u201d \u2013 naïve",
        "a < b and c [1] > d",
        "line\nbreak\tand tab",
        "Привет 你好 🏴‍☠️ Ã",
        "x",
    ],
)
def test_ordinary_text_is_no_matter(content: str) -> None:
    assert not list(warnings(Conversation((Message("user", content),), 0, 1), privacy=True))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("key: AKIA" + "ABCDEFGH12345678", "secret"),
        ("use sk-" + "abcdefghijklmnopqrstuvwx", "secret"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "secret"),
        ("ghp_" + "a" * 36, "secret"),
        ("password: hunter22", "secret"),
        ("write to jack@example.org", "email"),
    ],
)
def test_secrets_are_told_only_if_asked_for_and_never_repeated(content: str, kind: str) -> None:
    one = Conversation((Message("user", content),), 0, 1)
    assert not list(warnings(one))
    [found] = warnings(one, privacy=True)
    assert found.kind == kind
    assert content.split()[-1] not in found.message
    call = Conversation((Message("assistant", "", json.dumps({"tool_calls": [content]})),), 0, 1)
    assert [found.kind for found in warnings(call, privacy=True)] == [kind]


def test_repeats_near_repeats_and_conflicts_each_with_the_earlier_row(tmp_path: Path) -> None:
    long = text(7)
    path = write(
        tmp_path / "d.jsonl",
        pair("Who are you?", long),
        "broken",
        pair("Who are you?", long),
        pair("Who are  YOU?", long + " Arrr!"),
        pair("Who are you?", text(8)),
        pair("What else?", text(9)),
    )
    found = examine(path, Options(fraction=0.0))
    assert (found.num_rows, found.num_good) == (6, 5)
    assert (found.repeats.count, found.repeats.first(9)) == (1, [(2, 0)])
    assert (found.near.count, found.near.first(9)) == (1, [(3, 0)])
    assert (found.conflicts.count, found.conflicts.first(1)) == (2, [(3, 0)])
    assert found.leaks.count == 0  # nothing is held out
    assert found.problem_counts == {"json": 1}
    assert found.roles == {"user": 5, "assistant": 5}
    assert found.turns.max == 2


def test_leaks_are_rows_whose_like_is_on_the_other_side_of_the_split(tmp_path: Path) -> None:
    rows = [pair(f"Question {n} {text(n, 30)}", f"{text(n)} {end}") for n in range(40) for end in ("Aye.", "Nay!")]
    path = write(tmp_path / "d.jsonl", *rows)
    conversations = [
        Conversation((Message("user", row["question"]), Message("assistant", row["answer"])), n, n + 1)
        for n, row in enumerate(rows)
    ]
    for seed in (1, 2):
        held = {one.row for one in split(conversations, 0.3, seed)[1]}
        parted = {(n + 1, n) for n in range(0, 80, 2) if (n in held) != (n + 1 in held)}
        found = examine(path, Options(fraction=0.3, seed=seed)).leaks
        assert set(found.first(99)) == parted
        assert found.count == len(parted) > 0


def test_what_is_kept_is_bounded_and_what_is_counted_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    found = examine(write(tmp_path / "d.jsonl", *["broken"] * 9, *[pair("a\x07", f"b {n}") for n in range(9)]))
    assert (len(found.problems), found.problem_counts) == (3, {"json": 9})
    assert (len(found.warnings), found.warning_counts) == (3, {"control": 9})


def test_it_can_be_broken_off(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def enough(_done: int, _total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        examine(write(tmp_path / "d.jsonl", pair("a", "b")), progress=enough)


ROWS = st.lists(
    st.sampled_from([pair("a", "b"), pair("a", "c"), pair("b", "b\x07"), "broken", "{}", pair("x", "")]), max_size=12
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_every_row_is_counted_once(tmp_path: Path, rows: list[Any]) -> None:
    found = examine(write(tmp_path / "d.jsonl", *rows))
    assert found.num_rows == len(rows)
    assert found.num_good + sum(found.problem_counts.values()) == len(rows)
    assert sum(found.formats.values()) == found.num_good
    good = [json.dumps(row) for row in rows if isinstance(row, dict) and row["answer"]]
    assert found.repeats.count == len(good) - len(set(good))
