"""Fetching a dataset from the hub: broken off at any byte it goes on from there, and nothing counts that does not add up.

Files grow in a hidden folder beside the place where they will lie. Each is held against the sum that the hub gives of it (SHA-256
of large files, git's own of small ones); then all are moved into place at once, with a note of where they come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from studio import files
from studio.data.fetched import SOURCE, fetched, folder_of, note_source
from studio.data.hub_layout import DEFAULT
from studio.data.hub_sets import Choice, HubFile, HubName, choose, look_up
from studio.errors import BusyError, DamagedError, DataError
from studio.hub import DATASETS, Hub, HubError
from studio.places import Workspace

# Gets bytes that are here and bytes in all. What it raises ends the work, which can be taken up again.
Progress = Callable[[int, int], None]


def fetch(workspace: Workspace, choice: Choice, progress: Progress = lambda _done, _total: None) -> Path:
    """The file, or the folder of files, that holds these rows; from the hub if it is not here yet.

    Raises `HubError`, `DamagedError` if what comes is not what the hub announced, `DiskFullError`, or `BusyError` while
    somebody else fetches it.
    """
    target = folder_of(workspace, choice)
    place = _place(choice)
    if (target / SOURCE).is_file():
        return target / place
    growing = target.parent / f".{target.name}"
    growing.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(growing / ".lock", timeout=0):
            _grow(growing, choice, progress)
            _settle(growing, target, place, choice)
    except Timeout as error:
        raise BusyError(f"{choice.offer.id} is being downloaded already.", "Wait until it is here.") from error
    files.remove(growing)
    return target / place


def fetch_named(
    workspace: Workspace, name: HubName, told: Callable[[Choice], None], progress: Progress = lambda _done, _total: None
) -> Path:
    """What `name` means: from the hub, else, if that cannot be asked, what is here of it. `told` hears what will be fetched.

    Raises what `look_up`, `choose` and `fetch` raise.
    """
    try:
        choice = choose(look_up(name), name.subset, name.split)
        if not (folder_of(workspace, choice) / SOURCE).is_file():
            told(choice)
        return fetch(workspace, choice, progress)
    except HubError as error:
        here = fetched(workspace, name) if error.is_connection else []
        if not here:
            why = f"{name.id} is not on this computer, and the hub cannot be asked: " if error.is_connection else ""
            raise DataError(why + error.message, error.hint) from error
        return here[0].path


def _place(choice: Choice) -> str:
    """What the data are called where they lie: a file with a name that says what it is, or a folder with such a name."""
    subset = "" if choice.subset == DEFAULT else f"-{choice.subset}"
    title = files.safe_name(f"{choice.offer.id.rpartition('/')[2]}{subset}-{choice.split}")
    suffixes = PurePosixPath(choice.files[0].path).suffixes
    is_packed = suffixes[-1].lower() in (".gz", ".zst")
    return title + "".join(suffixes[-2:] if is_packed else suffixes[-1:]) if len(choice.files) == 1 else title


def _grow(growing: Path, choice: Choice, progress: Progress) -> None:
    """Bring every file to its full length, and check it."""
    hub, total = Hub.of_environment(), choice.num_bytes
    parts = [growing / f"{number:05}" for number in range(len(choice.files))]
    here = sum(part.stat().st_size for part in parts if part.exists())
    files.need_room(growing, total - here)
    before = 0
    for part, file in zip(parts, choice.files, strict=True):
        while _size(part) < file.num_bytes:
            _go_on(hub, choice, file, part, lambda done, before=before: progress(before + done, total))  # type: ignore[misc]
        _check(part, file)
        before += file.num_bytes
        progress(before, total)


def _go_on(hub: Hub, choice: Choice, file: HubFile, part: Path, told: Callable[[int], None]) -> None:
    """Append what is missing. A connection that breaks is taken up again as long as each one brings something."""
    begin = _size(part)
    offer = choice.offer
    try:
        with files.grown_file(part, needs_bytes=file.num_bytes - begin) as out:
            done = begin
            for chunk in hub.chunks(DATASETS + offer.id, offer.files_revision, file.path, begin):
                out.write(chunk[: file.num_bytes - done])
                done = min(file.num_bytes, done + len(chunk))
                told(done)
    except HubError as error:
        if not error.is_connection or _size(part) == begin:
            raise
    if _size(part) == begin:
        raise HubError(f"The hub ends {file.path} too early.", "Try again later.", is_connection=True)


def _check(part: Path, file: HubFile) -> None:
    """Raise `DamagedError`, and forget the file, unless it is what the hub announced."""
    if file.sha256:
        is_right = files.sha256(part) == file.sha256
    elif file.blob:
        is_right = _git_blob(part) == file.blob
    else:
        is_right = True
    if not is_right or _size(part) != file.num_bytes:
        files.remove(part)
        raise DamagedError(f"{file.path} came with other contents than the hub announced.", "Download it again.")


def _git_blob(path: Path) -> str:
    """The name that git gives a file of these contents."""
    digest = hashlib.sha1(f"blob {_size(path)}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _settle(growing: Path, target: Path, place: str, choice: Choice) -> None:
    with files.new_folder(target) as folder:
        for number, file in enumerate(choice.files):
            path = folder / place if len(choice.files) == 1 else files.inside(folder / place, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            (growing / f"{number:05}").rename(path)
        note_source(folder, place, choice)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
