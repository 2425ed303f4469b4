"""Input embeddings in main memory: a gigabyte less on the card for a base with a vocabulary of its time, and the same numbers.

A step reads a row per token of the table and never multiplies by it, so that what goes over to the card is no more than the
hidden states of a micro-batch. A head that is the same table needs it on the card: then there is nothing to move.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

MAIN_MEMORY = torch.device("cpu")


def place_embeddings(model: PreTrainedModel, in_main_memory: bool) -> None:
    """Have the input embeddings of `model` in main memory, or with its head. Repeating it changes nothing."""
    table: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    is_away = "weight" not in table._parameters
    if in_main_memory and not is_away and table.weight is not head.weight:
        # No parameter of the model as long as it is away: what asks where the model lies is not to be told main memory.
        vars(table)["weight"] = table._parameters.pop("weight").to(MAIN_MEMORY)
        vars(table)["forward"] = partial(_looked_up, table, head.weight.device)
        _move_buffers(table, MAIN_MEMORY)
    elif is_away and not in_main_memory:
        del vars(table)["forward"]
        weight = vars(table).pop("weight").to(head.weight.device)
        table.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
        _move_buffers(table, head.weight.device)


def _move_buffers(table: nn.Module, device: torch.device) -> None:
    """Gemma scales what it looks up."""
    for name, buffer in table._buffers.items():
        table._buffers[name] = buffer.to(device) if buffer is not None else None


def _looked_up(table: Any, device: torch.device, ids_BT: Tensor) -> Tensor:
    """The rows of the table (B, T, H) on `device`, by way of page-locked memory: so nobody waits for the copy."""
    rows_BTH: Tensor = type(table).forward(table, ids_BT.to(MAIN_MEMORY))
    if device.type == "cuda":
        return rows_BTH.pin_memory().to(device, non_blocking=True)
    return rows_BTH.to(device)
