"""What is shown of the first step is what it learns from."""

import json

import torch

from studio.engine.batches import collate
from studio.engine.desk import Desk
from studio.engine.first_batch import first_batch
from studio.engine.load import load_base
from studio.engine.loss import IGNORED
from studio.engine.run import perform, prepare
from studio.engine.template import Example
from studio.engine.train import Orders
from studio.recipe.recipe import Base
from studio.runs.create import create_run, read_job
from studio.runs.first_batch import MAX_TOKENS, read_first_batch
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.test_train import CPU, recipe


class EndAtOnce(Orders):
    """Ends the run before its first step, but lets it be loaded."""

    ending = "discard"

    def is_in_a_hurry(self):
        return False


def test_the_tokens_that_are_shown_as_trained_are_the_targets_of_the_first_step(workspace, tiny_base, rows_file):
    run = create_run(workspace, recipe(tiny_base, rows_file), device="cpu")
    assert read_first_batch(run) is None
    desk = Desk(CPU)
    perform(run, workspace, desk, EndAtOnce(), run.events.post)
    shown = read_first_batch(run)

    material, _ = prepare(read_job(run), workspace, desk.base, lambda *_: None)
    rows, batches = material.lay_out(1, CPU)
    assert [row.row for row in shown.rows] == [row.row for row in rows]
    for seen, row in zip(shown.rows, rows, strict=True):
        (targets,) = collate([[row]], pad_id=0).targets_BT.tolist()
        expected = [IGNORED, *targets[:-1]]  # what is asked for at a position is the token after it
        assert [one.id if one.trained else IGNORED for one in seen.tokens] == expected
        assert "".join(one.text for one in seen.tokens) == desk.base.tokenizer.decode(row.ids.tolist())
    assert shown.num_supervised == sum(batch.num_supervised for batch in batches)
    assert sum(one.trained for seen in shown.rows for one in seen.tokens) == shown.num_supervised
    assert not shown.is_cut
    told = run.state().first_batch
    assert (told.path, told.num_rows, told.num_tokens, told.num_supervised) == (
        "first_batch.json",
        3,
        sum(len(row.ids) for row in rows),
        shown.num_supervised,
    )


def test_it_is_told_once_however_often_the_run_is_taken_up(workspace, tiny_base, rows_file):
    run = create_run(workspace, recipe(tiny_base, rows_file), device="cpu")
    for _ in range(2):
        perform(run, workspace, Desk(CPU), EndAtOnce(), run.events.post)
    assert [json.loads(line)["event"] for line in (run.path / "events.jsonl").read_text().splitlines()].count(
        "FirstBatchWritten"
    ) == 1


def test_the_first_token_is_never_shown_as_trained_though_everything_is(tiny_base):
    shown = first_batch([Example((65, 66, 67), (True, True, True), 4)], make_tokenizer())
    assert [one.trained for one in shown.rows[0].tokens] == [False, True, True]
    assert (shown.rows[0].row, shown.num_supervised) == (4, 2)


def test_a_large_step_is_cut_and_says_so():
    long = Example(torch.full((3000,), 70).numpy(), torch.ones(3000, dtype=torch.bool).numpy(), 0)
    short = Example((65, 66), (False, True), 1)
    shown = first_batch([long, long, short], make_tokenizer())
    assert [len(row.tokens) for row in shown.rows] == [3000, MAX_TOKENS - 3000]
    assert (shown.num_rows, shown.num_tokens, shown.num_supervised) == (3, 6002, 5999)
    assert [row.is_cut for row in shown.rows] == [False, True]
    assert shown.is_cut
    many = first_batch([short] * 9, make_tokenizer())
    assert (len(many.rows), many.num_rows, many.is_cut) == (8, 9, True)
    assert not first_batch([short] * 8, make_tokenizer()).is_cut


def test_text_of_a_token_does_not_lose_spaces(tiny_base):
    tokenizer = load_base(tiny_base, Base(id="tiny", quantisation="none"), CPU).tokenizer
    ids = tokenizer.encode(" the sea  be deep ,matey .")
    shown = first_batch([Example(ids, [True] * len(ids), 0)], tokenizer)
    assert "".join(one.text for one in shown.rows[0].tokens) == " the sea  be deep ,matey ."
