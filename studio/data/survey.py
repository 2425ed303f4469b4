"""A dataset in numbers, its split into training and held-out rows, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.data.conversation import Conversation, Dataset
from studio.data.opening import sha256
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
    """Training and held-out rows, both in file order, parted as `held_out` says."""
    is_held_out = held_out(map(side_digest, conversations), fraction, seed)
    pairs = list(zip(is_held_out, conversations, strict=True))
    return [row for held, row in pairs if not held], [row for held, row in pairs if held]


def held_out(digests: Iterable[bytes], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Whether each row is held out, about `fraction` (0 <= fraction < 1) of the distinct ones, by their `side_digest`.

    The side follows from the row's content, or its group, and the seed alone: rows added later move no old ones, and duplicates
    stay together. If that leaves a side empty though there are two distinct rows, the nearest row changes sides.
    """
    return held_at(positions(digests, seed), fraction)


def positions(digests: Iterable[bytes], seed: int) -> NDArray[np.uint64]:
    """Where each row stands on a line from 0 to 2**64, from the beginning of which rows are held out; by its `side_digest`."""
    return np.fromiter((_position(digest, seed) for digest in digests), dtype=np.uint64)


def held_at(keys: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """`held_out` of rows whose `positions` are known: some milliseconds for a million of them."""
    assert 0 <= fraction < 1
    if fraction == 0 or not len(keys) or keys.min() == keys.max():
        return np.zeros(len(keys), dtype=np.bool_)
    held: NDArray[np.bool_] = keys / 2.0**64 < fraction
    if not held.any():
        held = keys == keys.min()
    held &= keys != keys.max()
    return held


def content_digest(conversation: Conversation) -> bytes:
    """SHA-256 of roles, texts, tools and their calls, whatever row they stand in."""
    turns: list[Any] = [
        [message.role, message.content, *([message.more] if message.more else [])] for message in conversation.messages
    ]
    if conversation.tools:
        turns.append(conversation.tools)
    return hashlib.sha256(json.dumps(turns).encode("utf-8")).digest()


def side_digest(conversation: Conversation) -> bytes:
    """What decides the side of the split: the group of a row that has one, else its content."""
    if not conversation.group:
        return content_digest(conversation)
    return hashlib.sha256(f"group:{conversation.group}".encode()).digest()


def prompt_digest(conversation: Conversation) -> bytes:
    """SHA-256 of all that stands before the first answer, letter case and white space aside; of the whole if nothing does."""
    said = [conversation.tools]
    for message in conversation.messages:
        if message.role == "assistant":
            break
        said += message.role, " ".join(message.content.casefold().split())
    # No text holds a null character: `studio.data.turns.read_text` refuses it.
    return hashlib.sha256("\0".join(said).encode("utf-8")).digest()


def _position(digest: bytes, seed: int) -> int:
    """A number from 0 to 2**64 - 1, evenly spread."""
    return int.from_bytes(hashlib.sha256(str(seed).encode("ascii") + b":" + digest).digest()[:8], "big")


def fingerprint(path: Path) -> str:
    """`sha256:<hex>` of the file's bytes, or of a folder's files. Raises `DataError` if it cannot be read."""
    try:
        return f"sha256:{sha256(path)}"
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the path of the dataset.") from error
