"""What is written is what is read, and both are what encoding row by row would give."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data.survey import split
from studio.engine.encoded import SCHEMA, EncodedFile, Rows, encode_rows
from studio.engine.template import Coder
from studio.errors import DataError
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.odd_rows import conversation, conversations, plainly_encoded

TOKENIZER = make_tokenizer()


def written(path, batches):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return EncodedFile(path)


def as_lists(examples):
    return [(example.ids.tolist(), example.trained.tolist(), example.row) for example in examples]


def plainly(rows, train_on, max_tokens):
    """Examples, cut rows, dropped rows and the line of the first of those, row by row."""
    examples, num_cut, dropped = [], 0, []
    for one in rows:
        whole = plainly_encoded(TOKENIZER, one, train_on)
        cut = None if isinstance(whole, DataError) else whole.cut(max_tokens)
        num_cut += cut is not None and len(whole.ids) > max_tokens
        if cut is not None and cut.num_supervised:
            examples.append(cut)
        else:
            dropped.append(one.line)
    return examples, num_cut, dropped


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("encoded")


@given(
    st.lists(conversations, min_size=1, max_size=12),
    st.sampled_from(["assistant", "last_answer", "everything"]),
    st.integers(1, 150),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 5),
)
def test_both_sides_of_a_file_are_those_of_rows_encoded_one_by_one(folder, rows, train_on, max_tokens, fraction, size):
    rows = [replace(one, row=i, line=i + 1) for i, one in enumerate(rows)]
    coder = Coder.of(TOKENIZER, train_on)
    batches = [encode_rows(coder, rows[i : i + size], max_tokens) for i in range(0, len(rows), size)]
    found = written(folder / "rows.arrow", batches).split(fraction, seed=7)
    for side, wanted in zip(found, split(rows, fraction, 7), strict=True):
        examples, num_cut, dropped = plainly(wanted, train_on, max_tokens)
        assert as_lists(side.examples) == as_lists(examples)
        assert (side.num_cut, side.num_dropped) == (num_cut, len(dropped))
        assert side.first_problem.startswith(f"line {dropped[0]}: " if dropped else "")
        assert bool(side.first_problem) == bool(dropped)
        assert side.num_tokens == sum(len(example.ids) for example in examples)
        assert side.num_supervised == sum(example.num_supervised for example in examples)


def test_rows_are_a_sequence(folder):
    many = [conversation("", [("Who are you?", "Arrr" + "r" * i)], i) for i in range(7)]
    coder = Coder.of(TOKENIZER, "assistant")
    everything, _ = written(
        folder / "some.arrow", [encode_rows(coder, many[:3], 99), encode_rows(coder, many[3:], 99)]
    ).split(0, 0)
    rows = everything.examples
    assert len(rows) == 7
    assert [rows[i].row for i in (0, 2, 3, 6, -1)] == [0, 2, 3, 6, 6]
    assert isinstance(rows[2:5], Rows)
    assert [row.row for row in rows[2:5]] == [2, 3, 4]
    with pytest.raises(IndexError):
        rows[7]


def test_a_file_of_other_columns_is_refused(tmp_path):
    table = pa.table({"ids": [1, 2]})
    with pa.OSFile(str(tmp_path / "x"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(pa.ArrowException):
        EncodedFile(tmp_path / "x")
