"""Jobs that need the libraries of models: imports, merges and dry runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from studio import files
from studio.engine.coders import said_of
from studio.engine.compare import agreement
from studio.engine.imports import import_base
from studio.engine.measure import peak_rss_bytes
from studio.engine.merge import merge
from studio.engine.trace import trace
from studio.errors import StudioError
from studio.library import adapter as library
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.fields import from_dict

# A merged model is compared with base + adapter, one after the other, if one in fp32 fits into this share of free memory.
_COMPARE_SHARE = 0.6


def do(kind: str, workspace: Workspace, folder: Path, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    """Do the job of this kind; returns its result."""
    match kind:
        case "import":
            return _import(workspace, arguments, progress)
        case "trace":
            return _trace(folder, arguments)
        case "merge":
            return _merge(workspace, arguments, progress)
    raise AssertionError(f"unknown job: {kind}")


def _import(workspace: Workspace, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    record = import_base(workspace, arguments["source"], arguments.get("name"), progress)
    with suppress(
        StudioError
    ):  # kept now, so that its first mask comes as quickly as the next; a base without one is a base
        said_of(workspace, Path(record["path"]))
    return record


def _trace(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The dry run takes a configuration alone; transformers wants it in a folder."""
    files.write_json(folder / "base" / "config.json", arguments["config"])
    traced = trace(folder / "base", from_dict(arguments["recipe"]))
    return {"total_bytes": traced.total_bytes, "terms": traced.terms, "peaks": traced.peaks, "busiest": traced.busiest}


def _merge(workspace: Workspace, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
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
