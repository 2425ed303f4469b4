"""Ask an engine, and gather the answers of all lanes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from studio.chat.sampling import Sampling
from studio.cli.follow import POLL_SECONDS
from studio.errors import EngineError, StudioError
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.engine import Engine


@dataclass(frozen=True)
class Question:
    """What is asked: `turns` of each lane on one base folder. A lane is an adapter's folder, or None for the base alone."""

    base: Path
    quantisation: str
    lanes: list[Path | None]
    turns: list[list[dict[str, str]]]
    sampling: Sampling
    compute_dtype: str = ""


def ask(engine: Engine, question: Question, on_text: Callable[[int, str], None] = lambda *_: None) -> list[e.Answered]:
    """One answer per lane, in their order; `on_text` gets (lane, piece) as it comes. Ctrl-C hushes the engine.

    Raises `StudioError` if the engine cannot answer, `EngineError` if it ends.
    """
    wish = w.Say(
        ask=uuid4().hex,
        base=str(question.base),
        quantisation=question.quantisation,
        lanes=[str(lane) if lane else None for lane in question.lanes],
        turns=question.turns,
        sampling=question.sampling.to_dict(),
        compute_dtype=question.compute_dtype,
    )
    engine.news.read()
    engine.post(wish)
    try:
        return _gather(engine, wish, on_text)
    except KeyboardInterrupt:
        engine.post(w.Hush(ask=wish.ask))
        raise


def _gather(engine: Engine, wish: w.Say, on_text: Callable[[int, str], None]) -> list[e.Answered]:
    answers: dict[int, e.Answered] = {}
    while len(answers) < len(wish.lanes):
        # Looked at before reading: what the engine wrote before its end must not be missed.
        alive = engine.is_alive
        for event in engine.news.read():
            match event:
                case e.TextStreamed(ask=wish.ask, lane=lane, text=text):
                    on_text(lane, text)
                case e.Answered(ask=wish.ask, lane=lane):
                    answers[lane] = event
                case e.AskFailed(ask=wish.ask, message=message, hint=hint):
                    raise StudioError(message, hint)
        if not alive and len(answers) < len(wish.lanes):
            raise EngineError(
                "The engine ended before it had answered.", f"Its log says why: {engine.session / 'log.txt'}"
            )
        threading.Event().wait(POLL_SECONDS)
    return [answers[lane] for lane in range(len(wish.lanes))]
