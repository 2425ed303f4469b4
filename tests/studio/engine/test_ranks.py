"""How a step is dealt to several ranks, and what a launcher may not have been told. What they compute: `test_launched.py`."""

import pytest
import torch
from torch import nn

from studio.engine.ranks import Ranks, check_launch
from studio.engine.template import Example
from studio.errors import StudioError

LENGTHS = (9, 30, 14, 5, 22, 17, 8, 12, 30)
ROWS = [Example(tuple(range(length)), (True,) * length, n) for n, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_every_row_goes_to_one_rank_and_none_has_more_than_a_row_too_many(count):
    shares = [Ranks(index, count).share(ROWS) for index in range(count)]
    assert sorted(row.row for share in shares for row in share) == list(range(len(ROWS)))
    tokens = [sum(len(row.ids) for row in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(LENGTHS)


def test_a_process_alone_keeps_its_numbers_as_they_are():
    loss, parameter = torch.tensor(2.5), nn.Parameter(torch.ones(2))
    assert Ranks.here() == Ranks(0, 1)
    assert Ranks().total(loss, [parameter]) is loss
    assert parameter.grad is None
    assert Ranks().told(3, 4) == [3, 4]


def test_each_rank_draws_its_own_dropout_and_the_first_what_it_would_alone():
    def drawn(index):
        torch.manual_seed(5)
        Ranks(index, 3).part_dropout(5, 0)
        return float(torch.rand(()))

    torch.manual_seed(5)
    alone = float(torch.rand(()))
    assert drawn(0) == alone
    assert len({drawn(0), drawn(1), drawn(2)}) == 3
    assert drawn(2) == drawn(2)


def launched(world, local=None, **settings):
    return {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local or world), **settings}


def test_as_many_ranks_as_were_launched():
    assert check_launch({}, "cpu", 0) == 1
    assert check_launch(launched(2), "cpu", 0) == 2
    assert check_launch(launched(2, ACCELERATE_USE_FSDP="true"), "cuda-0", 2) == 2


@pytest.mark.parametrize(
    ("environment", "device", "words"),
    [
        (launched(2, ACCELERATE_USE_DEEPSPEED="true"), "cuda-0", "DeepSpeed"),
        (launched(4, 2), "cuda-0", "several computers"),
        (launched(3), "cuda-0", "3 processes need 3 cards; PyTorch finds 2"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(environment, device, words):
    with pytest.raises(StudioError, match=words) as caught:
        check_launch(environment, device, 2)
    assert caught.value.hint
