"""Any checkpoint of a run as an adapter in the library: "use that one instead". Without torch, for it is no more than copying.

A checkpoint holds the overlay under the names of its parameters; PEFT's file leaves the overlay's own name out of them. The
numbers are passed on byte for byte.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from studio import files
from studio.errors import AdapterError, DamagedError, NotFoundError
from studio.library import shelf
from studio.library.adapter import CONFIG, WEIGHTS, Adapter, read_sidecar, write_sidecar
from studio.library.provenance import card, facts
from studio.places import Workspace
from studio.runs.folder import RunFolder

_MARK = "promoted_from"
_OVERLAY = "adapter.safetensors"
# PEFT's name of an overlay in training, as `studio.engine.overlay` gives it.
_NAME = ".default"


def promote(workspace: Workspace, run: RunFolder, step: int) -> Adapter:
    """Take the checkpoint of `step` into the library; the run and its own adapter stay as they are.

    Raises `NotFoundError` if there is no such checkpoint, `DamagedError` if it is not whole, `DiskFullError`.
    """
    checkpoint = run.checkpoint(step)
    if not checkpoint.is_dir():
        kept = ", ".join(str(number) for number, _ in run.checkpoints()) or "none"
        raise NotFoundError(f"{run.id} has no checkpoint of step {step} any more.", f"Those that are kept: {kept}.")
    if problems := files.damage(checkpoint):
        raise DamagedError(f"The checkpoint of step {step} cannot be used: {problems[0]}", "Choose another one.")
    if not (run.path / CONFIG).is_file():
        raise AdapterError(
            f"{run.id} has left no {CONFIG}: nothing says of what kind its overlay is.", "Resume it once."
        )
    made = run.path / f"promoted-{step:06d}"
    if made.exists():
        files.remove(made)
    size = (checkpoint / _OVERLAY).stat().st_size
    try:
        with files.new_folder(made, needs_bytes=size) as folder:
            files.write_bytes(folder / WEIGHTS, as_peft((checkpoint / _OVERLAY).read_bytes()))
            shutil.copyfile(run.path / CONFIG, folder / CONFIG)
            for path in _tokenizer_files(Path(str(run.job["base"]["path"]))):
                shutil.copyfile(path, folder / path.name)
            files.write_text(folder / "README.md", card(run))
            name = f"{run.name}-step-{step}"
            write_sidecar(folder, **{**facts(run, step), "name": name, _MARK: step})
        return shelf.adopt(workspace, made, name)
    finally:
        if made.exists():
            files.remove(made)


def is_promoted(adapter: Adapter) -> bool:
    """Whether it was made of a checkpoint by hand, and not by its run."""
    return _MARK in read_sidecar(adapter.path)


def as_peft(data: bytes) -> bytes:
    """A safetensors file of parameters as one of PEFT's: other names, the same numbers at the same places."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    renamed = {_peft_name(name): entry for name, entry in header.items() if name != "__metadata__"}
    text = json.dumps({"__metadata__": {"format": "pt"}, **renamed}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _peft_name(name: str) -> str:
    # DoRA's magnitudes are a module in the model and a plain tensor in the file.
    if name.endswith(f"lora_magnitude_vector{_NAME}.weight"):
        return name.removesuffix(f"{_NAME}.weight")
    return name.replace(_NAME, "")


def _tokenizer_files(base: Path) -> list[Path]:
    return [base / name for name in shelf.TOKENIZER_FILES if (base / name).is_file()]
