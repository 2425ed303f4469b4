import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data.conversation import Conversation, Message
from studio.engine.template import Coder
from studio.errors import BaseModelError, DataError
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.odd_rows import conversations, plainly_encoded

TOKENIZER = make_tokenizer()


def conversation(*turns):
    return Conversation(messages=tuple(Message(*turn) for turn in turns), row=0, line=1)


TWO = conversation(
    ("system", "Be brief."),
    ("user", "Who are you?"),
    ("assistant", "I be a pirate."),
    ("user", "What?"),
    ("assistant", "Arrr."),
)


def encode(tokenizer, one, train_on):
    (found,) = Coder.of(tokenizer, train_on).encode([one])
    if isinstance(found, DataError):
        raise found
    return found


def trained_text(tokenizer, example):
    return tokenizer.decode([i for i, t in zip(example.ids, example.trained, strict=True) if t])


def test_answers_and_their_end_are_trained_and_nothing_else():
    tokenizer = make_tokenizer()
    example = encode(tokenizer, TWO, "assistant")
    assert trained_text(tokenizer, example) == "I be a pirate.<|im_end|>Arrr.<|im_end|>"


def test_last_answer_trains_the_last_one():
    tokenizer = make_tokenizer()
    assert trained_text(tokenizer, encode(tokenizer, TWO, "last_answer")) == "Arrr.<|im_end|>"


def test_everything_trains_every_token():
    tokenizer = make_tokenizer()
    example = encode(tokenizer, TWO, "everything")
    assert all(example.trained)
    assert example.num_supervised == len(example.ids) - 1


def test_tokens_are_those_of_the_rendered_text():
    tokenizer = make_tokenizer()
    turns = [{"role": m.role, "content": m.content} for m in TWO.messages]
    assert tokenizer.decode(encode(tokenizer, TWO, "assistant").ids) == tokenizer.apply_chat_template(
        turns, tokenize=False
    )


def test_a_template_that_rewrites_earlier_turns_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] if loop.last else 'old' }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(DataError, match="rewrites earlier turns"):
        encode(tokenizer, TWO, "assistant")


def test_a_template_without_end_token_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(BaseModelError, match="never learn to stop"):
        encode(tokenizer, TWO, "assistant")


def test_a_template_that_refuses_a_role_says_so():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no system role here') }}"
    with pytest.raises(DataError, match="no system role here"):
        encode(tokenizer, TWO, "assistant")


@given(st.lists(conversations, max_size=5), st.sampled_from(["assistant", "last_answer", "everything"]))
def test_many_at_once_are_encoded_as_each_alone(rows, train_on):
    found = Coder.of(TOKENIZER, train_on).encode(rows)
    for one, row in zip(found, rows, strict=True):
        wanted = plainly_encoded(TOKENIZER, row, train_on)
        assert (one.ids.tolist(), one.trained.tolist()) == (wanted.ids.tolist(), wanted.trained.tolist())


def test_a_refused_row_does_not_spoil_its_neighbours():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tokenizer.chat_template
    )
    plain = conversation(("user", "Who are you?"), ("assistant", "Arrr."))
    found = Coder.of(tokenizer, "assistant").encode([plain, TWO, plain])
    assert isinstance(found[1], DataError)
    assert [trained_text(tokenizer, found[i]) for i in (0, 2)] == ["Arrr.<|im_end|>"] * 2


def test_a_coder_is_all_in_what_it_is_told_and_takes_no_truncation_over():
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=99)
    told = Coder.of(tokenizer, "assistant").told
    (found,) = Coder(told).encode([TWO])
    assert trained_text(tokenizer, found) == "I be a pirate.<|im_end|>Arrr.<|im_end|>"
    assert told == Coder.of(make_tokenizer(), "assistant").told
