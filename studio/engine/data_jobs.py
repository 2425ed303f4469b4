"""Jobs that look at a dataset as a base sees it: they need no model, and none of the libraries that take seconds to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.data.formats import Mapping
from studio.engine.coders import coder_of
from studio.engine.look import find_row, measure, show
from studio.engine.looks import answer_looks
from studio.models.templates import OWN
from studio.places import Workspace

KINDS = ("lengths", "show", "looks")


def do(kind: str, workspace: Workspace, folder: Path, arguments: dict[str, Any], progress: Any) -> dict[str, Any]:
    """Do the job of this kind; returns its result. Raises `BaseModelError` at once if the base has no tokenizer or template."""
    base, mapping = Path(arguments["base"]), _mapping(arguments)
    coder = coder_of(workspace, base, arguments["train_on"], arguments.get("template", OWN))
    if kind == "looks":
        return answer_looks(coder, arguments, mapping, progress)
    data, max_tokens = Path(arguments["data"]), arguments["max_tokens"]
    if kind == "lengths":
        return measure(coder, data, max_tokens, folder / "lengths.npy", _by_hundredths(progress), mapping)
    assert kind == "show", kind
    return show(coder, find_row(data, arguments["row"], mapping), max_tokens)


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
