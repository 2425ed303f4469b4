"""The loss of each row, overheard: right, free of charge, and without changing what is learnt."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from studio.engine.batches import Layout, micro_batches
from studio.engine.judge import MOST_HELD_OUT, MOST_REMEMBERED, MOST_TRAINED, Judge, Reading, _as_numbers, judged
from studio.engine.loss import supervised_loss
from studio.engine.ranks import ALONE, Ranks
from studio.engine.template import Example
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.test_loss import SHAPES, case
from tests.studio.engine.test_train import learner, recipe, run_it  # noqa: F401 - a fixture

LENGTHS = (31, 7, 19, 12, 3, 26)
ROWS = [
    Example(
        np.arange(5 + 7 * n, 5 + 7 * n + length) % 300,
        [False, False, *[place % 3 != 1 for place in range(length - 2)]],
        row=10 + n,
    )
    for n, length in enumerate(LENGTHS)
]
LAYOUTS = [
    Layout(True, 0, micro_batch_tokens=64),
    Layout(True, 0, micro_batch_tokens=40, multiple=32),
    Layout(False, 0, micro_batch_rows=2),
    Layout(False, 0, micro_batch_tokens=64),
]


def alone(model, example):
    """Mean cross-entropy of one row by itself, from plain logits."""
    ids = torch.from_numpy(example.ids.astype(np.int64))[None]
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    wanted = torch.from_numpy(example.trained[1:])
    return float(functional.cross_entropy(logits[wanted], ids[0, 1:][wanted]))


def heard(judge, learner, layout):  # noqa: F811
    learner.judge = judge
    for batch in micro_batches(ROWS, layout):
        learner(batch)
    return {reading.row: reading for reading in judge.worst(ALONE)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_training", [True, False])
def test_the_loss_of_a_row_is_its_cross_entropy_alone(learner, layout, is_training):  # noqa: F811
    learner.train(is_training)
    judge = Judge()
    judge.begin(3)
    with torch.no_grad():
        expected = {example.row: alone(learner.overlaid, example) for example in ROWS}
        found = heard(judge, learner, layout)
    counts = {example.row: example.num_supervised for example in ROWS}
    rows = sorted(expected, key=lambda row: -expected[row])[: None if is_training else MOST_HELD_OUT]
    assert list(found) == rows
    for row in rows:
        assert found[row].loss == pytest.approx(expected[row], rel=1e-5)
        assert (found[row].num_supervised, found[row].step, found[row].is_held_out) == (counts[row], 3, not is_training)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk_rows", [7, None])
def test_to_listen_changes_neither_loss_nor_gradient_by_a_bit(shape, chunk_rows):
    hidden, head, targets = case()
    ours, theirs = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    each = torch.empty(int((targets != -100).sum()))
    loss, silent = (
        supervised_loss(ours, head, targets, shape, chunk_rows, each=each),
        supervised_loss(theirs, head, targets, shape, chunk_rows),
    )
    (loss * 0.37).backward()
    (silent * 0.37).backward()
    assert torch.equal(loss, silent)
    assert torch.equal(ours.grad, theirs.grad)
    assert float(each.double().sum()) == pytest.approx(float(loss.detach()), rel=1e-6)


def test_a_head_that_learns_lets_nobody_listen():
    hidden, head, targets = case()
    each = torch.zeros(int((targets != -100).sum()))
    supervised_loss(hidden, head.requires_grad_(True), targets, each=each)
    assert torch.isnan(each).all()


def batch_of(rows):
    """A micro-batch as the judge sees it: each row a token of its own."""
    (batch,) = micro_batches(
        [Example((1, 2), (False, True), row) for row in rows], Layout(False, 0, micro_batch_rows=len(rows))
    )
    return batch


def listen(judge, losses, is_held_out=False):
    batch = batch_of(list(losses))
    judge.listen(batch, torch.tensor([losses[row] for row, _ in batch.rows]), is_held_out)


def test_the_last_reading_counts_and_only_what_was_read_since_the_last_judgement():
    judge = Judge()
    judge.begin(1)
    listen(judge, {0: 5.0, 1: 1.0})
    judge.begin(2)
    listen(judge, {0: 2.0, 2: 3.0, 3: float("nan")})
    found = judge.worst(ALONE)
    assert [(one.row, one.loss, one.step) for one in found] == [(2, 3.0, 2), (0, 2.0, 2), (1, 1.0, 1)]
    judge.begin(3)
    listen(judge, {7: 1.0})
    assert [one.row for one in judge.worst(ALONE)] == [7]


def test_many_rows_are_told_of_as_few_of_either_kind_and_worst_first():
    judge = Judge()
    judge.begin(1)
    listen(judge, {row: row / 100 for row in range(100)})
    listen(judge, {row: 10 + row / 100 for row in range(200, 300)}, is_held_out=True)
    found = judge.worst(ALONE)
    assert [one.row for one in found] == [*range(299, 299 - MOST_HELD_OUT, -1), *range(99, 99 - MOST_TRAINED, -1)]


def test_rows_read_very_long_ago_are_forgotten():
    judge = Judge()
    judge.begin(1)
    listen(judge, {0: 99.0, 1: 98.0})
    judge.begin(2)
    listen(judge, dict.fromkeys(range(2, MOST_REMEMBERED + 1), 0.5))
    assert [one.row for one in judge.worst(ALONE)][:2] == [1, 2]


class Two(Ranks):
    """Two ranks, of which the other has read what it has."""

    other = (Reading(40, 4.0, 2, 1, False), Reading(41, 0.1, 2, 1, True))

    def gathered(self, *numbers):
        return [list(numbers), _as_numbers(self.other)]


def test_ranks_tell_of_their_rows_together():
    judge = Judge()
    judge.begin(1)
    listen(judge, {row: float(row) for row in range(9)})
    found = judge.worst(Two(0, 2))
    assert [(one.row, one.is_held_out) for one in found[3:7]] == [(5, False), (4, False), (40, False), (3, False)]
    assert found[-2:] == [Two.other[1], Reading(0, 0.0, 1, 1, False)]


def test_a_judgement_shows_the_texts_of_its_rows():
    tokenizer = make_tokenizer()
    question, answer = tokenizer.encode("What is the sea?"), tokenizer.encode("x" * 900)
    row = Example([*question, *answer], [False] * len(question) + [True] * len(answer), 4)
    readings = [Reading(4, 2.5, 3, 7, False), Reading(9, 1.5, 3, 7, True)]
    event = judged(8, readings, [Example((1,), (False,), 1), row], [], tokenizer.decode)
    assert event.step == 8
    first, second = event.rows
    assert first == {
        "row": 4,
        "loss": 2.5,
        "num_supervised": 3,
        "step": 7,
        "held_out": False,
        "prompt": "What is the sea?",
        "answer": "x" * 300 + "…",
    }
    assert (second["held_out"], second["prompt"], second["answer"]) == (True, "", "")


def test_a_run_tells_of_its_worst_rows_at_each_evaluation_and_at_its_end(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file, keep__evaluate_every_steps=3)
    run, outcome, _ = run_it(workspace, made)
    state = run.state()
    assert [told.step for told in state.judgements] == [3, outcome.step]
    assert {one["row"] for told in state.judgements for one in told.rows} == set(range(10))
    worst = state.worst_rows[0]
    assert worst["loss"] >= max(one["loss"] for one in state.worst_rows)
    assert "Arrr" in " ".join(one["answer"] for told in state.judgements for one in told.rows)
    assert "<|im_" not in worst["prompt"]
