"""Bake an overlay into its base: W' = W + s B A, an ordinary model that costs nothing extra per token.

The 16-bit base is read from disk tensor by tensor and written shard by shard, so the whole model is never in memory; the sum is
made in fp32 and rounded once. Never is a 4-bit weight the target: rounding it again would lose more than the overlay added.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from studio import files
from studio.engine.load import DTYPES
from studio.engine.measure import peak_rss_bytes
from studio.errors import AdapterError, DivergedError
from studio.library.adapter import Adapter
from studio.library.templates import kept_template, write_template
from studio.models.bases import Base, write_sidecar
from studio.models.facts import read_config
from studio.models.headers import TensorInfo, read_headers
from studio.models.templates import has_own

# GPT-2's Conv1D keeps its weights as in x out. A square one does not show it: the family must be known.
TRANSPOSED_FAMILIES = ("gpt2", "openai-gpt")
SHARD_BYTES = 4_000_000_000
_PREFIX = "base_model.model."
_COPIED = (
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
    "*.model", "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class Delta:
    """One module's overlay: A (r x in), B (out x r), the scale, and DoRA's magnitude (out) if it has one."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float
    magnitude_O: Tensor | None

    def apply(self, weight_OI: Tensor, transposed: bool) -> Tensor:
        """W' in fp32. `transposed`: the base stores this weight as in x out (GPT-2's Conv1D)."""
        change_OI = self.scale * (self.b_OR.float() @ self.a_RI.float())
        merged_OI = (weight_OI.T if transposed else weight_OI).float() + change_OI
        if self.magnitude_O is not None:
            # DoRA (arXiv 2402.09353, equation 5): direction from W + s B A, length learnt apart.
            norms_O = torch.linalg.vector_norm(merged_OI, dim=1)
            merged_OI = merged_OI * (self.magnitude_O.float() / norms_O)[:, None]
        return merged_OI.T.contiguous() if transposed else merged_OI


@dataclass
class Loss:
    """How much of the change was lost when the sum was rounded to the file's dtype, in squares."""

    wanted: float = 0.0
    missing: float = 0.0

    @property
    def fraction(self) -> float:
        """||realised - wanted|| / ||wanted|| over all merged weights."""
        return math.sqrt(self.missing / self.wanted) if self.wanted else 0.0


def merge(
    base: Base, adapter: Adapter, out: Path, dtype: str | None, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Write the merged model to the new folder `out`; returns `path`, `bytes` and what the receipt says about the weights.

    `dtype` None keeps the base's own. Raises `AdapterError` if the adapter does not belong to this base.
    """
    if adapter.base_fingerprint and adapter.base_fingerprint != base.fingerprint:
        raise AdapterError(
            f"{adapter.name} was trained on another base ({adapter.base}), not on {base.id}.",
            "Merge it into the base it was made for.",
        )
    began = time.perf_counter()
    deltas = read_deltas(adapter)
    headers = read_headers(base.path)
    plan = assign(deltas, headers, transposed=read_config(base.path).get("model_type") in TRANSPOSED_FAMILIES)
    target = DTYPES[dtype] if dtype else None
    lost = Loss()
    with files.new_folder(out, needs_bytes=_needed_bytes(headers, target)) as folder:
        shards = _write_shards(base, headers, plan, target, folder, lost, progress)
        _write_index(folder, shards)
        _write_config(base, folder, target)
        for pattern in _COPIED:
            for path in base.path.glob(pattern):
                shutil.copyfile(path, folder / path.name)
        if has_own(base.path) is False and (template := kept_template(adapter.path)):
            write_template(folder, template)
        files.write_text(folder / "README.md", _card(base, adapter))
        source = f"{base.id} + {adapter.name}"
        write_sidecar(folder, name=out.name, source=source, licence=base.licence, imported=files.now())
    return {
        "path": str(out),
        "bytes": sum(path.stat().st_size for path in out.iterdir() if path.is_file()),
        "receipt": {
            "delta_lost": lost.fraction,
            "num_merged": len(plan),
            "peak_rss_bytes": peak_rss_bytes(),
            "seconds": time.perf_counter() - began,
        },
    }


def read_deltas(adapter: Adapter) -> dict[str, Delta]:
    """The adapter's matrices by module name. Raises `AdapterError` on anything a merge cannot take over whole."""
    config = json.loads((adapter.path / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(adapter.path / "adapter_model.safetensors")
    if any(not bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise DivergedError(f"{adapter.name} holds numbers that are none.", "Use an earlier checkpoint of its run.")
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, part = _split_key(key)
        modules.setdefault(module, {})[part] = tensor
    deltas = {}
    for module, parts in modules.items():
        if (
            not parts.keys() <= {"lora_A", "lora_B", "lora_magnitude_vector"}
            or not {"lora_A", "lora_B"} <= parts.keys()
        ):
            raise AdapterError(
                f"{adapter.name} changes {module} in a way that is not merged yet ({', '.join(sorted(parts))}).",
                "Use it as an adapter.",
            )
        a_RI, b_OR = parts["lora_A"], parts["lora_B"]
        scale = scaling(config, module, a_RI.shape[0])
        deltas[module] = Delta(a_RI, b_OR, scale, parts.get("lora_magnitude_vector"))
    if not deltas:
        raise AdapterError(f"{adapter.name} holds no LoRA matrices.", "Import it again.")
    return deltas


def _split_key(key: str) -> tuple[str, str]:
    name = key.removeprefix(_PREFIX).removesuffix(".weight")
    module, _, part = name.rpartition(".")
    return (module, part) if part.startswith("lora_") else (name, "weight")


def scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """s = alpha/r, or alpha/sqrt(r) for rsLoRA (arXiv 2312.03732); `alpha_pattern` may name single modules."""
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if module == pattern or module.endswith("." + pattern):
            alpha = float(value)
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def assign(
    deltas: dict[str, Delta], headers: dict[str, TensorInfo], *, transposed: bool
) -> dict[str, tuple[Delta, bool]]:
    """Tensor name -> overlay and whether it lies transposed. Every overlay must find its weight, in a shape that fits."""
    plan = {}
    for module, delta in deltas.items():
        name = f"{module}.weight"
        shape = tuple(headers[name].shape) if name in headers else None
        out_in = (delta.b_OR.shape[0], delta.a_RI.shape[1])
        wanted = out_in[::-1] if transposed else out_in
        if shape != wanted:
            raise AdapterError(
                f"The base has no weight {name} of {wanted[0]} x {wanted[1]}.", "This adapter belongs to another base."
            )
        plan[name] = (delta, transposed)
    return plan


def _needed_bytes(headers: dict[str, TensorInfo], target: torch.dtype | None) -> int:
    if target is None:
        return sum(info.num_bytes for info in headers.values())
    return sum(math.prod(info.shape) * target.itemsize for info in headers.values())


def _write_shards(
    base: Base,
    headers: dict[str, TensorInfo],
    plan: dict[str, tuple[Delta, bool]],
    target: torch.dtype | None,
    folder: Path,
    lost: Loss,
    progress: Callable[[str, int, int], None],
) -> dict[str, str]:
    """Write all tensors, at most `SHARD_BYTES` per file; returns tensor name -> file name."""
    where: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    size, count = 0, 0
    for done, (name, tensor) in enumerate(_tensors(base, headers), 1):
        merged = _merged(name, tensor, plan, target, lost)
        if shard and size + merged.nbytes > SHARD_BYTES:
            count += 1
            _save(shard, folder, count, where)
            shard, size = {}, 0
        shard[name] = merged
        size += merged.nbytes
        progress("weights", done, len(headers))
    _save(shard, folder, count + 1, where)
    return where


def _tensors(base: Base, headers: dict[str, TensorInfo]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the base, one in memory at a time, file by file."""
    by_file: dict[Path, list[str]] = {}
    for name, info in headers.items():
        by_file.setdefault(Path(info.file), []).append(name)
    for file, names in by_file.items():
        with safe_open(base.path / file, framework="pt") as tensors:
            for name in names:
                yield name, tensors.get_tensor(name)


def _merged(
    name: str, tensor: Tensor, plan: dict[str, tuple[Delta, bool]], target: torch.dtype | None, lost: Loss
) -> Tensor:
    dtype = target or tensor.dtype
    if name not in plan:
        return tensor.to(dtype)
    delta, transposed = plan[name]
    exact = delta.apply(tensor, transposed)
    written = exact.to(dtype)
    if not bool(torch.isfinite(written).all()):
        raise DivergedError(f"Merging {name} gives numbers too large for {dtype}.", "Merge into bf16 or fp32.")
    before = tensor.float()
    lost.wanted += float((exact - before).square().sum())
    lost.missing += float((written.float() - exact).square().sum())
    return written


def _save(shard: dict[str, Tensor], folder: Path, number: int, where: dict[str, str]) -> None:
    name = f"model-{number:05d}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in shard.items()}, folder / name, metadata={"format": "pt"})
    where.update(dict.fromkeys(shard, name))


def _write_index(folder: Path, where: dict[str, str]) -> None:
    """One file is `model.safetensors`; several are numbered and listed in an index."""
    names = sorted(set(where.values()))
    if len(names) == 1:
        (folder / names[0]).rename(folder / "model.safetensors")
        return
    final = {name: f"model-{i:05d}-of-{len(names):05d}.safetensors" for i, name in enumerate(names, 1)}
    for old, new in final.items():
        (folder / old).rename(folder / new)
    total = sum((folder / new).stat().st_size for new in final.values())
    index = {"metadata": {"total_size": total}, "weight_map": {key: final[name] for key, name in sorted(where.items())}}
    files.write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")


def _write_config(base: Base, folder: Path, target: torch.dtype | None) -> None:
    config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    for key in ("_name_or_path", "_model_name_or_path", "quantization_config"):
        config.pop(key, None)
    if target is not None:
        config["dtype"] = str(target).removeprefix("torch.")
        config.pop("torch_dtype", None)
    files.write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def _card(base: Base, adapter: Adapter) -> str:
    name = base.hub_id or base.id
    front = {"library_name": "transformers", "base_model": name, "base_model_relation": "finetune"}
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    return f"---\n{lines}\n---\n\n# {adapter.name}\n\n`{name}` with the overlay {adapter.name} baked in by Overlay Studio.\n"
