"""Facts about a model on the Hugging Face hub, without its weights: config.json and the heads of the safetensors files.

At most 20 MB are fetched, and nothing of what is fetched is ever executed. Addresses are those of every Hugging Face tool
(`<endpoint>/<id>/resolve/<revision>/<file>`), and so are the variables that steer it: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE,
HF_HUB_DOWNLOAD_TIMEOUT. What was fetched is kept in the workspace for a week, and beyond it for as long as there is no
connection.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import BaseModelError, DamagedError
from studio.hub import Hub, HubError
from studio.models.bases import locate, refuse_foreign_code, refuse_other_tasks
from studio.models.config import CONFIG, parse_config
from studio.models.facts import ModelFacts, read_config
from studio.models.headers import INDEX, LENGTH_BYTES, TensorInfo, parse_header, parse_index
from studio.places import Workspace

MAX_FETCHED_BYTES = 20_000_000
_FRESH_SECONDS = 7 * 24 * 3600
_MAX_CONFIG_BYTES = 1_000_000
_FIRST_READ_BYTES = 1 << 16
_MAX_FILES = 500
_AT_ONCE = 8
_SINGLE = "model.safetensors"
_NAME = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[A-Za-z0-9][\w./-]{0,127}))?"
)
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class StoredWeights:
    """What the heads of the weights files say: elements by dtype as stored, and their bytes together."""

    num_elements: dict[str, int]
    num_bytes: int

    @property
    def num_parameters(self) -> int:
        """All elements. Of weights packed several to a byte these are the bytes, not the parameters."""
        return sum(self.num_elements.values())

    @property
    def is_packed(self) -> bool:
        """Whether some weights are stored quantised."""
        return any(dtype not in _FLOATS for dtype in self.num_elements)


@dataclass(frozen=True)
class RemoteBase:
    """One revision of one model on the hub. `weights` is None if it has no safetensors files."""

    hub_id: str
    revision: str
    config: dict[str, Any]
    weights: StoredWeights | None
    fetched_bytes: int

    @property
    def facts(self) -> ModelFacts:
        """The model in numbers. Raises `BaseModelError` if its configuration is absurd."""
        return ModelFacts.from_config(self.config)

    @property
    def warning(self) -> str:
        """One sentence if this model cannot be trained here, or if its weights are not what its configuration says."""
        if self.weights is None:
            return f"{self.hub_id} has no safetensors weights, so it can be estimated but not trained here."
        facts = self.facts
        if facts.has_vision or facts.is_guess or self.weights.is_packed:
            return ""
        counted, stored = facts.num_parameters, self.weights.num_parameters
        # Some uploads hold a tied head once more under its own name.
        if stored in (counted, counted + facts.vocab_size * facts.hidden_size * facts.tied_embeddings):
            return ""
        return f"{self.hub_id} stores {stored:,} parameters, where its configuration makes {counted:,}."


def find_facts(workspace: Workspace, id_or_path: str, tell: Callable[[str], None]) -> ModelFacts:
    """The facts of the base that a recipe names: from this computer, else from the hub if it can be a hub id.

    `tell` hears what was fetched. Raises `BaseModelError` if there is no such base, here or there.
    """
    return ModelFacts.from_config(find_config(workspace, id_or_path, tell))


def find_config(workspace: Workspace, id_or_path: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """The config.json that `find_facts` reads, with the same errors."""
    try:
        return read_config(locate(workspace, id_or_path))
    except BaseModelError:
        if not is_hub_id(id_or_path) or Path(id_or_path).expanduser().exists():
            raise
    remote = fetch(workspace, id_or_path, tell)
    if remote.warning:
        tell(remote.warning)
    return remote.config


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form `owner/name` or `owner/name@revision`."""
    return _NAME.fullmatch(name) is not None and ".." not in name and "--" not in name.split("@")[0]


def fetch(workspace: Workspace, name: str, tell: Callable[[str], None] = lambda _: None) -> RemoteBase:
    """What the hub knows of `owner/name` or `owner/name@revision`; from the workspace if it was asked for in this week.

    Raises `BaseModelError` if there is no connection, no such model, no permission, or nothing that could be used.
    """
    match = _NAME.fullmatch(name)
    if match is None or not is_hub_id(name):
        raise BaseModelError(f"{name[:100]!r} is no hub id.", "A hub id looks like owner/name.")
    hub_id, revision = match["id"], match["revision"] or "main"
    kept = workspace.hub / files.safe_name(hub_id.replace("/", "--")) / f"{files.safe_name(revision)}.json"
    known = _read_kept(kept, hub_id)
    if known is not None and _is_fresh(kept, revision):
        return known
    try:
        found = _fetch(Hub.of_environment(), hub_id, revision)
    except HubError as error:
        if known is None or not error.is_connection:
            why = f"{hub_id} is not on this computer, and the hub cannot be asked: " if error.is_connection else ""
            raise BaseModelError(why + error.message, error.hint) from error
        tell(f"{error.message} What was fetched of {hub_id} before is used.")
        return known
    tell(
        f"Fetched the configuration and weight headers of {hub_id} from the hub "
        f"({files.readable_bytes(found.fetched_bytes)}, no weights)."
    )
    files.write_json(kept, asdict(found))
    return found


# --- fetching --------------------------------------------------------------------------------------------------------


def _fetch(hub: Hub, hub_id: str, revision: str) -> RemoteBase:
    answer = hub.read(hub_id, revision, CONFIG, _MAX_CONFIG_BYTES)
    config = parse_config(answer.content, hub_id)
    refuse_foreign_code(hub_id, config)
    refuse_other_tasks(hub_id, config)
    ModelFacts.from_config(config)
    # All files must be of one revision, even if the model is changed meanwhile.
    commit = answer.commit or revision
    weights, fetched_bytes = _weights(hub, hub_id, commit, MAX_FETCHED_BYTES - len(answer.content))
    return RemoteBase(hub_id, commit, config, weights, len(answer.content) + fetched_bytes)


def _weights(hub: Hub, hub_id: str, revision: str, limit_bytes: int) -> tuple[StoredWeights | None, int]:
    """The weights that one file holds, or all files that the index names; and how many bytes that took."""
    try:
        tensors, fetched_bytes = _header(hub, hub_id, revision, _SINGLE, limit_bytes)
        return _counted(tensors), fetched_bytes
    except HubError as error:
        if not error.is_missing_file:
            raise
    try:
        index = hub.read(hub_id, revision, INDEX, limit_bytes // 2).content
    except HubError as error:
        if not error.is_missing_file:
            raise
        return None, 0
    names = sorted(set(parse_index(INDEX, index).values()))
    if len(names) > _MAX_FILES:
        raise BaseModelError(f"{hub_id} is spread over {len(names)} files.", "Choose a smaller model.")
    # Shared out beforehand, so that the sum is bounded however many are read at once.
    share = (limit_bytes - len(index)) // len(names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = list(pool.map(lambda name: _header(hub, hub_id, revision, name, share), names))
    tensors = [tensor for part, _ in parts for tensor in part]
    return _counted(tensors), len(index) + sum(num_bytes for _, num_bytes in parts)


def _header(hub: Hub, hub_id: str, revision: str, file: str, limit_bytes: int) -> tuple[list[TensorInfo], int]:
    """The tensors of one file, read from its first bytes alone."""
    first = hub.read(hub_id, revision, file, min(_FIRST_READ_BYTES, limit_bytes), only_begin=True)
    length = int.from_bytes(first.content[:LENGTH_BYTES], "little")
    end = LENGTH_BYTES + length
    if len(first.content) < LENGTH_BYTES or end > limit_bytes:
        raise BaseModelError(
            f"The head of {file} of {hub_id} is longer than any real one.", "Choose another upload of this model."
        )
    content, fetched_bytes = first.content, len(first.content)
    if end > len(content):
        rest = hub.read(hub_id, revision, file, end - len(content), start=len(content), only_begin=True)
        content, fetched_bytes = content + rest.content, fetched_bytes + len(rest.content)
    size = first.total_bytes
    return parse_header(Path(file), content[LENGTH_BYTES:end], size), fetched_bytes


def _counted(tensors: list[TensorInfo]) -> StoredWeights:
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[tensor.dtype] += math.prod(tensor.shape)
    return StoredWeights(dict(elements), sum(tensor.num_bytes for tensor in tensors))


# --- what was fetched before -----------------------------------------------------------------------------------------


def _read_kept(path: Path, hub_id: str) -> RemoteBase | None:
    try:
        record = files.read_json(path)
        weights = record["weights"]
        known = RemoteBase(
            hub_id=hub_id,
            revision=str(record["revision"]),
            config=record["config"],
            weights=StoredWeights(weights["num_elements"], weights["num_bytes"]) if weights else None,
            fetched_bytes=0,
        )
        _ = known.warning  # a record that was changed or damaged shows here
    except (OSError, DamagedError, BaseModelError, KeyError, TypeError, AttributeError):
        return None
    return known if record.get("hub_id") == hub_id else None


def _is_fresh(path: Path, revision: str) -> bool:
    """A commit never changes; a branch may."""
    if re.fullmatch(r"[0-9a-f]{40}", revision) or Hub.of_environment().is_offline:
        return True
    return time.time() - os.stat(path).st_mtime < _FRESH_SECONDS
