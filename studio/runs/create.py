"""From a recipe to a run folder with every input pinned down, and later the question whether those still hold."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from studio import files
from studio.data.chosen import Chosen, choose
from studio.data.fetched import source_of
from studio.data.formats import Mapping
from studio.data.mappings import recall
from studio.data.opening import num_bytes, sha256
from studio.data.rows import read
from studio.errors import AdapterError, ChangedError, DamagedError, RecipeError, StudioError
from studio.models.bases import Base, find_base
from studio.models.templates import has_own, misfit, template_text
from studio.places import Workspace
from studio.recipe.check import check
from studio.recipe.recipe import Recipe
from studio.recipe.toml import from_dict, resolve_data, to_dict
from studio.runs import events as e
from studio.runs.folder import RunFolder
from studio.runs.origin import Origin, refuse_misfit
from studio.runs.wishes import TestFit

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "overlay-studio")
_LOOK_THROUGH_BYTES = 64 << 20
_TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json", "tokenizer.json")


@dataclass(frozen=True)
class TrainJob:
    """What `job.json` of a training run says, read back. `mapping` says which column is what, if the user had to be asked."""

    recipe: Recipe
    base: Path
    data: Path
    device: str
    data_sha256: str
    mapping: Mapping | None = None

    @property
    def chosen(self) -> Chosen:
        """The dataset as the run reads it."""
        return Chosen(self.data, self.data_sha256, self.mapping)


def create_run(
    workspace: Workspace,
    recipe: Recipe,
    *,
    device: str,
    recipe_folder: Path | None = None,
    name: str | None = None,
    origin: Origin | None = None,
    before: Chosen | None = None,
) -> RunFolder:
    """A new run folder for `recipe`, its overlay to begin as `origin` has it. Nothing is trained yet.

    A dataset is read as its user has confirmed, or as the run that it was read by `before` read it.

    Raises `RecipeError`, `BaseModelError`, `DataError` or, for an origin that does not fit, `AdapterError` before anything is
    written.
    """
    base, data = _checked(workspace, recipe, recipe_folder, before)
    if origin is not None:
        refuse_misfit(origin, recipe.adapter, base)
    job = {**_job(recipe, device, base, data), **({"parent": origin.record()} if origin else {})}
    return RunFolder.create(workspace, name or recipe.name, job, origin.weights if origin else None)


def job_instead(
    workspace: Workspace, run: RunFolder, recipe: Recipe, recipe_folder: Path | None = None
) -> dict[str, Any]:
    """What `job.json` of `run` would say with `recipe` in the place of its own, its inputs pinned down as they are now.

    A run that was not given a name of its own is called as the recipe is. Raises what `create_run` raises, and `DamagedError`
    if the old job cannot be read.
    """
    old, parent = read_job(run), run.job.get("parent")
    if parent and (recipe.adapter, recipe.base) != (old.recipe.adapter, old.recipe.base):
        raise AdapterError(
            f"{run.name} begins with the overlay of {parent['run'] or parent['adapter']}: base and overlay stay as they are.",
            "Leave the sections [base] and [adapter] alone, or begin a run from nothing.",
        )
    base, data = _checked(workspace, recipe, recipe_folder, old.chosen)
    name = recipe.name if run.name == old.recipe.name else run.name
    kept = {key: value for key, value in run.job.items() if key in ("kind", "created", "parent")}
    return {**kept, "name": name, **_job(recipe, old.device, base, data)}


def _job(recipe: Recipe, device: str, base: Base, data: Chosen) -> dict[str, Any]:
    return {
        "recipe": to_dict(recipe),
        "device": device,
        "base": {"id": base.id, "path": str(base.path), "hub_id": base.hub_id, "revision": base.revision},
        "data": _told(data),
        "inputs": inputs(base, data, recipe),
        "versions": versions(),
    }


def _told(data: Chosen) -> dict[str, Any]:
    told: dict[str, Any] = {"path": str(data.path)}
    if data.mapping:
        told["mapping"] = asdict(data.mapping)
    if source := source_of(data.path):
        told["source"] = source
    return told


def fit_test_of(workspace: Workspace, recipe: Recipe, *, recipe_folder: Path | None = None) -> TestFit:
    """The wish to try whether a run by `recipe` fits, refused for the same reasons as the run itself would be.

    Raises `RecipeError`, `BaseModelError` or `DataError`.
    """
    base, data = _checked(workspace, recipe, recipe_folder)
    mapping = asdict(data.mapping) if data.mapping else None
    return TestFit(
        test=uuid4().hex,
        recipe=to_dict(recipe),
        base=str(base.path),
        data=str(data.path),
        data_sha256=data.sha256,
        mapping=mapping,
    )


def _checked(
    workspace: Workspace, recipe: Recipe, recipe_folder: Path | None, before: Chosen | None = None
) -> tuple[Base, Chosen]:
    """Base and dataset of a recipe that nothing seems wrong with."""
    problems = check(recipe)
    if problems:
        raise RecipeError(problems)
    base = find_base(workspace, recipe.base.id)
    if problem := misfit(has_own(base.path), recipe.data.chat_template):
        raise RecipeError([problem])
    data = choose(workspace, resolve_data(recipe.data.path, recipe_folder), before)
    if num_bytes(data.path) < _LOOK_THROUGH_BYTES:
        read(data.path, data.mapping)  # raises if no row can be used: better now than after the base was loaded
    return base, data


def read_job(run: RunFolder) -> TrainJob:
    """The job of a run. Raises `DamagedError` if it is not one of ours."""
    try:
        job = run.job
        return TrainJob(
            from_dict(job["recipe"]),
            Path(job["base"]["path"]),
            Path(job["data"]["path"]),
            str(job["device"]),
            str(job.get("inputs", {}).get("dataset", "")),
            Mapping(**job["data"]["mapping"]) if job["data"].get("mapping") else None,
        )
    except (KeyError, TypeError, RecipeError) as error:
        raise DamagedError(f"The job.json of {run.id} cannot be understood.", "Start a new run.") from error


def refuse_changes(workspace: Workspace, run: RunFolder) -> None:
    """Raise `ChangedError` if the run's base, data, columns or template are no longer what they were at the start."""
    changed, _ = changed_inputs(workspace, run)
    if changed:
        raise ChangedError(
            f"The {' and the '.join(changed)} of {run.name} changed since it began: going on would be another experiment.",
            "Put the old files back, or start a new run.",
            run=run.id,
        )


def changed_inputs(workspace: Workspace, run: RunFolder) -> tuple[list[str], dict[str, Any]]:
    """Names of the inputs that are no longer what `job.json` says, and the job with all of them as they are now.

    Raises `ChangedError` if the dataset is gone, `BaseModelError` if the base is.
    """
    job = read_job(run)
    try:
        fingerprint = sha256(job.data)
    except FileNotFoundError as error:
        raise ChangedError(
            f"The dataset of {run.name} is gone: {job.data}.", "Put it back, or start a new run.", run=run.id
        ) from error
    # A mapping that is no longer remembered here, or never was, is still that of the run.
    data = Chosen(job.data, fingerprint, recall(workspace, fingerprint) or job.mapping)
    was, now = run.job["inputs"], inputs(find_base(workspace, str(job.base)), data, job.recipe)
    changed = [name for name, value in now.items() if was.get(name) != value]
    return changed, {**run.job, "data": _told(data), "inputs": now}


def refuse_full_disk(run: RunFolder) -> None:
    """Raise `DiskFullError` if the run last paused for want of room, and there is still less of it than it wanted."""
    telling = [event for event in run.events.read() if isinstance(event, e.Paused | e.CheckpointSaved)]
    if telling and isinstance(telling[-1], e.Paused) and telling[-1].needs_bytes:
        files.need_room(Path(telling[-1].folder), telling[-1].needs_bytes)


def inputs(base: Base, data: Chosen, recipe: Recipe) -> dict[str, str]:
    """Hashes of what a run depends on: `base`, `dataset`, `chat template` and, if its columns were mapped, `column mapping`."""
    template = hashlib.sha256()
    for name in _TEMPLATE_FILES:
        path = base.path / name
        template.update(path.read_bytes() if path.is_file() else b"-")
    template.update(template_text(recipe.data.chat_template).encode("utf-8"))
    found = {"base": base.fingerprint, "dataset": data.sha256, "chat template": template.hexdigest()}
    if data.mapping:
        told = json.dumps(asdict(data.mapping), sort_keys=True)
        found["column mapping"] = hashlib.sha256(told.encode("ascii")).hexdigest()
    return found


def versions() -> dict[str, str]:
    """Versions of the packages that make the numbers, as installed; absent ones are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def explain(error: BaseException) -> tuple[str, str, str]:
    """(kind, message, hint) of an error, for a `Failed` event; ours in full, others in one honest sentence."""
    if isinstance(error, StudioError):
        return error.kind, error.message, error.hint
    first = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return (
        "internal",
        f"Something went wrong inside Overlay Studio: {first}",
        "This is our fault. The log has the details; what was saved before is untouched.",
    )
