"""Long work on datasets: what a worker tells is what the core found, whatever text the rows hold."""

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

from studio import files
from studio.data.edits import REMOVE, REPLACE
from studio.data.examine import Options, examine
from studio.data.versions import VersionedSet
from studio.errors import StudioError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.dataset_jobs import LOOKING, MOST_TOLD, UNPACKING, Survey, work
from studio.runs.jobs import failure, start_job
from studio.runs.looks import ShowRow, answer_path, read_answer, request_file


def row(question: str, answer: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [row("What is the Sea?", "Deep."), row("what is the sea?", "Wet."), row("b", "c"), row("b", "c"), "{broken"]
    path.write_text("\n".join([*lines, row("half \ud800", "d"), row("caf\u00c3\u00a9", "e")]) + "\n", encoding="utf-8")
    return path


def done(workspace: Workspace, kind: str, **arguments: object) -> tuple[Path, list[e.Event]]:
    folder = files.free_name(workspace.jobs, kind)
    files.write_json(folder / "job.json", {"kind": kind, "arguments": {"mapping": None, **arguments}})
    code = work(workspace, folder)
    events = e.event_file(folder / "events.jsonl").read()
    assert code == (0 if isinstance(events[-1], e.Finished) else 2)
    return folder, events


def test_a_survey_tells_what_the_report_holds(workspace: Workspace, data: Path) -> None:
    _, events = done(workspace, "survey", data=str(data), options=vars(Options()))
    found = Survey.load(Path(events[-1].result["survey"]))
    report = examine(data, Options())
    assert found == Survey.of(report)
    assert (found.num_rows, found.num_good) == (7, 5)
    assert found.problems == report.problems
    assert {problem.kind for problem in found.problems} == {"json", "characters"}
    assert found.pairs["repeats"] == [(3, 2)]
    assert found.pairs["conflicts"] == [(1, 0)]
    assert found.warning_counts == {"mojibake": 1}


def test_rows_can_be_found_by_number_before_they_are_looked_at(workspace: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("question,answer\n" + "a,b\n" * 600)
    _, events = done(workspace, "survey", data=str(table), options=vars(Options(fraction=0.0)))
    told = [event.what for event in events if isinstance(event, e.Progressed)]
    assert told[0] == UNPACKING
    assert sorted(told, key=[UNPACKING, LOOKING].index) == told
    assert list(workspace.unpacked.glob("*.jsonl"))


def test_a_survey_keeps_a_bounded_number_of_problems_and_counts_all(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{\n" * (MOST_TOLD + 5) + row("a", "b"))
    _, events = done(workspace, "survey", data=str(path), options=vars(Options(fraction=0.0)))
    found = Survey.load(Path(events[-1].result["survey"]))
    assert len(found.problems) == MOST_TOLD
    assert found.problem_counts == {"json": MOST_TOLD + 5}


def test_edits_carry_any_text_and_are_of_the_version_that_was_seen(workspace: Workspace, data: Path) -> None:
    edits = json.dumps([[REPLACE, 4, {"text": "half \ud800 \0"}], [REMOVE, 0]])
    _, events = done(workspace, "edit", source=str(data), edits=edits, of=0)
    assert (events[-1].result["version"], events[-1].result["num_written"]) == (1, 6)
    _, events = done(workspace, "edit", source=str(data), edits=edits, of=0)
    assert "changed elsewhere" in events[-1].message


@pytest.mark.parametrize(("words", "rows"), [("SEA", [0, 1]), ("sea wet", [1]), ("wet sea", [1]), ("zzz", [])])
def test_a_search_finds_all_words_in_any_case(workspace: Workspace, data: Path, words: str, rows: list[int]) -> None:
    _, events = done(workspace, "search", data=str(data), words=words)
    assert events[-1].result == {"rows": rows, "is_all": True}


def test_a_mend_makes_a_version_and_an_export_writes_it(workspace: Workspace, data: Path, tmp_path: Path) -> None:
    before = data.read_bytes()
    _, events = done(workspace, "mend", source=str(data), names=["repeats", "unusable"])
    assert events[-1].result["removed"] == {"unreadable": 1, "unusable": 1, "repeats": 1}
    version = VersionedSet(workspace, data).current
    out = tmp_path / "out.jsonl"
    _, events = done(workspace, "export-rows", out=str(out), paths=[str(version.path), str(data)], weights=[1.0, 1.0])
    assert events[-1].result == {"path": str(out), "num_rows": 4 + 5, "num_left_out": 2}
    assert len(out.read_text().splitlines()) == 9
    _, events = done(workspace, "export-rows", out="", name="a/b", paths=[str(data)], weights=[3.0])
    assert events[-1].result == {"path": str(workspace.merged / "a-b.jsonl"), "num_rows": 15, "num_left_out": 2}
    _, events = done(workspace, "weigh", data=str(data))
    assert (events[-1].result["num_rows"], events[-1].result["num_good"]) == (7, 5)
    _, events = done(workspace, "export-rows", out=str(out), paths=[str(data)])
    assert "exists already" in events[-1].message
    assert data.read_bytes() == before


def test_the_worker_is_a_process_that_tells_why_it_fails(workspace: Workspace, tmp_path: Path) -> None:
    workspace.root.mkdir()
    job = start_job(workspace, "search", {"data": str(tmp_path / "gone.jsonl"), "words": "a", "mapping": None})
    job.process.wait()
    error = failure(job.read()[-1])
    assert isinstance(error, StudioError)
    assert "gone.jsonl" in error.message


def test_what_is_cancelled_leaves_nothing_half_written(workspace: Workspace, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out" / "mine.jsonl"
    path.write_text(f"{row('a', 'b' * 9)}\n" * 300_000)
    out.parent.mkdir()
    job = start_job(workspace, "export-rows", {"out": str(out), "paths": [str(path)], "mapping": None})
    while not files.leftovers(out.parent) and job.process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.process.wait(0.01)
    assert files.leftovers(out.parent)
    job.cancel()
    job.process.wait()
    assert not list(out.parent.iterdir())
    last = job.read()[-1]
    assert isinstance(last, e.Died)
    assert last.signal == "SIGTERM"


def test_a_row_to_be_shown_survives_the_file_it_is_asked_for_in(tmp_path: Path) -> None:
    from studio.data.conversation import RawRow

    raw = RawRow(3, 4, {"text": "half \ud800 of a letter"})
    request_file(tmp_path).post(ShowRow.of(1, raw))
    (asked,) = request_file(tmp_path).read()
    assert (asked.key, asked.raw) == (1, raw)
    files.write_json(answer_path(tmp_path, 1), {"answer": json.dumps({"error": "half \ud800", "hint": ""})})
    assert read_answer(tmp_path, 1) == {"error": "half \ud800", "hint": ""}
