"""A state from which a run goes on as if it had never stopped.

    adapter.safetensors      the learning parameters
    optimizer.safetensors    the optimizer's tensors, named `<parameter>/<slot>`
    rng.safetensors          torch's generators
    state.json               step, learning-rate schedule, Python's and NumPy's generators, hashes of the inputs, the standing
    manifest.json            sizes and SHA-256 of all that, written last

No pickle. The rows' order is a function of the step and needs no state. A checkpoint is built beside its place and renamed
into it; older ones go only after the new one was read back and found whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from studio import files
from studio.engine.generators import Generators
from studio.engine.overlay import all_finite, begin_from, load_tensors, save_tensors, trainable
from studio.engine.standing import NOBODY, Standing
from studio.errors import ChangedError, DamagedError, DivergedError
from studio.runs.events import Warned
from studio.runs.folder import RunFolder

_SMALL_FILES_BYTES = 1 << 20  # generators, numbers, the manifest
_GOES_ON = "The run goes on from the newest checkpoint that is whole."


def save(
    run: RunFolder,
    step: int,
    model: torch.nn.Module,
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    keep: int,
    standing: Standing = NOBODY,
) -> Path:
    """Write the checkpoint of `step`, verify it, then remove all but the newest `keep` and the one kept for its evaluation.

    Raises `DiskFullError`, and `DivergedError` rather than keep an overlay with a NaN in it beside good ones.
    """
    target = run.checkpoint(step)
    if not target.exists():
        if not all_finite(dict(trainable(model))):
            raise DivergedError(
                f"The overlay holds numbers that are none after step {step}.",
                "It is not saved; what was saved before is good. Start again with a third of the learning rate.",
            )
        slots, numbers = _split(optimizer.state_dict()["state"])
        needs_bytes = (
            sum(tensor.nbytes for tensor in [*slots.values(), *trainable(model).values()]) + _SMALL_FILES_BYTES
        )
        _make_room(run, needs_bytes, standing.kept_step)
        with files.new_folder(target, needs_bytes=needs_bytes) as folder:
            save_tensors(model, folder / "adapter.safetensors")
            save_file(slots, folder / "optimizer.safetensors")
            generators = Generators.now()
            save_file(generators.torch, folder / "rng.safetensors")
            state = {
                "step": step,
                "inputs": run.job["inputs"],
                "schedule": {"last_epoch": schedule.state_dict()["last_epoch"]},
                "optimizer": {"numbers": numbers, "groups": _groups(optimizer)},
                "python": generators.python,
                "numpy": generators.numpy,
                "standing": standing.to_dict(),
            }
            files.write_json(folder / "state.json", state)
    problems = files.damage(target)
    if problems:
        raise DamagedError(f"The checkpoint of step {step} was not written soundly: {problems[0]}", "Check the disk.")
    for old_step, old in run.checkpoints()[:-keep]:
        if old_step != standing.kept_step:
            files.remove(old)
    return target


def _make_room(run: RunFolder, needs_bytes: int, kept_step: int) -> None:
    """On a disk that is nearly full older checkpoints are the reserve: they go, oldest first, while a whole newer one stands.

    So the run pauses with the step in hand saved, or need not pause at all. One kept for its evaluation stays.
    """
    there = run.checkpoints()
    if not there or files.free_bytes(run.path) >= needs_bytes or files.damage(there[-1][1]):
        return
    for step, folder in there[:-1]:
        if step != kept_step and files.free_bytes(run.path) < needs_bytes:
            files.remove(folder)


def newest(run: RunFolder, warn: Callable[[Warned], None] = lambda _: None) -> tuple[int, Path] | None:
    """The newest checkpoint that is whole. Damaged ones are told of and set aside by name, not deleted."""
    for step, folder in reversed(run.checkpoints()):
        problems = files.damage(folder)
        if not problems:
            return step, folder
        warn(
            Warned(
                message=f"The checkpoint of step {step} is set aside as checkpoints/damaged/{folder.name}: {problems[0]}",
                hint=_GOES_ON,
            )
        )
        files.move_to(folder, folder.parent / "damaged")
    return None


def sweep(run: RunFolder, warn: Callable[[Warned], None]) -> None:
    """Remove what a killed engine left half-made in the run's folder, and tell of it. No other engine may be at the run."""
    for place in (run.path, run.checkpoint(0).parent):
        for path in files.sweep(place):
            # `.step-000006.tmp-0a1b2c3d` was to become `step-000006`, or had been it.
            name = path.name[1:].rpartition(".tmp-")[0]
            warn(Warned(message=f"What an engine that was killed left of {name} is removed.", hint=_GOES_ON))


def begin(run: RunFolder, model: torch.nn.Module) -> int:
    """The state of a run that has taken no step yet: its overlay fresh, or as its parent had it. Returns the step, 0.

    Raises `DamagedError` or `AdapterError` if that overlay is not what `job.json` promises, or does not fit.
    """
    parent = run.job.get("parent") if run.is_readable else None  # a fit test has no job
    if parent:
        if not run.start.is_file() or files.sha256(run.start) != parent["sha256"]:
            raise DamagedError(f"{run.start.name} of {run.id} is gone or damaged.", "Start a new run.")
        begin_from(model, run.start)
    return 0


def restore(run: RunFolder, folder: Path, model: torch.nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> int:
    """Put everything back as it was; returns the step. Raises `ChangedError` if an input of the run has changed."""
    state = files.read_json(folder / "state.json")
    changed = [name for name, value in run.job["inputs"].items() if state["inputs"].get(name) != value]
    if changed:
        raise ChangedError(f"This checkpoint belongs to another {' and another '.join(changed)}.", "Start a new run.")
    load_tensors(model, folder / "adapter.safetensors")
    _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"), state["optimizer"])
    schedule.load_state_dict({**schedule.state_dict(), "last_epoch": state["schedule"]["last_epoch"]})
    for group, saved in zip(optimizer.param_groups, state["optimizer"]["groups"], strict=True):
        group["lr"] = saved["lr"]
    Generators(load_file(folder / "rng.safetensors"), state["python"], state["numpy"]).put_back()
    return int(state["step"])


def _split(state: dict[Any, Any], path: str = "") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors for safetensors and numbers for JSON, both by their path: `<parameter>/<slot>`.

    bitsandbytes keeps its quantised slots one level deeper than torch does.
    """
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    for key, value in state.items():
        here = f"{path}{key}"
        if isinstance(value, torch.Tensor):
            tensors[here] = value.detach().cpu().contiguous().clone()
        elif isinstance(value, dict):
            inner_tensors, inner_numbers = _split(value, f"{here}/")
            tensors |= inner_tensors
            numbers |= inner_numbers
        else:
            numbers[here] = value
    return tensors, numbers


def _groups(optimizer: Optimizer) -> list[dict[str, float]]:
    return [{"lr": float(group["lr"])} for group in optimizer.param_groups]


def _restore_optimizer(optimizer: Optimizer, slots: dict[str, torch.Tensor], saved: dict[str, Any]) -> None:
    state: dict[Any, Any] = {}
    for path, value in {**slots, **saved["numbers"]}.items():
        parameter, *middle, slot = path.split("/")
        place = state.setdefault(int(parameter), {})
        for key in middle:
            place = place.setdefault(key, {})
        place[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
