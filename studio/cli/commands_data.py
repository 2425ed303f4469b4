"""`overlay data`: look before you train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio.cli.data_edits import add_edits, edit, is_edit
from studio.cli.data_source import add_hub_options, hub_name, local_path, show_preview
from studio.cli.data_text import mended_text, report_text, shown_text, tokens_text
from studio.cli.follow import follow_job
from studio.cli.output import Output
from studio.cli.parser import Commands, UsageError, add_command, number, whole_number
from studio.data.canonical import exported, write_rows
from studio.data.chosen import unsure
from studio.data.conversation import RowProblem
from studio.data.detection import Detection, detect
from studio.data.examine import Options, Pairs, Report, examine
from studio.data.formats import Mapping
from studio.data.lengths import Consequence, Lengths, better_limit, consequence, histogram
from studio.data.mappings import mapping_of, recall, remember
from studio.data.mends import labels
from studio.data.mixing import Part, mixed
from studio.data.opening import num_bytes, readable, sha256
from studio.data.reading import raw_rows
from studio.data.rows import nothing_to_train_on
from studio.data.versions import VersionedSet
from studio.errors import DataError
from studio.memory.budget import budget
from studio.memory.ladder import applied
from studio.models.bases import Base, find_base
from studio.models.facts import ModelFacts
from studio.models.remote import find_facts
from studio.models.templates import OFFERED, OWN
from studio.places import Workspace
from studio.recipe.recipe import Recipe
from studio.runs.jobs import start_job

_MOST_PAIRS = 1000
_BAR_BYTES = 16 << 20
_MOST_TOKENS = 1 << 20


def register(commands: Commands) -> None:
    """Add the command."""
    data = add_command(
        commands,
        "data",
        run,
        "check a dataset",
        details="Detects the format, counts the rows and names each row that cannot be used, with its line. With a base it "
        "tells what a limit of tokens costs, and shows any row as the model sees it.",
    )
    data.add_argument(
        "file",
        metavar="FILE",
        help="JSON, CSV, TSV, Parquet, Arrow, text or Markdown, packed or not, or a folder; hub:OWNER/NAME, which is fetched; "
        "- for rows that are pasted",
    )
    add_hub_options(data)
    data.add_argument("--base", metavar="B", help="the base that is to learn from it")
    data.add_argument(
        "--max-tokens", type=whole_number(16, _MOST_TOKENS), default=Recipe().data.max_tokens, metavar="N",
        help="cut rows there, with --base (default: %(default)s)",
    )  # fmt: skip
    data.add_argument("--train-on", choices=("assistant", "last_answer", "everything"), default="assistant")
    data.add_argument(
        "--template",
        choices=(OWN, *OFFERED),
        default=OWN,
        help="how chats are written out for a base that has no template",
    )
    data.add_argument("--show", type=whole_number(0, 1 << 40), metavar="ROW", help="one row as the base sees it")
    data.add_argument(
        "--map", action="append", metavar="WHAT=COLUMN", help="which column is the question, answer, system, ..."
    )
    data.add_argument(
        "--group-by", default="", metavar="COLUMN", help="rows with the same value there are held out together"
    )
    data.add_argument("--privacy", action="store_true", help="also look for secrets and e-mail addresses")
    data.add_argument(
        "--mend", action="append", metavar="NAME", help=f"make a mended version: near, {', '.join(labels())}"
    )
    data.add_argument("--undo", action="store_true", help="go back to the version before")
    add_edits(data)
    data.add_argument("--mended", action="store_true", help="look at the mended version instead of the file")
    data.add_argument("--windows", action="store_true", help="with --mend: read what is not UTF-8 as Windows-1252")
    data.add_argument(
        "--with", action="append", type=Path, dest="others", metavar="FILE", help="with --export: merge it in"
    )
    data.add_argument(
        "--weight", action="append", type=number(0, 100), metavar="W", help="of each set in turn, with --with"
    )
    data.add_argument("--export", type=Path, metavar="OUT", help="write the good rows as JSON lines to this new file")


def run(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Do what the options say, one thing at a time."""
    name = hub_name(options.file, options.subset, options.split, options.revision)
    if options.preview:
        show_preview(name, output)
        return
    source = options.file = local_path(options.file, output, workspace, name)
    with readable(source):
        fingerprint = sha256(source)
    mapping = mapping_of(options.map) if options.map else recall(workspace, fingerprint)
    if options.map and mapping:
        remember(workspace, fingerprint, mapping)
    path = VersionedSet(workspace, source).current.path if options.mended else source
    if is_edit(options):
        edit(options, output, VersionedSet(workspace, source))
    elif options.mend or options.windows or options.undo:
        _mend(options, output, VersionedSet(workspace, source), mapping)
    elif options.export:
        _export(options, output, path, mapping)
    elif options.show is not None:
        _show(options, output, workspace, path, mapping)
    else:
        _look(options, output, workspace, path, mapping)


# --- looking ---------------------------------------------------------------------------------------------------------


def _look(
    options: argparse.Namespace, output: Output, workspace: Workspace, path: Path, mapping: Mapping | None
) -> None:
    """Print what is in the file and, with a base, what the base makes of it."""
    base = find_base(workspace, options.base) if options.base else None
    detection = detect(path)
    recipe = Recipe()
    split = Options(
        group_by=options.group_by,
        privacy=options.privacy,
        fraction=recipe.data.validation_fraction,
        seed=recipe.training.seed,
    )
    is_large = num_bytes(path) >= _BAR_BYTES
    report = examine(path, split, mapping, _progress(output) if is_large else None)
    output.bar.clear()
    if not report.num_good:
        raise _refusal(path, report, detection)
    document = _document(report, detection, mapping)
    text = report_text(options.file.name, report, detection, mapping)
    if base:
        found = _tokens(options, output, workspace, base, path, mapping)
        document.update(found)
        text += "\n" + tokens_text(found)
    output.result(document, text)


def _progress(output: Output) -> Any:
    return lambda done, total: output.bar.update(done, total, "bytes read")


def _refusal(path: Path, report: Report, detection: Detection) -> DataError:
    if detection.mapping is None:
        return nothing_to_train_on(path, report.problems, report.num_rows)
    return unsure(path, detection)


def _document(report: Report, detection: Detection, mapping: Mapping | None) -> dict[str, Any]:
    return {
        "format": next(iter(report.formats)),
        "formats": report.formats,
        "confidence": 1.0 if mapping else detection.confidence,
        "reason": "the columns were mapped by you" if mapping else detection.reason,
        "mapping": vars(mapping) if mapping else None,
        "num_rows": report.num_rows,
        "num_good": report.num_good,
        "problems": [vars(problem) for problem in report.problems],
        "problem_counts": report.problem_counts,
        "warnings": [vars(problem) for problem in report.warnings],
        "warning_counts": report.warning_counts,
        "num_duplicates": report.repeats.count,
        "num_near_duplicates": report.near.count,
        "num_conflicts": report.conflicts.count,
        "num_leaks": report.leaks.count,
        "num_compared": report.num_compared,
        "split": _split(report),
        **{
            name: [{"row": row, "earlier": earlier} for row, earlier in pairs.first(_MOST_PAIRS)]
            for name, pairs in _named_pairs(report).items()
        },
        "characters": vars(report.characters),
        "turns": vars(report.turns),
        "roles": report.roles,
        "glance": {**vars(report.glance), "is_sampled": report.glance.is_sampled},
    }


def _split(report: Report) -> dict[str, Any]:
    """The rows of each side by the recipe's own fraction and seed."""
    recipe = Recipe()
    found = report.sides.at(recipe.data.validation_fraction)
    return {
        "fraction": recipe.data.validation_fraction,
        "seed": recipe.training.seed,
        "num_train": len(found.train),
        "num_held_out": len(found.held_out),
        "held_out": found.held_out[:_MOST_PAIRS].tolist(),
    }


def _named_pairs(report: Report) -> dict[str, Pairs]:
    return {
        "duplicates": report.repeats,
        "near_duplicates": report.near,
        "conflicts": report.conflicts,
        "leaks": report.leaks,
    }


# --- with a base -----------------------------------------------------------------------------------------------------


def _tokens(
    options: argparse.Namespace, output: Output, workspace: Workspace, base: Base, path: Path, mapping: Mapping | None
) -> dict[str, Any]:
    """How long the rows are for this base, what the limit costs, and what a better one would cost."""
    arguments = _arguments(options, base, path, mapping)
    result = follow_job(start_job(workspace, "lengths", arguments), output, "Measuring").result
    lengths = Lengths.load(Path(result["lengths"]))
    now = consequence(lengths, options.max_tokens)
    better = better_limit(lengths, options.max_tokens, base.context_tokens or _MOST_TOKENS)
    facts = find_facts(workspace, base.id, output.note)
    return {
        "base": base.id,
        "tokens": result["tokens"],
        "num_cut": now.num_cut,
        "consequence": _consequence(now),
        "better": None if better == now.max_tokens else _better(facts, lengths, now.max_tokens, better),
        "num_refused": result["num_refused"],
        "refused": result["refused"],
        "histogram": [{"tokens": tokens, "rows": rows} for tokens, rows in histogram(lengths)],
    }


def _better(facts: ModelFacts, lengths: Lengths, now: int, better: int) -> dict[str, Any]:
    """With the memory that it takes more, by the estimate for an ordinary recipe on this base."""
    recipe = applied(Recipe(), "data.max_tokens", now)
    before, after = (budget(facts, one).process_bytes for one in (recipe, applied(recipe, "data.max_tokens", better)))
    return {**_consequence(consequence(lengths, better)), "extra_bytes": after - before}


def _consequence(found: Consequence) -> dict[str, Any]:
    return {**vars(found), "share_cut": found.share_cut}


def _arguments(options: argparse.Namespace, base: Base, path: Path, mapping: Mapping | None) -> dict[str, Any]:
    return {
        "base": str(base.path),
        "data": str(path.resolve()),
        "train_on": options.train_on,
        "template": options.template,
        "max_tokens": options.max_tokens,
        "mapping": vars(mapping) if mapping else None,
    }


def _show(
    options: argparse.Namespace, output: Output, workspace: Workspace, path: Path, mapping: Mapping | None
) -> None:
    if not options.base:
        raise UsageError("A row is shown as a base sees it, and no base is named.", "Give --base B as well.")
    base = find_base(workspace, options.base)
    arguments = {**_arguments(options, base, path, mapping), "row": options.show}
    result = follow_job(start_job(workspace, "show", arguments), output, "Looking").result
    output.result(result, shown_text(result))


# --- changing --------------------------------------------------------------------------------------------------------


def _mend(options: argparse.Namespace, output: Output, rows: VersionedSet, mapping: Mapping | None) -> None:
    if options.undo:
        version = rows.undo()
    else:
        version = rows.mend(options.mend or [], mapping, fallback="cp1252" if options.windows else "")
    document = {"version": version.number, "path": str(version.path), "mends": list(version.mends), **version.tally}
    output.result(document, mended_text(options.file.name, version))


def _export(options: argparse.Namespace, output: Output, path: Path, mapping: Mapping | None) -> None:
    out = options.export.expanduser()
    if out.exists():
        raise DataError(f"{out} exists already.", "Choose a name that does not exist yet.")
    paths = [path, *(other.expanduser() for other in options.others or [])]
    weights = [*(options.weight or []), *[1.0] * len(paths)]
    needs_bytes = sum(map(num_bytes, paths))
    if len(paths) == 1 and not options.weight:
        left_out: list[RowProblem] = []
        count = write_rows(out, exported(raw_rows(path), left_out, mapping), needs_bytes)
    else:
        parts = [
            Part(one, weight, mapping if one is path else None) for one, weight in zip(paths, weights, strict=False)
        ]
        count = write_rows(out, mixed(parts), needs_bytes)
        left_out = [problem for part in parts for problem in part.problems]
    document = {"path": str(out), "num_rows": count, "left_out": [vars(problem) for problem in left_out]}
    text = f"{count} rows are now in {out}."
    output.result(document, text + (f" {len(left_out)} could not be used and were left out." if left_out else ""))
