"""The only module that writes what must not be lost.

A file appears whole or not at all: it is written beside its target, flushed to the disk, then renamed. A folder
likewise, with a manifest of sizes and SHA-256 sums as its last file. A full disk leaves everything as it was and says
so. Names that come from outside become file names here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from studio.errors import DamagedError, DiskFullError, StudioError

MANIFEST = "manifest.json"
SCHEMA = 1
_TEMPORARY = re.compile(r"^\..+\.tmp-[0-9a-f]{8}$")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
# Below this much free space a failed write is taken for a full disk, whatever the library that failed called it:
# torch and safetensors raise errors of their own that do not mention space.
_FULL_BELOW_BYTES = 1 << 20
_LAST_WORDS_BYTES = 1 << 18


# --- files ---------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically and durably. Raises `DiskFullError`; the old file then still stands."""
    with new_file(path, needs_bytes=len(data)) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: Path, *, needs_bytes: int = 0) -> Iterator[IO[bytes]]:
    """Write `path` piece by piece: it appears, or replaces what was there, whole on leaving. On an error nothing changes.

    Raises `DiskFullError`, which tells of `needs_bytes`.
    """
    temporary = temporary_beside(path)
    try:
        with full_disk_named(path.parent, needs_bytes):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """One JSON object with a `schema` number. NaN is refused: no other program can read it."""
    document = {"schema": SCHEMA, **value}
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote. Raises `DamagedError` on anything else, `FileNotFoundError` if there is nothing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DamagedError(f"{path.name} is not readable JSON.", f"Look at {path}, or remove it.") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path.name} holds no JSON object.", f"Look at {path}, or remove it.")
    schema = value.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise DamagedError(
            f"{path.name} was written by a newer Overlay Studio (schema {schema}).", "Update Overlay Studio."
        )
    return value


def append_line(path: Path, line: str) -> None:
    """Add one line with a single write, so that a reader or a crash sees at most one torn line: the last."""
    assert "\n" not in line
    with full_disk_named(path.parent, len(line)), open(path, "ab", buffering=0) as file:
        data = line.encode("utf-8") + b"\n"
        # A line torn by a full disk or a crash must not swallow the one that follows it.
        if file.tell() and not _ends_in_newline(path):
            data = b"\n" + data
        written = file.write(data)
        if written != len(data):
            raise OSError(errno.ENOSPC, "short write", str(path))


def _ends_in_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@contextlib.contextmanager
def grown_file(path: Path, *, needs_bytes: int = 0) -> Iterator[IO[bytes]]:
    """Go on with `path` at its end, for what may be broken off and taken up again; flushed on leaving, in whatever way.

    Raises `DiskFullError`, which tells of `needs_bytes`.
    """
    with full_disk_named(path.parent, needs_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            try:
                yield file
            finally:
                file.flush()
                os.fsync(file.fileno())


def copy(source: Path, target: Path) -> None:
    """Make `target`, which must not exist yet, the same file, flushed to the disk. Raises `DiskFullError`."""
    with full_disk_named(target.parent, source.stat().st_size):
        shutil.copyfile(source, target)
        with open(target, "rb+") as file:
            os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """The file's SHA-256, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- folders -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_folder(target: Path, *, needs_bytes: int = 0) -> Iterator[Path]:
    """Build a folder that appears whole or not at all.

    Yields a temporary folder beside `target` to be filled. On leaving, each file is flushed, a manifest is written last
    and the folder is renamed into place. On an error nothing remains but what was there before.

    Raises `StudioError` if `target` exists, `DiskFullError` if the disk has less than `needs_bytes` or runs full.
    """
    if target.exists():
        raise StudioError(f"{target.name} exists already in {target.parent}.", "Choose another name.")
    need_room(target.parent, needs_bytes)
    temporary = temporary_beside(target)
    try:
        with full_disk_named(target.parent, needs_bytes):
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            os.rename(temporary, target)
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(folder: Path) -> None:
    """Flush every file of `folder`, then list name, size and SHA-256 of each in `manifest.json`, written last."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        files.append(
            {
                "path": path.relative_to(folder).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
        )
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        sync_folder(path)
    write_json(folder / MANIFEST, {"files": files})


def damage(folder: Path) -> list[str]:
    """What is wrong with a folder that `new_folder` made: one sentence per problem, none if it is sound."""
    try:
        manifest = read_json(folder / MANIFEST)
    except FileNotFoundError:
        return [f"{folder.name} has no {MANIFEST}: it was never finished."]
    except DamagedError as error:
        return [error.message]
    try:
        return [problem for entry in manifest["files"] if (problem := _damage_of(folder, entry))]
    except (KeyError, TypeError):
        return [f"{MANIFEST} of {folder.name} has been changed or damaged."]


def _damage_of(folder: Path, entry: dict[str, Any]) -> str:
    path = inside(folder, entry["path"])
    if not path.is_file():
        return f"{entry['path']} is missing."
    if path.stat().st_size != entry["bytes"]:
        return f"{entry['path']} has {path.stat().st_size} bytes instead of {entry['bytes']}."
    return "" if sha256(path) == entry["sha256"] else f"{entry['path']} has been changed or damaged."


def sweep(folder: Path) -> list[Path]:
    """Remove what killed writers left in `folder`; nobody may be writing there. Returns what was removed."""
    left = leftovers(folder)
    for path in left:
        remove(path)
    return left


def leftovers(folder: Path) -> list[Path]:
    """What writers are building in `folder` at this moment, or were when they were killed."""
    return [path for path in folder.glob(".*.tmp-*") if _TEMPORARY.match(path.name)]


def remove(path: Path) -> None:
    """Delete one file or folder for good; never follows a link out of it. A folder vanishes whole: what is left of one
    whose remover was killed has a name that `sweep` knows."""
    if path.is_dir() and not path.is_symlink():
        if not _TEMPORARY.match(path.name):
            path = path.rename(temporary_beside(path))
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move_to(path: Path, folder: Path) -> Path:
    """Move `path` into `folder` under a name that is free there (the trash works so). Returns where it is now."""
    folder.mkdir(parents=True, exist_ok=True)
    target = free_name(folder, path.name)
    os.rename(path, target)
    sync_folder(folder)
    sync_folder(path.parent)
    return target


# --- names ---------------------------------------------------------------------------------------------------------


def safe_name(text: str, fallback: str = "unnamed") -> str:
    """A folder name that any file system accepts, for any text from outside.

    Letters, digits, `-`, `_`, `.` survive; everything else becomes `-`. Never empty, never hidden, never reserved on
    Windows, at most 64 characters.
    """
    plain = unicodedata.normalize("NFKC", text)
    name = re.sub(r"[^\w.-]+", "-", plain).strip("-._ ")
    name = re.sub(r"-{2,}", "-", name)[:64].rstrip("-._ ")
    # Some letters (dotless i, ligatures) take more bytes than characters; file systems count bytes.
    while len(name.encode("utf-8")) > 200:
        name = name[:-1]
    if not name:
        return fallback
    return f"{name}-" if name.split(".")[0].lower() in _RESERVED else name


def inside(root: Path, name: str) -> Path:
    """The path `name` below `root`. Raises `StudioError` if it would lead out of it."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or "\0" in name:
        raise StudioError(f"{name!r} leads out of {root.name}.", "Use a plain file name.")
    return path


def free_name(folder: Path, name: str) -> Path:
    """`name` in `folder`, or `name-2`, `name-3`, ... if that is taken."""
    candidate, number = folder / name, 1
    while candidate.exists():
        number += 1
        candidate = folder / f"{name}-{number}"
    return candidate


def temporary_beside(path: Path) -> Path:
    """A hidden name on the same file system, so that the rename at the end is atomic."""
    return path.parent / f".{path.name}.tmp-{uuid4().hex[:8]}"


def now() -> str:
    """The time as files of ours write it: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- the disk ------------------------------------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Free space on the disk that holds `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def need_room(folder: Path, needs_bytes: int) -> None:
    """Raise `DiskFullError` now rather than half-way."""
    if needs_bytes and free_bytes(folder) < needs_bytes:
        raise _disk_full(folder, needs_bytes)


@contextlib.contextmanager
def room_for_last_words(folder: Path) -> Iterator[None]:
    """Hold some space back in `folder` until the block is left, in whatever way.

    On a full disk there is else no room left to say that it is full. Raises `DiskFullError` if it is so already.
    """
    reserve = folder / ".reserve"
    write_bytes(
        reserve, os.urandom(_LAST_WORDS_BYTES)
    )  # random: a compressing file system would store zeros in nothing
    try:
        yield
    finally:
        reserve.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(folder: Path, needs_bytes: int = 0) -> Iterator[None]:
    """Turn whatever a library raises on a full disk into `DiskFullError`, which tells of all the `needs_bytes`."""
    try:
        yield
    except DiskFullError as error:
        # One file of a folder did not find room: who makes room must make it for the whole folder.
        if needs_bytes > error.needs_bytes:
            raise _disk_full(folder, needs_bytes) from error
        raise
    except StudioError:
        raise
    except Exception as error:
        if _means_full(error) or free_bytes(folder) < _FULL_BELOW_BYTES:
            raise _disk_full(folder, needs_bytes) from error
        raise


def _means_full(error: Exception) -> bool:
    """By number, or by the words of a library that passes the system's error on as text (safetensors does)."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    text = str(error)
    return getattr(error, "errno", None) in codes or any(
        f"(os error {code})" in text or os.strerror(code) in text for code in codes
    )


def _disk_full(folder: Path, needs_bytes: int) -> DiskFullError:
    free = free_bytes(folder)
    needs = f" {readable_bytes(needs_bytes)} are needed," if needs_bytes else ""
    return DiskFullError(
        f"The disk that holds {folder} is full:{needs} {readable_bytes(free)} are free.",
        f"Free at least {readable_bytes(max(needs_bytes - free, _FULL_BELOW_BYTES))} there, then go on.",
        folder=str(folder),
        needs_bytes=needs_bytes,
    )


def readable_seconds(seconds: float) -> str:
    """`75.2` as `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def readable_bytes(count: float) -> str:
    """`1234567` as `1.2 MB`; decimal units, as shops and `df -H` use them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
