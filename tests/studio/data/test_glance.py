"""What a dataset is at a glance, and the searches that find its parts again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data import glance as module
from studio.data.conversation import Conversation, Message, RawRow
from studio.data.glance import Glancing, turn_bins
from studio.data.languages import NAMES, language_of
from studio.data.searching import Query, language_query, turns_query

TEXTS = {
    "en": "It was not the first time that this happened to me, and I am sure of it.",
    "de": "Das ist nicht der erste Hund, den ich gesehen habe, aber er ist sehr schnell.",
    "fr": "Ce n'est pas la première fois que je vois un chien dans le jardin avec les enfants.",
    "es": "No es la primera vez que veo un perro en el jardín con los niños, pero me gusta.",
    "pt": "Não é a primeira vez que vejo um cachorro no jardim com as crianças, mas eu gosto.",
    "ru": "Это не первый раз, когда я вижу собаку в саду, но мне это нравится.",
    "uk": "Це не перший раз, коли я бачу собаку в саду, але мені це подобається, що він є.",
    "zh": "这不是我第一次在花园里看到狗。",
    "ja": "庭で犬を見るのは初めてではありません。",
    "ar": "هذه ليست المرة الأولى التي أرى فيها كلبا في الحديقة",
}


@pytest.mark.parametrize(("language", "text"), TEXTS.items())
def test_a_sentence_is_known_by_its_script_and_its_small_words(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "42", "Arrr!", '{"name": "x", "items": [1, 2]}', "def f(x):\n    return x + 1"])
def test_what_is_no_sentence_is_said_to_be_unknown(text: str) -> None:
    assert language_of(text) == ""


@given(st.text())
def test_any_text_has_a_known_language_or_none(text: str) -> None:
    assert language_of(text) in {*NAMES, ""}


def row(number: int, answer: str, turns: int = 2) -> Conversation:
    pair = (Message("user", TEXTS["zh"]), Message("assistant", answer))
    return Conversation((pair * turns)[:turns], number, number + 1)


def test_languages_of_many_rows_are_told_from_some_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLED", 64)
    glancing = Glancing()
    for number in range(1000):
        glancing.add(row(number, TEXTS["en" if number < 750 else "de"], turns=2 + 2 * (number % 5 == 0)))
    found = glancing.glance()
    assert (found.turns, found.roles, found.num_rows) == ({2: 800, 4: 200}, {"user": 1000, "assistant": 1000}, 1000)
    assert found.is_sampled
    assert 32 <= found.num_sampled <= 64
    assert sum(found.languages.values()) == found.num_sampled
    assert found.languages["en"] / found.num_sampled == pytest.approx(0.75, abs=0.05)


@given(st.dictionaries(st.integers(1, 500), st.integers(1, 9), min_size=1))
def test_bins_of_turns_hold_every_row_once_and_find_them_again(turns: dict[int, int]) -> None:
    bins = turn_bins(turns)
    assert sum(count for _, _, count in bins) == sum(turns.values())
    assert bins[0][2]
    assert bins[-1][2]
    for first, last, count in bins:
        query = Query.of(turns_query(first, last))
        assert query.turns is not None
        assert count == sum(rows for number, rows in turns.items() if query.turns[0] <= number <= query.turns[1])


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("role:tool", False),
        ("role:assistant", True),
        (language_query("en"), True),
        (language_query("de"), False),
        (language_query(""), False),
        ("turns:2 FIRST", True),
        ("turns:3-9 first", False),
        ("turns:2 second", False),
    ],
)
def test_a_search_knows_what_a_row_is_as_well_as_its_words(text: str, is_found: bool) -> None:
    raw = RawRow(0, 1, {"question": TEXTS["zh"], "answer": TEXTS["en"]})
    assert Query.of(text).finds(raw, None) == is_found
