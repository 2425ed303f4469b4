"""Where the answers stand, found from a conversation of the same roles, is where the template itself has them."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.engine import shapes
from studio.engine.shapes import Shapes
from studio.engine.spans import Template
from studio.errors import DataError
from tests.studio.engine.odd_rows import contents
from tests.studio.engine.template_families import CHATML, FAMILIES, tokenizer_of

ROWS = [("Who are you?", "I be a pirate."), ("And now?", "Arrr!")]
SAID = contents | st.sampled_from(
    ["assistant", "Arrr!\n", " a", "<|im_end|>", "x</think>\n\ny", "\n", "probe", "Qzx0 probe kvw0"]
)
FAMILY = {**FAMILIES, "trimmed answers": CHATML}


@functools.cache
def template(name):
    tokenizer = tokenizer_of(FAMILY[name])
    text = tokenizer.get_chat_template()
    if name == "trimmed answers":
        text = text.replace("m.content", "(m.content | trim if m.role == 'assistant' else m.content)")
    return Counted(text, tokenizer.special_tokens_map)


class Counted(Template):
    """Knows how often it was asked where answers are."""

    asked = 0

    def answers(self, *arguments):
        self.asked += 1
        return super().answers(*arguments)


def turns_of(pairs, system=""):
    said = [("system", system)] if system else []
    for question, answer in pairs:
        said += [("user", question), ("assistant", answer)]
    return [{"role": role, "content": text} for role, text in said]


def found(spans, own, turns, wanted):
    try:
        return spans.answers(turns, None, own.render(turns, None, answer_next=False), wanted)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("name", FAMILY)
@given(data=st.data())
def test_for_any_words_the_answers_are_where_the_template_has_them(name, data):
    own = template(name)
    count = data.draw(st.integers(1, 3))
    system = data.draw(st.sampled_from(["", "s"]) if FAMILY[name].has_system else st.just(""))
    wanted = data.draw(st.sampled_from([range(1, 2 * count, 2), [2 * count - 1]]))
    wanted = [turn + bool(system) for turn in wanted]
    known = Shapes(own)
    for _ in range(2):  # the second time it is looked at more closely
        found(known, own, turns_of(ROWS[:1] * count, system), wanted)
    said = data.draw(st.lists(SAID.filter(str.strip), min_size=2 * count, max_size=2 * count))
    turns = turns_of(zip(said[::2], said[1::2], strict=True), system and data.draw(SAID.filter(str.strip)))
    assert found(known, own, turns, wanted) == found(own, own, turns, wanted)


@pytest.mark.parametrize("name", [name for name in FAMILY if name != "marked"])
def test_the_template_is_asked_for_the_first_rows_alone(name):
    own = template(name)
    known, before = Shapes(own), own.asked
    for number in range(20):
        found(known, own, turns_of([(f"Row {number}", f"{number} is even")]), [1])
    assert own.asked - before == 2  # the first, and our words when the second came


def test_a_row_that_the_template_changes_is_looked_at_by_itself():
    own = template("qwen")
    known = Shapes(own)
    for _ in range(2):
        found(known, own, turns_of(ROWS), [1, 3])
    before = own.asked
    turns = turns_of([("Who?", "I think.</think>\n\nArrr!"), ROWS[1]])
    assert found(known, own, turns, [1, 3]) == found(own, own, turns, [1, 3])
    assert own.asked - before == 2


def test_no_more_shapes_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(shapes, "MOST_SHAPES", 1)
    own = template("chatml")
    known = Shapes(own)
    for count in (1, 2, 1, 2, 1, 2):
        turns = turns_of(ROWS[:1] * count)
        assert found(known, own, turns, [1]) == found(own, own, turns, [1])
