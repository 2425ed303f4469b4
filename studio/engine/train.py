"""QLoRA, from top to bottom.

A frozen base in 4 bits carries an overlay in 32 bits; only the overlay learns. One optimizer step sums the loss of its
micro-batches over their supervised tokens and divides by the number of those, so that how the rows were split makes no
difference (1 x 8 rows learn what 8 x 1 do), and neither does how many processes share them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from studio.engine import checkpoint
from studio.engine.ahead import Ahead
from studio.engine.attention import VARLEN
from studio.engine.batches import Layout, MicroBatch, Schedule, micro_batches
from studio.engine.breakable import breakable
from studio.engine.judge import Judge, judged
from studio.engine.loss import LogitShape, supervised_loss
from studio.engine.measure import give_back_unused, memory, reset_peaks
from studio.engine.overlay import delta_norm, trainable
from studio.engine.ranks import ALONE, Ranks, make_accelerator
from studio.engine.sharded import in_step
from studio.engine.standing import NOBODY, Standing
from studio.engine.template import Example
from studio.errors import DivergedError
from studio.memory.correction import LEAST_STEPS
from studio.recipe.recipe import Keep, Recipe
from studio.runs import events as e
from studio.runs.again import calmer_rate
from studio.runs.folder import RunFolder

Emit = Callable[[e.Event], None]


class Learner(nn.Module):
    """Model and loss as one module: hidden states in, one number out. The logits of a batch never exist as a whole.

    A `judge` gets to hear the loss of each token; the number stays the same.
    """

    def __init__(self, overlaid: PeftModel, judge: Judge | None = None) -> None:
        super().__init__()
        self.overlaid, self.judge = overlaid, judge
        language_model = overlaid.get_base_model()
        self.body = language_model.base_model
        self._head = language_model.get_output_embeddings()
        self._table = language_model.get_input_embeddings()
        self._shape = LogitShape.of(language_model.config)
        self._config = language_model.config

    def forward(self, batch: MicroBatch) -> Tensor:
        """Sum of the loss over the supervised tokens of `batch`, in fp32."""
        ids_BT, batch = batch.ids_BT.to(self._table.weight.device), batch.to(self._head.weight.device)
        is_varlen = self._config._attn_implementation == VARLEN
        # No attention mask and no cache: with either, the conversations of a packed row would read each other.
        hidden_BTH = self.body(
            input_ids=ids_BT,
            position_ids=batch.positions_BT,
            attention_mask=None,
            use_cache=False,
            **({"boundaries": batch.boundaries} if is_varlen else {}),
        ).last_hidden_state
        each_N = self.judge.sheet(batch, hidden_BTH.device) if self.judge else None
        loss = supervised_loss(
            hidden_BTH, self._head, batch.targets_BT, self._shape, rows=batch.supervised_N, each=each_N
        )
        if self.judge and each_N is not None:
            self.judge.listen(batch, each_N, is_held_out=not self.training)
        return loss


@dataclass(frozen=True)
class Material:
    """What a run works on: encoded rows, those held out, the order of the first, and how tokens read as text."""

    rows: Sequence[Example]
    held_out: Sequence[Example]
    schedule: Schedule
    layout: Layout
    decode: Callable[[list[int]], str] = lambda _: ""

    def lay_out(self, step: int, device: torch.device, ranks: Ranks = ALONE) -> tuple[list[Example], list[MicroBatch]]:
        """The rows of an optimizer step, and the forward passes over this rank's share of them.

        They lie as near to `device` as they can without taking its memory.
        """
        rows = [self.rows[i] for i in self.schedule.rows(step)]
        batches = micro_batches(ranks.share(rows), self.layout)
        if device.type != "cuda":
            return rows, batches
        # Each thread has a current card of its own, at first card 0: pinning there would open a context on it.
        with torch.cuda.device(device):
            return rows, [batch.pinned() for batch in batches]


class Orders:
    """What the loop asks its owner at each step boundary; the engine overrides this with the wishes it was sent."""

    ending: str = ""  # "", "stop", "discard" or "pause"
    save_now = False
    evaluate_now = False
    sample_now = False

    @property
    def is_ending(self) -> bool:
        """Whether the run is to end before its last step."""
        return bool(self.ending)

    @property
    def own(self) -> Orders:
        """What this process alone is told, for what other ranks take no part in."""
        return self

    def update(self, model: PeftModel) -> None:
        """Read wishes; answer questions that can be answered between two steps."""

    def is_in_a_hurry(self) -> bool:
        """Whether the run is to end at once: asked often while evaluating and sampling, which are broken off then."""
        return self.is_ending

    def is_to_break_off(self) -> bool:
        """Whether the run is to end without waiting for the step in hand: asked within it, ten times a second."""
        return self.is_in_a_hurry()


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: after which step, by whose wish ("" when all steps were taken, or as the recipe had it), and how the
    evaluations stood then."""

    step: int
    ending: str
    standing: Standing = NOBODY


def train(  # noqa: C901, PLR0915 - the loop is what this project is for: it reads top to bottom
    run: RunFolder,
    recipe: Recipe,
    overlaid: PeftModel,
    material: Material,
    sample: Callable[[PeftModel, int], None],
    orders: Orders,
    emit: Emit,
) -> Outcome:
    """Train `overlaid` to the end of its schedule, or until `orders` ends it. Goes on from the newest good checkpoint, or begins
    where its parent stood.

    Where several processes share the run each calls this: all of them learn, the first one alone writes.

    Raises `DivergedError` before a NaN could reach the weights, `DiskFullError` with the last checkpoint untouched.
    """
    training, keep, num_steps = recipe.training, recipe.keep, material.schedule.num_steps
    device = next(overlaid.parameters()).device
    accelerator, ranks = make_accelerator(device), Ranks.here()
    parameters = list(trainable(overlaid).values())
    optimizer = make_optimizer(recipe, parameters, device)
    rate = make_rate(recipe, optimizer, num_steps)
    judge = Judge()
    learner, optimizer = Learner(overlaid, judge), accelerator.prepare(optimizer)

    step, standing = take_up(run, ranks, overlaid, optimizer.optimizer, rate)
    ranks.part_dropout(training.seed, step)
    if standing.misses(step, keep):
        standing = standing.after(step, evaluate(learner, material, step, orders, emit), is_due=True)
    if step == 0:
        sample(overlaid, 0)

    ahead = Ahead(lambda step: material.lay_out(step, device, ranks), num_steps)
    reset_peaks(device)
    emit(e.PhaseEntered(name="training"))
    while step < num_steps and not (standing.is_over(keep) or orders.is_ending):
        began = time.perf_counter()
        learner.train()
        judge.begin(step + 1)
        rows, batches = ahead.take(step + 1)
        num_supervised = sum(row.num_supervised for row in rows)

        loss = torch.zeros((), device=device)
        with breakable(overlaid, orders.is_to_break_off) as attempt:
            for batch in in_step(overlaid, batches, ranks, material.layout):
                # Divided by the tokens of the whole step, not of the micro-batch or the rank: all weigh what they hold.
                part = learner(batch) / num_supervised
                accelerator.backward(part)
                loss += part.detach()
        if attempt.was_broken_off:
            # As if this step had not been begun: who resumes takes it anew, from the end of the one before.
            optimizer.zero_grad(set_to_none=True)
            break
        loss = ranks.total(loss, parameters)

        grad_norm = accelerator.clip_grad_norm_(parameters, training.max_grad_norm or math.inf)
        # Here the processor waits for the card; it does so once more per step, for the size of the overlay.
        loss_now, grad_norm_now = float(loss), float(grad_norm)
        if not (math.isfinite(loss_now) and math.isfinite(grad_norm_now)):
            raise diverged(step + 1, loss_now, rows, training.learning_rate, newest_step(run, ranks))

        learning_rate = float(rate.get_last_lr()[0])
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        give_back_unused(device, step)
        step += 1
        emit(
            e.StepTaken(
                step=step,
                epoch=material.schedule.epoch(step),
                loss=loss_now,
                learning_rate=learning_rate,
                grad_norm=grad_norm_now,
                num_tokens=sum(len(row.ids) for row in rows),
                num_supervised=num_supervised,
                seconds=time.perf_counter() - began,
                delta_norm=float(delta_norm(overlaid)),
            )
        )

        orders.update(overlaid)
        is_last, is_due = step == num_steps, due(step, keep.evaluate_every_steps)
        if is_last or is_due or orders.evaluate_now:
            standing = standing.after(step, evaluate(learner, material, step, orders, emit), is_due=is_due)
            emit(judged(step, judge.worst(ranks), material.rows, material.held_out, material.decode))
            is_last |= standing.is_over(keep)
        if is_last or orders.sample_now or due(step, keep.sample_every_steps):
            sample(overlaid, step)
        is_wanted = orders.save_now or standing.wants_saving(step, keep)
        if ranks.is_first and (is_last or is_wanted or due(step, keep.checkpoint_every_steps)):
            standing = save(run, step, overlaid, optimizer.optimizer, rate, keep, standing, emit)
        if step == LEAST_STEPS or step % 10 == 1 or is_last:
            emit(memory(step, device))

    if ranks.is_first and orders.ending in ("stop", "pause"):
        standing = save(run, step, overlaid, optimizer.optimizer, rate, keep, standing, emit)
    is_done = step == num_steps or standing.is_over(keep)
    return Outcome(step, "" if is_done else orders.ending, standing)


def take_up(
    run: RunFolder, ranks: Ranks, overlaid: PeftModel, optimizer: Optimizer, rate: LRScheduler
) -> tuple[int, Standing]:
    """Put everything back as the newest checkpoint that is whole has it; returns its step and the standing.

    Without one the step is 0, and the overlay fresh or as the run's parent left it.
    """
    step = newest_step(run, ranks)
    if not step:
        return checkpoint.begin(run, overlaid), NOBODY
    folder = run.checkpoint(step)
    return checkpoint.restore(run, folder, overlaid, optimizer, rate), Standing.at(folder)


def newest_step(run: RunFolder, ranks: Ranks) -> int:
    """The step of the newest checkpoint that is whole, 0 if there is none. One rank looks: it sets damaged ones aside."""
    newest = checkpoint.newest(run) if ranks.is_first else None
    return ranks.told(newest[0] if newest else 0)[0]


def due(step: int, every_steps: int) -> bool:
    """Whether something that happens every `every_steps` (0: never) happens after `step`."""
    return every_steps > 0 and step % every_steps == 0


def save(
    run: RunFolder,
    step: int,
    overlaid: PeftModel,
    optimizer: Optimizer,
    rate: LRScheduler,
    keep: Keep,
    standing: Standing,
    emit: Emit,
) -> Standing:
    """Write the checkpoint of `step` and tell of it, unless it is there, or no step was taken; returns the standing with it."""
    if step == 0 or run.checkpoint(step).exists():
        return standing
    standing = standing.saved(step)
    folder = checkpoint.save(run, step, overlaid, optimizer, rate, keep=keep.checkpoints_kept, standing=standing)
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    emit(
        e.CheckpointSaved(step=step, path=f"checkpoints/{folder.name}", bytes=num_bytes, is_best=standing.is_best(step))
    )
    return standing


def evaluate(learner: nn.Module, material: Material, step: int, orders: Orders, emit: Emit) -> float | None:
    """The mean loss over the supervised tokens of the held-out rows; dropout off, weights untouched.

    It is emitted, too. None if there are no such rows, or if the run is to end at once: then the next process does it.
    """
    if not material.held_out:
        return None
    emit(e.PhaseEntered(name="evaluating"))
    learner.eval()
    ranks, total = Ranks.here(), 0.0
    with torch.no_grad(), breakable(learner, orders.is_to_break_off) as attempt:
        batches = micro_batches(ranks.share(material.held_out), material.layout)
        for batch in in_step(learner, batches, ranks, material.layout, always=True):
            if orders.is_in_a_hurry():
                return None
            total += float(learner(batch))
    if attempt.was_broken_off:
        return None
    device = next(learner.parameters()).device
    total = float(ranks.total(torch.tensor(total, dtype=torch.float64, device=device)))
    num_supervised = sum(row.num_supervised for row in material.held_out)
    loss = total / num_supervised
    if not math.isfinite(loss):
        raise DivergedError(
            f"The evaluation at step {step} gave no number.",
            "Go on from an earlier checkpoint, at a lower learning rate.",
        )
    emit(e.Evaluated(step=step, loss=loss, num_supervised=num_supervised))
    return loss


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter], device: torch.device) -> Optimizer:
    """AdamW over the overlay: bitsandbytes' 8-bit or paged one on a card, torch's on a CPU, where paging has no meaning."""
    training = recipe.training
    options: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if device.type == "cpu" or training.optimizer == "adamw_torch":
        return torch.optim.AdamW(parameters, fused=True, **options)
    import bitsandbytes as bnb

    kinds = {
        "adamw_8bit": bnb.optim.AdamW8bit,
        "paged_adamw_8bit": bnb.optim.PagedAdamW8bit,
        "paged_adamw_32bit": bnb.optim.PagedAdamW32bit,
    }
    optimizer: Optimizer = kinds[training.optimizer](parameters, **options)
    return optimizer


def make_rate(recipe: Recipe, optimizer: Optimizer, num_steps: int) -> LRScheduler:
    """The learning rate over the steps: a climb from zero, then the recipe's curve."""
    training = recipe.training
    name = "constant_with_warmup" if training.schedule == "constant" else training.schedule
    warmup_steps = math.ceil(training.warmup_fraction * num_steps)
    rate: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=num_steps)
    return rate


def diverged(step: int, loss: float, rows: Sequence[Example], learning_rate: float, saved: int) -> DivergedError:
    """The error for a loss or gradient that is no number: which step, which rows, what is saved and what to try."""
    what = "The gradient" if math.isfinite(loss) else "The loss"
    numbers = ", ".join(str(row.row + 1) for row in rows[:8])
    return DivergedError(
        f"{what} became infinite or not a number at step {step} (rows {numbers}{', ...' if len(rows) > 8 else ''}).",
        f"{f'The checkpoint of step {saved} is good' if saved else 'No step was spoilt'}. "
        f"Start again with a third of the learning rate, {calmer_rate(learning_rate)}.",
    )
