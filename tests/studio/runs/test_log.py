"""The end of a log, read on piece by piece while somebody writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.runs import log
from studio.runs.log import Tail, plain, read_on


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def test_what_is_written_is_read_once_and_a_torn_line_waits_for_its_end(path: Path) -> None:
    assert read_on(path, 0) == Tail([], 0)
    path.write_bytes(b"one\ntwo\nthr")
    first = read_on(path, 0)
    assert first == Tail(["one", "two"], 8)
    path.write_bytes(b"one\ntwo\nthree\n\n")
    assert read_on(path, first.offset) == Tail(["three", ""], 15)
    assert read_on(path, 15) == Tail([], 15)


def test_the_last_words_of_a_writer_that_is_gone_are_read_without_their_end(path: Path) -> None:
    path.write_bytes(b"one\nabor")
    assert read_on(path, 4) == Tail([], 4)
    assert read_on(path, 4, to_the_end=True) == Tail(["abor"], 8)


def test_only_the_end_of_a_long_log_is_read_and_a_new_one_from_its_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_BYTES", 16)
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(10)))
    tail = read_on(path, 0)
    assert tail.is_fresh
    assert tail.lines == ["line 8", "line 9"]
    assert tail.offset == 70
    path.write_bytes(b"again\n")
    assert read_on(path, 70) == Tail(["again"], 6, is_fresh=True)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b" 10 %\r 50 %\r100 %\r", "100 %"),
        (b"\x1b[1;31mred\x1b[0m \x1b[2K", "red "),
        (b"\x00\xff\x07", "\u00b7\ufffd\u00b7"),
        ("\u202egnp.exe".encode(), "\u00b7gnp.exe"),
        (b"<b>a\tb</b>", "<b>a\tb</b>"),
        (b"x" * 5000, "x" * 1999 + "\u2026"),
    ],
)
def test_a_line_is_shown_as_text_whatever_it_holds(line: bytes, shown: str) -> None:
    assert plain(line) == shown
