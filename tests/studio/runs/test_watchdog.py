import pytest

from studio.runs import events as e
from studio.runs.watchdog import Pace, Pulse, Watchdog

STARTED = e.Started(pid=4321, process_started=1.0, device="cuda-0")
TRAINING = e.PhaseEntered(name="training")
SAVED = e.CheckpointSaved(step=8, path="checkpoints/step-000008", bytes=9)


def step(number, seconds=3.0):
    return e.StepTaken(
        step=number,
        epoch=0.1,
        loss=1.0,
        learning_rate=1e-4,
        grad_norm=1.0,
        num_tokens=9,
        num_supervised=5,
        seconds=seconds,
    )


class Watched:
    """A run under watch, looked at every two seconds of a clock of its own."""

    def __init__(self, *events):
        self.dog, self.at, self.asleep, self.cpu = Watchdog(), 1000.0, 50.0, 700.0
        for event in (STARTED, TRAINING, *events):
            self.dog.hear(event)
        self.said = self.look(0.0)

    def look(self, seconds, works=0.9, **more):
        """Let time pass, in which the process uses the share `works` of a processor; the last judgement."""
        for _ in range(max(1, round(seconds / 2))):
            self.at += min(seconds, 2.0)
            self.cpu += works * min(seconds, 2.0)
            self.said = self.dog.judge(Pulse(self.at, self.asleep, self.cpu, **more))
        return self.said

    @property
    def pace(self):
        return self.said and self.said.pace


@pytest.fixture
def watched():
    return Watched(*(step(number) for number in range(1, 9)), SAVED)


def test_a_run_that_speaks_is_left_in_peace(watched):
    for number in range(9, 40):
        assert watched.look(4.0, works=0.0) is None
        watched.dog.hear(step(number))


def test_a_step_that_takes_long_is_measured_against_the_usual_one(watched):
    assert watched.look(28.0) is None
    assert watched.look(220.0).pace is Pace.SLOW
    assert watched.said.message == "This step takes longer than usual: 4 min instead of 3 s."
    watched.dog.hear(step(9, 250.0))
    assert watched.look(2.0) is None


def test_slow_steps_have_a_longer_patience():
    watched = Watched(*(step(number, 90.0) for number in range(1, 5)))
    assert watched.look(890.0) is None
    assert watched.look(30.0).pace is Pace.SLOW


def test_one_odd_step_does_not_set_the_pace():
    watched = Watched(step(1, 600.0), *(step(number) for number in range(2, 9)))
    assert watched.look(40.0).pace is Pace.SLOW


def test_loading_has_no_pace_and_a_patience_of_its_own():
    watched = Watched(e.PhaseEntered(name="loading"))
    assert watched.look(290.0) is None
    assert watched.look(40.0).pace is Pace.SLOW
    assert "5 min (loading)" in watched.said.message


def test_one_that_uses_neither_processor_nor_card_for_minutes_hangs_and_is_told_how_to_go_on(watched):
    assert watched.look(170.0, works=0.001).pace is not Pace.HANGS
    assert watched.look(20.0, works=0.001).pace is Pace.HANGS
    assert "3 min" in watched.said.message
    assert "from step 8" in watched.said.hint
    assert watched.look(4.0).pace is Pace.SLOW, "it works again"


def test_one_whose_card_computes_does_not_hang(watched):
    assert watched.look(600.0, works=0.0, card_is_busy=True).pace is Pace.SLOW


def test_a_suspended_process_is_known_at_once_and_hangs_no_sooner_when_it_goes_on(watched):
    assert watched.look(2.0, works=0.0, is_stopped=True).pace is Pace.SUSPENDED
    assert "kill -CONT 4321" in watched.said.hint
    assert watched.look(900.0, works=0.0, is_stopped=True).pace is Pace.SUSPENDED
    assert watched.look(60.0, works=0.0).pace is not Pace.HANGS


def test_a_computer_that_slept_is_no_slow_step_and_the_run_gets_its_time_anew(watched):
    watched.look(20.0)
    watched.asleep += 7800.0
    assert watched.look(2.0, works=0.0).pace is Pace.SLEPT
    assert "2 h 10 min" in watched.said.message
    watched.look(20.0)
    assert watched.pace is Pace.SLEPT, "it is said until the engine is heard again"
    watched.dog.hear(step(9))
    assert watched.look(2.0) is None


def test_one_that_does_not_wake_up_with_the_computer_hangs(watched):
    watched.asleep += 7800.0
    assert watched.look(150.0, works=0.0).pace is not Pace.HANGS
    assert watched.look(40.0, works=0.0).pace is Pace.HANGS


def test_another_process_that_takes_the_run_up_has_a_pace_of_its_own(watched):
    watched.dog.hear(e.Started(pid=9, process_started=2.0, device="cpu", from_step=8))
    watched.dog.hear(TRAINING)
    assert watched.look(200.0) is None, "its first step may compile, or read a cold disk"


def test_what_the_card_does_is_asked_only_when_it_matters(watched):
    assert watched.dog.is_patient(watched.at + 20.0)
    assert not watched.dog.is_patient(watched.at + 40.0)
    watched.dog.hear(step(9))
    assert watched.dog.is_patient(watched.at + 40.0)
