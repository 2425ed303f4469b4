"""When memory runs out in a step: the process ends, and the next one goes on with half the micro-batch.

The batch stays what it was, and with it the result: a step divides by the tokens of the whole batch, however it was split. The
recipe in `job.json` is never edited. That the micro-batch was halved is a fact of the run's events, and `in_force` reads it.
"""

from __future__ import annotations

from dataclasses import replace

from studio.errors import OutOfMemoryError
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.create import TrainJob, read_job
from studio.runs.folder import RunFolder
from studio.runs.state import RunState

MOST_HALVINGS = 3
_KIND = OutOfMemoryError("").kind
# What the micro-batch weighs on. Loading comes before, and saving after.
_PHASES = ("training", "evaluating", "sampling")


def in_force(recipe: Recipe, state: RunState) -> Recipe:
    """The recipe with the micro-batch that the run has come down to."""
    if not state.halvings:
        return recipe
    last = state.halvings[-1]
    return replaced(recipe, f"training.micro_batch_{last.unit}", last.now)


def job_in_force(run: RunFolder) -> TrainJob:
    """The job of a run with the recipe that is in force. Raises `DamagedError` if it is not one of ours."""
    job = read_job(run)
    return replace(job, recipe=in_force(job.recipe, run.state()))


def rescue(run: RunFolder, failed: e.Failed) -> e.MicroBatchHalved | e.Failed:
    """The last word of a process that `failed` at `run`: that the next one goes on with less at a time, if that can help.

    Otherwise `failed` itself, which says why not if it was for lack of memory.
    """
    if failed.kind != _KIND:
        return failed
    return halved(run.state(), read_job(run).recipe, failed)


def halved(state: RunState, recipe: Recipe, failed: e.Failed) -> e.MicroBatchHalved | e.Failed:
    """The same for a run that was begun by `recipe` and stands at `state` when memory runs out."""
    if state.prepared is None or state.phase not in _PHASES:
        return failed
    if len(state.halvings) >= MOST_HALVINGS:
        return _given_up(failed, f"The micro-batch was halved {MOST_HALVINGS} times already.")
    training = in_force(recipe, state).training
    longest = min(state.prepared.longest_row or recipe.data.max_tokens, recipe.data.max_tokens)
    if training.micro_batch_rows is not None:
        unit, least, was = "rows", 1, min(training.micro_batch_rows, training.batch_rows)
    else:
        # A limit beyond what a whole step holds does not bind: half of it might change nothing.
        unit, least = "tokens", longest
        was = min(training.micro_batch_tokens or 0, training.batch_rows * longest)
    now = max(was // 2, least)
    if now >= was:
        return _given_up(failed, f"One full row, {longest:,} tokens, is computed at a time: nothing is left to halve.")
    cause = failed.message.partition(":")[0].rstrip(".")  # what follows are the library's own words
    return e.MicroBatchHalved(step=state.step + 1, cause=cause, unit=unit, was=was, now=now)


def _given_up(failed: e.Failed, why: str) -> e.Failed:
    return replace(
        failed,
        message=f"{failed.message} {why}",
        hint="Shorten the rows (data.max_tokens), recompute all layers (memory.checkpointing), or take a smaller base.",
    )
