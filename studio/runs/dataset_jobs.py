"""Long work on datasets in a process of its own, without any heavy library: surveys, searches, mends and exports.

`python -m studio.runs.dataset_jobs FOLDER PARENT` does the job in that folder, for as long as the process `PARENT` lives. The
window starts it: such work would hold the interpreter's lock for minutes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.data.canonical import exported, write_rows
from studio.data.conversation import RawRow, RowProblem
from studio.data.examine import Options, Pairs, Report, examine
from studio.data.formats import Mapping
from studio.data.mixing import Part, mixed
from studio.data.opening import num_bytes
from studio.data.reading import raw_rows
from studio.data.row_table import open_table
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
    turns: Quantiles
    roles: dict[str, int]
    pairs: dict[str, list[tuple[int, int]]]
    pair_counts: dict[str, int]
    num_compared: int

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
            report.turns,
            report.roles,
            {name: each.first(MOST_TOLD) for name, each in pairs.items()},
            {name: each.count for name, each in pairs.items()},
            report.num_compared,
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
        return cls(**{**told, "turns": Quantiles(**told["turns"])})


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
    return {"survey": str(folder / "survey.json")}


def _search(_workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    """Numbers of the rows that hold all the words, in whatever case."""
    words = arguments["words"].casefold().split()
    found: list[int] = []
    path = Path(arguments["data"])
    for raw in raw_rows(path, lambda done, total: told("searching", done, total)):
        text = json.dumps(raw.value, ensure_ascii=False) if isinstance(raw, RawRow) else raw.message
        text = text.casefold()
        if all(word in text for word in words):
            found.append(raw.row)
            if len(found) == MOST_FOUND:
                break
    return {"rows": found, "is_all": len(found) < MOST_FOUND}


def _mend(workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    rows = VersionedSet(workspace, Path(arguments["source"]))
    mapping = mapping_of(arguments["mapping"])
    version = rows.mend(arguments["names"], mapping, lambda done, total: told("mending", done, total))
    return {"version": version.number, **version.tally}


def _export(_workspace: Workspace, _folder: Path, arguments: dict[str, Any], told: _Told) -> dict[str, Any]:
    out, paths = Path(arguments["out"]), [Path(path) for path in arguments["paths"]]
    if out.exists():
        raise DataError(f"{out} exists already.", "Choose a name that does not exist yet.")
    mapping = mapping_of(arguments["mapping"])
    told("writing", 0, 1)
    needs_bytes = sum(map(num_bytes, paths))
    left_out: list[RowProblem] = []
    if len(paths) == 1:
        count = write_rows(out, exported(raw_rows(paths[0]), left_out, mapping), needs_bytes)
    else:
        parts = [Part(path, mapping=mapping if place == 0 else None) for place, path in enumerate(paths)]
        count = write_rows(out, mixed(parts), needs_bytes)
        left_out = [problem for part in parts for problem in part.problems]
    return {"path": str(out), "num_rows": count, "num_left_out": len(left_out)}


_WORK = {
    "survey": _survey,
    "search": _search,
    "mend": _mend,
    "export-rows": _export,
    "hub-look": hub_jobs.look,
    "hub-fetch": hub_jobs.fetch,
}
KINDS = tuple(_WORK)

if __name__ == "__main__":
    from studio.runs.jobs import sign  # which knows this module in turn

    path, asker = Path(sys.argv[1]), int(sys.argv[2])
    die_with_parent(asker)
    sign(path, asker)
    sys.exit(work(Workspace.default(), path))
