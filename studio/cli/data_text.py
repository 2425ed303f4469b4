"""What `overlay data` says to people: consequences before counts, and a remedy for each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from studio.data.conversation import RowProblem
from studio.data.detection import Detection
from studio.data.edits import BY_HAND
from studio.data.examine import Pairs, Report
from studio.data.formats import Mapping
from studio.data.glance import Glance, turn_bins
from studio.data.languages import NAMES
from studio.data.mends import labels
from studio.data.versions import Version
from studio.files import readable_bytes

_MAX_SHOWN = 10
_COLUMNS = 100


def report_text(name: str, report: Report, detection: Detection, mapping: Mapping | None) -> str:
    """What is in a dataset, and what is wrong with it."""
    format_name = "mapped by you" if mapping else next(iter(report.formats))
    lines = [f"{name}: format {format_name}, {report.num_good} of {report.num_rows} rows can be used."]
    if not mapping:
        lines.append(f"So named because {detection.reason}.")
    lines.append(f"Characters per row: median {report.characters.p50}, at most {report.characters.max}.")
    lines += _glance(report.glance)
    lines += _pairs("repeat others (mend: repeats).", report.repeats)
    lines += _pairs("nearly repeat others (mend: near).", report.near)
    lines += _pairs(
        "have the question of another row and another answer: the model cannot learn both.", report.conflicts
    )
    lines += _pairs("held out would be known from training, which makes the measured loss too good.", report.leaks)
    if report.num_compared < report.num_good:
        lines.append(f"Only the first {report.num_compared} rows were compared for near repeats.")
    lines += _listed(report.problems, report.problem_counts, "problems")
    lines += _listed(report.warnings, report.warning_counts, "things to look at")
    return "\n".join(lines)


def _glance(glance: Glance) -> list[str]:
    """Turns, speakers and languages; shares of a sample are estimates."""
    total = max(glance.num_rows, 1)
    turns = [
        f"{first if first == last else f'{first}-{last}'} in {count}" for first, last, count in turn_bins(glance.turns)
    ]
    roles = [f"{role} in {count / total:.0%}" for role, count in glance.roles.items()]
    about = "≈ " if glance.is_sampled else ""
    languages = [
        f"{NAMES.get(language, 'unknown')} {about}{count / glance.num_sampled:.0%}"
        for language, count in list(glance.languages.items())[:_MAX_SHOWN]
    ]
    return [
        f"Turns per row: {', '.join(turns)}. Who speaks: {', '.join(roles)}.",
        f"Languages of the answers: {', '.join(languages)}.",
    ]


def _pairs(words: str, pairs: Pairs) -> list[str]:
    if not pairs.count:
        return []
    row, earlier = pairs.first(1)[0]
    return [f"{pairs.count} rows {words} The first: row {row}, like row {earlier}."]


def _listed(problems: Sequence[RowProblem], counts: dict[str, int], words: str) -> list[str]:
    lines = [str(problem) for problem in problems[:_MAX_SHOWN]]
    total = sum(counts.values())
    if total > len(lines):
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        lines.append(f"... and {total - len(lines)} more {words} ({kinds}; with their places by --json).")
    return lines


def tokens_text(found: dict[str, Any]) -> str:
    """What a base makes of it, and what the limit costs."""
    tokens, now = found["tokens"], found["consequence"]
    share = tokens["supervised"] / tokens["total"] if tokens["total"] else 0.0
    lines = [
        f"For {found['base']}: {tokens['total']:,} tokens, of which {share:.0%} are learnt; "
        f"per row median {tokens['p50']}, 95 % up to {tokens['p95']}, at most {tokens['max']}.",
        _consequence_text(now),
    ]
    if found["better"]:
        lines.append(_better_text(found["better"]))
    if found["num_refused"]:
        lines.append(f"{found['num_refused']} rows cannot be learnt from with this base. Row {_first_refused(found)}")
    return "\n".join(lines)


def _first_refused(found: dict[str, Any]) -> str:
    first = found["refused"][0]
    return f"{first['row']}: {first['message']}"


def _consequence_text(now: dict[str, Any]) -> str:
    if not now["num_cut"]:
        return f"No row is longer than {now['max_tokens']:,} tokens."
    text = f"With at most {now['max_tokens']:,} tokens, {now['share_cut']:.1%} of the tokens are cut"
    if now["num_lost"]:
        text += f"; {now['num_lost']} rows lose their whole answer"
    if now["num_endless"] > now["num_lost"]:
        text += (
            f"; {now['num_endless'] - now['num_lost']} lose the end of an answer, and do not teach the model to stop"
        )
    return text + "."


def _better_text(better: dict[str, Any]) -> str:
    kept = "keeps them" if not better["num_endless"] else f"keeps all but {better['num_endless']}"
    extra = better["extra_bytes"]
    cost = f"costs ≈ {readable_bytes(extra)} of memory" if extra > 0 else "costs no memory beyond the micro-batch"
    return f"Raising the limit to {better['max_tokens']:,} {kept} and {cost} (ordinary recipe)."


def shown_text(shown: dict[str, Any]) -> str:
    """One row with what is learnt in brackets, and where it is cut."""
    pieces, is_open = [], False
    for place, token in enumerate(shown["tokens"]):
        if token["cut"] and not (place and shown["tokens"][place - 1]["cut"]):
            pieces.append("✂")
        if token["trained"] != is_open:
            pieces.append("⟦" if token["trained"] else "⟧")
            is_open = token["trained"]
        pieces.append(token["text"])
    pieces.append("⟧" if is_open else "")
    share = shown["num_supervised"] / shown["num_tokens"] if shown["num_tokens"] else 0.0
    head = f"Row {shown['row']}, line {shown['line']}: {shown['num_tokens']} tokens, {share:.0%} learnt (⟦...⟧)"
    head += f", {shown['num_cut']} cut (after ✂)." if shown["num_cut"] else "."
    return f"{head}\n\n{''.join(pieces)}"


def mended_text(name: str, version: Version) -> str:
    """What a mend did."""
    if version.number == 0:
        return f"{name} is as it came."
    tally = version.tally
    known = labels()
    lines = [f"{name}: version {version.number} has {tally['num_written']} rows. The file itself was not touched."]
    lines += [f"{count} rows changed: {known.get(what, what)}." for what, count in tally.get("changed", {}).items()]
    lines += [f"{count} rows left out: {known.get(what, what)}." for what, count in tally.get("removed", {}).items()]
    if tally.get("inserted"):
        lines.append(f"{tally['inserted']} rows put in: {BY_HAND}.")
    lines.append(f"It is {version.path}; --undo goes back.")
    return "\n".join(textwrap.fill(line, _COLUMNS, break_long_words=False) for line in lines)
