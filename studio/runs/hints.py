"""What the curves of a run suggest while it goes on: something to look at, with the numbers that made it be said.

A hint is a suspicion and no verdict, and never acts by itself. Each detector compares medians or means of many steps, so that
one odd batch says nothing, and stays silent in doubt. Numbers that are none (NaN, infinity) are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median

from studio import files
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.state import RunState

SHORT, LONG = 20, 100  # steps of a glance back and of a long look back
DIVERGED_SPREADS, DIVERGED_LEAST = 4.0, 0.5
RISES, LEAST_RISE = 3, 0.005
FLAT_GAIN, FLAT_LOSS = 0.01, 0.02
SPIKE_TIMES, SPIKES = 10.0, 3
FULL_SHARE = 0.97
SLOW_SHARE = 0.6
LOW_LOSS = 0.2
_BLOCK = 10
_SPREAD_OF_MAD = 1.4826  # standard deviations in a median absolute deviation, if the noise is normal


class HintKind(StrEnum):
    """What is suspected."""

    DIVERGING = "diverging"
    MEMORISING = "memorising"
    PLATEAU = "plateau"
    SPIKES = "spikes"
    MEMORY = "memory"
    THROUGHPUT = "throughput"
    LOW_LOSS = "low-loss"


@dataclass(frozen=True)
class Hint:
    """One suspicion.

    `message` says what is seen, `reason` by which numbers, `advice` what one may do; all are plain sentences. `step` is the last
    step looked at. `id` stays the same for as long as it is the same suspicion: who dismissed it need not see it again.
    `checkpoint` is the step of one on the disk that might be better to use (None: there is none).
    """

    id: str
    kind: HintKind
    message: str
    reason: str
    advice: str
    step: int
    checkpoint: int | None = None


def hints(state: RunState, recipe: Recipe | None = None) -> list[Hint]:
    """What is suspected of a run now, the most urgent first. Takes some milliseconds for ten thousand steps."""
    found = (look(state, recipe) for look in _DETECTORS)
    return [hint for hint in found if hint is not None]


def _diverging(state: RunState, _: Recipe | None) -> Hint | None:
    """Nearly all of the last steps lie far above the best stretch before them, by the noise of that stretch."""
    steps = [taken for taken in state.steps if math.isfinite(taken.loss)]
    losses = [taken.loss for taken in steps]
    before, recent = losses[:-SHORT], losses[-SHORT:]
    if len(before) < _BLOCK:
        return None
    blocks = [before[start : start + _BLOCK] for start in range(0, len(before) - _BLOCK + 1, _BLOCK)]
    best = min(range(len(blocks)), key=lambda number: median(blocks[number]))
    level = median(blocks[best])
    spread = _SPREAD_OF_MAD * median(abs(loss - level) for loss in blocks[best])
    if sorted(recent)[SHORT // 4] <= level + max(DIVERGED_LEAST, DIVERGED_SPREADS * spread):
        return None
    bold = max(taken.learning_rate for taken in steps)
    first = steps[best * _BLOCK].step
    return _hint(
        state,
        HintKind.DIVERGING,
        "The loss is climbing: the run may be diverging.",
        f"It was {level:.2f} around step {first} and has been {median(recent):.2f} for {SHORT} steps.",
        f"Stop, and try a third of the learning rate ({bold / 3:.1e}).",
        about=first,
        checkpoint=_checkpoint(state),
    )


def _memorising(state: RunState, _: Recipe | None) -> Hint | None:
    """The evaluation has risen several times running while the training loss fell."""
    last, best = state.evaluations[-RISES - 1 :], state.best_evaluation
    if len(last) <= RISES or best is None or not all(a.loss < b.loss for a, b in pairwise(last)):
        return None
    first, now = last[0], last[-1]
    if not now.loss > first.loss * (1 + LEAST_RISE):
        return None
    reach = min(max(now.step - last[-2].step, 1), LONG)
    was, is_now = _mean_loss(state, first.step, reach), _mean_loss(state, now.step, reach)
    if was is None or is_now is None or is_now >= was:
        return None
    return _hint(
        state,
        HintKind.MEMORISING,
        f"The run may be memorising its rows. Best was step {best.step}.",
        f"The evaluation loss rose {RISES} times running, from {first.loss:.3f} at step {first.step} to {now.loss:.3f} at step "
        f"{now.step}, while the training loss fell from {was:.3f} to {is_now:.3f}.",
        f"Use the adapter of step {best.step}, or train for fewer epochs next time.",
        about=best.step,
        checkpoint=_checkpoint(state),
    )


def _plateau(state: RunState, recipe: Recipe | None) -> Hint | None:
    """The loss gains nothing from one half of a long look back to the other, and not because the rate has gone down."""
    recent = state.steps[-LONG:]
    losses = _finite([taken.loss for taken in recent])
    if len(losses) < LONG or recent[-1].learning_rate < max(taken.learning_rate for taken in state.steps) / 2:
        return None
    if _diverging(state, recipe):
        return None
    was, is_now = _mean(losses[: LONG // 2]), _mean(losses[LONG // 2 :])
    if is_now < LOW_LOSS or not was * (1 - FLAT_GAIN) < is_now < was * (1 + FLAT_LOSS):
        return None
    rank = f" ({recipe.adapter.rank} now)" if recipe else ""
    return _hint(
        state,
        HintKind.PLATEAU,
        f"The loss has been flat for {LONG} steps.",
        f"Its mean was {was:.3f} in steps {recent[0].step} to {recent[LONG // 2 - 1].step} and {is_now:.3f} since.",
        f"If the answers are not good enough yet, raise the rank r{rank} or add targets.",
    )


def _spikes(state: RunState, _: Recipe | None) -> Hint | None:
    """Several gradients of late were many times larger than usual."""
    recent = [taken for taken in state.steps[SHORT:][-LONG:] if math.isfinite(taken.grad_norm)]
    usual = median(taken.grad_norm for taken in recent) if recent else 0.0
    odd = [taken for taken in recent if taken.grad_norm > SPIKE_TIMES * usual]
    if usual <= 0 or len(odd) < SPIKES:
        return None
    largest = max(odd, key=lambda taken: taken.grad_norm)
    return _hint(
        state,
        HintKind.SPIKES,
        "The gradient jumps.",
        f"In {len(odd)} of the last {len(recent)} steps its norm was over {SPIKE_TIMES:.0f} times the usual {usual:.2g}, at most "
        f"{largest.grad_norm:.2g} at step {largest.step}.",
        "Look at the worst rows for broken ones. A larger batch or a lower learning rate makes it steadier.",
        about=odd[-1].step // LONG,
    )


def _near_the_limit(state: RunState, _: Recipe | None) -> Hint | None:
    """The card is nearly full."""
    card = state.estimate.card_bytes if state.estimate else None
    if not card or state.memory is None or not FULL_SHARE * card <= state.memory.process_bytes:
        return None
    held = state.memory.process_bytes
    return _hint(
        state,
        HintKind.MEMORY,
        "The card is nearly full.",
        f"The run holds {files.readable_bytes(held)} of {files.readable_bytes(card)}, {held / card:.1%}.",
        "Close other programs that use the card. Should it run out, the run goes on with half the micro-batch.",
    )


def _throughput(state: RunState, _: Recipe | None) -> Hint | None:
    """Tokens per second, once warm, against those of late."""
    rates = _finite([taken.num_tokens / taken.seconds for taken in state.steps[1:] if taken.seconds > 0])
    early, recent = rates[:-SHORT][:LONG], rates[-SHORT:]
    if len(early) < SHORT:
        return None
    was, is_now = median(early), median(recent)
    if was <= 0 or is_now > SLOW_SHARE * was:
        return None
    return _hint(
        state,
        HintKind.THROUGHPUT,
        f"The run has become {1 - is_now / was:.0%} slower.",
        f"It made {was:,.0f} tokens a second at first and {is_now:,.0f} in the last {SHORT} steps.",
        "The card may be too hot, shared with another program, or out of memory of its own (Windows then uses the computer's).",
    )


def _low_loss(state: RunState, _: Recipe | None) -> Hint | None:
    """Hardly anything is left to be learnt."""
    recent = _finite([taken.loss for taken in state.steps[-SHORT:]])
    if len(recent) < SHORT or _mean(recent) >= LOW_LOSS:
        return None
    return _hint(
        state,
        HintKind.LOW_LOSS,
        "The training loss is very low: the rows may be known by heart.",
        f"Its mean over the last {SHORT} steps is {_mean(recent):.3f}, under {LOW_LOSS}.",
        "Ask it something that the rows do not answer. If that is poor, train for fewer epochs or on more rows.",
    )


_DETECTORS: tuple[Callable[[RunState, Recipe | None], Hint | None], ...] = (
    _diverging,
    _memorising,
    _near_the_limit,
    _throughput,
    _spikes,
    _plateau,
    _low_loss,
)


def _hint(
    state: RunState,
    kind: HintKind,
    message: str,
    reason: str,
    advice: str,
    *,
    about: int | None = None,
    checkpoint: int | None = None,
) -> Hint:
    """`about` tells this suspicion from a later one of the same kind."""
    name = str(kind) if about is None else f"{kind}-{about}"
    return Hint(name, kind, message, reason, advice, state.step, checkpoint)


def _checkpoint(state: RunState) -> int | None:
    return state.best_checkpoint.step if state.best_checkpoint else None


def _finite(numbers: Sequence[float]) -> list[float]:
    return [number for number in numbers if math.isfinite(number)]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)  # `fmean` raises where a sum is too large for a float


def _mean_loss(state: RunState, step: int, reach: int) -> float | None:
    """Mean training loss of the last `reach` steps up to `step`, or of those after it where there are none before."""
    losses = _finite([taken.loss for taken in _steps_near(state.steps, step, reach)])
    return _mean(losses) if losses else None


def _steps_near(steps: list[e.StepTaken], step: int, reach: int) -> list[e.StepTaken]:
    before = [taken for taken in steps if step - reach < taken.step <= step]
    return before or [taken for taken in steps if step < taken.step <= step + reach]
