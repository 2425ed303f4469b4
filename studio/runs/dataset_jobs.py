"""Long work on datasets in a process of its own, without any heavy library: surveys, searches, mends, edits and exports.

`python -m studio.runs.dataset_jobs FOLDER PARENT` does the job in that folder, for as long as the process `PARENT` lives. The
window starts it: such work would hold the interpreter's lock for minutes.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from studio import files
from studio.data.canonical import exported, write_rows
from studio.data.conversation import RowProblem
from studio.data.edits import Edit
from studio.data.examine import Options, Pairs, Report, examine
from studio.data.formats import Mapping
from studio.data.glance import Glance
from studio.data.mappings import recall
from studio.data.mixing import Part, mixed, weigh
from studio.data.opening import num_bytes, readable, sha256
from studio.data.reading import raw_rows
from studio.data.row_table import open_table
from studio.data.searching import Query
from studio.data.survey import Quantiles
from studio.data.versions import VersionedSet
from studio.errors import DataError, StudioError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs import hub_jobs
from studio.runs.processes import die_with_parent

MOST_TOLD = 2_000
MOST_FOUND = 10_000
# What a survey is busy with, as its progress names it. From the second on, any row can be found by its number.
UNPACKING, LOOKING = "unpacking", "looking"

_Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Survey:
    """A `Report` in plain values, with the first `MOST_TOLD` of what there may be many of. `pairs` and `pair_counts` are by the
    names `repeats`, `near`, `conflicts` and `leaks`; a pair is (row, earlier row)."""

    num_rows: int
    num_good: int
    formats: dict[str, int]
    problems: tuple[RowProblem, ...]
    problem_counts: dict[str, int]
    warnings: tuple[RowProblem, ...]
    warning_counts: dict[str, int]
    num_characters: int
    turns: Quantiles
    roles: dict[str, int]
    glance: Glance
    pairs: dict[str, list[tuple[int, int]]]
    pair_counts: dict[str, int]
    num_compared: int
    privacy: bool

    @classmethod
    def of(cls, report: Report) -> Survey:
        """What is told of a report."""
        pairs: dict[str, Pairs] = {name: getattr(report, name) for name in ("repeats", "near", "conflicts", "leaks")}
        return cls(
            report.num_rows,
            report.num_good,
            report.formats,
            report.problems[:MOST_TOLD],
            report.problem_counts,
            report.warnings[:MOST_TOLD],
            report.warning_counts,
            report.num_characters,
            report.turns,
            report.roles,
            report.glance,
            {name: each.first(MOST_TOLD) for name, each in pairs.items()},
            {name: each.count for name, each in pairs.items()},
            report.num_compared,
            report.privacy,
        )

    def save(self, path: Path) -> None:
        """Keep it. Raises `DiskFullError`."""
        # Foreign text may hold halves of letters, which UTF-8 cannot: they travel escaped, as text in text.
        files.write_json(path, {"survey": json.dumps(asdict(self))})

    @classmethod
    def load(cls, path: Path) -> Survey:
        """What `save` kept. Raises `DamagedError` if it is no JSON."""
        told = json.loads(files.read_json(path)["survey"])
        for name in ("problems", "warnings"):
            told[name] = tuple(RowProblem(**one) for one in told[name])
        told["pairs"] = {name: [(row, earlier) for row, earlier in each] for name, each in told["pairs"].items()}
        glance = Glance(**told["glance"])
        glance = replace(glance, turns={int(number): count for number, count in glance.turns.items()})
        return cls(**{**told, "turns": Quantiles(**told["turns"]), "glance": glance})


def work(workspace: Workspace, folder: Path) -> int:
    """Do the job in `folder`; its event file tells the rest. Returns the exit code."""
    began = time.monotonic()
    events = e.event_file(folder / "events.jsonl")
    job = files.read_json(folder / "job.json")
    told = _by_hundredths(lambda what, done, total: events.post(e.Progressed(what=what, done=done, total=total)))
    try:
        result = _WORK[job["kind"]](workspace, folder, job["arguments"], told)
    except StudioError as error:
        events.post(e.Failed(kind=error.kind, message=error.message, hint=error.hint))
        return 2
    events.post(e.Finished(seconds=time.monotonic() - began, result=result))
    return 0


def mapping_of(told: dict[str, Any] | None) -> Mapping | None:
    """As a job's arguments carry it."""
    return Mapping(**told) if told else None


def _by_hundredths(told: _Told) -> _Told:
    """Tell how far it is, once for each hundredth of each kind of work."""
    last = ("", -1)

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        now = (what, 100 * done // max(total, 1))
        if now != last:
            last = now
            told(what, done, total)

    return tell


def _survey(workspace: Workspace, folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    path = Path(arguments["data"])
    open_table(workspace, path, lambda done, total: told(UNPACKING, done, total)).close()
    told(LOOKING, 0, 1)
    mapping = mapping_of(arguments["mapping"])
    report = examine(path, Options(**arguments["options"]), mapping, lambda done, total: told(LOOKING, done, total))
    Survey.of(report).save(folder / "survey.json")
    report.sides.save(folder / "sides.npy")
    return {"survey": str(folder / "survey.json"), "sides": str(folder / "sides.npy")}


def _search(_workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    """Numbers of the rows that hold all the words and are what else was asked for."""
    query, mapping = Query.of(arguments["words"]), mapping_of(arguments["mapping"])
    found: list[int] = []
    path = Path(arguments["data"])
    for raw in raw_rows(path, lambda done, total: told("searching", done, total)):
        if query.finds(raw, mapping):
            found.append(raw.row)
            if len(found) == MOST_FOUND:
                break
    return {"rows": found, "is_all": len(found) < MOST_FOUND}


def _mend(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    rows = VersionedSet(workspace, Path(arguments["source"]))
    mapping = mapping_of(arguments["mapping"])
    version = rows.mend(arguments["names"], mapping, lambda done, total: told("mending", done, total))
    return {"version": version.number, **version.tally}


def _edit(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    """Edits travel as JSON text of [kind, row, value]: values are foreign, and may hold halves of letters."""
    edits = [Edit(*each) for each in json.loads(arguments["edits"])]
    rows = VersionedSet(workspace, Path(arguments["source"]))
    version = rows.edit(edits, arguments["of"], lambda done, total: told("editing", done, total))
    return {"version": version.number, **version.tally}


def _export(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    """Into the file `out`, or into a new set of the workspace that is called `name`."""
    paths = [Path(path) for path in arguments["paths"]]
    out = Path(arguments["out"]) if arguments["out"] else _free_set(workspace, arguments["name"])
    if out.exists():
        raise DataError(f"{out} exists already.", "Choose a name that does not exist yet.")
    mapping = mapping_of(arguments["mapping"])
    told("writing", 0, 1)
    needs_bytes = sum(map(num_bytes, paths))
    left_out: list[RowProblem] = []
    weights = arguments.get("weights") or [1.0] * len(paths)

    def progress(done: int, total: int) -> None:
        told("writing", done, total)

    if weights == [1.0]:
        count = write_rows(out, exported(raw_rows(paths[0], progress), left_out, mapping), needs_bytes)
    else:
        parts = [
            Part(path, weight, mapping if place == 0 else recall(workspace, sha256(path)))
            for place, (path, weight) in enumerate(zip(paths, weights, strict=True))
        ]
        count = write_rows(out, mixed(parts, arguments.get("seed", 42), progress), needs_bytes)
        left_out = [problem for part in parts for problem in part.problems]
    return {"path": str(out), "num_rows": count, "num_left_out": len(left_out)}


def _free_set(workspace: Workspace, name: str) -> Path:
    """A file that does not exist yet. Nobody else makes one meanwhile: there is one window to a workspace."""
    stem, number = files.safe_name(name, "merged"), 1
    path = workspace.merged / f"{stem}.jsonl"
    while path.exists():
        number += 1
        path = workspace.merged / f"{stem}-{number}.jsonl"
    return path


def _weigh(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    path = Path(arguments["data"])
    with readable(path):
        mapping = recall(workspace, sha256(path))
    found = weigh(path, mapping, lambda done, total: told("weighing", done, total))
    return {"data": arguments["data"], **asdict(found)}


_WORK = {
    "survey": _survey,
    "search": _search,
    "mend": _mend,
    "edit": _edit,
    "export-rows": _export,
    "weigh": _weigh,
    "hub-look": hub_jobs.look,
    "hub-fetch": hub_jobs.fetch,
}
KINDS = tuple(_WORK)

if __name__ == "__main__":
    from studio.runs.jobs import sign  # which knows this module in turn

    path, asker = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(asker)
    # Cancelled, it takes back what it has half written before it ends, and ends as one who was told to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sign(path, asker)
        sys.exit(work(Workspace.default(), path))
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
