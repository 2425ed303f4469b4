"""Every kind of file, packed or not, and folders of them: the same rows, in bounded memory, with progress."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.data import columnar
from studio.data.conversation import RawRow, RowProblem
from studio.data.opening import num_bytes, sha256
from studio.data.reading import num_lines, raw_rows
from studio.data.rows import Message, read
from studio.errors import DataError

PAIRS = [{"question": f"Who are you, {n}?", "answer": f"Käpt'n {n}."} for n in range(600)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in PAIRS).encode()


def write_stream(path: Path) -> None:
    table = pa.Table.from_pylist(PAIRS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_arrow(path: Path) -> None:
    table = pa.Table.from_pylist(PAIRS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


def rows_or_refusal(path: Path) -> list[RawRow | RowProblem]:
    """None if the file as a whole is refused, which must be said with a remedy."""
    try:
        return list(raw_rows(path))
    except DataError as error:
        if not (error.message and error.hint):
            raise AssertionError("no remedy") from error
        return []


WRITERS: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl": lambda path: path.write_bytes(JSONL),
    "rows.jsonl.gz": lambda path: path.write_bytes(gzip.compress(JSONL)),
    "rows.jsonl.zst": lambda path: path.write_bytes(pa.Codec("zstd").compress(JSONL, asbytes=True)),
    "rows.json": lambda path: path.write_text(json.dumps(PAIRS, indent=1)),
    "rows.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(PAIRS).encode())),
    "rows.csv.zst": lambda path: path.write_bytes(
        pa.Codec("zstd").compress(
            ("question,answer\n" + "".join(f'"{row["question"]}","{row["answer"]}"\n' for row in PAIRS)).encode(),
            asbytes=True,
        )
    ),
    "rows.parquet": lambda path: pq.write_table(pa.Table.from_pylist(PAIRS), path, row_group_size=50),
    "rows.arrow": write_arrow,
    "stream.arrow": write_stream,
    # Named wrongly, as downloads are: the first bytes decide.
    "rows.txt.jsonl": write_arrow,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_rows_from_every_kind_of_file(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    found = list(raw_rows(tmp_path / name))
    assert [raw.value for raw in found if isinstance(raw, RawRow)] == PAIRS
    assert [raw.row for raw in found] == list(range(600))
    assert read(tmp_path / name).format == "question-answer"


@pytest.mark.parametrize(
    ("name", "count"),
    [("rows.jsonl", 601), ("rows.jsonl.gz", 601), ("rows.jsonl.zst", 601), ("rows.parquet", 600), ("rows.json.gz", 1)],
)
def test_lines_are_those_behind_the_packing(tmp_path: Path, name: str, count: int) -> None:
    WRITERS[name](tmp_path / name)
    assert num_lines(tmp_path / name) == count


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet", "rows.arrow", "stream.arrow"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_refused_in_plain_words_or_read_up_to_there(
    tmp_path: Path, name: str, share: float
) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    assert all(isinstance(raw, RawRow | RowProblem) for raw in rows_or_refusal(tmp_path / name))


def test_a_folder_is_read_file_after_file_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.jsonl").write_bytes(JSONL + b"broken\n")
    (tmp_path / "sub" / "c.csv").write_text("question,answer\na,b\n")
    (tmp_path / "a.md").write_text("# Title\n\nSome prose.\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.jsonl").write_bytes(b"broken\n")
    found = list(raw_rows(tmp_path))
    assert [raw.row for raw in found] == list(range(603))
    assert [(raw.file, raw.line) for raw in (found[0], found[1], found[-1])] == [
        ("a.md", 1),
        ("b.jsonl", 1),
        ("sub/c.csv", 2),
    ]
    dataset = read(tmp_path)
    assert dataset.formats == {"question-answer": 601, "text": 1}
    assert [str(problem).split(":")[0] for problem in dataset.problems] == ["b.jsonl, line 601"]
    before = sha256(tmp_path)
    (tmp_path / "sub" / "c.csv").write_text("question,answer\na,c\n")
    assert sha256(tmp_path) != before
    assert num_bytes(tmp_path) > len(JSONL)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset in the folder"):
        read(tmp_path)


def test_prose_becomes_pieces_of_whole_paragraphs(tmp_path: Path) -> None:
    paragraph = "word " * 300
    (tmp_path / "book.txt").write_text("\n\n".join([paragraph.strip()] * 6) + "\n")
    found = [raw for raw in raw_rows(tmp_path / "book.txt") if isinstance(raw, RawRow)]
    assert [raw.line for raw in found] == [1, 7]
    text = "\n\n".join(raw.value["text"] for raw in found)
    assert text == (tmp_path / "book.txt").read_text().strip()
    (tmp_path / "notes.md").write_text("# A\n" + "x" * 2500 + "\n# B\ny\n")
    assert [raw.line for raw in raw_rows(tmp_path / "notes.md")] == [1, 3]
    dataset = read(tmp_path / "book.txt")
    assert dataset.format == "text"
    assert dataset.conversations[0].is_text


@pytest.mark.parametrize(
    ("after", "goes_on"),
    [
        ("\n\n\n", [False]),  # blank lines alone follow the full piece
        ("\n\n\nmore\n", [True, False]),
        ("\n# Title\nmore\n", [True, False]),
    ],
)
def test_a_piece_of_prose_says_whether_the_text_goes_on_after_it(
    after: str, goes_on: list[bool], tmp_path: Path
) -> None:
    (tmp_path / "book.md").write_text("word " * 1000 + after)
    assert [one.goes_on for one in read(tmp_path / "book.md").conversations] == goes_on
    # Nor is it forgotten by what is exported.
    rows = [raw.value for raw in raw_rows(tmp_path / "book.md") if isinstance(raw, RawRow)]
    (tmp_path / "book.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [one.goes_on for one in read(tmp_path / "book.jsonl").conversations] == goes_on


def test_the_first_rows_of_a_huge_file_need_no_more_of_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with open(path, "wb") as file:
        file.write(JSONL)
        file.truncate(2 << 30)  # a hole: it takes no room on the disk
    tracemalloc.start()
    try:
        found = list(itertools.islice(raw_rows(path, lambda *_: None), 100))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 100
    assert peak < 4 << 20


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_progress_counts_bytes_of_the_file_and_may_break_off(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    size = (tmp_path / name).stat().st_size
    told: list[tuple[int, int]] = []
    list(raw_rows(tmp_path / name, lambda done, total: told.append((done, total))))
    assert told == sorted(told)
    assert told[-1] == (size, size)

    class Enough(Exception):
        pass

    def enough(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        list(raw_rows(tmp_path / name, enough))


def test_bytes_of_windows_are_shown_as_they_were_meant_and_read_so_if_wished(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(JSONL + '{"question": "Käse?", "answer": "süß"}\n'.encode("cp1252"))
    *_, problem = raw_rows(path)
    assert isinstance(problem, RowProblem)
    assert (problem.kind, problem.line, problem.column) == ("encoding", 601, "byte 16")
    assert "Käse?" in problem.message
    *_, row = raw_rows(path, fallback="cp1252")
    assert isinstance(row, RawRow)
    assert row.value == {"question": "Käse?", "answer": "süß"}


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS["rows.parquet"](tmp_path / "rows.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match="pyarrow") as caught:
        list(columnar.parquet_rows(tmp_path / "rows.parquet"))
    assert "overlay-studio[engine]" in caught.value.hint


def test_tools_and_their_calls_are_kept_in_both_spellings(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    openai = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "x"},
            {"role": "assistant", "content": "Two."},
        ],
        "tools": tools,
    }
    turns = [
        ("human", "1 + 1?"),
        ("function_call", json.dumps(call["function"])),
        ("observation", "2"),
        ("gpt", "Two."),
    ]
    sharegpt = {"conversations": [{"from": r, "value": v} for r, v in turns], "tools": json.dumps(tools)}
    (tmp_path / "d.jsonl").write_text(f"{json.dumps(openai)}\n{json.dumps(sharegpt)}\n")
    one, two = read(tmp_path / "d.jsonl").conversations
    assert one.tools == two.tools == json.dumps(tools)
    assert [message.role for message in one.messages] == ["user", "assistant", "tool", "assistant"]
    assert one.messages[1].turn == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert two.messages[1] == one.messages[1]
    assert one.messages[2].turn["tool_call_id"] == "x"
    assert two.messages[0] == one.messages[0] == Message("user", "1 + 1?")


def test_alpaca_history_comes_first(tmp_path: Path) -> None:
    row = {"instruction": "And now?", "input": "", "output": "Late.", "history": [["Hi", "Ahoy"]], "system": "S"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    [one] = read(tmp_path / "d.jsonl").conversations
    assert [message.content for message in one.messages] == ["S", "Hi", "Ahoy", "And now?", "Late."]


PACKED = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True)}
FRAGMENTS = [
    b"PAR1",
    b"ARROW1\0\0",
    b"\xff\xff\xff\xff",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    JSONL[:300],
    b"a,b\n",
    b"#\n",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=40), max_size=5).map(b"".join),
    suffix=st.sampled_from([".jsonl", ".csv", ".txt", ".md", ".parquet", ".arrow", ""]),
    packing=st.sampled_from(["", ".gz", ".zst"]),
    is_packed=st.booleans(),
)
def test_any_bytes_in_any_wrapping_end_in_rows_problems_or_a_plain_refusal(
    tmp_path: Path, content: bytes, suffix: str, packing: str, is_packed: bool
) -> None:
    path = tmp_path / f"d{suffix}{packing}"
    path.write_bytes(PACKED[packing](content) if is_packed else content)
    found = rows_or_refusal(path)
    assert [raw.row for raw in found] == list(range(len(found)))
