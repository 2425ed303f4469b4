"""Following another process: real processes that write events as an engine does, and end as engines do."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from studio.chat.sampling import Sampling
from studio.cli import follow
from studio.cli.asking import Question, ask
from studio.cli.follow import InternalError, follow_job, follow_run
from studio.cli.output import Output
from studio.errors import DiskFullError, EngineError, StudioError
from studio.runs import events as e
from studio.runs import watchdog
from studio.runs import wishes as w
from studio.runs.engine import Engine
from studio.runs.folder import RunFolder
from studio.runs.jobs import Job
from studio.runs.state import Status

PROLOGUE = """
    import os, sys, time
    from pathlib import Path
    from studio.runs import events as e, wishes as w
    from studio.runs.processes import own_start
    session, run = Path(sys.argv[1]), Path(sys.argv[2])
    events, news = e.event_file(run / "events.jsonl"), e.event_file(session / "events.jsonl")
    inbox = w.wish_file(session / "wishes.jsonl")
    def wait_for(kind):
        while True:
            for wish in inbox.read():
                if isinstance(wish, kind):
                    return wish
            time.sleep(0.01)
    def begin():
        pid, started = own_start()
        events.post(e.Started(pid=pid, process_started=started, device="cpu"))
"""


@contextmanager
def engine_like(session: Path, run: Path, script: str) -> Iterator[Engine]:
    """A process that has an engine's files and does what `script` says."""
    session.mkdir()
    code = textwrap.dedent(PROLOGUE) + textwrap.dedent(script)
    with subprocess.Popen([sys.executable, "-c", code, str(session), str(run)]) as process:
        try:
            yield Engine("cpu", session, process.pid, 0.0, process)
        finally:
            process.kill()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    path = tmp_path / "run"
    path.mkdir()
    (path / "job.json").write_text('{"schema": 1, "name": "try"}')
    return RunFolder(path)


def output() -> Output:
    return Output(io.StringIO(), io.StringIO())


def test_a_run_paused_by_a_full_disk_is_told_as_what_the_user_can_mend(tmp_path: Path, run: RunFolder) -> None:
    script = 'begin(); events.post(e.Paused(step=2, cause="The disk is full.", hint="Free 1 GB.", needs_bytes=7))'
    seen: list[e.Event] = []
    with (
        engine_like(tmp_path / "session", run.path, script) as engine,
        pytest.raises(DiskFullError, match="The disk is full") as caught,
    ):
        follow_run(run, run.events, engine, output(), seen.append)
    assert caught.value.needs_bytes == 7
    assert "Free 1 GB. Resume goes on from step 2." in caught.value.hint
    assert isinstance(seen[-1], e.Paused)


def test_a_run_that_says_nothing_is_remarked_upon_once(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_PATIENCE_ELSEWHERE_SECONDS", 0.2)
    monkeypatch.setattr(follow, "LOOK_SECONDS", 0.05)
    script = """
        begin()
        over = time.process_time() + 1.0
        while time.process_time() < over:
            pass
        events.post(e.Stopped(step=1, saved=False))
    """
    told = io.StringIO()
    with engine_like(tmp_path / "session", run.path, script) as engine:
        follow_run(run, run.events, engine, Output(told, io.StringIO()), lambda _: None)
    assert told.getvalue().count("the engine is at work") == 1


def test_a_run_is_followed_to_its_end(tmp_path: Path, run: RunFolder) -> None:
    script = 'begin(); events.post(e.Finished(run="run", adapter="try"))'
    seen: list[e.Event] = []
    with engine_like(tmp_path / "session", run.path, script) as engine:
        ending = follow_run(run, run.events, engine, output(), seen.append)
    assert isinstance(ending, e.Finished)
    assert [type(event) for event in seen] == [e.Started, e.Finished]


def test_an_engine_that_is_killed_leaves_a_run_that_can_go_on(tmp_path: Path, run: RunFolder) -> None:
    seen: list[e.Event] = []
    with (
        engine_like(tmp_path / "session", run.path, "begin(); os.kill(os.getpid(), 9)") as engine,
        pytest.raises(EngineError, match="killed"),
    ):
        follow_run(run, run.events, engine, output(), seen.append)
    died = seen[-1]
    assert isinstance(died, e.Died)
    assert (died.exit_code, died.signal) == (-9, "SIGKILL")
    assert run.state().status is Status.INTERRUPTED


def test_an_engine_that_ends_before_it_begins_is_told(tmp_path: Path, run: RunFolder) -> None:
    with (
        engine_like(tmp_path / "session", run.path, "sys.exit(3)") as engine,
        pytest.raises(EngineError, match="before it took up"),
    ):
        follow_run(run, run.events, engine, output(), lambda _: None)


@pytest.mark.parametrize(("kind", "error"), [("data", StudioError), ("internal", InternalError)])
def test_a_failure_is_told_with_its_remedy(tmp_path: Path, run: RunFolder, kind: str, error: type[StudioError]) -> None:
    script = f'begin(); events.post(e.Failed(kind="{kind}", message="It broke.", hint="Mend it."))'
    with engine_like(tmp_path / "session", run.path, script) as engine, pytest.raises(StudioError) as caught:
        follow_run(run, run.events, engine, output(), lambda _: None)
    assert (type(caught.value), caught.value.message, caught.value.hint) == (error, "It broke.", "Mend it.")


def test_ctrl_c_stops_the_run_and_saves_it(tmp_path: Path, run: RunFolder) -> None:
    script = """
        begin()
        wish = wait_for(w.Stop)
        events.post(e.Stopped(step=3, saved=wish.save, adapter=wish.run))
    """
    with engine_like(tmp_path / "session", run.path, script) as engine:
        ending = follow_run(run, run.events, engine, output(), interrupt_at(e.Started))
    assert ending == e.Stopped(time=ending.time, step=3, saved=True, adapter="run")


def test_the_second_ctrl_c_leaves_at_once_and_the_key_works_as_before(tmp_path: Path, run: RunFolder) -> None:
    before = signal.getsignal(signal.SIGINT)
    script = """
        begin()
        wait_for(w.Stop)
        events.post(e.PhaseEntered(name="saving"))
        wait_for(w.Release)
    """
    with engine_like(tmp_path / "session", run.path, script) as engine, pytest.raises(KeyboardInterrupt):
        follow_run(run, run.events, engine, output(), interrupt_at(e.Started, e.PhaseEntered))
    assert signal.getsignal(signal.SIGINT) == before


def interrupt_at(*kinds: type[e.Event]) -> Callable[[e.Event], None]:
    def show(event: e.Event) -> None:
        if isinstance(event, kinds):
            signal.raise_signal(signal.SIGINT)

    return show


QUESTION = Question(
    base=Path("base"),
    quantisation="nf4",
    lanes=[None, Path("adapter")],
    turns=[[{"role": "user", "content": "Who are you?"}]] * 2,
    sampling=Sampling(temperature=0),
)


def test_the_answers_come_in_the_order_of_the_lanes_and_only_ours(tmp_path: Path, run: RunFolder) -> None:
    script = """
        wish = wait_for(w.Say)
        def answer(ask, lane, text):
            news.post(e.TextStreamed(ask=ask, lane=lane, text=text))
            news.post(e.Answered(ask=ask, lane=lane, text=text, adapter="", num_tokens=1, seconds=0.1))
        answer("another", 0, "not ours")
        answer(wish.ask, 1, str(wish.lanes[1]))
        answer(wish.ask, 0, wish.turns[0][0]["content"])
        wait_for(w.Release)
    """
    pieces: list[tuple[int, str]] = []
    with engine_like(tmp_path / "session", run.path, script) as engine:
        answers = ask(engine, QUESTION, lambda lane, text: pieces.append((lane, text)))
    assert [answer.text for answer in answers] == ["Who are you?", "adapter"]
    assert pieces == [(1, "adapter"), (0, "Who are you?")]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('news.post(e.AskFailed(ask=wait_for(w.Say).ask, message="Too long.")); wait_for(w.Release)', "Too long"),
        ("wait_for(w.Say); sys.exit(1)", "ended before"),
    ],
)
def test_a_question_without_an_answer_is_told(tmp_path: Path, run: RunFolder, script: str, words: str) -> None:
    with engine_like(tmp_path / "session", run.path, script) as engine, pytest.raises(StudioError, match=words):
        ask(engine, QUESTION)


def test_ctrl_c_hushes_the_engine(tmp_path: Path, run: RunFolder) -> None:
    script = """
        wish = wait_for(w.Say)
        news.post(e.TextStreamed(ask=wish.ask, lane=0, text="Well"))
        wait_for(w.Release)
    """

    def interrupt(_lane: int, _text: str) -> None:
        raise KeyboardInterrupt

    with engine_like(tmp_path / "session", run.path, script) as engine:
        with pytest.raises(KeyboardInterrupt):
            ask(engine, QUESTION, interrupt)
        said, hushed = w.wish_file(engine.session / "wishes.jsonl").read()
    assert isinstance(said, w.Say)
    assert hushed == w.Hush(ask=said.ask)


def job_like(folder: Path, script: str) -> Job:
    folder.mkdir()
    code = f"import sys; from pathlib import Path; from studio.runs import events as e\n{script}"
    prologue = "post = e.event_file(Path(sys.argv[1]) / 'events.jsonl').post\n"
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code.replace("\n", f"\n{prologue}", 1), str(folder)], stderr=log
        )
    return Job(folder, process, e.event_file(folder / "events.jsonl"))


def test_a_job_is_followed_to_its_result(tmp_path: Path) -> None:
    script = "post(e.Progressed(what='weights', done=1, total=2)); post(e.Finished(result={'path': 'x'}))"
    told = output()
    job = job_like(tmp_path / "job", script)
    assert follow_job(job, told, "Merging").result == {"path": "x"}
    assert job.process.wait() == 0


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("post(e.Failed(kind='diskfull', message='Full.'))", StudioError),
        ("post(e.Failed(kind='internal', message='Oh.'))", InternalError),
        ("sys.exit(9)", EngineError),
    ],
)
def test_a_job_that_fails_is_told(tmp_path: Path, script: str, error: type[StudioError]) -> None:
    job = job_like(tmp_path / "job", script)
    with pytest.raises(StudioError) as caught:
        follow_job(job, output(), "Merging")
    assert type(caught.value) is error
    job.process.wait()
