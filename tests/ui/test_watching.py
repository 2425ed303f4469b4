"""The training thread tells slow from stuck: real processes that are suspended, wait for nothing, or compute and say nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QThreadPool
from pytestqt.qtbot import QtBot

from studio.runs import watchdog
from studio.runs.folder import RunFolder
from studio.runs.watchdog import Pace
from tests.ui.desk import Desk, make_desk
from tests.ui.pages.train_facts import add_run, ready_state, run_events
from ui import training_thread
from ui.pages.train import TrainPage

SCRIPT = """
import os, signal, sys
from pathlib import Path
from studio.runs import events as e
from studio.runs.processes import own_start
events = e.event_file(Path(sys.argv[1]))
pid, started = own_start()
events.post(e.Started(pid=pid, process_started=started, device="cpu"))
def step(number):
    events.post(e.StepTaken(step=number, epoch=0.1, loss=1.0, learning_rate=1e-4, grad_norm=1.0, num_tokens=9,
                            num_supervised=5, seconds=0.001))
for number in range(1, 5):
    step(number)
events.post(e.CheckpointSaved(step=4, path="checkpoints/step-000004", bytes=9))
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
if sys.argv[2] == "waits":
    signal.pause()
while not heard:
    pass
step(5)
signal.pause()
"""
Engine = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    # The same judgement, with less patience.
    monkeypatch.setattr(watchdog, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(watchdog, "_HANGS_AFTER_SECONDS", 1.0)
    monkeypatch.setattr(training_thread, "LOOK_SECONDS", 0.2)
    yield from make_desk(tmp_path, qtbot, monkeypatch)


@pytest.fixture
def run(desk: Desk) -> RunFolder:
    return RunFolder.create(desk.workspace, "quiet", {"recipe": {"name": "quiet"}})


@pytest.fixture
def engine(run: RunFolder) -> Iterator[Engine]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(what: str) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen([sys.executable, "-c", SCRIPT, str(run.path / "events.jsonl"), what]))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def test_one_that_computes_and_says_nothing_is_slow_until_it_is_heard_again(
    desk: Desk, run: RunFolder, engine: Engine
) -> None:
    process = engine("computes")
    desk.bot.waitUntil(lambda: run.state().step == 4, timeout=20_000)
    with desk.open() as state:
        desk.wait(lambda: state.runs[run.id].silence)
        silence = state.runs[run.id].silence
        assert silence is not None
        assert silence.pace is Pace.SLOW
        assert "longer than usual" in silence.message
        process.send_signal(signal.SIGUSR1)
        desk.wait(lambda: state.runs[run.id].state.step == 5)
        assert process.poll() is None, "nothing is ever ended by the watch"


def test_one_that_waits_for_nothing_is_said_to_hang_and_is_left_alone(
    desk: Desk, run: RunFolder, engine: Engine
) -> None:
    process = engine("waits")
    desk.bot.waitUntil(lambda: run.state().step == 4, timeout=20_000)
    with desk.open() as state:

        def hangs() -> bool:
            silence = state.runs[run.id].silence
            return silence is not None and silence.pace is Pace.HANGS and "from step 4" in silence.hint

        desk.wait(hangs)
        assert process.poll() is None
        process.send_signal(signal.SIGUSR1)
        desk.wait(lambda: state.runs[run.id].state.step == 5)


def test_one_that_is_suspended_is_called_so_and_the_advice_works(desk: Desk, run: RunFolder, engine: Engine) -> None:
    process = engine("computes")
    desk.bot.waitUntil(lambda: run.state().step == 4, timeout=20_000)
    process.send_signal(signal.SIGSTOP)
    desk.wait(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    with desk.open() as state:
        desk.wait(lambda: state.runs[run.id].silence)
        silence = state.runs[run.id].silence
        assert silence is not None
        assert silence.pace is Pace.SUSPENDED
        told = silence.hint.partition("`kill -CONT ")[2].partition("`")[0]
        os.kill(int(told), signal.SIGCONT)
        desk.wait(lambda: state.runs[run.id].silence != silence)


def test_the_run_page_says_it_for_as_long_as_it_holds(qtbot: QtBot, tmp_path: Path) -> None:
    state = ready_state()
    page = TrainPage(state)
    qtbot.addWidget(page)
    view = add_run(state, tmp_path / "run", list(run_events(20)))
    page.show()
    qtbot.waitUntil(lambda: page.running._facts is not None)
    assert page.running.silence.isHidden()
    view.silence = watchdog.Silence(Pace.HANGS, "The engine seems to hang.", "Wait.")
    state.run_watched.emit(view.folder.id)
    bar = page.running.silence
    assert (bar.isHidden(), bar.accessibleName(), bar.kind()) == (False, "The engine seems to hang. Wait.", "warn")
    view.silence = None
    state.run_watched.emit(view.folder.id)
    assert page.running.silence.isHidden()
    QThreadPool.globalInstance().waitForDone()
