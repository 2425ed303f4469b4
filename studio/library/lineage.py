"""An adapter or a run, by whichever name its user knows it, as the parent of a new run."""

from __future__ import annotations

import contextlib

from studio.errors import NotFoundError
from studio.library import shelf
from studio.library.adapter import WEIGHTS, Adapter
from studio.places import Workspace
from studio.runs.folder import RunFolder, find_run, list_runs
from studio.runs.origin import Origin, last_good


def find_parent(workspace: Workspace, name: str) -> tuple[RunFolder | None, Origin | None]:
    """The run called so and where a new one would begin, None if it has left nothing; for an adapter its run, if that is here.

    An adapter goes before a run of the same name, a run's id before both. Raises `NotFoundError`, `AdapterError`.
    """
    if not (workspace.runs / name / "job.json").is_file():
        with contextlib.suppress(NotFoundError):
            origin = origin_of(shelf.find(workspace, name))
            return next((run for run in list_runs(workspace) if run.id == origin.run), None), origin
    try:
        run = find_run(workspace, name)
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no run and no adapter called {name}.", "`overlay runs` and `overlay adapters` list them."
        ) from error
    return run, last_good(run)


def origin_of(adapter: Adapter) -> Origin:
    """A finished adapter as the beginning of a new run. Which layers it lies on is known by its tensors' names."""
    return Origin(
        name=adapter.name,
        weights=adapter.path / WEIGHTS,
        base_fingerprint=adapter.base_fingerprint,
        rank=adapter.rank,
        alpha=adapter.alpha,
        rslora=adapter.rslora,
        dora=adapter.dora,
        run=adapter.run,
        adapter=adapter.name,
    )
