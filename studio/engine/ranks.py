"""Several processes at one run, each with the base on a card of its own, started by `accelerate launch`.

The rows of a step are dealt out to the ranks; each adds up the gradient of its own rows, every part divided by the supervised
tokens of the *whole* step; then one sum over all ranks makes the gradient that a single process would have found. All ranks
take the same optimizer step, so their overlays stay the same without ever being sent.

That sum is ours and not DistributedDataParallel's, because an overlay is small (tens of megabytes): one flat all-reduce per
optimizer step says exactly what is meant. DDP would average where a sum is wanted, reduce at every micro-batch unless told not
to, hold its buckets throughout, and want as many micro-batches on each rank as on every other.

The base itself may be cut up among the ranks as well: `engine/sharded.py`. DeepSpeed and Megatron-LM, which want the whole loop
to be theirs, are refused by `check_launch`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, distributed, nn

from studio.engine.template import Example
from studio.errors import EngineError, StudioError

# While the first rank samples, saves or answers a question the others wait for it. That none of them is gone is watched
# separately (`engine/launched.py`), so this need not be short.
PATIENCE = timedelta(minutes=30)
_OTHERS = {"DEEPSPEED": "DeepSpeed", "MEGATRON_LM": "Megatron-LM"}


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run: `index` counts from 0, of `count`. The first one speaks for all."""

    index: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """As this process was started; alone unless it joined others."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written: events, checkpoints, samples, the adapter."""
        return self.index == 0

    def share(self, rows: Sequence[Example]) -> list[Example]:
        """The rows that are this rank's: longest first, each to the rank that has the fewest tokens so far."""
        mine, tokens = [], [0] * self.count
        for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
            least = tokens.index(min(tokens))
            tokens[least] += len(row.ids)
            if least == self.index:
                mine.append(row)
        return mine

    def total(self, number: Tensor, parameters: Sequence[nn.Parameter] = ()) -> Tensor:
        """The sum of a scalar over all ranks; the gradients of `parameters` are replaced by their sums along with it.

        A rank that had no row gives zeros. Holds one more copy of the gradients for a moment in which no activation is alive.
        """
        if self.count == 1:
            return number
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), number.reshape(1)])
        with _peers_answering():
            distributed.all_reduce(flat)
        *sums, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
        for parameter, found in zip(parameters, sums, strict=True):
            parameter.grad = found.view_as(parameter).to(parameter.dtype)
        return total.reshape(())

    def told(self, *numbers: int) -> list[int]:
        """The first rank's whole numbers, on every rank; all wait here for the first."""
        if self.count == 1:
            return list(numbers)
        sent = torch.tensor(numbers, device=_device())
        with _peers_answering():
            distributed.broadcast(sent, src=0)
        return [int(number) for number in sent]

    def gathered(self, *numbers: float) -> list[list[float]]:
        """The numbers of every rank, in order of rank."""
        sent = torch.tensor(numbers, dtype=torch.float64, device=_device())
        found = [torch.empty_like(sent) for _ in range(self.count)]
        with _peers_answering():
            distributed.all_gather(found, sent)
        return [[float(number) for number in one] for one in found]

    def part_dropout(self, seed: int, step: int) -> None:
        """Have the other ranks drop other units than the first, whose generators alone a checkpoint keeps.

        Hence on several ranks a run with dropout draws other masks than on one. Without dropout nothing is drawn at all.
        """
        if not self.is_first:
            torch.manual_seed(int(np.random.default_rng([seed, step, self.index]).integers(2**63)))


@contextlib.contextmanager
def _peers_answering() -> Iterator[None]:
    """Raise `EngineError` where a collective fails: gloo and NCCL have nothing more precise than `RuntimeError`."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(
            "Another process of this run is gone, or did not answer any more.",
            "The run's log may say why; most often memory ran out. Resume goes on from the last checkpoint.",
        ) from error


def _device() -> torch.device:
    """Where small numbers must lie to be sent: NCCL knows cards alone."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def join(device: str, count: int) -> Ranks:
    """Meet the other ranks, each on its own card if `device` is one."""
    if count == 1:
        return Ranks()
    if sys.platform == "linux":
        # All ranks are on this computer: what they say to each other is nobody else's.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    with _peers_answering():
        PartialState(cpu=device == "cpu", timeout=PATIENCE)
    return Ranks.here()


def make_accelerator(device: torch.device) -> Accelerator:
    """Accelerate for the loop. What a launcher's own settings say of precision and accumulation is the recipe's to say."""
    accumulation = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no", gradient_accumulation_plugin=accumulation)


ALONE = Ranks()


def check_launch(environment: Mapping[str, str], device: str, num_cards: int) -> int:
    """How many ranks the launcher has started, by the environment it made. Raises `StudioError` for what cannot be."""
    for name, words in _OTHERS.items():
        if environment.get(f"ACCELERATE_USE_{name}", "false").lower() == "true":
            raise StudioError(
                f"{words} cannot be used.",
                "Launch with --multi_gpu, or with --use_fsdp for a base that is too large for one card.",
            )
    count = int(environment.get("WORLD_SIZE", "1"))
    if count != int(environment.get("LOCAL_WORLD_SIZE", str(count))):
        raise StudioError("A run cannot be spread over several computers.", "Launch with --num_machines 1.")
    if device != "cpu" and count > num_cards:
        raise StudioError(
            f"{count} processes need {count} cards; PyTorch finds {num_cards}.",
            f"Launch with --num_processes {num_cards}.",
        )
    return count
