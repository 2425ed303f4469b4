"""Safetensors headers, read with the standard library: what a model's weights are, without loading one of them.

A file begins with the header's length (8 bytes, little endian) and the header itself: JSON that maps each tensor's name
to its dtype, shape and byte range in the rest of the file (format description: huggingface/safetensors, README).
A header comes from outside, so nothing in it is believed before it has been held against the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from studio.errors import BaseModelError

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8
_MAX_DIMENSIONS = 64
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    "F4": 4,
}
_AGAIN = "Download or copy the model again."


@dataclass(frozen=True)
class TensorInfo:
    """One tensor on disk. `offset` counts bytes from the start of `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int
    file: Path


def read_headers(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the model in `folder`, by name, from one file, many files, or the files that an index names.

    Raises `BaseModelError` if there are no safetensors files or if one of them is damaged.
    """
    index = folder / INDEX
    weight_map = _read_index(index) if index.is_file() else {}
    names = sorted(set(weight_map.values())) or weight_files(folder)
    if not names:
        raise BaseModelError(
            f"{folder.name} holds no safetensors weights.", "Choose a folder with *.safetensors files."
        )
    tensors: dict[str, TensorInfo] = {}
    for name in names:
        for tensor in read_header(folder / name):
            if tensor.name in tensors:
                raise _damaged(name, f"it repeats the tensor {tensor.name} of {tensors[tensor.name].file.name}")
            tensors[tensor.name] = tensor
    for tensor_name, name in weight_map.items():
        if tensor_name not in tensors or tensors[tensor_name].file.name != name:
            raise _damaged(name, f"it lacks the tensor {tensor_name} that the index promises")
    return tensors


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files of a model, without those of an adapter; `model.safetensors` alone if present."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    return sorted(
        path.name for path in folder.glob("*.safetensors") if path.is_file() and not path.name.startswith("adapter_")
    )


def read_header(path: Path) -> list[TensorInfo]:
    """The tensors of one file in the order of their bytes. Raises `BaseModelError` if the file is damaged."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
                raise _damaged(path.name, "its header is longer than the file, or than any real header")
            text = file.read(length)
    except FileNotFoundError as error:
        raise BaseModelError(f"The weights file {path.name} is missing.", _AGAIN) from error
    except OSError as error:
        raise BaseModelError(
            f"{path.name} cannot be read: {error.strerror}.", "Check the file's permissions."
        ) from error
    return parse_header(path, text, size)


def parse_header(path: Path, text: bytes, size: int) -> list[TensorInfo]:
    """The tensors that the header `text` of a file of `size` bytes tells of, in the order of their bytes.

    Raises `BaseModelError` if they contradict themselves or the size.
    """
    header = _parse(path.name, text)
    header.pop("__metadata__", None)
    data_start = LENGTH_BYTES + len(text)
    tensors = [_tensor(path, name, entry, data_start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.num_bytes))
    _check_covers(path, tensors, data_start, size)
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    """Tensor name -> file name."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise _damaged(path.name, "it is too large for an index")
        text = path.read_bytes()
    except OSError as error:
        raise BaseModelError(
            f"{path.name} cannot be read: {error.strerror}.", "Check the file's permissions."
        ) from error
    return parse_index(path.name, text)


def parse_index(file_name: str, text: bytes) -> dict[str, str]:
    """Tensor name -> file name, from an index's bytes. File names must be plain: an index never leads out of its folder.

    Raises `BaseModelError` if it is damaged.
    """
    weight_map = _parse(file_name, text).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(file_name, "it has no weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise _damaged(file_name, f"it names {name!r}, which is no safetensors file beside it")
        if "\0" in name:
            raise _damaged(file_name, "it names a file with a null character")
    return weight_map


def _parse(file_name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(file_name, "its header is no readable JSON, or names a tensor twice") from error
    if not isinstance(value, dict):
        raise _damaged(file_name, "its header is not a table of tensors")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("duplicate key")
    return table


def _tensor(path: Path, name: str, entry: Any, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _damaged(path.name, f"the entry of {name} is not a table")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if not isinstance(dtype, str) or bits is None:
        raise _damaged(path.name, f"{name} has the unknown dtype {dtype!r}")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise _damaged(path.name, f"{name} has an impossible shape")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(path.name, f"{name} has impossible offsets")
    num_bytes = offsets[1] - offsets[0]
    if math.prod(shape) * bits != num_bytes * 8:
        raise _damaged(path.name, f"{name} has {num_bytes} bytes, which its shape and dtype contradict")
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], num_bytes, path)


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 63 for number in value)


def _check_covers(path: Path, tensors: list[TensorInfo], data_start: int, size: int) -> None:
    """The tensors follow one another without gap or overlap and end where the file ends."""
    position = data_start
    for tensor in tensors:
        if tensor.offset + tensor.num_bytes > size:
            raise _damaged(path.name, f"it ends before the tensor {tensor.name} does: part of the file is missing")
        if tensor.offset != position:
            raise _damaged(path.name, f"{tensor.name} does not begin where the tensor before it ends")
        position += tensor.num_bytes
    if position != size:
        raise _damaged(path.name, f"{size - position} bytes belong to no tensor")


def _damaged(file_name: str, why: str) -> BaseModelError:
    return BaseModelError(f"{file_name} is damaged: {why}.", _AGAIN)


def read_chunks(tensor: TensorInfo, chunk_bytes: int) -> Iterator[bytes]:
    """The first, middle and last `chunk_bytes` of a tensor, or all of it if it is no longer than three chunks."""
    with open(tensor.file, "rb") as file:
        if tensor.num_bytes <= 3 * chunk_bytes:
            file.seek(tensor.offset)
            yield file.read(tensor.num_bytes)
            return
        for start in (0, (tensor.num_bytes - chunk_bytes) // 2, tensor.num_bytes - chunk_bytes):
            file.seek(tensor.offset + start)
            yield file.read(chunk_bytes)
