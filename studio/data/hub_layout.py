"""Which files of a dataset repository belong to which subset and split, by their names and the repository's card alone.

The rules are those of `datasets` (its `data_files.py`), so that a set is cut here as it is everywhere else: what the card says
under `configs`, else `data/train-00000-of-00001.parquet` and the like, else folders or files named after a split, else
everything is the split train. Nothing of a repository is ever executed. Only files that can be read here are told.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from studio.data.opening import SUFFIXES, unpacked_suffix

DEFAULT = "default"
TRAIN = "train"
_KEYWORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SEPARATORS = "-._ 0-9"
_IN_FOLDER_NAMES = (
    "**/{word}/**",
    "**/{word}[{sep}]*/**",
    "**/*[{sep}]{word}/**",
    "**/*[{sep}]{word}[{sep}]*/**",
)
_IN_FILE_NAMES = ("**/{word}[{sep}]*", "**/*[{sep}]{word}[{sep}]*")
_SHARDS = re.compile(r"data/(?P<split>\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_NEVER_DATA = {
    "README.md",
    "config.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dummy_data.zip",
    "dataset_dict.json",
}
# What one set is made of: a README.txt beside the parquet files is no part of it. The first wins where there are as many.
_MODULES = (
    ("parquet", (".parquet",)),
    ("arrow", (".arrow", ".feather")),
    ("json", (".jsonl", ".json", ".ndjson")),
    ("csv", (".csv", ".tsv")),
    ("text", (".txt", ".text", ".md", ".markdown")),
)
_MODULE_OF = {suffix: module for module, suffixes in _MODULES for suffix in suffixes}


@dataclass(frozen=True)
class Layout:
    """One subset: the paths of each of its splits. `is_default` if it is meant where none is named."""

    name: str
    splits: dict[str, tuple[str, ...]]
    is_default: bool = False


def layouts(paths: Sequence[str], card: dict[str, Any]) -> list[Layout]:
    """The subsets that have files which can be read here, as the card orders them; none if there are no such files."""
    configs = [config for config in _listed(card.get("configs")) if isinstance(config, dict)]
    found = []
    for config in configs or [{}]:
        name = str(config.get("config_name") or DEFAULT)
        splits = _readable(_splits(paths, config.get("data_files"), str(config.get("data_dir") or "")))
        if splits:
            found.append(Layout(name, splits, len(configs) < 2 or name == DEFAULT or config.get("default") is True))
    return found


def converted_layouts(paths: Sequence[str]) -> list[Layout]:
    """The same for what the hub itself made of a set: `subset/split/0000.parquet`."""
    subsets: dict[str, dict[str, tuple[str, ...]]] = {}
    for path in sorted(paths):
        parts = path.split("/")
        if len(parts) == 3 and parts[2].endswith(".parquet"):
            splits = subsets.setdefault(parts[0], {})
            splits[parts[1]] = (*splits.get(parts[1], ()), path)
    return [Layout(name, splits, len(subsets) == 1 or name == DEFAULT) for name, splits in subsets.items()]


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern means this file. `*` stays within a name, `**` crosses folders; hidden files, and folders that begin
    with two underscores, have to be named as such."""
    name = PurePosixPath(path).name
    if name in _NEVER_DATA and name != PurePosixPath(pattern).name:
        return False
    if _num_hidden(path) != _num_hidden(pattern) or _num_special(path) != _num_special(pattern):
        return False
    return re.fullmatch(_regex(pattern), path) is not None


# --- splits ----------------------------------------------------------------------------------------------------------


def _splits(paths: Sequence[str], data_files: Any, folder: str) -> dict[str, tuple[str, ...]]:
    """The files of each split, by the patterns of the card if it has some."""
    inside = folder.strip("/").removeprefix("./")
    prefix = f"{inside}/" if inside else ""
    within = sorted(path.removeprefix(prefix) for path in paths if path.startswith(prefix))
    stated = _stated(data_files)
    found = {split: _chosen(within, patterns) for split, patterns in stated.items()} if stated else _usual(within)
    return {split: tuple(prefix + path for path in chosen) for split, chosen in found.items() if chosen}


def _stated(data_files: Any) -> dict[str, list[str]]:
    """What a card may say: one pattern, several, or some for each split."""
    if isinstance(data_files, dict):
        return {str(split): _patterns(path) for split, path in data_files.items()}
    if any(isinstance(one, dict) for one in _listed(data_files)):
        told = [one for one in _listed(data_files) if isinstance(one, dict) and "split" in one]
        return {str(one["split"]): _patterns(one.get("path")) for one in told}
    return {TRAIN: _patterns(data_files)} if data_files else {}


def _usual(paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The files of each split where nothing but their names tells."""
    shards: dict[str, list[str]] = {}
    for path in paths:
        match = _SHARDS.fullmatch(path)
        if match:
            shards.setdefault(match["split"], []).append(path)
    if shards:
        usual = [split for split in _KEYWORDS if split in shards]
        return {split: tuple(shards[split]) for split in [*usual, *sorted(shards.keys() - _KEYWORDS.keys())]}
    for shapes in (_IN_FOLDER_NAMES, _IN_FILE_NAMES):
        found = {split: _chosen(paths, _named(words, shapes)) for split, words in _KEYWORDS.items()}
        if any(found.values()):
            return found
    return {TRAIN: _chosen(paths, ["**"])}


def _named(words: Sequence[str], shapes: Sequence[str]) -> list[str]:
    return [shape.format(word=word, sep=_SEPARATORS) for word in words for shape in shapes]


def _chosen(paths: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Every file once, in the order of the patterns."""
    return tuple(dict.fromkeys(path for pattern in patterns for path in paths if matches(path, pattern)))


def _readable(splits: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The files of that kind of which there are most, and the splits that have some."""
    counted = Counter(module for paths in splits.values() for path in paths if (module := _module_of(path)))
    best = max((module for module, _ in _MODULES), key=lambda module: counted[module])
    chosen = {split: tuple(path for path in paths if _module_of(path) == best) for split, paths in splits.items()}
    return {split: paths for split, paths in chosen.items() if paths}


def _module_of(path: str) -> str:
    suffix = unpacked_suffix(PurePosixPath(path))
    return _MODULE_OF[suffix] if suffix in SUFFIXES else ""


# --- patterns --------------------------------------------------------------------------------------------------------


def _patterns(told: Any) -> list[str]:
    return [one.removeprefix("./").lstrip("/") for one in _listed(told) if isinstance(one, str)]


def _listed(told: Any) -> list[Any]:
    return told if isinstance(told, list) else [] if told is None else [told]


def _regex(pattern: str) -> str:
    *folders, name = pattern.split("/")
    parts = [r"(?:[^/]+/)*" if folder == "**" else "".join(_in_name(folder)) + "/" for folder in folders]
    return "".join(parts) + (".*" if name == "**" else "".join(_in_name(name)))


def _in_name(glob: str) -> Iterator[str]:
    for piece in re.findall(r"\[[^\]]+\]|\*+|\?|.", glob, re.DOTALL):
        if piece[0] == "*":
            yield "[^/]*"
        elif piece == "?":
            yield "[^/]"
        elif len(piece) > 1:
            inner = piece[1:-1].replace("\\", r"\\").replace("[", r"\[")
            yield f"[{'^' + inner[1:] if inner[0] == '!' else inner}]"
        else:
            yield re.escape(piece)


def _num_hidden(path: str) -> int:
    return sum(part.startswith(".") and part.strip(".") != "" for part in path.split("/"))


def _num_special(path: str) -> int:
    return sum(part.startswith("__") for part in path.split("/")[:-1])
