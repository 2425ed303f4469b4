"""Numbers, states and settings in the words of the Train page. Pure functions."""

from __future__ import annotations

import math

from PySide6.QtCore import QCoreApplication

from studio.places import EXAMPLES
from studio.recipe.recipe import Recipe
from studio.runs.state import RunState, Status
from ui.form_controls import option_text
from ui.state import AppState, RunView
from ui.widgets.numbers import format_float, format_int

EXAMPLE_NAMES = {"pirate": "Pirate answers", "json": "JSON answers", "laconic": "Short answers"}
# The words of `ui.widgets.messages.STATUS`, and what stands in the pill.
_STATUS = {
    Status.WAITING: "Queued",
    Status.LOADING: "Loading...",
    Status.RUNNING: "Training",
    Status.PAUSED: "Paused",
    Status.STOPPED: "Stopped",
    Status.FINISHED: "Done",
    Status.FAILED: "Failed",
    Status.INTERRUPTED: "Interrupted",
}
_PHASES = {
    "loading": "Loading the base\u2026",
    "tokenising": "Reading the data\u2026",
    "training": "Training",
    "evaluating": "Evaluating\u2026",
    "sampling": "Sampling\u2026",
    "saving": "Saving\u2026",
}


def tr(text: str) -> str:
    """`text` in the user's language."""
    return QCoreApplication.translate("Train", text)


def duration(seconds: float) -> str:
    """`28 s`, `9.6 min`, `2.4 h`."""
    if seconds < 60:
        return tr("{0} s").format(round(seconds))
    if seconds < 3600:
        minutes = seconds / 60
        return tr("{0} min").format(f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}")
    return tr("{0} h").format(f"{seconds / 3600:.1f}")


def energy(joules: float) -> str:
    """`1.42 kWh`, `37 Wh`, `0.8 Wh`: what a household meter counts in."""
    hours = joules / 3600
    if hours >= 1000:
        return tr("{0} kWh").format(f"{hours / 1000:.2f}")
    return tr("{0} Wh").format(f"{hours:.0f}" if hours >= 10 else f"{hours:.1f}")


def short_count(count: float) -> str:
    """`4.02 B`, `33.0 M`, `8.2 k`, `512`: three figures at most."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            value = count / size
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{count:.0f}"


def pill(state: RunState, wish: str) -> tuple[str, str]:
    """(status word, text) of a run; `wish` is what the user has just asked for, while it is not yet done."""
    if state.status.is_live and wish:
        return "Stopping...", {"pause": tr("Pausing\u2026")}.get(wish, tr("Stopping\u2026"))
    word = _STATUS[state.status]
    if state.status.is_live and state.phase in _PHASES:
        return word, tr(_PHASES[state.phase])
    return word, ""


def run_name(view: RunView) -> str:
    """The name its user gave a run; of a damaged one its folder's."""
    return view.folder.name if view.folder.is_readable else view.folder.id


def shortened(text: str, most: int = 60) -> str:
    """A foreign name that cannot burst the line it stands in."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def example_path(key: str) -> str:
    """How a recipe names one of the datasets that come with the studio."""
    return f"{EXAMPLES.name}/{key}.jsonl"


def data_name(path: str) -> str:
    """A dataset's friendly name, or its file's name."""
    for key, name in EXAMPLE_NAMES.items():
        if path == example_path(key):
            return tr(name)
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path


def counted(state: AppState, rows: int) -> str:
    """A number of rows of the dataset, with the sign for what is reckoned from its beginning alone."""
    return format_int(rows) if state.data.is_whole else f"\u2248 {format_int(rows)}"


def rows_split(state: AppState) -> tuple[int, int]:
    """(rows to learn from, rows held out), the second about as many as the recipe's share of them."""
    good = state.data.num_good
    fraction = state.recipe.data.validation_fraction
    held = min(max(round(good * fraction), 1), good - 1) if fraction > 0 and good > 1 else 0
    return good - held, held


def num_steps(state: AppState) -> int | None:
    """Optimizer steps of the run, about; None while the number of rows is not known."""
    training, (rows, _) = state.recipe.training, rows_split(state)
    if training.steps is not None:
        return training.steps
    if rows < 1:
        return None
    return (training.epochs or 1) * math.ceil(rows / min(training.batch_rows, rows))


def learns(trainable: tuple[int, int] | None) -> str:
    """How much of the model the overlay is."""
    if trainable is None or not trainable[1]:
        return ""
    part, whole = trainable
    return tr("{0} of {1} learn, {2} %").format(short_count(part), short_count(whole), f"{100 * part / whole:.2g}")


def at_once(recipe: Recipe) -> str:
    """What one micro-batch holds."""
    rows, tokens = recipe.training.micro_batch_rows, recipe.training.micro_batch_tokens
    if rows is not None:
        return tr("{0} \u00d7 {1} tokens").format(format_int(rows), format_int(recipe.data.max_tokens))
    return tr("{0} tokens at once").format(format_int(max(tokens or 0, recipe.data.max_tokens)))


def summary(group: str, recipe: Recipe) -> str:
    """A group of settings in a few words, as it stands."""
    base, data, adapter, training, keep = recipe.base, recipe.data, recipe.adapter, recipe.training, recipe.keep
    match group:
        case "Adapter":
            parts = [_targets(recipe), tr("alpha {0}").format(adapter.alpha)]
            parts += [tr("DoRA")] if adapter.dora else []
        case "Quantisation":
            parts = [option_text(base.quantisation)]
            parts += [tr("double")] if base.double_quantisation and base.quantisation in ("nf4", "fp4") else []
        case "Optimiser":
            parts = [option_text(training.optimizer)]
        case "Schedule":
            parts = [option_text(training.schedule)]
            parts += [tr("{0} % warm-up").format(format_float(100 * training.warmup_fraction))]
        case "Memory":
            checkpointing = recipe.memory.checkpointing
            layers = tr("{0} layers").format(checkpointing) if isinstance(checkpointing, int) else None
            parts = [tr("Checkpointing {0}").format(layers or option_text(checkpointing).lower())]
        case "Data":
            parts = [option_text(data.train_on), tr("packed") if data.packing else tr("padded")]
        case "Evaluate":
            parts = [_every(keep.evaluate_every_steps)]
        case "Checkpoints":
            parts = [_every(keep.checkpoint_every_steps), tr("keep {0}").format(keep.checkpoints_kept)]
        case _:
            parts = []
    return ", ".join(parts)


def _targets(recipe: Recipe) -> str:
    targets = recipe.adapter.targets
    return option_text(targets) if isinstance(targets, str) else tr("{0} modules").format(len(targets))


def _every(steps: int) -> str:
    return tr("Every {0} steps").format(format_int(steps)) if steps else tr("Only at the end")


def step_text(step: int, has_parent: bool = False) -> str:
    """What a step of a run is called. At step 0 nothing is learnt yet: it answers as the base, or as the run's parent, does."""
    if step == 0:
        return tr("Step 0, the parent") if has_parent else tr("Step 0, the base")
    return tr("Step {0}").format(format_int(step))
