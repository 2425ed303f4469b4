"""The adapters in the workspace: list, find, take in, name, tag, throw away and get back.

An adapter's name is its folder's name. Only files that an adapter consists of are copied into the library: whatever else
lies beside them (pickles, checkpoints, scripts) stays where it is.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from studio import files
from studio.errors import AdapterError, BaseModelError, NotFoundError, StudioError
from studio.library.adapter import CONFIG, SIDECAR, WEIGHTS, Adapter, read, read_sidecar, write_sidecar
from studio.library.soundness import check, fits, origin_warning
from studio.models.bases import Base, find_base, list_bases
from studio.places import Workspace

__all__ = [
    "AdapterProblem",
    "adopt",
    "base_for",
    "check",
    "find",
    "fits",
    "import_adapter",
    "list_adapters",
    "list_problems",
    "list_trash",
    "origin_warning",
    "remove",
    "rename",
    "restore",
    "set_note",
    "tag",
]

TOKENIZER_FILES = (
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_FILES = (CONFIG, WEIGHTS, SIDECAR, "README.md", "LICENSE", *TOKENIZER_FILES)
_MAX_TAG_CHARACTERS = 40


@dataclass(frozen=True)
class AdapterProblem:
    """A folder of the library that cannot be used."""

    path: Path
    message: str
    hint: str


def list_adapters(workspace: Workspace) -> list[Adapter]:
    """Every usable adapter, newest first. Others are left to `list_problems`."""
    found = [entry for entry in _scan(workspace) if isinstance(entry, Adapter)]
    return sorted(found, key=lambda adapter: (-adapter.created, adapter.name))


def list_problems(workspace: Workspace) -> list[AdapterProblem]:
    """What `list_adapters` left out, and why."""
    return [entry for entry in _scan(workspace) if isinstance(entry, AdapterProblem)]


def find(workspace: Workspace, name_or_path: str) -> Adapter:
    """The adapter of that name in the library, else the one in that folder. Raises `NotFoundError`, `AdapterError`."""
    if _is_plain(name_or_path) and (workspace.adapters / name_or_path).is_dir():
        return read(workspace.adapters / name_or_path)
    if name_or_path.strip() and "\0" not in name_or_path and Path(name_or_path).expanduser().is_dir():
        return read(Path(name_or_path).expanduser().resolve())
    near = difflib.get_close_matches(name_or_path, [path.name for path in _folders(workspace.adapters)], n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise NotFoundError(f"There is no adapter called {name_or_path}.", f"{meant}`overlay adapters` lists them.")


def base_for(workspace: Workspace, adapter: Adapter) -> Base:
    """The base on this computer that `adapter` was trained on: by its fingerprint, else by its name.

    Raises `BaseModelError` if it is not here.
    """
    for base in list_bases(workspace):
        if adapter.base_fingerprint and base.fingerprint == adapter.base_fingerprint:
            return base
    for name in dict.fromkeys([adapter.hub_id, adapter.base]):
        with contextlib.suppress(BaseModelError):
            return find_base(workspace, name)
    named = adapter.hub_id or adapter.base or "a base that it does not name"
    raise BaseModelError(
        f"{adapter.name} was trained on {named}, which is not on this computer.",
        "Add that base with `overlay bases add`, or name a base yourself.",
    )


# --- taking in -----------------------------------------------------------------------------------------------------


def adopt(workspace: Workspace, folder: Path, name: str, *, instead_of: Sequence[Adapter] = ()) -> Adapter:
    """Copy the adapter in `folder` (of a run, say) into the library under `name`, or the next free name like it.

    Those of the library that it stands `instead_of` go to the trash once it is there, and their names are free for it.

    Raises `AdapterError` if it is none, `DiskFullError` if there is no room; the library is then as before.
    """
    read(folder)
    sources = [folder / file for file in _FILES if (folder / file).is_file()]
    with _lock(workspace):
        files.sweep(workspace.adapters)
        wanted = files.safe_name(name, "adapter")
        target = files.free_name(workspace.adapters, wanted)
        with files.new_folder(target, needs_bytes=sum(path.stat().st_size for path in sources)) as building:
            for source in sources:
                shutil.copyfile(source, building / source.name)
        for older in instead_of:
            files.move_to(older.path, workspace.trash)
        if instead_of and target.name != wanted:
            target = target.rename(files.free_name(workspace.adapters, wanted))
            files.sync_folder(workspace.adapters)
    return read(target)


def import_adapter(workspace: Workspace, path: Path, name: str | None = None) -> Adapter:
    """Take an adapter from elsewhere into the library: its folder, or one of the two files that make it one.

    Raises `NotFoundError` if there is nothing, `AdapterError` if it is damaged or of a kind that cannot be used.
    """
    path = path.expanduser()
    folder = path.parent if path.name in (CONFIG, WEIGHTS) and path.is_file() else path
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no adapter folder {path}.", f"Give the folder that holds {CONFIG} and {WEIGHTS}."
        )
    problems = check(read(folder))
    if problems:
        raise AdapterError(f"{folder.name} cannot be used: {problems[0]}", "Get the adapter again.")
    return adopt(workspace, folder, name or folder.resolve().name)


# --- changing ------------------------------------------------------------------------------------------------------


def rename(workspace: Workspace, name: str, new_name: str) -> Adapter:
    """Give an adapter another name. Raises `StudioError` if that is taken or cannot be a folder's name."""
    adapter = _in_library(workspace, name)
    wanted = files.safe_name(new_name, "")
    if not wanted:
        raise StudioError(f"{new_name!r} is no name for an adapter.", "Use letters, digits, hyphens and dots.")
    target = workspace.adapters / wanted
    with _lock(workspace):
        if target.exists() and wanted != adapter.name:
            raise StudioError(f"There is an adapter called {wanted} already.", "Choose another name.")
        os.rename(adapter.path, target)
        files.sync_folder(workspace.adapters)
    return read(target)


def tag(workspace: Workspace, name: str, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> Adapter:
    """Add and remove tags; doing so twice changes nothing. Raises `StudioError` for a tag that is empty or too long."""
    adapter = _in_library(workspace, name)
    for word in add:
        if not word.strip() or len(word.strip()) > _MAX_TAG_CHARACTERS or not word.isprintable():
            raise StudioError(
                f"{word!r} is no tag.", f"A tag is one short line: 1 to {_MAX_TAG_CHARACTERS} characters."
            )
    with _lock(workspace):
        now = read(adapter.path)
        tags = {*now.tags, *(word.strip() for word in add)} - {word.strip() for word in remove}
        return _note_down(now, tags=sorted(tags))


def set_note(workspace: Workspace, name: str, note: str) -> Adapter:
    """Replace the note that its owner keeps on an adapter."""
    adapter = _in_library(workspace, name)
    with _lock(workspace):
        return _note_down(adapter, note=note.strip())


def remove(workspace: Workspace, name: str) -> Path:
    """Move an adapter to the trash; returns where it lies there, for `restore`."""
    adapter = _in_library(workspace, name)
    with _lock(workspace):
        return files.move_to(adapter.path, workspace.trash)


def list_trash(workspace: Workspace) -> list[Path]:
    """The adapters in the trash, by name."""
    return [path for path in _folders(workspace.trash) if (path / CONFIG).is_file()]


def restore(workspace: Workspace, path: Path, name: str = "") -> Adapter:
    """Bring back what `remove` put at `path`: as `name` (else as it is called there), or the next free name after that.

    Raises `NotFoundError` if `path` is no adapter in the trash.
    """
    if path not in list_trash(workspace):
        hint = "`overlay adapters trash` lists them."
        raise NotFoundError(f"There is no adapter called {path.name} in the trash.", hint)
    with _lock(workspace):
        target = files.free_name(workspace.adapters, Path(name or path.name).name)
        os.rename(path, target)
        files.sync_folder(workspace.adapters)
        files.sync_folder(workspace.trash)
    return read(target)


# --- parts ---------------------------------------------------------------------------------------------------------


def _scan(workspace: Workspace) -> Iterator[Adapter | AdapterProblem]:
    for folder in _folders(workspace.adapters):
        try:
            yield read(folder)
        except StudioError as error:
            yield AdapterProblem(folder, error.message, error.hint)
        except FileNotFoundError:
            # Renamed or removed by somebody else while this looked at it.
            continue


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_plain(name: str) -> bool:
    return bool(name) and Path(name).name == name and not name.startswith(".") and "\0" not in name


def _in_library(workspace: Workspace, name: str) -> Adapter:
    adapter = find(workspace, name)
    if adapter.path.resolve().parent != workspace.adapters.resolve():
        raise NotFoundError(f"{name} is not in the library.", "Take it in first: `overlay adapters import`.")
    return adapter


def _note_down(adapter: Adapter, **facts: object) -> Adapter:
    sidecar = read_sidecar(adapter.path)
    sidecar.pop("schema", None)
    write_sidecar(adapter.path, **{**sidecar, **facts})
    _enter_in_manifest(adapter.path, SIDECAR)
    return read(adapter.path)


def _enter_in_manifest(folder: Path, file: str) -> None:
    """The manifest must go on vouching for the weights: only the entry of `file` is replaced, nothing is summed again."""
    if not (folder / files.MANIFEST).is_file():
        return
    manifest = files.read_json(folder / files.MANIFEST)
    entry = {"path": file, "bytes": (folder / file).stat().st_size, "sha256": files.sha256(folder / file)}
    others = [other for other in manifest.get("files", []) if other.get("path") != file]
    files.write_json(folder / files.MANIFEST, {"files": sorted([*others, entry], key=lambda item: str(item["path"]))})


def _lock(workspace: Workspace) -> FileLock:
    """Held while names are given away: two programs may take in an adapter at the same moment."""
    workspace.adapters.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.adapters / ".lock", timeout=30)
