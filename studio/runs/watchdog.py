"""Whether a run that says nothing works slowly, is suspended or hangs: held against its own pace, and against what its process
and its card do meanwhile.

Silence alone proves nothing: a step on a busy computer, a base on a slow disk or a long row take their time. A process that
works uses the processor or the card; one that does neither for minutes is stuck. Nothing here ends anything: the user is told,
with what to do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from studio.runs import events as e

LOOK_SECONDS = 2.0
# Silence is remarked upon after so many usual steps, but not before so many seconds; in phases without a pace of their own after
# more of them.
_PATIENCE_STEPS = 10
_PATIENCE_SECONDS = 30.0
_PATIENCE_ELSEWHERE_SECONDS = 300.0
_KNOWN_STEPS = 3
# An engine that waits uses a thousandth of a processor or two, one that works most of one.
_WORKS_ABOVE = 0.02
_AT_WORK_SECONDS = 20.0
_HANGS_AFTER_SECONDS = 180.0
_LEAST_SLEEP_SECONDS = 5.0


class Pace(StrEnum):
    """What a run that says nothing is at."""

    SLOW = "slow"
    SUSPENDED = "suspended"
    SLEPT = "slept"
    HANGS = "hangs"


@dataclass(frozen=True)
class Pulse:
    """What is seen of a run's process at one moment.

    `at` is in seconds by a clock that stands still while the computer sleeps, `asleep` what it has slept so far, `cpu` the
    processor seconds that the process and its children have used.
    """

    at: float
    asleep: float
    cpu: float
    is_stopped: bool = False
    card_is_busy: bool = False


@dataclass(frozen=True)
class Silence:
    """What to tell of a run that says nothing, and what to do about it."""

    pace: Pace
    message: str
    hint: str


class Watchdog:
    """Watches one process at one run. Tell it every event, and a pulse every `LOOK_SECONDS`."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self.is_shared = False
        """Whether several processes share the run: the one that is watched may rest while it waits for another."""
        self._seconds: deque[float] = deque(maxlen=20)
        self._phase = ""
        self._saved = 0
        self._has_news = True
        self._before = self._spoke = self._worked = Pulse(0.0, 0.0, 0.0)
        self._slept = 0.0
        self._said: Silence | None = None

    def hear(self, event: e.Event) -> None:
        """Something has happened in the run."""
        self._has_news = True
        match event:
            case e.Started(pid=pid, from_step=step, num_processes=count):
                self._pid, self._saved, self._phase, self.is_shared = pid, step, "", count > 1
                self._seconds.clear()
            case e.PhaseEntered(name=name):
                self._phase = name
            case e.StepTaken(seconds=seconds):
                self._phase = "training"
                self._seconds.append(seconds)
            case e.CheckpointSaved(step=step):
                self._saved = step

    def is_patient(self, at: float) -> bool:
        """Whether the silence is no longer yet than what is usual: then it does not matter what the card does."""
        return self._has_news or at - self._spoke.at <= self._patience

    def judge(self, pulse: Pulse) -> Silence | None:
        """What to say now; None while all is well."""
        self._take(pulse)
        self._said = self._judged(pulse)
        return self._said

    def _take(self, pulse: Pulse) -> None:
        if self._has_news:
            self._before = self._spoke = self._worked = pulse
            self._has_news, self._slept = False, 0.0
        gained, span = pulse.cpu - self._before.cpu, pulse.at - self._before.at
        if pulse.card_is_busy or pulse.is_stopped or gained > _WORKS_ABOVE * span:
            self._worked = pulse
        slept = pulse.asleep - self._before.asleep
        if slept > _LEAST_SLEEP_SECONDS:
            self._slept += slept
            self._spoke = self._worked = pulse  # it is given its time anew
        self._before = pulse

    @property
    def _patience(self) -> float:
        if self._phase == "training" and len(self._seconds) >= _KNOWN_STEPS:
            return max(_PATIENCE_SECONDS, _PATIENCE_STEPS * median(self._seconds))
        return _PATIENCE_ELSEWHERE_SECONDS

    def _judged(self, pulse: Pulse) -> Silence | None:
        silent, idle = pulse.at - self._spoke.at, pulse.at - self._worked.at
        if pulse.is_stopped:
            return self._suspended()
        if silent <= self._patience:
            return self._slept_word() if self._slept else None
        if idle > _HANGS_AFTER_SECONDS:
            return self._hangs(idle)
        # Not sure yet which of the two it is: what was said last stands.
        return self._slow(silent) if idle <= _AT_WORK_SECONDS or self._said is None else self._said

    def _slow(self, silent: float) -> Silence:
        if self._phase == "training" and len(self._seconds) >= _KNOWN_STEPS:
            message = f"This step takes longer than usual: {_span(silent)} instead of {_span(median(self._seconds))}."
        else:
            message = f"Nothing was heard for {_span(silent)} ({self._phase or 'starting'}); the engine is at work."
        return Silence(Pace.SLOW, message, "Wait, or see what else keeps this computer busy.")

    def _hangs(self, idle: float) -> Silence:
        return Silence(
            Pace.HANGS,
            f"The engine seems to hang: for {_span(idle)} it has used neither the processor nor the card.",
            f"Wait if a disk or the network may be slow; else force it to stop, and Resume goes on {self._place}.",
        )

    def _suspended(self) -> Silence:
        return Silence(
            Pace.SUSPENDED,
            "The engine is suspended: something has stopped its process for the time being (SIGSTOP, or a debugger).",
            f"`kill -CONT {self._pid}` lets it go on; or force it to stop, and Resume goes on {self._place}.",
        )

    def _slept_word(self) -> Silence:
        return Silence(
            Pace.SLEPT,
            f"The computer was asleep for {_span(self._slept)}; the engine has not been heard since.",
            f"Give it a minute. If the card does not wake up, force it to stop, and Resume goes on {self._place}.",
        )

    @property
    def _place(self) -> str:
        return f"from step {self._saved}" if self._saved else "from the beginning"


def _span(seconds: float) -> str:
    """Rounded so that it is not another text every second: `3 s`, `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds < 1 else f"{seconds:.0f} s"
    if seconds < 60:
        return f"{seconds // 10 * 10:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
