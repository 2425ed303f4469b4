"""Conversations on disk: JSON lines that can be read back, and Markdown for people.

The first line says who was asked and how; each further line is one turn of one lane.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from studio import files
from studio.chat.sampling import Sampling
from studio.chat.session import ASSISTANT, USER, Lane, Session, Turn
from studio.errors import DamagedError, NotFoundError, StudioError
from studio.places import Workspace

_HINT = "Delete the file; no other chat depends on it."


def save(workspace: Workspace, session: Session, name: str = "chat") -> Path:
    """Write the session as a new file among the workspace's chats. Raises `DiskFullError`."""
    stem = f"{time.strftime('%Y-%m-%d_%H%M%S')}_{files.safe_name(name, 'chat')}"
    path, number = workspace.chats / f"{stem}.jsonl", 1
    while path.exists():
        number += 1
        path = workspace.chats / f"{stem}-{number}.jsonl"
    write(path, session)
    return path


def write(path: Path, session: Session) -> None:
    """Write the session to `path`, whole or not at all; what was there is replaced."""
    head = {
        "schema": files.SCHEMA,
        "base": session.base,
        "system": session.system,
        "sampling": session.sampling.to_dict(),
        "lanes": [
            {
                "name": lane.name,
                "adapter": lane.adapter.name if lane.adapter else None,
                "fingerprint": lane.adapter.fingerprint if lane.adapter else "",
            }
            for lane in session.lanes
        ],
    }
    turns = [
        {"lane": number, "role": turn.role, "content": turn.content}
        for number, lane in enumerate(session.lanes)
        for turn in lane.turns
    ]
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in [head, *turns]))


def read(path: Path) -> Session:
    """The session in `path`. Adapters are given back by name only (a lane's `adapter` is None): the library has them.

    Raises `NotFoundError` if there is none, `DamagedError` if it is no transcript. A torn last line is passed over.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no chat {path.name}.", "It may have been moved or deleted.") from error
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path.name} is no text.", _HINT) from error
    try:
        facts = json.loads(head)
        turns = [_turn(line) for line in lines]
        lanes = [
            Lane(str(lane["name"]), None, tuple(turn for place, turn in filter(None, turns) if place == number))
            for number, lane in enumerate(facts["lanes"])
        ]
        return Session(str(facts["base"]), tuple(lanes), str(facts["system"]), Sampling(**facts["sampling"]))
    except (ValueError, KeyError, TypeError, RecursionError, StudioError) as error:
        raise DamagedError(f"{path.name} is no transcript of a chat.", _HINT) from error


def markdown(session: Session) -> str:
    """The session for people: each question once, and under it every lane's answer."""
    parts = [f"# Chat with {session.base}", ""]
    if session.system.strip():
        parts += [f"System: {session.system}", ""]
    longest = max(len(lane.turns) for lane in session.lanes)
    for place in range(longest):
        said = [(lane.name, lane.turns[place]) for lane in session.lanes if place < len(lane.turns)]
        if said[0][1].role == USER:
            parts += ["## Question", "", said[0][1].content, ""]
        else:
            for name, turn in said:
                parts += [f"### {name}", "", turn.content, ""]
    return "\n".join(parts)


def _turn(line: str) -> tuple[int, Turn] | None:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("role") not in (USER, ASSISTANT):
        return None
    return int(value["lane"]), Turn(value["role"], str(value["content"]))
