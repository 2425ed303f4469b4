"""Blocks of the model compiled by `torch.compile`, while they train: fewer and larger kernels in the place of many small ones.

Quantised layers and hand-written passes stay calls of their own in what is compiled. The first step takes minutes. Evaluating
and answering go on uncompiled: a key-value cache that grows would have them compiled again and again.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn

from studio.engine.checkpointing import blocks

_COMPILERS = ("g++", "clang++", "c++", "cl")


def obstacle(device: torch.device) -> str:
    """What compiling for `device` lacks on this computer, "" if nothing."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name):
        return "there is no C++ compiler"
    return ""


def compile_blocks(model: nn.Module, wanted: bool) -> None:
    """Have every block of `model` train compiled, or as it was written. A block that cannot be compiled runs as written."""
    if wanted:
        torch._dynamo.config.suppress_errors = True
    for block in blocks(model):
        kind: Any = type(block)
        vars(block).pop("forward", None)
        if wanted:
            # What transformers wraps around it to checkpoint it would hide it from the compiler.
            inner = torch.compile(kind.forward.__wrapped__, dynamic=True)
            vars(block)["forward"] = MethodType(partial(_forward, inner), block)


def _forward(inner: Any, block: Any, *args: Any, **kwargs: Any) -> Any:
    if not block.training:
        return type(block).forward(block, *args, **kwargs)
    if block.gradient_checkpointing:
        return block._gradient_checkpointing_func(partial(inner, block, **kwargs), *args)
    return inner(block, *args, **kwargs)
