"""Turns are written back into a row as it was, wherever its format can hold them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data.formats import Mapping, to_messages
from studio.data.rewriting import EditedTurn, becomes_messages, turns_of, with_turns
from studio.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=4)


def messages(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


PAIR = {"question": "Who?", "answer": "Me.", "id": 7}
ALPACA = {"instruction": "Sum up", "input": "a text", "output": "text", "history": [["a", "b"]], "score": 0.5}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho", "weight": 1}], "id": "x"}
CALL = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
CHAT = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": CALL},
        {"role": "tool", "content": "5", "name": "f"},
        {"role": "assistant", "content": "Five"},
    ],
    "system": "Be brief.",
    "tools": [{"name": "f"}],
}
FRENCH = Mapping(question="Frage", answer="Antwort")


def edited(value: Any, place: int, content: str, mapping: Mapping | None = None) -> Any:
    turns = turns_of(value, mapping)
    assert turns is not None
    turns[place] = replace(turns[place], content=content)
    return with_turns(value, turns, mapping)


@pytest.mark.parametrize(
    ("value", "place", "wanted"),
    [
        (PAIR, 1, {**PAIR, "answer": "new"}),
        ({"text": "old", "id": 1}, 0, {"text": "new", "id": 1}),
        ({**PAIR, "answer": None}, 1, {**PAIR, "answer": "new"}),
        (ALPACA, 3, {**ALPACA, "output": "new"}),
        (ALPACA, 1, {**ALPACA, "history": [["a", "new"]]}),
        (ALPACA, 2, {**ALPACA, "instruction": "new", "input": ""}),
        (CHAT, 0, {**CHAT, "system": "new"}),
        (CHAT, 4, {**CHAT, "messages": [*CHAT["messages"][:3], {"role": "assistant", "content": "new"}]}),
        (SHAREGPT, 1, {**SHAREGPT, "conversations": [SHAREGPT["conversations"][0], {"from": "gpt", "value": "new", "weight": 1}]}),  # type: ignore[index]  # noqa: E501
    ],
)  # fmt: skip
def test_a_turn_is_changed_in_its_place_and_all_else_stays(value: Any, place: int, wanted: Any) -> None:
    assert edited(value, place, "new") == wanted
    assert not becomes_messages(value, wanted)


def test_more_turns_than_the_columns_hold_become_messages() -> None:
    more = [*(turns_of(PAIR) or []), EditedTurn("user", "And you?"), EditedTurn("assistant", "Too.")]
    after = with_turns(PAIR, more)
    said = messages(("user", "Who?"), ("assistant", "Me."), ("user", "And you?"), ("assistant", "Too."))
    assert after == {"id": 7, "messages": said}
    assert becomes_messages(PAIR, after)
    mapped = {"Frage": "Wer?", "Antwort": "Ich."}
    assert edited(mapped, 0, "Was?", FRENCH) == {"Frage": "Was?", "Antwort": "Ich."}
    with pytest.raises(DataError, match="cannot hold"):
        with_turns(mapped, more, FRENCH)


def test_a_turn_added_to_a_list_is_written_as_the_list_writes_them() -> None:
    turns = [EditedTurn("system", "Be brief."), *(turns_of(SHAREGPT) or []), EditedTurn("user", "So?")]
    assert [turn["from"] for turn in with_turns(SHAREGPT, turns)["conversations"]] == [
        "system",
        "human",
        "gpt",
        "human",
    ]
    alone = {"conversations": [{"from": "human", "value": "Hi"}]}
    answered = with_turns(alone, [*(turns_of(alone) or []), EditedTurn("assistant", "Ho")])
    assert answered["conversations"][1] == {"from": "gpt", "value": "Ho"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {},
        {"a": 1},
        {"question": 5, "answer": "b"},
        {"messages": "no list"},
        {"messages": [{"role": 3, "content": "x"}]},
        {"conversations": [{"from": "function_call", "value": "{}"}]},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "completion": "b", "label": False},
        {"instruction": "a", "output": "b", "history": [["a"]]},
    ],
)
def test_what_is_no_row_of_turns_is_left_to_be_edited_as_json(value: Any) -> None:
    assert turns_of(value) is None


ROWS = st.one_of(
    st.builds(lambda q, a: {"question": q, "answer": a, "id": 1}, TEXT, TEXT),
    st.builds(
        lambda q, i, a: {"instruction": q, "input": i, "output": a}, TEXT, st.sampled_from(["", "in", " "]), TEXT
    ),
    st.builds(
        lambda q, a, s: {"prompt": q, "completion": a, "system": s}, TEXT, TEXT, st.sampled_from(["", "be", None])
    ),
    st.builds(lambda q, a: {"messages": messages(("user", q), ("assistant", a)), "id": 1}, TEXT, TEXT),
    st.builds(lambda q: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": q}]}, TEXT),
)


@given(value=ROWS, said=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), system=st.none() | TEXT)
def test_whatever_is_typed_is_what_is_read_back(value: Any, said: list[tuple[str, str]], system: str | None) -> None:
    assert with_turns(value, turns_of(value) or []) == value
    typed = [one for q, a in said for one in (("user", q), ("assistant", a))]
    typed = [*([("system", system)] if system else []), *typed]
    after = with_turns(value, [EditedTurn(role, text, place) for place, (role, text) in enumerate(typed)])
    assert [(message.role, message.content) for message in to_messages(after)[1]] == typed
    assert after.get("id") == value.get("id")
