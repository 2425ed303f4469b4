"""Is an adapter what it says it is? Its files against their manifest, its tensors against its rank and its base's layers.

Only headers are read, never a weight: the answer comes in milliseconds whatever the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from studio import files
from studio.errors import BaseModelError, DamagedError, StudioError
from studio.library.adapter import WEIGHTS, Adapter, read_config
from studio.models.bases import Base
from studio.models.headers import TensorInfo, read_header, read_headers

_PREFIX = "base_model.model."
_PART = re.compile(r"^(?P<module>.+)\.lora_(?P<part>A|B|embedding_A|embedding_B|magnitude_vector)(\.weight)?$")
_FLOATS = ("F32", "F16", "BF16")

Parts = dict[str, TensorInfo]


def check(adapter: Adapter) -> list[str]:
    """What is wrong with an adapter: one sentence per problem, none if it is sound."""
    problems = _damage(adapter)
    try:
        config = read_config(adapter.path)
        tensors = read_header(adapter.path / WEIGHTS)
    except StudioError as error:
        return [*problems, error.message]
    if not tensors:
        return [*problems, f"{WEIGHTS} holds no tensors at all."]
    problems += [
        f"{tensor.name} is stored as {tensor.dtype}, which is no floating-point type."
        for tensor in tensors
        if tensor.dtype not in _FLOATS
    ]
    modules = by_module(tensors)
    if not modules:
        problems.append(f"{WEIGHTS} holds no LoRA matrices.")
    for module, parts in sorted(modules.items()):
        problems += _module_problems(module, parts, rank_of(module, config), bool(config.get("use_dora")))
    return problems


def by_module(tensors: list[TensorInfo]) -> dict[str, Parts]:
    """The LoRA tensors by the module they lie on (its name in the base) and by part: `A`, `B`, `magnitude_vector`, ..."""
    modules: dict[str, Parts] = {}
    for tensor in tensors:
        match = _PART.match(tensor.name)
        if match:
            module = match["module"].removeprefix(_PREFIX)
            modules.setdefault(module, {})[match["part"].removeprefix("embedding_")] = tensor
    return modules


def rank_of(module: str, config: dict[str, Any]) -> int:
    """The rank of one module: PEFT lets `rank_pattern` name exceptions by the end of a module's name."""
    pattern = config.get("rank_pattern")
    for key, rank in pattern.items() if isinstance(pattern, dict) else ():
        if type(rank) is int and (module == key or module.endswith(f".{key.removeprefix('^')}")):
            return rank
    return int(config["r"])


def fits(adapter: Adapter, base: Base) -> str | None:
    """Why `adapter` must not be laid on `base`; None if it may. See `origin_warning` for what is merely unknown."""
    if adapter.base_fingerprint:
        if adapter.base_fingerprint == base.fingerprint:
            return None
        return (
            f"{adapter.name} was trained on {adapter.base or 'another base'}, whose weights are not those of {base.id}."
        )
    weights = _weights(base)
    for module, parts in by_module(read_header(adapter.path / WEIGHTS)).items():
        why = _misfit(module, parts, weights)
        if why:
            return f"{adapter.name} does not fit {base.id}: {why}"
    return None


def origin_warning(adapter: Adapter, base: Base) -> str | None:
    """What to tell a user who lays an adapter of unknown origin on `base`; None where the origin is known."""
    if adapter.base_fingerprint:
        return None
    named = f" It names {adapter.base}." if adapter.base else ""
    return f"Nothing proves that {adapter.name} was trained on {base.id}.{named} If its answers are odd, that is why."


# --- parts ---------------------------------------------------------------------------------------------------------


def _damage(adapter: Adapter) -> list[str]:
    """Against the manifest, if there is one: an adapter that was not taken into the library yet has none."""
    if not (adapter.path / files.MANIFEST).is_file():
        return []
    try:
        return files.damage(adapter.path)
    except (DamagedError, KeyError, TypeError, AttributeError):
        return [f"{files.MANIFEST} is no manifest."]
    except StudioError as error:
        return [error.message]


def _module_problems(module: str, parts: Parts, rank: int, dora: bool) -> Iterator[str]:
    a, b = parts.get("A"), parts.get("B")
    if a is None or b is None:
        yield f"{module} has only one of the two matrices A and B."
        return
    if len(a.shape) < 2 or len(b.shape) < 2 or 0 in a.shape + b.shape:
        yield f"{module} has matrices of an impossible shape: A {list(a.shape)}, B {list(b.shape)}."
        return
    if a.shape[0] != rank or b.shape[1] != rank:
        yield f"{module} has the rank {a.shape[0]} in A and {b.shape[1]} in B instead of {rank}."
    if dora != ("magnitude_vector" in parts):
        yield f"{module} {'lacks' if dora else 'has'} a DoRA magnitude, which the configuration contradicts."


def _weights(base: Base) -> dict[str, TensorInfo]:
    try:
        return read_headers(base.path)
    except BaseModelError:
        return {}


def _misfit(module: str, parts: Parts, weights: dict[str, TensorInfo]) -> str | None:
    """Shapes that contradict the base's own. A module that is not found by name says nothing: names vary by loader."""
    weight, a, b = weights.get(f"{module}.weight"), parts.get("A"), parts.get("B")
    if weight is None or a is None or b is None or {len(weight.shape), len(a.shape), len(b.shape)} != {2}:
        return None
    # GPT-2 keeps its weights transposed, and embeddings swap the roles of the two sides.
    if {a.shape[1], b.shape[0]} == set(weight.shape):
        return None
    return f"{module} is {list(weight.shape)} there, and the adapter was made for {[b.shape[0], a.shape[1]]}."
