import pytest

from studio.errors import DamagedError
from studio.places import Workspace
from studio.runs.first_batch import FIRST_BATCH, FirstBatch, SeenRow, Token, read_first_batch, write_first_batch
from studio.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(Workspace(tmp_path), "tiny", {})


def test_what_is_written_is_what_is_read(run):
    rows = (SeenRow(3, 5, 1, (Token(7, "Ahoy\n", False), Token(8, "�", True))),)
    batch = FirstBatch(num_rows=2, num_tokens=9, num_supervised=4, rows=rows)
    write_first_batch(run, batch)
    assert read_first_batch(run) == batch


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [{"row": "x"}]}', '{"rows": [{"row": 1}]}'])
def test_one_that_was_spoilt_is_named(run, text):
    (run.path / FIRST_BATCH).write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError, match="first_batch"):
        read_first_batch(run)
