"""Mends change copies and count what they did; versions can be undone; the user's file is never touched."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.data.canonical import canonical, exported, write_rows
from studio.data.chosen import choose
from studio.data.conversation import RawRow, RowProblem
from studio.data.examine import examine
from studio.data.formats import Mapping
from studio.data.mends import Tally, labels, mended, named
from studio.data.mixing import Part, mixed
from studio.data.reading import raw_rows
from studio.data.rows import read
from studio.data.versions import VersionedSet
from studio.errors import ChangedError, DamagedError, DataError
from studio.places import Workspace
from tests.studio.data.test_near import text


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def after(value: Any, *names: str) -> list[Any]:
    return list(mended([RawRow(0, 1, value)], named(names), Tally()))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("mojibake", {"text": "KÃ¤se and itâ€™s Ã"}, {"text": "Käse and it\u2019s Ã"}),
        ("mojibake", {"text": "Käse Ã¤\ufffd"}, {"text": "Käse Ã¤\ufffd"}),
        ("control", {"text": "a\x07\ufeffb\tc\nd\ud800"}, {"text": "ab\tc\nd"}),
        ("trim", chat(("user", " a\n")), chat(("user", "a"))),
        ("email", {"question": "to jack@example.org!"}, {"question": "to [e-mail]!"}),
        ("secrets", {"text": "sk-" + "a" * 20 + " pwd = hunter22!"}, {"text": "[API key] pwd = [password]"}),
        (
            "secrets",
            {"text": "a -----BEGIN PRIVATE " + "KEY-----\nMII=\n-----END PRIVATE KEY----- b"},
            {"text": "a [private key] b"},
        ),
        ("secrets", {"text": "password: [password] PWD of the day"}, {"text": "password: [password] PWD of the day"}),
        ("numbers", {"question": 5, "id": 7, "answer": True}, {"question": "5", "id": 7, "answer": True}),
        ("numbers", chat(("user", 1.5)), chat(("user", "1.5"))),
        (
            "turns",
            chat(("system", "s"), ("assistant", "Hi"), ("human", "a"), ("user", "b"), ("gpt", "c"), ("assistant", "d")),
            chat(("system", "s"), ("human", "a\n\nb"), ("gpt", "c\n\nd")),
        ),
        (
            "messages",
            {"question": "a", "answer": "b", "id": 7},
            {"id": 7, **chat(("user", "a"), ("assistant", "b"))},
        ),
        ("messages", {"broken": 1}, {"broken": 1}),
    ],
)
def test_a_mend_does_what_it_says_to_a_copy(name: str, value: Any, wanted: Any) -> None:
    before = copy.deepcopy(value)
    assert after(value, name) == [wanted]
    assert value == before
    assert labels()[name]


def test_rows_that_go_are_counted_by_the_reason() -> None:
    good, other = chat(("user", "a"), ("assistant", "b")), chat(("user", "a\x07"), ("assistant", "c"))
    rows = [
        RawRow(0, 1, good),
        RawRow(1, 2, dict(reversed(good.items()))),
        RawRow(2, 3, {"broken": 1}),
        RowProblem(3, 4, "json", "", ""),
        RawRow(4, 5, other),
        RawRow(5, 6, chat(("user", "x"), ("assistant", "y"))),
    ]
    tally = Tally()
    left = list(mended(rows, named(["unusable", "repeats", "control"]), tally, {5: "near"}))
    assert left == [good, chat(("user", "a"), ("assistant", "c"))]
    assert tally.told() == {
        "num_rows": 6,
        "num_kept": 2,
        "changed": {"control": 1},
        "removed": {"repeats": 1, "unusable": 1, "unreadable": 1, "near": 1},
    }
    with pytest.raises(DataError, match="no mend called 'wash'"):
        named(["wash"])


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my rows.jsonl"
    lines = [json.dumps({"question": f"Who is {n}?", "answer": text(n), "id": n}) for n in range(5)]
    lines += ["broken", json.dumps({"question": "Who?", "answer": text(0) + " Arrr!"})]
    lines += [json.dumps({"question": "KÃ¤se?", "answer": "b"}), lines[0]]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_mend_makes_a_version_that_undo_takes_back_and_the_file_stays_as_it_is(tmp_path: Path, source: Path) -> None:
    workspace, before = Workspace(tmp_path / "home"), source.read_bytes()
    rows = VersionedSet(workspace, source)
    assert (rows.current.number, rows.current.path) == (0, source)
    first = rows.mend(["mojibake", "repeats"])
    assert first.tally == {
        "num_rows": 9,
        "num_kept": 7,
        "changed": {"mojibake": 1},
        "removed": {"unreadable": 1, "repeats": 1},
        "num_written": 7,
    }
    second = rows.mend(["near"])
    assert second.tally["removed"] == {"near": 1}
    assert examine(second.path).num_rows == 6
    again = VersionedSet(workspace, source)  # as after a restart
    assert again.current.number == 2
    assert again.undo().number == 1
    assert again.undo().number == 0
    with pytest.raises(DataError, match="nothing to undo"):
        again.undo()
    assert again.redo().number == 1
    third = again.mend(["trim"])
    assert (third.number, third.parent) == (3, 1)
    with pytest.raises(DataError, match="nothing to redo"):
        again.redo()
    assert [version.number for version in again.versions] == [0, 1, 2, 3]
    assert source.read_bytes() == before
    assert {"id": 4, "question": "Who is 4?", "answer": text(4)} in [
        raw.value for raw in raw_rows(third.path) if isinstance(raw, RawRow)
    ]


def test_a_version_in_which_nothing_is_left_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "d.jsonl"
    source.write_text('{"a": 1}\n')
    rows = VersionedSet(Workspace(tmp_path / "home"), source)
    with pytest.raises(DataError, match="No row would be left"):
        rows.mend(["unusable"])
    assert (rows.current.number, len(rows.versions)) == (0, 1)
    assert not list(rows.folder.glob("*.jsonl"))


def test_rows_edited_by_hand_are_a_version_too(tmp_path: Path, source: Path) -> None:
    rows = VersionedSet(Workspace(tmp_path / "home"), source)
    made = rows.replace([{"question": "a", "answer": "b"}], "edited")
    assert (made.mends, made.tally) == (("edited",), {"num_written": 1})
    assert rows.undo().number == 0


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, source: Path) -> None:
    rows = VersionedSet(Workspace(tmp_path / "home"), source)
    source.write_text('{"question": "new", "answer": "b"}\n')
    with pytest.raises(ChangedError):
        rows.mend(["trim"])
    assert VersionedSet(Workspace(tmp_path / "home"), source).folder != rows.folder


def test_a_damaged_history_is_told(tmp_path: Path, source: Path) -> None:
    rows = VersionedSet(Workspace(tmp_path / "home"), source)
    rows.mend(["trim"])
    (rows.folder / "history.json").write_text('{"versions": 5}')
    with pytest.raises(DamagedError):
        VersionedSet(Workspace(tmp_path / "home"), source)


def test_bytes_of_windows_are_mended_by_reading_them_so(tmp_path: Path) -> None:
    source = tmp_path / "d.jsonl"
    source.write_bytes('{"question": "Käse?", "answer": "süß"}\n'.encode("cp1252"))
    made = VersionedSet(Workspace(tmp_path / "home"), source).mend([], fallback="cp1252")
    assert [raw.value for raw in raw_rows(made.path) if isinstance(raw, RawRow)] == [
        {"question": "Käse?", "answer": "süß"}
    ]


# --- the canonical form, and mixtures --------------------------------------------------------------------------------

CONTENT = st.text(min_size=1, max_size=8).filter(str.strip).filter(lambda t: "\0" not in t)
CONTENT = CONTENT.filter(lambda t: t.isprintable() or t.isascii())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.one_of(
            st.builds(lambda q, a: {"question": q, "answer": a, "id": 1}, CONTENT, CONTENT),
            st.builds(lambda q, i, a: {"instruction": q, "input": i, "output": a}, CONTENT, CONTENT, CONTENT),
            st.builds(lambda t: {"text": t, "source": "x"}, CONTENT),
            st.builds(lambda q, a: {"prompt": q, "chosen": a, "rejected": "no"}, CONTENT, CONTENT),
            st.builds(
                lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
                CONTENT,
                CONTENT,
            ),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_exported_rows_read_back_as_the_same_conversations_with_their_other_columns(
    tmp_path: Path, rows: list[Any]
) -> None:
    path, out = tmp_path / "d.jsonl", tmp_path / "out.jsonl"
    write_rows(path, rows)
    left_out: list[RowProblem] = []
    assert write_rows(out, exported(raw_rows(path), left_out)) == len(rows)
    assert not left_out
    assert read(out).conversations == read(path).conversations
    for old, new in zip(rows, raw_rows(out), strict=True):
        assert isinstance(new, RawRow)
        for column in ("id", "source", "rejected"):
            assert new.value.get(column) == old.get(column)


def test_export_tells_what_it_left_out(tmp_path: Path, source: Path) -> None:
    left_out: list[RowProblem] = []
    assert write_rows(tmp_path / "out.jsonl", exported(raw_rows(source), left_out)) == 8
    assert [problem.line for problem in left_out] == [6]
    mapped = canonical(RawRow(0, 1, {"Frage": "a", "Antwort": "b", "id": 1}), Mapping("Frage", "Antwort"))
    assert mapped == {"id": 1, **chat(("user", "a"), ("assistant", "b"))}


def test_weights_take_rows_more_than_once_or_some_of_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.jsonl", [{"question": f"{name} {n}", "answer": "x"} for n in range(400)])
    parts = [Part(tmp_path / "a.jsonl", 2.0), Part(tmp_path / "b.jsonl", 0.25)]
    values = list(mixed(parts))
    assert [part.num_good for part in parts] == [400, 400]
    assert parts[0].num_taken == 800
    assert 60 < parts[1].num_taken < 140
    assert len(values) == 800 + parts[1].num_taken
    # A row more moves no other.
    with open(tmp_path / "b.jsonl", "ab") as file:
        file.write(b'{"question": "new", "answer": "x"}\nbroken\n')
    more = [Part(tmp_path / "b.jsonl", 0.25)]
    assert [value for value in mixed(more) if value["messages"][0]["content"] != "new"] == values[800:]
    assert [problem.kind for problem in more[0].problems] == ["json"]
    for weight in (0.0, -1.0, 1000.0, float("nan")):
        with pytest.raises(DataError, match="weight"):
            list(mixed([Part(tmp_path / "a.jsonl", weight)]))


def test_a_mended_version_is_read_by_the_columns_that_its_set_is_read_by(tmp_path: Path) -> None:
    workspace, source = Workspace(tmp_path / "home"), tmp_path / "rows.jsonl"
    source.write_text('{"Frage": " a ", "Antwort": "b"}\n')
    rows, mapping = VersionedSet(workspace, source), Mapping("Frage", "Antwort")
    trimmed = rows.mend(["trim"], mapping)
    assert choose(workspace, trimmed.path).mapping == mapping
    assert choose(workspace, rows.mend(["messages"], mapping).path).mapping is None
    with pytest.raises(DataError, match="cannot be told for certain"):
        choose(workspace, source)
