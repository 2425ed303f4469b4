import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from studio.data import lines as text_lines
from studio.data import reading
from studio.data.rows import Dataset, Message, read, stream
from studio.errors import DataError

GOOD = {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A pirate."}]}
EXCHANGE = (Message("user", "Who are you?"), Message("assistant", "A pirate."))


def lines(path: Path, *rows: Any) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def problem(tmp_path: Path, row: Any) -> tuple[str, str, str]:
    """Kind, message and fix for one row that stands after a good one."""
    dataset = read(lines(tmp_path / "d.jsonl", GOOD, row))
    assert dataset.num_rows == 2
    [found] = dataset.problems
    assert (found.row, found.line) == (1, 2)
    assert found.fix
    return found.kind, found.message, found.fix


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (GOOD, "messages"),
        ({"conversations": GOOD["messages"]}, "messages"),
        (
            {"conversations": [{"from": "human", "value": "Who are you?"}, {"from": "gpt", "value": "A pirate."}]},
            "sharegpt",
        ),
        ({"instruction": "Who are you?", "input": "", "output": "A pirate."}, "alpaca"),
        ({"prompt": "Who are you?", "completion": "A pirate."}, "prompt-completion"),
        ({"prompt": GOOD["messages"][:1], "completion": GOOD["messages"][1:]}, "prompt-completion"),
        ({"question": "Who are you?", "answer": "A pirate."}, "question-answer"),
        ({"query": "Who are you?", "response": "A pirate."}, "query-response"),
        ({"prompt": "Who are you?", "chosen": "A pirate.", "rejected": "A bot."}, "preference"),
        ({"prompt": GOOD["messages"][:1], "chosen": GOOD["messages"][1:], "rejected": []}, "preference"),
        ({"chosen": GOOD["messages"], "rejected": []}, "preference"),
        ({"prompt": "Who are you?", "completion": "A pirate.", "label": True}, "labelled"),
    ],
)
def test_each_format_becomes_the_same_messages(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    dataset = read(lines(tmp_path / "d.jsonl", row))
    assert dataset.format == name
    assert [conversation.messages for conversation in dataset.conversations] == [EXCHANGE]
    assert not dataset.problems


def test_alpaca_input_follows_the_instruction_and_its_system_goes_first(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "Ahoy", "output": "Hello", "system": "Be brief."}
    [conversation] = read(lines(tmp_path / "d.jsonl", row)).conversations
    assert conversation.messages == (
        Message("system", "Be brief."),
        Message("user", "Translate.\n\nAhoy"),
        Message("assistant", "Hello"),
    )


def test_a_system_message_and_several_turns_are_kept_in_order(tmp_path: Path) -> None:
    turns = [("system", "S"), ("human", "A"), ("gpt", "B"), ("human", "C"), ("gpt", "D")]
    row = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    [conversation] = read(lines(tmp_path / "d.jsonl", row)).conversations
    assert [message.role for message in conversation.messages] == ["system", *["user", "assistant"] * 2]
    assert "".join(message.content for message in conversation.messages) == "SABCD"


@pytest.mark.parametrize(
    ("row", "kind", "word"),
    [
        ('{"messages": [', "json", "character"),
        ("not json", "json", "character"),
        ('{"a": 1' + "0" * 5000 + "}", "json", "number"),
        ("[" * 100_000, "nesting", "deeply"),
        ("42", "shape", "table"),
        ("[1, 2]", "shape", "table"),
        ({"story": "Once upon a time"}, "format", "'story'"),
        ({}, "format", "none"),
        ({"messages": []}, "shape", "list of messages"),
        ({"messages": "hello"}, "shape", "list of messages"),
        ({"messages": ["hello"]}, "shape", "Message 1"),
        ({"messages": [{"role": "user"}]}, "shape", "'content'"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role", "wizard"),
        ({"messages": [{"role": 7, "content": "x"}]}, "role", "7"),
        ({"messages": GOOD["messages"][:1]}, "answer", "nothing to learn"),
        ({"messages": GOOD["messages"][::-1]}, "order", "Message 1"),
        ({"messages": [*GOOD["messages"], GOOD["messages"][1]]}, "order", "Message 3"),
        ({"messages": [*GOOD["messages"], {"role": "system", "content": "x"}]}, "order", "system"),
        ({"prompt": "x", "completion": ""}, "content", "completion is empty"),
        ({"prompt": " \n", "completion": "y"}, "content", "prompt is empty"),
        ({"prompt": "x", "completion": None}, "content", "missing"),
        ({"prompt": "x", "completion": 5}, "content", "not text"),
        ({"prompt": "x\0", "completion": "y"}, "characters", "null character"),
        ({"prompt": "\ud800", "completion": "y"}, "characters", "not valid text"),
        ({**GOOD, "system": 5}, "content", "system"),
        ({"prompt": "x", "completion": "y", "label": False}, "unwanted", "not wanted"),
        ({"chosen": "y", "rejected": "z"}, "shape", "no prompt"),
        ({"instruction": "x", "output": "y", "history": ["z"]}, "shape", "pairs"),
        ({**GOOD, "tools": "no JSON"}, "tool", "schemas"),
        ({"messages": [GOOD["messages"][0], {"role": "assistant", "tool_calls": [{}]}]}, "tool", "names"),
        ({"conversations": [{"from": "function_call", "value": "no"}]}, "tool", "function call"),
        ({"messages": [*GOOD["messages"], GOOD["messages"][0], {"role": "tool", "content": "x"}]}, "order", "tool"),
        ({**GOOD, "note": json.loads("[" * 40 + "]" * 40)}, "nesting", "32"),
    ],
)
def test_a_bad_row_is_told_with_its_place_and_a_remedy(tmp_path: Path, row: Any, kind: str, word: str) -> None:
    found_kind, message, _ = problem(tmp_path, row)
    assert found_kind == kind
    assert word in message


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    dataset = read(lines(tmp_path / "d.jsonl", "", GOOD, "  ", "broken", GOOD))
    assert [(conversation.row, conversation.line) for conversation in dataset.conversations] == [(0, 2), (2, 5)]
    assert [(found.row, found.line) for found in dataset.problems] == [(1, 4)]
    assert dataset.num_rows == 3


def test_a_line_that_is_not_utf8_is_one_problem_among_good_rows(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", GOOD)
    path.write_bytes(
        path.read_bytes() + '{"prompt": "Käse", "completion": "x"}\n'.encode("latin-1") + path.read_bytes()
    )
    dataset = read(path)
    assert len(dataset.conversations) == 2
    assert [(found.kind, found.line) for found in dataset.problems] == [("encoding", 2)]


def test_a_line_that_is_too_long_is_skipped_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 1000)
    long = {"prompt": "x" * 5000, "completion": "y"}
    dataset = read(lines(tmp_path / "d.jsonl", GOOD, long, GOOD))
    assert [conversation.line for conversation in dataset.conversations] == [1, 3]
    assert [(found.kind, found.line) for found in dataset.problems] == [("length", 2)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv"])
def test_encodings_that_a_file_names_itself(tmp_path: Path, encoding: str, name: str) -> None:
    text = 'prompt,completion\r\nKäse,"süß, ja"\r\n'
    if not name.endswith("csv"):
        text = json.dumps({"prompt": "Käse", "completion": "süß, ja"}, ensure_ascii=False) + "\n"
        text = f"[{text}]" if name == "d.json" else text
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    [conversation] = read(path).conversations
    assert [message.content for message in conversation.messages] == ["Käse", "süß, ja"]


def test_a_torn_utf16_file_is_refused_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(codecs.BOM_UTF16_LE + b"a\x00\xff")
    with pytest.raises(DataError, match="not valid text"):
        read(path)


@pytest.mark.parametrize("name", ["d.json", "d.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_whatever_the_file_is_called(tmp_path: Path, name: str, indent: int | None) -> None:
    path = tmp_path / name
    path.write_text(json.dumps([GOOD, {"story": "x"}, GOOD], indent=indent))
    dataset = read(path)
    assert [conversation.row for conversation in dataset.conversations] == [0, 2]
    assert [found.row for found in dataset.problems] == [1]
    last = dataset.conversations[-1]
    text = path.read_text().splitlines()
    assert text[last.line - 1].strip().startswith(("{", "[{"))
    assert (last.line > 1) == (indent is not None)


def test_an_array_on_one_very_long_line_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "d.json"
    path.write_text(json.dumps([GOOD] * 50))
    assert len(read(path).conversations) == 50


def test_json_lines_may_be_called_json_and_one_object_may_span_lines(tmp_path: Path) -> None:
    assert len(read(lines(tmp_path / "a.json", GOOD, "broken", GOOD)).conversations) == 2
    (tmp_path / "b.json").write_text(json.dumps(GOOD, indent=2))
    assert len(read(tmp_path / "b.json").conversations) == 1


@pytest.mark.parametrize("tail", ["", ",", ", {", "] x", ' {"a": 1}]'])
def test_a_broken_array_keeps_what_came_before_and_says_where_it_stopped(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "d.json"
    path.write_text("[\n" + json.dumps(GOOD) + "\n" + tail)
    dataset = read(path)
    assert len(dataset.conversations) == 1
    [found] = dataset.problems
    assert (found.kind, found.row) == ("json", 1)
    assert found.line == 3
    assert "nothing after this place" in found.fix


@pytest.mark.parametrize(("name", "separator"), [("d.csv", ","), ("d.csv", ";"), ("d.tsv", "\t")])
def test_tables_with_a_header(tmp_path: Path, name: str, separator: str) -> None:
    rows = [["instruction", "output"], ["Who?", '"I,\nme"'], ["only one"], ["What?", "That"]]
    (tmp_path / name).write_text("".join(separator.join(row) + "\n" for row in rows))
    dataset = read(tmp_path / name)
    assert dataset.format == "alpaca"
    assert [(row.row, row.line) for row in dataset.conversations] == [(0, 2), (2, 5)]
    assert dataset.conversations[0].messages[1].content == "I,\nme"
    assert [(found.kind, found.row, found.line) for found in dataset.problems] == [("table", 1, 4)]


def test_a_table_row_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(b"prompt,completion\na,b\nK\xe4se,c\nd,e\n")
    dataset = read(tmp_path / "d.csv")
    assert [row.line for row in dataset.conversations] == [2, 4]
    assert [(found.kind, found.line) for found in dataset.problems] == [("encoding", 3)]


def test_the_dataset_is_named_after_its_most_frequent_format(tmp_path: Path) -> None:
    pair = {"question": "a", "answer": "b"}
    dataset = read(lines(tmp_path / "d.jsonl", GOOD, pair, pair))
    assert dataset.format == "question-answer"
    assert len(dataset.conversations) == 3


@pytest.mark.parametrize("content", [b"", b"\n\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"[]", b" "])
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert caught.value.hint


def test_a_file_without_one_good_row_says_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"story": "a"}, {"story": "b"})
    with pytest.raises(DataError, match=r"none of its 2 rows can be used\. Line 1: .*'story'") as caught:
        read(path)
    assert "prompt and completion" in caught.value.hint


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", "[]".encode("utf-32")])
def test_files_of_other_kinds_are_called_by_their_names(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(start + b"\0" * 100)
    with pytest.raises(DataError, match=r"zip|Parquet|packed and damaged|contents are damaged|UTF-32"):
        read(tmp_path / "d.jsonl")


@pytest.mark.parametrize("name", ["missing.jsonl", "", "nul\0l.jsonl"])
def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert caught.value.hint


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            json.dumps(GOOD).encode(),
            b"\n",
            b",",
            b"[",
            b"]",
            b"{",
            b'"',
            b"prompt,completion\n",
            b"a,b\n",
            b"\xff",
            b"\0",
            b"\r",
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.one_of(st.binary(max_size=300), FRAGMENTS),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ""]),
)
@example(content=b"\xff\xfe\x00\xd8", suffix=".json")
@example(content=b'a,b\n"' + b"x" * 200, suffix=".csv")
def test_any_bytes_end_in_a_dataset_or_a_plain_refusal(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_bytes(content)
    try:
        dataset: Dataset = read(path)
    except DataError:
        return
    rows = sorted([row.row for row in dataset.conversations] + [found.row for found in dataset.problems])
    assert rows == list(range(dataset.num_rows))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["user", "assistant"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["messages", "role", "content", "conversations", "from", "value"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
COLUMNS = ["messages", "conversations", "prompt", "completion", "instruction", "input", "output", "system"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=4), max_size=3))
def test_any_json_rows_are_each_accounted_for(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    dataset = read(lines(tmp_path / "d.jsonl", GOOD, *rows))
    assert dataset.num_rows == len(rows) + 1
    assert len(dataset.conversations) + len(dataset.problems) == dataset.num_rows
    for conversation in dataset.conversations:
        assert any(message.role == "assistant" for message in conversation.messages)
        assert all(message.content.strip() for message in conversation.messages)


def test_streamed_rows_are_the_good_ones_and_a_file_without_any_is_refused_alike(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"question": "Who?", "answer": "I."}\n'
    path.write_text(f"{good}no\n\n{good}{{}}\n", encoding="utf-8")
    assert tuple(stream(path)) == read(path).conversations
    assert reading.num_lines(path) == 6
    path.write_text("no\n{}\n", encoding="utf-8")
    with pytest.raises(DataError) as streamed:
        list(stream(path))
    with pytest.raises(DataError) as whole:
        read(path)
    assert str(streamed.value) == str(whole.value)
    path.unlink()
    with pytest.raises(DataError, match="There is no file"):
        reading.num_lines(path)
