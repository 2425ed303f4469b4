"""What is asked of an engine, in the imperative. Wishes are lines of a file: a new window can ask, and so can a command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.runs.lines import Mailbox, Vocabulary


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Something asked of an engine."""


@dataclass(frozen=True, kw_only=True)
class Attend(Wish):
    """Stay while the process `pid`, started at `process_started`, lives: it may ask for more. An engine nobody attends ends."""

    pid: int
    process_started: float


@dataclass(frozen=True, kw_only=True)
class Train(Wish):
    """Begin the run in this folder, or go on with it."""

    folder: str


@dataclass(frozen=True, kw_only=True)
class Stop(Wish):
    """End the run at once, without the step in hand. With `save` it can go on, and its adapter is in the library."""

    run: str
    save: bool = True


@dataclass(frozen=True, kw_only=True)
class Pause(Wish):
    """Save a checkpoint of the last whole step at once and give the card back."""

    run: str


@dataclass(frozen=True, kw_only=True)
class SaveNow(Wish):
    """Save a checkpoint at the next step and go on."""

    run: str


@dataclass(frozen=True, kw_only=True)
class EvaluateNow(Wish):
    """Measure the held-out rows at the next step and go on."""

    run: str


@dataclass(frozen=True, kw_only=True)
class SampleNow(Wish):
    """Answer the recipe's sample prompts at the next step and go on."""

    run: str


@dataclass(frozen=True, kw_only=True)
class StayAwake(Wish):
    """Keep the computer from falling asleep until the run has ended: the window that has done so until now is closed."""

    run: str


@dataclass(frozen=True, kw_only=True)
class AskToo(Wish):
    """Answer this prompt as well, from the next sample on."""

    run: str
    prompt: str


@dataclass(frozen=True, kw_only=True)
class Say(Wish):
    """Answer the same turns in each lane, one after another, on one loaded base.

    `base` is a folder. A lane is an adapter's folder, or None for the base alone. `turns` are `{"role", "content"}`
    per lane, since lanes remember their own answers. While a run trains on that base, the empty string stands for the
    overlay in training. `compute_dtype` "" takes the base as it lies in memory already, or in bfloat16.
    """

    ask: str
    base: str
    quantisation: str
    lanes: list[str | None]
    turns: list[list[dict[str, str]]]
    sampling: dict[str, Any]
    compute_dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class TestFit(Wish):
    """Take three steps of a run that is not begun yet, on rows as long as they can be, and tell what they held.

    Nothing of it is kept but the loaded base. `test` is an id of the asker's; `recipe` and `mapping` as `job.json` would hold
    them, `base` a folder, `data` a file whose bytes have the SHA-256 `data_sha256`.
    """

    test: str
    recipe: dict[str, Any]
    base: str
    data: str
    data_sha256: str
    mapping: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Hush(Wish):
    """Stop answering, or end the fit test of this id."""

    ask: str


@dataclass(frozen=True, kw_only=True)
class Release(Wish):
    """End the engine and give back all its memory; a run in progress is paused first."""


WISHES: Vocabulary[Wish] = Vocabulary("wish", Wish.__subclasses__())


def wish_file(path: Path) -> Mailbox[Wish]:
    """The wish file at `path`."""
    return Mailbox(path, WISHES)
