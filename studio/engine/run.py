"""One training run: what has to be ready before the loop, and what is kept after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel

from studio import files
from studio.data.opening import sha256
from studio.engine.attention import prefer_varlen
from studio.engine.batches import Layout, Schedule
from studio.engine.checkpointing import blocks, checkpoint_layers
from studio.engine.comparison import Comparison
from studio.engine.compiling import compile_blocks, obstacle
from studio.engine.desk import Desk
from studio.engine.embeddings import place_embeddings
from studio.engine.encoded import Encoded
from studio.engine.load import LoadedBase
from studio.engine.measure import memory
from studio.engine.overlay import trainable
from studio.engine.publish import save_adapter
from studio.engine.ranks import Ranks
from studio.engine.reply import Sampling, context_tokens, reply
from studio.engine.row_cache import Progress, encoded_rows
from studio.engine.sharded import shard
from studio.engine.template import Coder, need_template
from studio.engine.train import Emit, Material, Orders, Outcome, train
from studio.errors import DataError
from studio.library import shelf
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.create import TrainJob, refuse_changes, refuse_full_disk
from studio.runs.folder import RunFolder
from studio.runs.rescue import job_in_force

SAMPLE_TOKENS = 80


def perform(run: RunFolder, workspace: Workspace, desk: Desk, orders: Orders, emit: Emit) -> Outcome:
    """Do a run from wherever it stands to its end. The last event says how it ended; errors are left to the boundary."""
    began = time.monotonic()
    job = job_in_force(run)
    emit(e.PhaseEntered(name="checking"))
    refuse_changes(workspace, run)
    refuse_full_disk(run)
    base = find_base(workspace, str(job.base))
    comparison = Comparison.of(workspace, base, job.recipe, desk)
    emit = comparison.heard(emit)
    for estimated in comparison.estimated():
        emit(estimated)
    emit(e.PhaseEntered(name="loading", detail=run.job["base"]["id"]))
    loaded, _ = desk.lay_base(base, job.recipe.base)
    emit(e.PhaseEntered(name="tokenising"))
    material, encoded = prepare(job, workspace, loaded, _progress(emit))
    overlaid = begin_overlay(desk, comparison.as_run)
    emit(_prepared(material, encoded, overlaid, base.num_parameters))
    for warning in warnings(encoded, job.recipe, desk):
        emit(warning)

    outcome = train(run, job.recipe, overlaid, material, sampler(loaded, job.recipe, emit), orders, emit)

    if not desk.to_shard:
        comparison.keep(workspace, run.id)
    if outcome.ending == "pause":
        emit(e.Paused(step=outcome.step))
    elif outcome.ending == "discard":
        emit(e.Stopped(step=outcome.step, saved=False))
    else:
        emit(e.PhaseEntered(name="saving"))
        name = keep_adapter(run, workspace, overlaid, loaded)
        desk.keep_overlay(workspace.adapters / name)
        emit(memory(outcome.step, desk.device))
        if outcome.ending == "stop":
            emit(e.Stopped(step=outcome.step, saved=True, adapter=name))
        else:
            emit(e.Finished(run=run.id, adapter=name, seconds=time.monotonic() - began))
    return outcome


def prepare(job: TrainJob, workspace: Workspace, loaded: LoadedBase, progress: Progress) -> tuple[Material, Encoded]:
    """Read, encode and split the rows. Raises `DataError` if nothing is left to learn."""
    recipe, tokenizer = job.recipe, loaded.tokenizer
    need_template(tokenizer)
    coder = Coder.of(tokenizer, recipe.data.train_on)
    everything = encoded_rows(
        workspace,
        job.data,
        job.data_sha256 or sha256(job.data),
        coder,
        recipe.data.max_tokens,
        progress,
        recipe.data.group_by,
    )
    encoded, held_out = everything.split(recipe.data.validation_fraction, recipe.training.seed)
    if not encoded.examples:
        raise DataError(f"No row of {job.data.name} is left to learn from: {encoded.first_problem}", "Mend the rows.")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    schedule = Schedule.of(recipe.training, len(encoded.examples))
    layout = Layout.of(recipe, int(pad_id or 0), context_tokens(loaded.model))
    return Material(encoded.examples, held_out.examples, schedule, layout), encoded


def _progress(emit: Emit) -> Progress:
    """Tell how far it is, once for each hundredth: a large file has thousands of batches."""
    last = -1

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        if 100 * done // total != last:
            last = 100 * done // total
            emit(e.Progressed(what=what, done=done, total=total))

    return progress


def begin_overlay(desk: Desk, recipe: Recipe) -> PeftModel:
    """A fresh overlay on the base that lies on the desk, ready for the loop."""
    overlaid = desk.begin_overlay(recipe.adapter, recipe.training.seed)
    model = overlaid.get_base_model()
    place_embeddings(model, recipe.memory.embeddings_on_cpu)
    checkpoint_layers(
        model, num_checkpointed(overlaid, recipe, desk), recipe.memory.offload, recipe.memory.keep_attention
    )
    prefer_varlen(model)
    compile_blocks(model, recipe.training.compile and not obstacle(desk.device))
    if desk.to_shard:
        shard(model, desk.device, Ranks.here())
    return overlaid


def num_checkpointed(overlaid: PeftModel, recipe: Recipe, desk: Desk) -> int:
    """How many blocks recompute their activations. `auto` is left only of a base that cannot be estimated: all on a card."""
    wanted, count = recipe.memory.checkpointing, len(blocks(overlaid))
    if isinstance(wanted, int):
        return min(wanted, count)
    return {"auto": count if desk.device.type == "cuda" else 0, "all": count, "none": 0}[wanted]


def warnings(encoded: Encoded, recipe: Recipe, desk: Desk) -> list[e.Warned]:
    """What the user should know before the first step."""
    found = []
    if encoded.num_cut:
        found.append(
            e.Warned(
                message=f"{encoded.num_cut} rows are longer than {recipe.data.max_tokens} tokens and were cut.",
                hint="Raise max_tokens to keep them whole.",
            )
        )
    if encoded.num_dropped:
        found.append(e.Warned(message=f"{encoded.num_dropped} rows cannot be used: {encoded.first_problem}"))
    if desk.device.type == "cpu" and recipe.training.optimizer != "adamw_torch":
        found.append(e.Warned(message="On a CPU the optimiser is plain AdamW: 8-bit and paged states need a card."))
    if desk.to_shard:
        found.append(
            e.Warned(message="The estimate is that of a whole base on each card: sharded, it takes less there.")
        )
    if recipe.training.compile and (missing := obstacle(desk.device)):
        found.append(
            e.Warned(message=f"The layers run uncompiled: {missing}.", hint="Install it, or leave compile off.")
        )
    return found


def _prepared(material: Material, encoded: Encoded, overlaid: PeftModel, num_parameters: int) -> e.Prepared:
    return e.Prepared(
        num_steps=material.schedule.num_steps,
        num_rows=len(material.rows),
        num_held_out=len(material.held_out),
        tokens_per_epoch=encoded.num_tokens,
        supervised_tokens_per_epoch=encoded.num_supervised,
        num_cut=encoded.num_cut,
        num_dropped=encoded.num_dropped,
        num_trainable=sum(parameter.numel() for parameter in trainable(overlaid).values()),
        num_parameters=num_parameters,
        longest_row=encoded.longest,
    )


def sampler(loaded: LoadedBase, recipe: Recipe, emit: Emit) -> Callable[[PeftModel, int], None]:
    """What answers the recipe's prompts at a step."""

    def sample(overlaid: PeftModel, step: int) -> None:
        if not recipe.keep.sample_prompts:
            return
        emit(e.PhaseEntered(name="sampling"))
        for prompt in recipe.keep.sample_prompts:
            turns = [{"role": "user", "content": prompt}]
            answer = reply(overlaid, loaded.tokenizer, turns, Sampling(max_tokens=SAMPLE_TOKENS))
            emit(e.SampleWritten(step=step, prompt=prompt, text=answer.text))

    return sample


def keep_adapter(run: RunFolder, workspace: Workspace, overlaid: PeftModel, loaded: LoadedBase) -> str:
    """Save the adapter in the run's folder, then take it into the library; returns its name there."""
    # A run stopped and then gone on with: its newer adapter takes the older one's place, which goes to the trash.
    older = [adapter for adapter in shelf.list_adapters(workspace) if adapter.run == run.id]
    if run.adapter.exists():
        files.remove(run.adapter)
    save_adapter(run, overlaid, loaded.tokenizer)
    return shelf.adopt(workspace, Path(run.adapter), run.name, instead_of=older).name
