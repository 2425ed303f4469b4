"""Work that needs no card, one job per process: imports, merges, dry runs, and a look at a dataset."""

from __future__ import annotations

import time
from pathlib import Path

from studio import files
from studio.engine import data_jobs
from studio.engine.boundary import guarded
from studio.places import Workspace
from studio.runs import events as e


def work(workspace: Workspace, folder: Path) -> int:
    """Do the job in `folder`; its event file tells the rest. Returns the exit code."""
    began = time.monotonic()
    events = e.event_file(folder / "events.jsonl")
    job = files.read_json(folder / "job.json")

    def progress(what: str, done: int, total: int) -> None:
        events.post(e.Progressed(what=what, done=done, total=total))

    def act() -> None:
        if job["kind"] in data_jobs.KINDS:
            do = data_jobs.do
        else:
            from studio.engine.model_jobs import do  # which takes seconds to import
        result = do(job["kind"], workspace, folder, job["arguments"], progress)
        events.post(e.Finished(seconds=time.monotonic() - began, result=result))

    failures: list[e.Failed] = []
    guarded(act, failures.append)
    for failed in failures:
        events.post(failed)
    return 2 if failures else 0
