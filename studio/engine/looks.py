"""A worker that shows one row after another as its base sees them, and keeps the tokenizer loaded meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import files
from studio.data.conversation import RowProblem
from studio.data.formats import Mapping
from studio.data.rows import judge
from studio.engine.look import show
from studio.engine.template import Coder
from studio.errors import DataError, StudioError
from studio.runs.looks import SHOWN, ShowRow, answer_path, request_file
from studio.runs.processes import is_alive

POLL_SECONDS = 0.03
IDLE_SECONDS = 300.0
_NO_LIMIT = (1 << 31) - 1


def answer_looks(
    coder: Coder, arguments: dict[str, Any], mapping: Mapping | None, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Answer what is asked for in the folder `asked`, the newest first, until whoever asks is gone or asks no more."""
    folder = Path(arguments["asked"])
    requests = request_file(folder)
    last = time.monotonic()
    while is_alive(arguments["pid"], arguments["process_started"]) and time.monotonic() - last < IDLE_SECONDS:
        asked = requests.read()
        if not asked:
            time.sleep(POLL_SECONDS)
            continue
        # Who walks through the rows wants to see the one he has arrived at. The requests of one moment may come in any order.
        newest, last = max(asked, key=lambda one: one.key), time.monotonic()
        answer = _answer(coder, newest, mapping)
        files.write_json(answer_path(folder, newest.key), {"answer": json.dumps(answer)})
        progress(SHOWN, newest.key, 0)
    return {}


def _answer(coder: Coder, asked: ShowRow, mapping: Mapping | None) -> dict[str, Any]:
    found = judge(asked.raw, mapping)
    try:
        if isinstance(found, RowProblem):
            raise DataError(found.message, found.fix)
        return {"shown": show(coder, found[1], _NO_LIMIT)}
    except StudioError as error:
        return {"error": error.message, "hint": error.hint}
