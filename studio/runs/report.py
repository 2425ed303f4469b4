"""The morning report: what the queue did while nobody watched, as text, as JSON and as a Markdown file in the workspace.

It is made from the run folders each time, so that it tells what they tell; only how a turn ended is the queue's own word.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import DamagedError
from studio.files import readable_seconds
from studio.places import Workspace
from studio.recipe.fields import FIELDS, get
from studio.recipe.recipe import Recipe
from studio.runs.create import read_job
from studio.runs.folder import RunFolder
from studio.runs.queue import Done, Queue
from studio.runs.state import RunState

# A name is no setting that one would compare.
_NO_SETTINGS = ("name",)


@dataclass(frozen=True)
class Line:
    """One run of the report. Losses are means over supervised tokens, bytes those of the whole process, seconds the turn's.

    What was never measured is None: no loss before the first step, no estimate on a processor.
    """

    run: str
    name: str
    ending: str
    message: str
    hint: str
    seconds: float
    step: int
    num_steps: int | None
    first_loss: float | None
    last_loss: float | None
    best_loss: float | None
    evaluation: float | None
    best_evaluation: float | None
    peak_bytes: int | None
    estimated_bytes: int | None
    adapter: str


@dataclass(frozen=True)
class Report:
    """What was done since the queue was started at `began`, in that order, and what still waits.

    `differences` are the settings in which the recipes differ: path -> the value in each of `lines`, "" where the run cannot
    be read any more. `halt` says why the queue stopped by itself.
    """

    began: float
    lines: tuple[Line, ...]
    differences: dict[str, list[str]]
    num_waiting: int
    halt: tuple[str, str]

    @classmethod
    def of(cls, workspace: Workspace, queue: Queue) -> Report:
        """The report on the queue as it stands. A run that had two turns is told by its last."""
        last = {done.run: done for done in queue.done}
        runs = [RunFolder(workspace.runs / run) for run in last]
        lines = tuple(_line(run, done) for run, done in zip(runs, last.values(), strict=True))
        return cls(queue.began, lines, _differences([_recipe(run) for run in runs]), len(queue.waiting), queue.halt)

    @property
    def headline(self) -> str:
        """`3 finished, 1 diverged`; "" if nothing was done."""
        counts = Counter(line.ending for line in self.lines)
        return ", ".join(f"{count} {ending}" for ending, count in counts.most_common())

    def to_dict(self) -> dict[str, Any]:
        """As JSON would hold it."""
        return {
            "began": self.began,
            "headline": self.headline,
            "runs": [asdict(line) for line in self.lines],
            "differences": self.differences,
            "num_waiting": self.num_waiting,
            "halt": {"message": self.halt[0], "hint": self.halt[1]} if self.halt[0] else None,
        }

    @property
    def text(self) -> str:
        """For a terminal."""
        if not self.lines:
            return self._tail() or "The queue has done nothing since it was last started."
        parts = [f"Since {_clock(self.began)}: {self.headline}."]
        for line in self.lines:
            parts.append(f"\n{line.name} ({line.run}): {line.ending}")
            parts += [f"  {told}" for told in _told(line)]
        if self.differences:
            parts.append("\nWhat differs between the recipes")
            parts += [
                f"  {path}: {' | '.join(value or '-' for value in row)}" for path, row in self.differences.items()
            ]
        return "\n".join([*parts, *(["", tail] if (tail := self._tail()) else [])])

    @property
    def markdown(self) -> str:
        """For a file: a table of the runs, then each in sentences, then the settings in which they differ."""
        parts = [f"# Queue of {_clock(self.began)}", "", f"{self.headline or 'Nothing was done'}.", ""]
        heads = ("Run", "Ending", "Duration", "Steps", "Loss", "Evaluation", "Peak memory", "Adapter")
        parts += _table(heads, [_cells(line) for line in self.lines])
        for line in self.lines:
            parts += ["", f"## {_plain(line.name)}", "", *(f"- {_plain(told)}" for told in _told(line))]
        if self.differences:
            parts += ["", "## What differs between the recipes", ""]
            names = ("Setting", *(line.name for line in self.lines))
            parts += _table(names, [(path, *row) for path, row in self.differences.items()])
        return "\n".join([*parts, *(["", _plain(tail)] if (tail := self._tail()) else []), ""])

    def _tail(self) -> str:
        parts = [" ".join(filter(None, ("The queue stopped.", *self.halt)))] if self.halt[0] else []
        parts += [f"{_counted(self.num_waiting, 'run')} still wait{'s' * (self.num_waiting == 1)}."] * bool(
            self.num_waiting
        )
        return " ".join(parts)


def write_report(workspace: Workspace, queue: Queue) -> Path:
    """Write the report as Markdown into the workspace, over the one of the same start; returns where it lies."""
    stamp = time.strftime("%Y-%m-%d_%H%M%S", time.localtime(queue.began))
    path = workspace.reports / f"{stamp}_queue.md"
    files.write_text(path, Report.of(workspace, queue).markdown)
    return path


# --- one run ---------------------------------------------------------------------------------------------------------


def _line(run: RunFolder, done: Done) -> Line:
    state = run.state()
    losses = [loss for _, loss in state.losses if math.isfinite(loss)]
    evaluations = [found.loss for found in state.evaluations if math.isfinite(found.loss)]
    return Line(
        run=run.id,
        name=run.name if run.is_readable else run.id,
        ending=done.ending,
        message=done.message,
        hint=done.hint,
        seconds=max(0.0, done.ended - done.took_up),
        step=state.step,
        num_steps=state.num_steps,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        best_loss=min(losses, default=None),
        evaluation=evaluations[-1] if evaluations else None,
        best_evaluation=min(evaluations, default=None),
        peak_bytes=max((measured.process_bytes for measured in state.memories), default=None),
        estimated_bytes=_estimated(state),
        adapter=state.adapter,
    )


def _estimated(state: RunState) -> int | None:
    """Without a card nothing is promised that a measurement could be held against."""
    on_card = state.device.startswith("cuda")
    return state.estimate.process_bytes if on_card and state.estimate is not None else None


def _told(line: Line) -> list[str]:
    """What there is to say of a run, in sentences."""
    steps = f"{line.step:,}" + (f" of {line.num_steps:,}" if line.num_steps else "")
    told = [f"{steps} steps in {readable_seconds(line.seconds)}"]
    if line.first_loss is not None and line.last_loss is not None:
        told.append(f"Loss {line.first_loss:.3f} at first, {line.last_loss:.3f} at last, {line.best_loss:.3f} at best")
    if line.evaluation is not None:
        told.append(f"Loss on held-out rows {line.evaluation:.3f}, {line.best_evaluation:.3f} at best")
    if line.peak_bytes is not None:
        told.append(f"Peak memory {_memory(line)}")
    if line.adapter:
        told.append(f"Adapter {line.adapter}")
    if line.message:
        told.append(f"{line.message} {line.hint}".strip())
    return told


def _memory(line: Line) -> str:
    if line.peak_bytes is None:
        return ""
    expected = f", \u2248 {files.readable_bytes(line.estimated_bytes)} estimated" if line.estimated_bytes else ""
    return f"{files.readable_bytes(line.peak_bytes)}{expected}"


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.name,
        line.ending,
        readable_seconds(line.seconds),
        f"{line.step:,}" + (f" of {line.num_steps:,}" if line.num_steps else ""),
        f"{line.last_loss:.3f}" if line.last_loss is not None else "",
        f"{line.evaluation:.3f}" if line.evaluation is not None else "",
        _memory(line),
        line.adapter,
    )


# --- recipes ---------------------------------------------------------------------------------------------------------


def _recipe(run: RunFolder) -> Recipe | None:
    try:
        return read_job(run).recipe
    except DamagedError:
        return None


def _differences(recipes: Sequence[Recipe | None]) -> dict[str, list[str]]:
    found = {}
    for path in (entry.path for entry in FIELDS if entry.path not in _NO_SETTINGS):
        values = [_value(get(recipe, path)) if recipe else "" for recipe in recipes]
        if len({value for value, recipe in zip(values, recipes, strict=True) if recipe}) > 1:
            found[path] = values
    return found


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


# --- words -----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines]


def _plain(text: str) -> str:
    """Foreign text that stays text in Markdown: no table is torn, nothing becomes markup."""
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
    return " ".join(escaped.split())


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
