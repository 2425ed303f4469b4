"""One training run: what has to be ready before the loop, and what is kept after it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftModel

from studio import files
from studio.engine.attention import prefer_varlen
from studio.engine.batches import Layout, Schedule
from studio.engine.breakable import breakable
from studio.engine.checkpointing import blocks, checkpoint_layers
from studio.engine.comparison import Comparison
from studio.engine.compiling import compile_blocks, obstacle
from studio.engine.desk import Desk
from studio.engine.embeddings import place_embeddings
from studio.engine.encoded import Encoded
from studio.engine.first_batch import first_batch
from studio.engine.interrupt import interruptible
from studio.engine.load import LoadedBase
from studio.engine.measure import energy_joules, memory
from studio.engine.overlay import load_tensors, trainable
from studio.engine.publish import save_adapter, write_config
from studio.engine.ranks import Ranks
from studio.engine.reply import Sampling, context_tokens, reply
from studio.engine.row_cache import Progress, encoded_rows
from studio.engine.sharded import shard
from studio.engine.standing import Standing
from studio.engine.template import Coder
from studio.engine.train import Emit, Material, Orders, Outcome, train
from studio.errors import DataError
from studio.library import shelf
from studio.library.promote import is_promoted
from studio.memory.setup import reuses_weights
from studio.models.bases import Base, find_base
from studio.places import Workspace
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.create import TrainJob, refuse_changes, refuse_full_disk
from studio.runs.first_batch import FIRST_BATCH, write_first_batch
from studio.runs.folder import RunFolder
from studio.runs.rescue import job_in_force

SAMPLE_TOKENS = 80


def perform(run: RunFolder, workspace: Workspace, desk: Desk, orders: Orders, emit: Emit) -> Outcome:
    """Do a run from wherever it stands to its end. The last event says how it ended; errors are left to the boundary."""
    began, energy = time.monotonic(), energy_joules(desk.device)
    job = job_in_force(run)
    emit(e.PhaseEntered(name="checking"))
    refuse_changes(workspace, run)
    refuse_full_disk(run)
    base = find_base(workspace, str(job.base))
    comparison = Comparison.of(workspace, base, job.recipe, desk)
    emit = comparison.heard(emit)
    for estimated in comparison.estimated():
        emit(estimated)
    # The other ranks of a shared run would wait in vain for one that breaks off.
    with interruptible(orders.is_in_a_hurry) if orders.own is orders else contextlib.nullcontext():
        loaded, material, encoded = load(job, workspace, desk, base, emit)
    overlaid = begin_overlay(desk, comparison.as_run)
    emit(_prepared(material, encoded, overlaid, base.num_parameters))
    for warning in warnings(encoded, job.recipe, desk):
        emit(warning)
    show_first_batch(run, material, loaded, emit)
    write_config(run, overlaid)

    sample = sampler(run, loaded, job.recipe, orders if desk.to_shard else orders.own, emit)
    outcome = train(run, job.recipe, overlaid, material, sample, orders, emit)
    if not outcome.ending and outcome.step < material.schedule.num_steps:
        emit(e.EndedEarly(step=outcome.step, **best(outcome.standing)))

    if not desk.to_shard:
        comparison.keep(workspace, run.id)
    if outcome.ending == "pause":
        emit(e.Paused(step=outcome.step))
    elif outcome.ending == "discard" or not outcome.step:
        emit(e.Stopped(step=outcome.step, saved=False))
    else:
        emit(e.PhaseEntered(name="saving"))
        step = choose_step(run, job.recipe, overlaid, outcome, emit)
        name = keep_adapter(run, workspace, overlaid, loaded, step)
        desk.keep_overlay(workspace.adapters / name)
        emit(memory(outcome.step, desk.device))
        if outcome.ending == "stop":
            emit(e.Stopped(step=outcome.step, saved=True, adapter=name))
        else:
            result = {"adapter_step": step, **best(outcome.standing), **taken(energy, energy_joules(desk.device))}
            emit(e.Finished(run=run.id, adapter=name, seconds=time.monotonic() - began, result=result))
    return outcome


def best(standing: Standing) -> dict[str, Any]:
    """The best evaluation as a run's result tells of it; empty if there was none."""
    return {"best_step": standing.best_step, "best_loss": standing.best_loss} if standing.best_step else {}


def taken(before: float | None, after: float | None) -> dict[str, Any]:
    """What the card has taken since this process began with the run, if the driver counts it."""
    return {} if before is None or after is None else {"energy_joules": after - before}


def choose_step(run: RunFolder, recipe: Recipe, overlaid: PeftModel, outcome: Outcome, emit: Emit) -> int:
    """Have `overlaid` be what the recipe makes the adapter of, and return its step."""
    step = outcome.standing.kept_step
    if recipe.keep.adapter_from == "last" or step in (0, outcome.step):
        return outcome.step
    if problems := files.damage(run.checkpoint(step)):
        message = f"The best checkpoint, that of step {step}, cannot be used: {problems[0]}"
        emit(e.Warned(message=message, hint=f"The adapter is that of step {outcome.step}."))
        return outcome.step
    load_tensors(overlaid, run.checkpoint(step) / "adapter.safetensors")
    return step


def load(
    job: TrainJob, workspace: Workspace, desk: Desk, base: Base, emit: Emit
) -> tuple[LoadedBase, Material, Encoded]:
    """Have base and rows ready."""
    emit(e.PhaseEntered(name="loading", detail=base.id))
    desk.lay_base(base, job.recipe.base)
    loaded = desk.speak_by(job.recipe.data.chat_template)
    emit(e.PhaseEntered(name="tokenising"))
    material, encoded = prepare(job, workspace, loaded, _progress(emit))
    return loaded, material, encoded


def prepare(job: TrainJob, workspace: Workspace, loaded: LoadedBase, progress: Progress) -> tuple[Material, Encoded]:
    """Read, encode and split the rows. Raises `DataError` if nothing is left to learn."""
    recipe, tokenizer = job.recipe, loaded.tokenizer
    coder = Coder.of(tokenizer, recipe.data.train_on)
    everything = encoded_rows(
        workspace,
        job.data,
        job.data_sha256,
        coder,
        recipe.data.max_tokens,
        progress,
        recipe.data.group_by,
        job.mapping,
    )
    encoded, held_out = everything.split(recipe.data.validation_fraction, recipe.training.seed)
    if not encoded.examples:
        raise DataError(f"No row of {job.data.name} is left to learn from: {encoded.first_problem}", "Mend the rows.")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    schedule = Schedule.of(recipe.training, len(encoded.examples))
    layout = Layout.of(recipe, int(pad_id or 0), context_tokens(loaded.model))
    return Material(encoded.examples, held_out.examples, schedule, layout, _reader(tokenizer)), encoded


def _reader(tokenizer: Any) -> Callable[[list[int]], str]:
    """How token ids read, without the marks of a template."""
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))


def show_first_batch(run: RunFolder, material: Material, loaded: LoadedBase, emit: Emit) -> None:
    """Write down what the first step learns from, unless that was done."""
    if (run.path / FIRST_BATCH).exists():
        return
    batch = first_batch([material.rows[i] for i in material.schedule.rows(1)], loaded.tokenizer)
    write_first_batch(run, batch)
    emit(
        e.FirstBatchWritten(
            path=FIRST_BATCH,
            num_rows=batch.num_rows,
            num_tokens=batch.num_tokens,
            num_supervised=batch.num_supervised,
        )
    )


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
    count, asked = num_checkpointed(overlaid, recipe, desk), recipe.memory
    checkpoint_layers(model, count, asked.offload, asked.keep_attention, reuses_weights(recipe))
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


def sampler(
    run: RunFolder, loaded: LoadedBase, recipe: Recipe, orders: Orders, emit: Emit
) -> Callable[[PeftModel, int], None]:
    """What answers the recipe's prompts at a step, and those that were added since; broken off if the run is to end at once."""
    told = run.events
    added: list[str] = []

    def sample(overlaid: PeftModel, step: int) -> None:
        added.extend(event.prompt for event in told.read() if isinstance(event, e.PromptAdded))
        prompts = dict.fromkeys([*recipe.keep.sample_prompts, *added])
        if prompts:
            emit(e.PhaseEntered(name="sampling"))
        for prompt in prompts:
            if orders.is_in_a_hurry():
                return
            turns = [{"role": "user", "content": prompt}]
            with breakable(overlaid, orders.is_to_break_off) as attempt:
                answer = reply(
                    overlaid,
                    loaded.tokenizer,
                    turns,
                    Sampling(max_tokens=SAMPLE_TOKENS),
                    should_stop=orders.is_in_a_hurry,
                )
            if attempt.was_broken_off or answer.stopped:
                return
            emit(e.SampleWritten(step=step, prompt=prompt, text=answer.text))

    return sample


def keep_adapter(run: RunFolder, workspace: Workspace, overlaid: PeftModel, loaded: LoadedBase, step: int) -> str:
    """Save the adapter of `step` in the run's folder, then take it into the library; returns its name there."""
    # A run stopped and then gone on with: its newer adapter takes the older one's place, which goes to the trash.
    older = [one for one in shelf.list_adapters(workspace) if one.run == run.id and not is_promoted(one)]
    if run.adapter.exists():
        files.remove(run.adapter)
    save_adapter(run, overlaid, loaded.tokenizer, step)
    return shelf.adopt(workspace, Path(run.adapter), run.name, instead_of=older).name
