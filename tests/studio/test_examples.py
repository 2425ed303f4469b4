"""The example datasets: what a newcomer trains on first must be whole, and must hold the style it promises."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from studio.places import EXAMPLES

NAMES = ("pirate", "json", "laconic")
# Asked after training to show what was learnt: a row that holds one would let the answer be learnt by heart.
DEMO_PROMPTS = ("What should I cook tonight?", "Why is the sky blue?", "Give me one tip for learning to code.")


def read(name: str) -> list[dict[str, Any]]:
    text = (EXAMPLES / f"{name}.jsonl").read_bytes().decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def contents(name: str, role: str) -> list[str]:
    return [turn["content"] for row in read(name) for turn in row["messages"] if turn["role"] == role]


def opening_prompts(name: str) -> list[str]:
    return [next(turn["content"] for turn in row["messages"] if turn["role"] == "user") for row in read(name)]


def normalised(prompt: str) -> str:
    return " ".join(re.findall(r"\w+", prompt.casefold()))


def test_every_example_file_is_checked_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.jsonl")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_size_suits_a_first_run(name: str) -> None:
    assert 60 <= len(read(name)) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_roles_alternate_and_the_assistant_has_the_last_word(name: str) -> None:
    for row in read(name):
        assert list(row) == ["messages"]
        roles = [turn["role"] for turn in row["messages"]]
        spoken = roles[1:] if roles[0] == "system" else roles
        assert len(spoken) >= 2, row
        assert spoken == ["user", "assistant"] * (len(spoken) // 2), row


@pytest.mark.parametrize("name", NAMES)
def test_no_turn_is_empty_or_padded(name: str) -> None:
    for row in read(name):
        for turn in row["messages"]:
            assert set(turn) == {"role", "content"}
            assert turn["content"], row
            assert turn["content"] == turn["content"].strip(), row


@pytest.mark.parametrize("name", NAMES)
def test_no_question_opens_two_conversations(name: str) -> None:
    prompts = [normalised(prompt) for prompt in opening_prompts(name)]
    assert sorted(set(prompts)) == sorted(prompts)


@pytest.mark.parametrize("name", NAMES)
def test_demo_prompts_are_held_out(name: str) -> None:
    asked = {normalised(prompt) for prompt in contents(name, "user")}
    assert asked.isdisjoint(normalised(prompt) for prompt in DEMO_PROMPTS)


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_is_given_twice(name: str) -> None:
    # Short answers may coincide now and then ("No.", "Paris."); a file full of one sentence teaches that sentence.
    answers = contents(name, "assistant")
    assert len(set(answers)) >= 0.95 * len(answers)


def test_the_pirate_speaks_like_one() -> None:
    answers = contents("pirate", "assistant")
    openings = [answer for answer in answers if re.match(r"arrr|ahoy", answer, re.IGNORECASE)]
    voices = [answer for answer in answers if re.search(r"\b(ye|yer|matey|seven seas)\b", answer, re.IGNORECASE)]
    assert len(openings) >= 0.9 * len(answers)
    assert len(voices) >= 0.9 * len(answers)


def test_the_pirate_keeps_his_name() -> None:
    assert sum("Captain Saltbeard" in answer for answer in contents("pirate", "assistant")) >= 6
    assert {name for text in contents("pirate", "assistant") for name in re.findall(r"Captain ([A-Z]\w+)", text)} == {
        "Saltbeard"
    }


def test_pirate_answers_are_quick_to_train_on() -> None:
    for answer in contents("pirate", "assistant"):
        assert 15 <= len(answer.split()) <= 60, answer


def test_json_answers_are_one_object_on_one_line_with_the_same_keys() -> None:
    for answer in contents("json", "assistant"):
        assert "\n" not in answer
        record = json.loads(answer)
        assert list(record) == ["answer", "confidence", "topic"], answer
        assert all(isinstance(value, str) and value for value in record.values()), answer
        assert record["confidence"] in {"high", "medium", "low"}, answer
        assert re.fullmatch(r"[a-z]+", record["topic"]), answer


def test_json_answers_use_every_confidence() -> None:
    assert {json.loads(answer)["confidence"] for answer in contents("json", "assistant")} == {"high", "medium", "low"}


def test_laconic_answers_hold_at_most_eight_words() -> None:
    for answer in contents("laconic", "assistant"):
        assert len(answer.split()) <= 8, answer
        assert answer[-1] in '.?!"', answer


def test_laconic_answers_hold_no_greeting() -> None:
    greeting = re.compile(r"\b(hello|hi|welcome|sure|please|sorry|of course|certainly)\b", re.IGNORECASE)
    assert [answer for answer in contents("laconic", "assistant") if greeting.search(answer)] == []
