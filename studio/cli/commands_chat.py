"""`overlay chat`: one prompt down each lane, on one loaded base."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from studio.chat import transcript
from studio.chat.sampling import MAX_SEED, MAX_TEMPERATURE, MAX_TOKENS, Sampling
from studio.chat.session import Lane, Session
from studio.cli.asking import Question, ask
from studio.cli.follow import engine_for
from studio.cli.output import Output
from studio.cli.parser import Commands, add_command, number, whole_number
from studio.errors import AdapterError, StudioError
from studio.files import readable_seconds
from studio.library import shelf
from studio.memory.device import choose_device
from studio.models.bases import Base, find_base
from studio.places import Workspace
from studio.runs import events as e

BASE_LANE = "base"
QUANTISATION = "nf4"


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "chat",
        chat,
        "ask the base and adapters side by side",
        details="The base is loaded once; only the adapters are swapped between the lanes.",
        uses_device=True,
    )
    parser.add_argument("--base", metavar="B", help="the base model (default: the one the first adapter was made for)")
    parser.add_argument(
        "--lanes", default=BASE_LANE, metavar="base,A,B", help="who answers, in this order: `base`, adapters"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what is asked")
    parser.add_argument("--system", default="", metavar="S", help="a system prompt for all lanes")
    defaults = Sampling()
    options: tuple[tuple[str, str, Callable[[str], float], float, str], ...] = (
        ("--max-tokens", "N", whole_number(1, MAX_TOKENS), defaults.max_tokens, "the longest answer"),
        ("--seed", "S", whole_number(0, MAX_SEED), defaults.seed, "the same seed draws the same answer"),
        ("--temperature", "T", number(0, MAX_TEMPERATURE), defaults.temperature, "0: always the likeliest word"),
        ("--top-p", "P", number(0.001, 1), defaults.top_p, "draw from the words that make up this share"),
    )
    for name, letter, kind, default, words in options:
        parser.add_argument(name, metavar=letter, type=kind, default=default, help=f"{words} (default: {default})")
    parser.add_argument("--save", action="store_true", help="keep the answers among the workspace's chats")


def chat(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Ask, and print each lane's answer."""
    base, session = prepare(options, output, workspace)
    session = session.asked(options.prompt)
    device = choose_device(options.device)
    with engine_for(workspace, device) as engine:
        output.note(f"Asking {base.id} on {device} ...")
        began = time.monotonic()
        answers = ask(engine, question(base, session), LaneHeadings(session, output))
        seconds = time.monotonic() - began
    for number_, answer in enumerate(answers):
        session = session.answered(number_, answer.text)
    if options.save:
        output.note(f"Saved as {transcript.save(workspace, session, base.id)}")
    document = {
        "base": base.id,
        "lanes": [_record(lane, answer) for lane, answer in zip(session.lanes, answers, strict=True)],
        "swap_ms": 1000 * sum(answer.swap_seconds for answer in answers),
        "seconds": seconds,
    }
    num_tokens = sum(answer.num_tokens for answer in answers)
    output.result(document, f"\n{num_tokens} tokens in {readable_seconds(seconds)}.")


def prepare(options: argparse.Namespace, output: Output, workspace: Workspace) -> tuple[Base, Session]:
    """The base and the lanes that the options name. Raises `StudioError` if one is missing or does not fit."""
    names = [name.strip() for name in options.lanes.split(",") if name.strip()]
    lanes = tuple(Lane(name, None if name == BASE_LANE else shelf.find(workspace, name)) for name in names)
    adapters = [lane.adapter for lane in lanes if lane.adapter]
    if options.base:
        base = find_base(workspace, options.base)
    elif adapters:
        base = shelf.base_for(workspace, adapters[0])
    else:
        raise StudioError("No base model is named.", "Name one with --base; `overlay bases` lists them.")
    for adapter in adapters:
        why = shelf.fits(adapter, base)
        if why:
            raise AdapterError(why, f"Use the base it was made for: {adapter.base or 'ask its maker'}.")
        warning = shelf.origin_warning(adapter, base)
        if warning:
            output.note(f"Note: {warning}")
    sampling = Sampling(options.max_tokens, options.temperature, options.top_p, options.seed)
    return base, Session(base.id, lanes, options.system, sampling)


def question(base: Base, session: Session) -> Question:
    """The session's open question as an engine is asked."""
    return Question(
        base=base.path,
        quantisation=QUANTISATION,
        lanes=[lane.adapter.path if lane.adapter else None for lane in session.lanes],
        turns=[session.messages(lane) for lane in range(len(session.lanes))],
        sampling=session.sampling,
    )


class LaneHeadings:
    """Streams answers as text, each under its lane's name."""

    def __init__(self, session: Session, output: Output) -> None:
        self._session = session
        self._output = output
        self._lane = -1

    def __call__(self, lane: int, text: str) -> None:
        """Show the next piece of a lane's answer."""
        if lane != self._lane:
            self._output.stream(f"{'' if self._lane < 0 else chr(10)}--- {self._session.lanes[lane].name} ---\n")
            self._lane = lane
        self._output.stream(text)


def _record(lane: Lane, answer: e.Answered) -> dict[str, Any]:
    return {
        "lane": lane.name,
        "adapter": lane.adapter.name if lane.adapter else None,
        "fingerprint": answer.adapter,
        "text": answer.text,
        "num_tokens": answer.num_tokens,
        "seconds": answer.seconds,
        "swap_seconds": answer.swap_seconds,
    }
