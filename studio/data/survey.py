"""A dataset in numbers, its split into training and held-out rows, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.data.conversation import Conversation, Dataset
from studio.errors import DataError


@dataclass(frozen=True)
class Quantiles:
    """Median, 95th percentile and maximum of one number over the good rows."""

    p50: int
    p95: int
    max: int


@dataclass(frozen=True)
class Survey:
    """Counts of rows; characters and messages per conversation. `num_duplicates` counts repeats beyond the first."""

    num_rows: int
    num_good: int
    num_duplicates: int
    characters: Quantiles
    turns: Quantiles


def survey(dataset: Dataset) -> Survey:
    """The numbers that a user looks at before training."""
    conversations = dataset.conversations
    distinct = {content_digest(conversation) for conversation in conversations}
    return Survey(
        num_rows=dataset.num_rows,
        num_good=len(conversations),
        num_duplicates=len(conversations) - len(distinct),
        characters=quantiles([conversation.num_characters for conversation in conversations]),
        turns=quantiles([len(conversation.messages) for conversation in conversations]),
    )


def quantiles(numbers: Sequence[int]) -> Quantiles:
    """By the nearest rank, so that each is a number that occurs; zeros if there is none."""
    if not numbers:
        return Quantiles(0, 0, 0)
    ordered = sorted(numbers)
    rank_50, rank_95 = (-(-len(ordered) * percent // 100) - 1 for percent in (50, 95))
    return Quantiles(ordered[rank_50], ordered[rank_95], ordered[-1])


def split(
    conversations: Sequence[Conversation], fraction: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """Training and held-out rows, both in file order; about `fraction` (0 <= fraction < 1) of the distinct rows held out.

    The side follows from the row's content and the seed alone: rows added later move no old ones, and duplicates stay
    together. If that leaves a side empty though there are two distinct rows, the nearest row changes sides.
    """
    assert 0 <= fraction < 1
    keys = [_position(conversation, seed) for conversation in conversations]
    distinct = sorted(set(keys))
    held: set[int] = set()
    if fraction > 0 and len(distinct) >= 2:
        held = {key for key in distinct if key / 2**64 < fraction} or {distinct[0]}
        held -= {distinct[-1]}
    pairs = list(zip(keys, conversations, strict=True))
    return [row for key, row in pairs if key not in held], [row for key, row in pairs if key in held]


def content_digest(conversation: Conversation) -> bytes:
    """SHA-256 of roles and texts, whatever row they stand in."""
    turns = [[message.role, message.content] for message in conversation.messages]
    return hashlib.sha256(json.dumps(turns).encode("utf-8")).digest()


def _position(conversation: Conversation, seed: int) -> int:
    """A number from 0 to 2**64 - 1, evenly spread."""
    digest = hashlib.sha256(str(seed).encode("ascii") + b":" + content_digest(conversation)).digest()
    return int.from_bytes(digest[:8], "big")


def fingerprint(path: Path) -> str:
    """`sha256:<hex>` of the file's bytes. Raises `DataError` if it cannot be read."""
    try:
        return f"sha256:{files.sha256(path)}"
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the path of the dataset.") from error
