"""Facts for the pages, gathered on a worker thread: free functions of plain values that touch no Qt object."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from studio.data.beginning import look_at_beginning
from studio.data.chosen import choose
from studio.errors import BaseModelError, Problem, RecipeError, StudioError
from studio.library.adapter import Adapter
from studio.library.shelf import list_adapters
from studio.memory.auto import settled
from studio.memory.budget import Budget, budget, trainable_parameters
from studio.memory.correction import Correction, correction_for
from studio.memory.device import CardLoad, Gpu, card_loads, survey
from studio.models.bases import Base, find_base, list_bases, locate
from studio.models.facts import ModelFacts
from studio.models.templates import has_own, misfit
from studio.places import Workspace
from studio.recipe import toml
from studio.recipe.check import check
from studio.recipe.fields import replaced
from studio.recipe.presets import STARTER, for_style, tour
from studio.recipe.recipe import Recipe
from studio.runs.folder import RunFolder, list_runs
from ui.state import DataView, PastPeak, RunView

_log = logging.getLogger(__name__)
PIRATE = "examples/pirate.jsonl"
DataStamp = tuple[str, int, int, int]
TOKENS_PER_TURN = 16  # what a chat template puts around one message, generously


# --- the computer and the workspace --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What changes by itself: cards, free space, and the run folders there are."""

    gpus: list[Gpu]
    disk_free_bytes: int
    run_ids: frozenset[str]
    correction: Correction | None = None
    loads: tuple[CardLoad, ...] = ()
    """How hard each card works, by index."""


@dataclass(frozen=True)
class Workshop:
    """All that lies in the workspace at the start. `num_damaged` counts run folders whose job cannot be read."""

    bases: list[Base]
    adapters: list[Adapter]
    runs: list[RunView]
    num_damaged: int
    recipe: Recipe
    has_chatted: bool
    has_exported: bool
    engine_installed: bool


@dataclass(frozen=True)
class BaseFacts:
    """What is known about the base that a recipe names; `problem` tells why it cannot be trained on, `has_template` if it has
    a chat template of its own, None if that cannot be told."""

    facts: ModelFacts | None = None
    problem: Problem | None = None
    has_template: bool | None = None


@dataclass(frozen=True)
class Judgement:
    """What follows from a recipe on its base and data: pure arithmetic."""

    problems: list[Problem] = field(default_factory=list)
    budget: Budget | None = None
    trainable: tuple[int, int] | None = None


def look_at_machine(workspace: Workspace) -> Machine:
    """Some milliseconds' worth of looking."""
    ids, gpus = frozenset(run.id for run in list_runs(workspace)), survey()
    learnt = correction_for(workspace, gpus[0].name, gpus[0].driver) if gpus else None
    loads = tuple(card_loads().values()) if gpus else ()
    return Machine(gpus, disk_free(workspace.root), ids, learnt, loads)


def disk_free(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def look_at_workspace(workspace: Workspace) -> Workshop:
    """Everything in the workspace. Runs whose process is gone are given their last word on the way."""
    runs, num_damaged = [], 0
    for folder in list_runs(workspace):
        view = look_at_run(folder)
        if view is None:
            num_damaged += 1
        else:
            runs.append(view)
    bases = list_bases(workspace)
    return Workshop(
        bases=bases,
        adapters=list_adapters(workspace),
        runs=runs,
        num_damaged=num_damaged,
        recipe=starting_recipe(workspace, bases),
        has_chatted=_holds_anything(workspace.chats),
        has_exported=_holds_anything(workspace.exports),
        # Found without importing it: this process must stay free of it.
        engine_installed=importlib.util.find_spec("torch") is not None,
    )


def look_at_run(folder: RunFolder) -> RunView | None:
    """The run and its whole curve; None if its job cannot be read."""
    return RunView(folder, folder.bury()) if folder.is_readable else None


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(path.name[0] != "." for path in folder.iterdir())


# --- the recipe ----------------------------------------------------------------------------------------------------


def draft_path(workspace: Workspace) -> Path:
    """Where the recipe being edited is kept."""
    return workspace.recipes / "draft.toml"


def starting_recipe(workspace: Workspace, bases: list[Base]) -> Recipe:
    """The draft of last time, else a first recipe."""
    try:
        return toml.load(draft_path(workspace))
    except StudioError as error:
        _log.info("no draft: %s", error)
        return first_recipe(bases)


def first_recipe(bases: list[Base]) -> Recipe:
    """The tour, which is tuned for the starter; where there are other bases only, a style on the first of them."""
    if not bases or any(base.id == STARTER for base in bases):
        return tour()
    return for_style(bases[0].id, PIRATE, "pirate")


def open_recipe(path: Path) -> Recipe:
    """The recipe in a file, its dataset named by its whole path: the window has no folder of its own."""
    recipe = toml.load(path)
    try:
        return replaced(recipe, "data.path", str(toml.resolve_data(recipe.data.path, path.parent)))
    except StudioError:
        # Shown as the problem of the dataset, beside the field that mends it.
        return recipe


def look_at_base(workspace: Workspace, base_id: str) -> BaseFacts:
    """Facts from `config.json` where there is one, and whether it can be trained on. Never raises."""
    try:
        folder = locate(workspace, base_id)
        facts = ModelFacts.from_folder(folder)
    except BaseModelError as error:
        return BaseFacts(None, Problem(field="base.id", message=error.message, fix=error.hint))
    try:
        find_base(workspace, base_id)
    except BaseModelError as error:
        return BaseFacts(facts, Problem(field="base.id", message=error.message, fix=error.hint))
    return BaseFacts(facts, None, has_own(folder))


def look_at_base_facts(bases: Iterable[Base]) -> dict[str, ModelFacts]:
    """What each base is made of, by its id; one whose config.json cannot be used is left out."""
    found = {}
    for base in bases:
        try:
            found[base.id] = ModelFacts.from_folder(base.path)
        except BaseModelError as error:
            _log.info("%s: %s", base.id, error)
    return found


def bases_without_template(bases: Iterable[Base]) -> frozenset[str]:
    """Ids of those for which one has to be chosen."""
    return frozenset(base.id for base in bases if has_own(base.path) is False)


def data_stamp(workspace: Workspace, path: str) -> DataStamp:
    """What tells whether a dataset, or how one is read, changed: where it is, its time (ns) and its bytes, zeros if it is not
    there, and when last a mapping was confirmed (ns)."""
    try:
        found = toml.resolve_data(path, None)
        status = found.stat()
    except (StudioError, OSError):
        return path, 0, 0, 0
    confirmed = workspace.mappings.stat().st_mtime_ns if workspace.mappings.is_dir() else 0
    return str(found), status.st_mtime_ns, status.st_size, confirmed


def look_at_data(workspace: Workspace, path: str) -> DataView:
    """What the dataset holds: all of a small one, about what a large one does. Never raises."""
    try:
        found = look_at_beginning(choose(workspace, toml.resolve_data(path, None)))
    except StudioError as error:
        return DataView(path, error=error.message, hint=error.hint)
    except OSError as error:
        return DataView(path, error=f"{path} cannot be read: {error.strerror}.", hint="Choose another file.")
    problems = tuple(str(problem) for problem in found.problems)
    longest = found.most_characters + TOKENS_PER_TURN * found.most_turns
    return DataView(path, found.num_rows, found.num_good, found.num_duplicates, problems, longest, found.is_whole)


def judge(recipe: Recipe, base: BaseFacts, data: DataView, limits: tuple[int, int, int]) -> Judgement:
    """Problems, memory and parameters of a recipe on a card (`AppState.limits`); fast enough for each key press."""
    problems = check(recipe, base.facts, data.num_good or None)
    if base.problem is not None:
        problems.insert(0, base.problem)
    if problem := misfit(base.has_template, recipe.data.chat_template):
        problems.append(problem)
    if data.error:
        problems.append(Problem(field="data.path", message=data.error, fix=data.hint))
    if base.facts is None:
        return Judgement(problems)
    try:
        needed = budget(base.facts, settled(base.facts, recipe, *limits), limits[-1])
        return Judgement(problems, needed, trainable_parameters(base.facts, recipe))
    except RecipeError as error:
        told = {(problem.field, problem.message) for problem in problems}
        new = [problem for problem in error.problems if (problem.field, problem.message) not in told]
        return Judgement(problems + new)


def past_peak(runs: Iterable[RunView], base_id: str, needed: Budget, card: str) -> PastPeak | None:
    """Of the runs on that base that were measured on `card`, the one whose estimate was nearest to `needed`."""
    found: tuple[int, PastPeak] | None = None
    for view in runs:
        estimate, measured = view.state.estimate, view.state.memories
        if not measured or estimate is None or estimate.card != card or _base_of(view.folder) != base_id:
            continue
        apart = abs(estimate.total_bytes - needed.total_bytes)
        if found is None or apart < found[0]:
            peak = max(one.process_bytes for one in measured)
            found = apart, PastPeak(view.folder.id, view.folder.name, peak)
    return found[1] if found else None


def _base_of(folder: RunFolder) -> str:
    """The base that a run's recipe names, "" where its job does not say."""
    recipe = folder.job.get("recipe") if folder.is_readable else None
    base = recipe.get("base") if isinstance(recipe, dict) else None
    return str(base.get("id", "")) if isinstance(base, dict) else ""
