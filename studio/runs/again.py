"""A new run in the place of one that cannot go on: its input has changed, or its loss is no number any more."""

from __future__ import annotations

from collections.abc import Mapping

from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs.create import create_run, read_job
from studio.runs.folder import RunFolder
from studio.runs.origin import last_good

RATE = "training.learning_rate"


def again(
    workspace: Workspace, run: RunFolder, changes: Mapping[str, object], *, device: str, name: str | None = None
) -> RunFolder:
    """A new run by the recipe of `run` with other values for the settings at these paths. Nothing is trained yet.

    It begins with the overlay of the last good checkpoint, where there is one, and on the inputs as they are now. Raises what
    `create_run` raises.
    """
    recipe, before = recipe_of(run), read_job(run).chosen
    for path, value in changes.items():
        recipe = replaced(recipe, path, value)
    return create_run(workspace, recipe, device=device, name=name or run.name, origin=last_good(run), before=before)


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe of a run, its dataset named so that it is found from anywhere. Raises `DamagedError`."""
    job = read_job(run)
    return replaced(job.recipe, "data.path", str(job.data))


def calmer_rate(learning_rate: float) -> float:
    """A third of a rate at which the loss was lost, to two digits."""
    return float(f"{learning_rate / 3:.1e}")
