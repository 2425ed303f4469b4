"""The format is named with a reason; what is not sure is a guess that somebody has to confirm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.data.detection import Detection, detect
from studio.data.formats import Mapping
from studio.data.mappings import mapping_of, recall, remember
from studio.data.opening import sha256
from studio.data.rows import read
from studio.errors import DataError
from studio.places import Workspace

CHAT = [
    {"role": "user", "content": "Who are you, and where from?"},
    {"role": "assistant", "content": "A pirate, matey."},
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "name", "words"),
    [
        ({"messages": CHAT}, "messages", "role and content"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "sharegpt",
            "from and value",
        ),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca", "instruction and output"),
        ({"question": "a", "answer": "b"}, "question-answer", "question and answer"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference", "chosen and rejected"),
        ({"prompt": "a", "completion": "b", "label": True}, "labelled", "label"),
        ({"text": "a"}, "text", "no answer"),
    ],
)
def test_a_format_in_common_use_is_sure_and_says_why(tmp_path: Path, row: Any, name: str, words: str) -> None:
    found = detect(write(tmp_path / "d.jsonl", row, row))
    assert (found.format, found.is_sure, found.mapping) == (name, True, None)
    assert words in found.reason
    assert "2 of the first 2 rows" in found.reason


def test_broken_and_mixed_rows_lower_the_confidence(tmp_path: Path) -> None:
    found = detect(write(tmp_path / "d.jsonl", {"messages": CHAT}, {"messages": CHAT}, {"text": "a"}, 5))
    assert found.format == "messages"
    assert not found.is_sure
    assert found.confidence == pytest.approx(0.5, rel=0.05)
    assert "1 rows look like text" in found.reason


@pytest.mark.parametrize(
    ("row", "mapping", "at_least"),
    [
        ({"id": 5, "Problem": "1 + 1", "Solution": "2"}, Mapping("Problem", "Solution"), 0.7),
        ({"System Prompt": "S", "Query": "q", "Reply": "r"}, Mapping("Query", "Reply", "System Prompt"), 0.7),
        ({"Frage": "Wer?", "Antwort": "Ich."}, Mapping("Frage", "Antwort"), 0.4),
        ({"id": 5, "story": "Once upon a time"}, Mapping(answer="story"), 0.2),
        (
            {"dialogue": [{"speaker": "human", "words": "Who?"}, {"speaker": "bot", "words": "I."}]},
            Mapping(conversation="dialogue", role_key="speaker", content_key="words"),
            0.7,
        ),
    ],
)
def test_unknown_columns_become_a_guess_with_which_the_rows_can_be_read(
    tmp_path: Path, row: Any, mapping: Mapping, at_least: float
) -> None:
    path = write(tmp_path / "d.jsonl", row)
    found = detect(path)
    assert found.mapping == mapping
    assert not found.is_sure
    assert at_least <= found.confidence < 0.9
    assert "confirm" in found.reason
    with pytest.raises(DataError):
        read(path)  # nothing is read by a guess
    dataset = read(path, found.mapping)
    assert (dataset.format, len(dataset.conversations)) == ("mapped", 1)


@pytest.mark.parametrize("rows", [[], [5, None], [{"n": 1}], [{"text_id": None}]])
def test_what_holds_no_text_is_not_guessed_at(tmp_path: Path, rows: list[Any]) -> None:
    found = detect(write(tmp_path / "d.jsonl", *rows))
    assert found == Detection("", 0.0, found.reason)
    assert found.reason


def test_a_mapping_is_remembered_by_the_contents_of_the_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    path = write(tmp_path / "d.jsonl", {"Frage": "Wer?", "Antwort": "Ich."})
    mapping = mapping_of(["question=Frage", "answer=Antwort"])
    assert recall(workspace, sha256(path)) is None
    remember(workspace, sha256(path), mapping)
    assert recall(workspace, sha256(path.rename(tmp_path / "e.jsonl"))) == mapping
    (workspace.mappings / f"{sha256(tmp_path / 'e.jsonl')}.json").write_text('{"mapping": {"other": 1}}')
    assert recall(workspace, sha256(tmp_path / "e.jsonl")) is None


@pytest.mark.parametrize("words", [[], ["question=a"], ["answer="], ["colour=a", "answer=b"]])
def test_a_mapping_without_an_answer_is_refused(words: list[str]) -> None:
    with pytest.raises(DataError, match="mapped") as caught:
        mapping_of(words)
    assert "answer=COLUMN" in caught.value.hint
