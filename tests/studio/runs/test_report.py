"""The morning report tells what the run folders tell, in words, as JSON and as Markdown that no foreign name can tear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.places import Workspace
from studio.recipe.fields import replaced, to_dict
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.folder import RunFolder
from studio.runs.queue import Done, Queue
from studio.runs.report import Report, write_report

GB = 1_000_000_000


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def made(workspace: Workspace, name: str, events: list[e.Event], **settings: object) -> RunFolder:
    recipe = replaced(Recipe(), "name", name)
    for path, value in settings.items():
        recipe = replaced(recipe, path.replace("__", "."), value)
    job = {"recipe": to_dict(recipe), "device": "cuda-0", "base": {"path": "b"}, "data": {"path": "d"}}
    run = RunFolder.create(workspace, name, job)
    for event in events:
        run.events.post(event)
    return run


def curve(device: str = "cuda-0") -> list[e.Event]:
    numbers = {"learning_rate": 1e-4, "grad_norm": 1.0, "num_tokens": 9, "num_supervised": 5, "seconds": 1.0}
    sizes = {"total_bytes": 5 * GB, "process_bytes": 7 * GB, "context_bytes": GB}
    return [
        e.Started(pid=1, process_started=1.0, device=device),
        e.Estimated(**sizes, terms={}, card="RTX"),
        *(e.StepTaken(step=step, epoch=1, loss=loss, **numbers) for step, loss in ((1, 3.0), (2, 1.25), (3, 1.5))),
        e.Evaluated(step=1, loss=1.1, num_supervised=5),
        e.Evaluated(step=3, loss=1.4, num_supervised=5),
        e.MemoryMeasured(step=1, process_bytes=6 * GB),
        e.MemoryMeasured(step=3, process_bytes=4 * GB),
    ]


def done(run: RunFolder, ending: str, **more: str) -> Done:
    return Done(run.id, ending, took_up=1000.0, ended=1075.0, **more)


def test_a_report_tells_of_each_run_what_its_folder_tells(workspace: Workspace) -> None:
    good = made(workspace, "good", [*curve(), e.Finished(adapter="good-2")], adapter__rank=8)
    bad = made(workspace, "bad", curve("cpu"), adapter__rank=16)
    never = made(workspace, "never", [], adapter__rank=16)
    queue = Queue(
        waiting=["w"],
        began=990.0,
        done=[
            done(good, "finished"),
            done(bad, "diverged", message="The loss is climbing.", hint="Resume goes on."),
            done(never, "failed", message="The dataset is gone."),
        ],
    )
    report = Report.of(workspace, queue)
    first, second, third = report.lines
    assert (first.first_loss, first.last_loss, first.best_loss) == (3.0, 1.5, 1.25)
    assert (first.evaluation, first.best_evaluation) == (1.4, 1.1)
    assert (first.peak_bytes, first.estimated_bytes, first.adapter) == (6 * GB, 7 * GB, "good-2")
    assert (first.seconds, first.step) == (75.0, 3)
    assert second.estimated_bytes is None, "a processor has no estimate to be held against"
    assert (third.first_loss, third.evaluation, third.peak_bytes) == (None, None, None)
    assert report.differences["adapter.rank"] == ["8", "16", "16"]
    assert "name" not in report.differences
    assert report.headline == "1 finished, 1 diverged, 1 failed"
    assert "Peak memory 6.0 GB, \u2248 7.0 GB estimated" in report.text
    assert "The loss is climbing. Resume goes on." in report.text
    assert "1 run still waits." in report.text
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["runs"][1]["ending"] == "diverged"


def test_a_run_that_had_two_turns_is_told_by_its_last(workspace: Workspace) -> None:
    run = made(workspace, "again", [*curve(), e.Finished(adapter="a")])
    report = Report.of(workspace, Queue(done=[done(run, "paused"), done(run, "finished")]))
    assert [line.ending for line in report.lines] == ["finished"]


def test_why_the_queue_stopped_is_told_though_nothing_was_done(workspace: Workspace) -> None:
    report = Report.of(workspace, Queue(waiting=["a", "b"], halt=("The engine did not start.", "Mend it.")))
    assert report.text == "The queue stopped. The engine did not start. Mend it. 2 runs still wait."
    assert Report.of(workspace, Queue()).text == "The queue has done nothing since it was last started."


def test_the_file_stays_a_table_whatever_a_run_is_called(workspace: Workspace) -> None:
    name = "a | b\n# <img src=x> [l](http://x) `c`"
    run = made(workspace, name, curve())
    gone = Done("2020-01-01_000000_gone", "finished", 1.0, 2.0)
    path = write_report(workspace, Queue(began=990.0, done=[done(run, "stopped"), gone]))
    assert path.parent == workspace.reports
    lines = path.read_text("utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {len(row.replace("\\|", "").split("|")) for row in rows} == {10}
    assert not any("<img" in line and "\\<img" not in line for line in lines)
    assert [line for line in lines if line.startswith("# ")] == [lines[0]]
    assert write_report(workspace, Queue(began=990.0)) == path, "one file for each start"
