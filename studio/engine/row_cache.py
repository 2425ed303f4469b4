"""Rows are encoded once: the next run on the same data, with the same tokenizer and template, maps the file that is there.

A file is known by a hash of all that decides what is in it. It is read only if it is whole to the last bit, and made anew if it
is not; those that were used longest ago go when there are too many.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from studio import files
from studio.data.conversation import Conversation
from studio.data.formats import Mapping
from studio.data.opening import num_bytes, sha256, unpacked_suffix
from studio.data.reading import num_lines
from studio.data.rows import stream
from studio.engine.encoded import SCHEMA, EncodedFile
from studio.engine.encoders import encode_batches, num_workers
from studio.engine.template import Coder
from studio.errors import ChangedError, StudioError
from studio.places import Workspace

# Raised whenever the same rows would come out otherwise, or be written otherwise.
VERSION = 3
MOST_BYTES = 10_000_000_000
BATCH_ROWS = 1024
BATCH_CHARACTERS = 1_000_000
ROWS = "rows.arrow"
_DECIDING = ("transformers", "tokenizers", "jinja2")

Progress = Callable[[str, int, int], None]


def encoded_rows(
    workspace: Workspace,
    data: Path,
    fingerprint: str,
    coder: Coder,
    max_tokens: int,
    progress: Progress,
    group_by: str = "",
    mapping: Mapping | None = None,
) -> EncodedFile:
    """The rows of `data`, whose bytes have the SHA-256 `fingerprint`, from the cache or made now. Rows with the same value in
    the column `group_by` will be on the same side of every split; `mapping` says which column is what.

    Raises `DataError` if the data cannot be read or has no good row, `BaseModelError` if the template is of no use,
    `DiskFullError` if there is no room.
    """
    cache = workspace.encoded
    folder = cache / key(data, fingerprint, coder, max_tokens, group_by, mapping)
    found = _open(folder)
    if found is None:
        cache.mkdir(parents=True, exist_ok=True)
        # One builds at a time. Who had to wait for another to build the same finds it built.
        with FileLock(cache / "lock"):
            found = _open(folder)
            if found is None:
                _build(folder, data, fingerprint, coder, max_tokens, progress, group_by, mapping)
                found = EncodedFile(folder / ROWS)
    with suppress(OSError):  # it may have had to make room for another meanwhile: what is mapped can still be read
        os.utime(folder)
    return found


def key(
    data: Path, fingerprint: str, coder: Coder, max_tokens: int, group_by: str = "", mapping: Mapping | None = None
) -> str:
    """The name of the folder with these rows."""
    deciding = {
        "version": VERSION,
        "data": fingerprint,
        "kind": unpacked_suffix(data),  # tells tables from JSON
        "coder": coder.told,
        "max_tokens": max_tokens,
        "group_by": group_by,
        "mapping": asdict(mapping) if mapping else None,
        "packages": {package: metadata.version(package) for package in _DECIDING},
        # Some templates tell the model the date.
        "day": time.strftime("%Y-%m-%d") if "strftime_now" in coder.told else "",
    }
    return hashlib.sha256(json.dumps(deciding).encode("ascii")).hexdigest()[:32]


def _open(folder: Path) -> EncodedFile | None:
    """The file in `folder` if it is there and sound."""
    try:
        return None if files.damage(folder) else EncodedFile(folder / ROWS)
    except (OSError, StudioError, pa.ArrowException):
        return None  # another process has just removed it, the disk cannot read it, or it is none of ours


def _build(
    folder: Path,
    data: Path,
    fingerprint: str,
    coder: Coder,
    max_tokens: int,
    progress: Progress,
    group_by: str = "",
    mapping: Mapping | None = None,
) -> None:
    files.sweep(folder.parent)
    if folder.exists():
        files.remove(folder)
    # A token takes four bytes and stands for about as many characters.
    needs_bytes = num_bytes(data)
    _make_room(folder.parent, needs_bytes)
    batches = encode_batches(coder, _batches(data, progress, group_by, mapping), max_tokens, num_workers(data))
    with files.new_folder(folder, needs_bytes=needs_bytes) as new, closing(batches):
        with pa.OSFile(str(new / ROWS), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
        if sha256(data) != fingerprint:
            raise ChangedError(f"{data.name} changed while it was being read.", "Start again when it is complete.")


def _batches(
    data: Path, progress: Progress, group_by: str, mapping: Mapping | None
) -> Iterator[Sequence[Conversation]]:
    """The good rows in batches of a bounded size, telling how far the reading has come."""
    total = num_lines(data)
    for batch in in_batches(stream(data, mapping, group_by=group_by)):
        yield batch
        # In a folder each file begins with line 1.
        progress("lines", max(batch[-1].line, batch[-1].row), total)
    progress("lines", total, total)


def in_batches(conversations: Iterable[Conversation]) -> Iterator[Sequence[Conversation]]:
    """Rows in batches of a bounded size, for the encoders."""
    batch: list[Conversation] = []
    num_characters = 0
    for conversation in conversations:
        batch.append(conversation)
        num_characters += conversation.num_characters
        if len(batch) == BATCH_ROWS or num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _make_room(cache: Path, needs_bytes: int) -> None:
    """Remove what was used longest ago until so much may be added, and there is room for it on the disk."""
    sizes = {folder: _size(folder) for folder in cache.iterdir() if (folder / files.MANIFEST).is_file()}
    for folder in sorted(sizes, key=lambda folder: folder.stat().st_mtime):
        if sum(sizes.values()) + needs_bytes <= MOST_BYTES and files.free_bytes(cache) >= needs_bytes:
            return
        del sizes[folder]
        _discard(folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _discard(folder: Path) -> None:
    # Windows does not let go of a file that another run has mapped; it goes the next time.
    with suppress(PermissionError):
        files.remove(folder)
