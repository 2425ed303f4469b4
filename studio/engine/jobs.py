"""Work that needs no card, one job per process: imports, merges, dry runs, and a look at a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from studio import files
from studio.data.formats import Mapping
from studio.engine.boundary import guarded
from studio.engine.compare import agreement
from studio.engine.imports import import_base
from studio.engine.load import load_tokenizer
from studio.engine.look import coder_of, find_row, measure, show
from studio.engine.looks import answer_looks
from studio.engine.measure import peak_rss_bytes
from studio.engine.merge import merge
from studio.engine.trace import trace
from studio.library import adapter as library
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.fields import from_dict
from studio.runs import events as e

# A merged model is compared with base + adapter, one after the other, if one in fp32 fits into this share of free memory.
_COMPARE_SHARE = 0.6


def work(workspace: Workspace, folder: Path) -> int:
    """Do the job in `folder`; its event file tells the rest. Returns the exit code."""
    began = time.monotonic()
    events = e.event_file(folder / "events.jsonl")
    job = files.read_json(folder / "job.json")
    arguments: dict[str, Any] = job["arguments"]

    def progress(what: str, done: int, total: int) -> None:
        events.post(e.Progressed(what=what, done=done, total=total))

    def act() -> None:
        if job["kind"] == "import":
            result = import_base(workspace, arguments["source"], arguments.get("name"), progress)
        elif job["kind"] == "trace":
            result = _trace(folder, arguments)
        elif job["kind"] == "lengths":
            result = _lengths(folder, arguments, progress)
        elif job["kind"] == "show":
            result = _show(arguments)
        elif job["kind"] == "looks":
            result = answer_looks(arguments, _mapping(arguments), progress)
        else:
            assert job["kind"] == "merge", job["kind"]
            result = _merge(workspace, arguments, progress)
        events.post(e.Finished(seconds=time.monotonic() - began, result=result))

    failures: list[e.Failed] = []
    guarded(act, failures.append)
    for failed in failures:
        events.post(failed)
    return 2 if failures else 0


def _trace(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The dry run takes a configuration alone; transformers wants it in a folder."""
    files.write_json(folder / "base" / "config.json", arguments["config"])
    traced = trace(folder / "base", from_dict(arguments["recipe"]))
    return {"total_bytes": traced.total_bytes, "terms": traced.terms, "peaks": traced.peaks, "busiest": traced.busiest}


def _lengths(folder: Path, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    coder = coder_of(Path(arguments["base"]), arguments["train_on"])
    data, mapping = Path(arguments["data"]), _mapping(arguments)
    return measure(coder, data, arguments["max_tokens"], folder / "lengths.npy", _by_hundredths(progress), mapping)


def _show(arguments: dict[str, Any]) -> dict[str, Any]:
    base = Path(arguments["base"])
    row = find_row(Path(arguments["data"]), arguments["row"], _mapping(arguments))
    return show(coder_of(base, arguments["train_on"]), load_tokenizer(base), row, arguments["max_tokens"])


def _mapping(arguments: dict[str, Any]) -> Mapping | None:
    return Mapping(**arguments["mapping"]) if arguments["mapping"] else None


def _by_hundredths(progress: Any) -> Any:
    """Tell how far it is, once for each hundredth."""
    last = -1

    def told(what: str, done: int, total: int) -> None:
        nonlocal last
        if total and 100 * done // total != last:
            last = 100 * done // total
            progress(what, done, total)

    return told


def _merge(workspace: Workspace, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    import psutil

    adapter = library.read(Path(arguments["adapter"]))
    base = find_base(workspace, arguments["base"])
    out = Path(arguments["out"])
    result = merge(base, adapter, out, arguments.get("dtype"), progress)
    found: dict[str, float | None] = {"kl_mean": None, "top1_agreement": None}
    if 4 * base.num_parameters < psutil.virtual_memory().available * _COMPARE_SHARE:
        progress("comparing", 0, 1)
        found.update(agreement(workspace, base, adapter.path, out))
        progress("comparing", 1, 1)
    result["receipt"] = {**found, **result["receipt"], "process_peak_rss_bytes": peak_rss_bytes()}
    return result
