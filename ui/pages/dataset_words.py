"""What the Datasets page says: formats, findings and consequences in the user's words. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QCoreApplication

from studio.data.edits import EDITED
from studio.data.lengths import Consequence
from studio.data.mends import labels
from studio.data.versions import NEAR
from studio.errors import RecipeError
from studio.files import readable_bytes
from studio.memory.auto import settled
from studio.memory.budget import budget
from studio.memory.ladder import applied
from studio.models.facts import ModelFacts
from studio.recipe.recipe import Recipe
from studio.runs.dataset_jobs import Survey
from ui.dataset_view import DatasetView
from ui.widgets.numbers import format_int

KINDS = {
    "json": "Broken JSON",
    "encoding": "Encoding",
    "length": "Line too long",
    "nesting": "Nested too deeply",
    "table": "Broken table row",
    "shape": "Shape",
    "format": "Format",
    "role": "Unknown role",
    "order": "Order of turns",
    "answer": "No answer",
    "content": "Content",
    "characters": "Characters",
    "tool": "Tools",
    "unwanted": "Bad example",
    "control": "Control characters",
    "mojibake": "Garbled letters",
    "markup": "Markup in text",
    "huge": "Huge row",
    "secret": "Likely secret",
    "email": "E-mail address",
    "repeats": "Repeat",
    "near": "Near repeat",
    "conflicts": "Conflict",
    "leaks": "Leak",
}
_PAIRS = {
    "repeats": ("repeats row {0}", "Leave repeats out, unless they are to count more."),
    "near": ("nearly repeats row {0}", "Look at both; leave near repeats out if they teach nothing new."),
    "conflicts": ("asks what row {0} asks, and is answered otherwise", "Keep one: the model cannot learn both."),
    "leaks": (
        "is held out, and row {0} gives it away: the measured loss would be too good",
        "Leave repeats and near repeats out.",
    ),
}
_BUSY = {
    "opening": "Opening it",
    "unpacking": "Unpacking it",
    "looking": "Looking through it",
    "mending": "Mending it",
    "editing": "Writing the new version",
    "measuring": "Counting tokens",
    "searching": "Searching",
}
# From what hurts training most to what is a matter of taste.
MENDS = ("unusable", "repeats", NEAR, "mojibake", "control", "turns", "numbers", "secrets", "email", "trim", "messages")


def tr(text: str) -> str:
    """`text` in the user's language."""
    return QCoreApplication.translate("Datasets", text)


@dataclass(frozen=True)
class Finding:
    """A line of the list of problems. `is_lost` if the row cannot be learnt at all."""

    kind: str
    row: int
    line: int
    column: str
    message: str
    fix: str
    is_lost: bool


def findings(survey: Survey) -> list[Finding]:
    """All that was found: rows that are lost, then what to look at, then rows that go together."""
    found = [
        Finding(one.kind, one.row, one.line, _where(one.file, one.column), one.message, one.fix, is_lost)
        for several, is_lost in ((survey.problems, True), (survey.warnings, False))
        for one in several
    ]
    for kind, pairs in survey.pairs.items():
        words, fix = _PAIRS[kind]
        found += [
            Finding(
                kind,
                row,
                0,
                "",
                tr("Row {0} ").format(format_int(row + 1)) + tr(words).format(format_int(earlier + 1)) + ".",
                tr(fix),
                False,
            )
            for row, earlier in pairs
        ]
    return found


def _where(file: str, column: str) -> str:
    return ", ".join(filter(None, (Path(file).name, column)))


def counts(survey: Survey) -> dict[str, int]:
    """How often each kind was found."""
    found = {**survey.problem_counts}
    for several in (survey.warning_counts, survey.pair_counts):
        for kind, count in several.items():
            found[kind] = found.get(kind, 0) + count
    return {kind: count for kind, count in found.items() if count}


def kind_text(kind: str) -> str:
    """A kind of finding as the list names it."""
    return tr(KINDS.get(kind, kind.capitalize()))


def format_text(view: DatasetView) -> str:
    """The format, how sure that is, and why."""
    if view.detection is None:
        return ""
    if view.mapping is not None:
        return tr("Columns mapped by you.")
    if not view.detection.format:
        return tr("Format unknown: {0}.").format(view.detection.reason)
    sure = f"{view.detection.confidence:.0%}".replace("%", " %")
    return tr("{0}, {1} sure: {2}.").format(view.detection.format, sure, view.detection.reason)


def busy_text(view: DatasetView) -> str:
    """What is going on, and how far it is."""
    words = tr(_BUSY.get(view.busy, view.busy))
    return f"{words}: {100 * view.done // view.total} %" if view.total > 1 else f"{words}\u2026"


def version_text(view: DatasetView) -> str:
    """The version in force."""
    if view.version is None or not view.version.number:
        return tr("as it came")
    names = labels()
    steps = [_short(names.get(step, step)) for step in view.steps if step != EDITED]
    return tr("version {0}: {1}").format(view.version.number, ", ".join([*steps, *_edits_text(view.num_edited)]))


def _edits_text(num_edited: tuple[int, int, int]) -> list[str]:
    """What was done by hand, as "2 rows edited", "1 removed"."""
    words: list[str] = []
    for count, what in zip(num_edited, (tr("edited"), tr("removed"), tr("added")), strict=True):
        rows = "" if words else tr("row ") if count == 1 else tr("rows ")
        words += [f"{format_int(count)} {rows}{what}"] if count else []
    return words


def _short(label: str) -> str:
    return label[:1].lower() + label[1:]


def place_text(view: DatasetView) -> str:
    """Where the dataset lies or comes from, and how large it is."""
    size = f"{readable_bytes(view.size_bytes)}, " if view.size_bytes else ""
    if not view.origin:
        return size + str(Path(view.path).parent)
    licence = tr("Licence: {0}").format(view.origin.get("licence") or tr("not stated"))
    where = tr("from the hub: {0} at {1}").format(view.origin.get("hub_id", ""), view.origin.get("commit", "")[:8])
    return f"{size}{where}. {licence}"


def mend_text(name: str) -> str:
    """What a mend does."""
    return tr("Leave out rows that nearly repeat an earlier one") if name == NEAR else tr(labels()[name])


def mend_effect(name: str, survey: Survey | None) -> tuple[str, int]:
    """What a mend would do to this dataset, and to how many rows; -1 where only doing it tells."""
    if survey is None:
        return "", -1
    known = counts(survey)
    num_rows = {
        "unusable": sum(survey.problem_counts.values()),
        "repeats": known.get("repeats", 0),
        NEAR: known.get("near", 0),
        "mojibake": known.get("mojibake", 0),
        "control": known.get("control", 0),
        "turns": known.get("order", 0),
        **({"secrets": known.get("secret", 0), "email": known.get("email", 0)} if survey.privacy else {}),
    }.get(name, -1)
    if num_rows < 0:
        return tr("wherever it applies"), -1
    if not num_rows:
        return tr("nothing to do"), 0
    if name in ("unusable", "repeats", NEAR):
        words = tr("{0} row goes") if num_rows == 1 else tr("{0} rows go")
    else:
        words = tr("at most {0} row changes") if num_rows == 1 else tr("at most {0} rows change")
    return words.format(format_int(num_rows)), num_rows


def percent(share: float) -> str:
    """`93 %`, with a tenth where that is all there is to tell."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 10 or 90 < value < 100 else f"{value:.0f} %"


def consequence_text(cost: Consequence) -> str:
    """What a limit does, in consequences."""
    if not cost.num_cut:
        return tr("No row is longer: nothing is cut.")
    text = tr("{0} of the tokens are cut").format(percent(cost.share_cut))
    if cost.num_lost:
        text += tr("; {0} rows lose their whole answer").format(format_int(cost.num_lost))
    if cost.num_endless > cost.num_lost:
        num_rows = format_int(cost.num_endless - cost.num_lost)
        text += tr("; {0} rows lose the end of an answer, and do not teach the model to stop").format(num_rows)
    return text + "."


def extra_bytes(facts: ModelFacts | None, recipe: Recipe, limits: tuple[int, int, int], limit: int) -> int | None:
    """Memory that a limit takes more than the recipe's, by the estimate; None if there is none for this base."""
    if facts is None:
        return None
    try:
        now, then = (
            budget(facts, settled(facts, one, *limits), limits[-1]).total_bytes
            for one in (recipe, applied(recipe, "data.max_tokens", limit))
        )
    except RecipeError:
        return None
    return then - now


def cost_text(extra: int | None, now: int) -> str:
    """What a limit costs against the recipe's, `now`."""
    if extra is None:
        return tr("What it costs in memory cannot be estimated for this base.")
    if not extra:
        return tr("It takes no more memory than the recipe's {0}.").format(format_int(now))
    words = (
        tr("It takes \u2248 {0} more memory than the recipe's {1}.")
        if extra > 0
        else tr("It saves \u2248 {0} of memory against the recipe's {1}.")
    )
    return words.format(readable_bytes(abs(extra)), format_int(now))
