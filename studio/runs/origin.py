"""Where the overlay of a new run begins, if not at nothing: with the matrices A and B that an earlier run or an adapter has.

They are copied into the new run's folder, which is then whole without its parent. Optimizer, schedule, generators and the order
of rows are fresh: it is another experiment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import AdapterError
from studio.models.bases import Base
from studio.recipe.recipe import Adapter
from studio.recipe.toml import from_dict
from studio.runs.folder import RunFolder


@dataclass(frozen=True)
class Origin:
    """A safetensors file of A and B, and what must agree for them to mean the same again.

    `name` is what its user calls it. `base_fingerprint` is "" where nobody noted it, `targets` None where they are known by
    the tensors' names alone. `step` is that of the run it comes from, if it does.
    """

    name: str
    weights: Path
    base_fingerprint: str
    rank: int
    alpha: float
    rslora: bool
    dora: bool
    targets: str | tuple[str, ...] | None = None
    run: str = ""
    adapter: str = ""
    step: int | None = None

    def record(self) -> dict[str, Any]:
        """The parent as `job.json` and `overlay.json` name it: no path of this computer, and what its matrices were."""
        return {"run": self.run, "adapter": self.adapter, "step": self.step, "sha256": files.sha256(self.weights)}


def last_good(run: RunFolder) -> Origin | None:
    """The newest checkpoint of `run` that is whole, else its adapter; None if it has neither. Nothing is moved or removed.

    Raises `DamagedError` or `RecipeError` if its job cannot be read.
    """
    places = [(step, folder / "adapter.safetensors") for step, folder in reversed(run.checkpoints())]
    sound = next(((step, weights) for step, weights in places if not files.damage(weights.parent)), None)
    finished = run.adapter / "adapter_model.safetensors"
    if sound is None and not finished.is_file():
        return None
    step, weights = sound or (run.state().step, finished)
    shape = from_dict(run.job["recipe"]).adapter
    return Origin(
        name=run.name,
        weights=weights,
        base_fingerprint=str(run.job["inputs"]["base"]),
        rank=shape.rank,
        alpha=shape.alpha,
        rslora=shape.rslora,
        dora=shape.dora,
        targets=shape.targets,
        run=run.id,
        step=step,
    )


def refuse_misfit(origin: Origin, shape: Adapter, base: Base) -> None:
    """Raise `AdapterError` if an overlay of this shape on this base cannot begin there, or would begin as something else."""
    if origin.base_fingerprint and origin.base_fingerprint != base.fingerprint:
        raise AdapterError(
            f"{origin.name} was trained on another base than {base.id}, or on other weights of it.",
            "Name the base that it was made for, or begin from nothing.",
        )
    pairs = {
        "rank": (origin.rank, shape.rank),
        "alpha": (float(origin.alpha), float(shape.alpha)),
        "rslora": (origin.rslora, shape.rslora),
        "dora": (origin.dora, shape.dora),
        "targets": (shape.targets if origin.targets is None else origin.targets, shape.targets),
    }
    other = [f"{name} {_said(was)} instead of {_said(now)}" for name, (was, now) in pairs.items() if was != now]
    if other:
        raise AdapterError(
            f"{origin.name} has another shape than the recipe asks for: {', '.join(other)}.",
            "Leave the section [adapter] as it was there, or begin from nothing.",
        )


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
