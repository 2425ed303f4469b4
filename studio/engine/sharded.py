"""A base that is cut up among the ranks of a run: each keeps a share of every block's weights, and borrows the rest for a moment.

`accelerate launch --use_fsdp` asks for it. PyTorch's FSDP2 (`fully_shard`) does it: before a block computes, forwards or
backwards, its shares are gathered from all ranks; after that what is not ours is let go. Only the blocks' frozen weights are
cut. The overlay, which is small, stays whole on every rank, and with it the gradient sum, the optimizer, the checkpoint and the
saved adapter are what they are without sharding; hence the cutting is ours and not `Accelerator.prepare`'s, which would cut A
and B as well, and the launcher's further options (`--fsdp_...`) have no say in it. Embeddings and head stay whole too: the loss
reads the head outside of any forward pass.

A packed weight can be cut since it is stored under a floating-point type (`bnb_4bit_quant_storage`), and since its constants, a
thirtieth of it if they are quantised too, stay whole on its layer. Gathering is a collective: what one rank computes all must,
as often as it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

import numpy as np
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from studio.engine.batches import Layout, MicroBatch, collate
from studio.engine.checkpointing import blocks
from studio.engine.ranks import Ranks
from studio.engine.template import Example
from studio.errors import StudioError
from studio.recipe.recipe import Recipe

_ASKED = "ACCELERATE_USE_FSDP"


def take_over(environment: MutableMapping[str, str]) -> bool:
    """Whether the launcher was told to shard. Taken out of its environment, lest accelerate and transformers shard as well."""
    return environment.pop(_ASKED, "false").lower() == "true"


def check_sharding(recipe: Recipe, environment: Mapping[str, str]) -> None:
    """Raises `StudioError` for what reads, moves or compiles weights behind a block's back, and for shares in main memory."""
    obstacles = {
        "base.quantisation = int8": recipe.base.quantisation == "int8",
        "adapter.dora": recipe.adapter.dora,
        "training.compile": recipe.training.compile,
        "memory.offload": recipe.memory.offload,
        "memory.embeddings_on_cpu": recipe.memory.embeddings_on_cpu,
        "--fsdp_offload_params": environment.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true",
    }
    found = [name for name, is_there in obstacles.items() if is_there]
    if found:
        raise StudioError(
            f"A base that is cut up among cards (FSDP) does not go together with {found[0]}.",
            "Do without it, in a new run, or launch with --multi_gpu: each card then holds the whole base.",
        )


def shard(model: nn.Module, device: torch.device, ranks: Ranks) -> None:
    """Leave this rank its share of the blocks' frozen weights, on `device`; all else of `model` goes there whole.

    At most one block lies there as a whole at any time. Every rank calls this.
    """
    mesh = init_device_mesh(device.type, (ranks.count,))
    body = model.base_model
    assert isinstance(body, nn.Module)
    for block in blocks(body):
        block.to(device)
        fully_shard(block, mesh=mesh, ignored_params={p for p in block.parameters() if p.requires_grad})
    for module in _outside(model):
        module.to(device)
    # The root has no weights of its own: it is there to gather the next block's while one computes.
    shares = {p for block in blocks(body) for p in block.parameters()}
    fully_shard(body, mesh=mesh, ignored_params={p for p in body.parameters() if p not in shares or p.requires_grad})


def _outside(model: nn.Module) -> Iterator[nn.Module]:
    inside = {id(module) for block in blocks(model) for module in block.modules()}
    return (module for module in model.modules() if id(module) not in inside and not list(module.children()))


def is_sharded(model: nn.Module) -> bool:
    """Whether `model` or a part of it is cut up."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def in_step(
    model: nn.Module, batches: list[MicroBatch], ranks: Ranks, layout: Layout, *, always: bool = False
) -> list[MicroBatch]:
    """`batches`; for a sharded model, or `always`, with as many that teach nothing as make them equally many on every rank."""
    if ranks.count == 1 or not (always or is_sharded(model)):
        return batches
    most = max(int(count) for (count,) in ranks.gathered(len(batches)))
    untaught = Example(np.full(1, layout.pad_id, np.int32), np.zeros(1, np.bool_), row=-1)
    idle = collate([[untaught]], layout.pad_id, layout.multiple)
    return [*batches, *[idle] * (most - len(batches))]
