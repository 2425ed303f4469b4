"""Numbers, times and states in the user's words, for whatever shows them."""

from __future__ import annotations

import time

from PySide6.QtCore import QCoreApplication, QDateTime, QLocale

from studio.runs.state import RunState, Status
from ui.widgets import numbers
from ui.widgets.memory_layout import BYTES_PER_GB

ABOUT = "\u2248 "
DAY_SECONDS = 86_400
# Status to the word of `ui.widgets.messages.STATUS`, which has an icon and colours for each.
WORDS = {status: status.value.capitalize() for status in Status} | {
    Status.WAITING: "Ready",
    Status.LOADING: "Loading...",
    Status.RUNNING: "Training",
    Status.FINISHED: "Done",
}


def _tr(text: str) -> str:
    return QCoreApplication.translate("wording", text)


def status_text(status: Status) -> str:
    """The state of a run in one word, as its pill writes it."""
    return QCoreApplication.translate("StatusPill", WORDS[status]).replace("...", "\u2026")


def duration(seconds: float) -> str:
    """`45 s`, `9.6 min`, `18 min` or `2.3 h`: two figures are as good as such an estimate."""
    if seconds < 90:
        return _tr("{0} s").format(round(seconds))
    minutes = seconds / 60
    if minutes < 90:
        return _tr("{0} min").format(f"{minutes:.1f}" if minutes < 10 else f"{minutes:.0f}")
    return _tr("{0} h").format(f"{minutes / 60:.1f}")


def moment(timestamp: float, now: float | None = None) -> str:
    """`today 14:02`, else `18 Nov 14:02`, in local time."""
    when = QDateTime.fromSecsSinceEpoch(int(timestamp))
    today = QDateTime.fromSecsSinceEpoch(int(time.time() if now is None else now))
    clock = when.toString("HH:mm")
    if when.date() == today.date():
        return _tr("today {0}").format(clock)
    style = "d MMM" if when.date().year() == today.date().year() else "d MMM yyyy"
    return f"{QLocale(QLocale.Language.English).toString(when.date(), style)} {clock}"


def arrival(timestamp: float, now: float | None = None) -> str:
    """`15:20` where that is today, else as `moment` writes it."""
    when = QDateTime.fromSecsSinceEpoch(int(timestamp))
    today = QDateTime.fromSecsSinceEpoch(int(time.time() if now is None else now))
    return when.toString("HH:mm") if when.date() == today.date() else moment(timestamp, now)


def gigabytes(num_bytes: float) -> str:
    """A size of memory or disk: `412 GB`, `9.8 GB`; one GB is 2**30 bytes, as on the box of a card."""
    value = num_bytes / BYTES_PER_GB
    return _tr("{0} GB").format(f"{value:.0f}" if value >= 10 else f"{value:.1f}")


def percent(state: RunState) -> str:
    """How far a run is: `34 %`, or nothing while its length is unknown."""
    return f"{100 * state.step // state.num_steps} %" if state.num_steps else ""


def steps(state: RunState) -> str:
    """`412 of 1,200`, or the steps alone while the length is unknown."""
    taken = numbers.format_int(state.step)
    if not state.num_steps:
        return taken if state.step else ""
    return _tr("{0} of {1}").format(taken, numbers.format_int(state.num_steps))


def progress(state: RunState) -> str:
    """`step 412 of 1,200, 34 %, about 18 min left`, as far as it is known; before the first step, what it is busy with."""
    if not state.num_steps or not state.step:
        return PHASES.get(state.phase, status_text(state.status).rstrip("\u2026"))
    words = [_tr("step {0}").format(steps(state)), percent(state)]
    left = state.seconds_left
    if left is not None and state.status.is_live:
        words.append(ABOUT + _tr("{0} left").format(duration(left)))
    return ", ".join(words)


def brief(state: RunState) -> str:
    """`34 %, about 18 min left`, where there is little room."""
    if not state.num_steps or not state.step:
        return progress(state)
    left = state.seconds_left
    return percent(state) + (", " + ABOUT + _tr("{0} left").format(duration(left)) if left is not None else "")


PHASES = {
    "loading": "loading the base",
    "tokenising": "preparing the data",
    "training": "training",
    "evaluating": "evaluating",
    "sampling": "sampling",
    "saving": "saving",
}


def run_seconds(state: RunState, now: float | None = None) -> float | None:
    """From the beginning of a run to its end, or to now; None if it never began."""
    if state.began is None:
        return None
    end = state.ended if state.ended is not None else (time.time() if now is None else now)
    return max(0.0, end - state.began)


def size(num_bytes: float) -> str:
    """A rough size: `130 MB`, `2.9 GB`."""
    if num_bytes < 0.95 * BYTES_PER_GB:
        return _tr("{0} MB").format(max(1, round(num_bytes / (1 << 20))))
    return gigabytes(num_bytes)


def count(number: int) -> str:
    """A rough number: `950`, `4.9 M`, `4.0 B`."""
    for unit, factor in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return str(number)
