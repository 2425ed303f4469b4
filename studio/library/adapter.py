"""One adapter on disk: a plain PEFT folder, and the sidecar that says where it comes from.

`adapter_config.json` and `adapter_model.safetensors` are PEFT's own; any tool that knows PEFT can read them. What only we
know lies in `overlay.json`, which an adapter from elsewhere does not have. Everything here may come from a stranger:
nothing is believed before it was looked at, and no pickle is ever opened.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from studio import files
from studio.errors import AdapterError, DamagedError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
SIDECAR = "overlay.json"
MAX_RANK = 4096
UNKNOWN_ORIGIN = "Of unknown origin: nothing says which weights it was trained on."
_MAX_CONFIG_BYTES = 10_000_000


@dataclass(frozen=True)
class Adapter:
    """One adapter. `base` is the name of the base it was trained on, `base_fingerprint` is "" if nobody noted it.

    `bytes` counts all files of the folder; `created` is in seconds since 1970; `fingerprint` is that of the weights file.
    `target_modules` are names as PEFT matches them, or one regular expression.
    """

    name: str
    path: Path
    base: str
    base_fingerprint: str
    hub_id: str
    method: str
    rank: int
    alpha: float
    rslora: bool
    dora: bool
    target_modules: tuple[str, ...]
    bytes: int
    created: float
    tags: tuple[str, ...]
    note: str
    run: str
    quantisation: str
    fingerprint: str
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """What B A is multiplied with: alpha / r (arXiv 2106.09685, 4.1), or alpha / sqrt(r) (arXiv 2312.03732)."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    def record(self) -> dict[str, Any]:
        """The adapter as the command line prints it."""
        return {
            **vars(self),
            "path": str(self.path),
            "target_modules": list(self.target_modules),
            "tags": list(self.tags),
        }


def read(folder: Path) -> Adapter:
    """The adapter in `folder`. Raises `AdapterError` if it is none, is damaged, or is of a kind that cannot be used."""
    config = read_config(folder)
    _need_safetensors(folder)
    sidecar = read_sidecar(folder)
    base = _table(sidecar, "base")
    base_fingerprint = _text(base, "fingerprint")
    dora = config.get("use_dora") is True
    return Adapter(
        name=folder.resolve().name,
        path=folder,
        base=_text(base, "id") or _text(config, "base_model_name_or_path"),
        base_fingerprint=base_fingerprint,
        hub_id=_text(base, "hub_id") if base else _text(config, "base_model_name_or_path"),
        method="dora" if dora else "lora",
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        rslora=config.get("use_rslora") is True,
        dora=dora,
        target_modules=_targets(config),
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        created=_created(folder, sidecar),
        tags=tuple(tag for tag in _list(sidecar, "tags") if isinstance(tag, str)),
        note=_text(sidecar, "note") or ("" if base_fingerprint else UNKNOWN_ORIGIN),
        run=_text(sidecar, "run"),
        quantisation=_text(_table(_table(sidecar, "recipe"), "base"), "quantisation"),
        fingerprint=fingerprint(folder / WEIGHTS),
        metrics={name: float(value) for name, value in _table(sidecar, "metrics").items() if _is_number(value)},
    )


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's description of the adapter, with `r` and `lora_alpha` seen to be numbers. Raises `AdapterError`."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise AdapterError(f"{CONFIG} of {folder.name} is too large to be one.", "Get the adapter again.")
        config = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AdapterError(
            f"{folder.name} is no adapter: it has no {CONFIG}.", "Choose the folder that holds it, as PEFT saves it."
        ) from error
    except OSError as error:
        raise AdapterError(f"{CONFIG} of {folder.name} cannot be read: {error.strerror}.", "Check who may.") from error
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{CONFIG} of {folder.name} is not readable JSON.", "Get the adapter again.") from error
    if not isinstance(config, dict):
        raise AdapterError(f"{CONFIG} of {folder.name} holds no JSON object.", "Get the adapter again.")
    _check_config(folder.name, config)
    return config


def write_sidecar(folder: Path, **facts: Any) -> None:
    """Write `overlay.json`: plain JSON values, any names. Those read back are `base` (a table with `id`, `hub_id`,
    `revision`, `fingerprint`), `recipe`, `metrics`, `run`, `created` (seconds since 1970), `tags` and `note`."""
    files.write_json(folder / SIDECAR, facts)


def read_sidecar(folder: Path) -> dict[str, Any]:
    """What `write_sidecar` wrote; empty for an adapter from elsewhere. Raises `AdapterError` if it cannot be read."""
    try:
        return files.read_json(folder / SIDECAR)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        raise AdapterError(f"{folder.name}: {error.message}", error.hint) from error


def fingerprint(path: Path) -> str:
    """`sha256:<hex>` of a weights file; reckoned again only if its size or time has changed."""
    stat = path.stat()
    return _fingerprint(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _fingerprint(path: Path, _size: int, _time_ns: int) -> str:
    return f"sha256:{files.sha256(path)}"


# --- guards --------------------------------------------------------------------------------------------------------


def _check_config(name: str, config: dict[str, Any]) -> None:
    kind, rank, alpha = config.get("peft_type"), config.get("r"), config.get("lora_alpha")
    if kind != "LORA":
        raise AdapterError(
            f"{name} is a PEFT adapter of the type {str(kind)[:40]!r}, and only LORA can be used here.",
            "Choose a LoRA adapter.",
        )
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise AdapterError(
            f"{name} states the rank {str(rank)[:40]}; a rank is a whole number from 1 to {MAX_RANK}.",
            "Get the adapter again.",
        )
    if not _is_number(alpha) or alpha <= 0:
        raise AdapterError(f"{name} states the alpha {str(alpha)[:40]}, which is no size.", "Get the adapter again.")
    if config.get("megatron_config"):
        # PEFT imports the module that such a configuration names.
        raise AdapterError(
            f"{name} asks to run program code that it names (megatron_config in {CONFIG}). Overlay Studio never does that.",
            "Choose an adapter without it.",
        )


def _need_safetensors(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / PICKLE).is_file():
        raise AdapterError(
            f"{folder.name} holds its weights in a pickle file ({PICKLE}), and opening such a file can run any program.",
            f"Ask its maker for {WEIGHTS}: PEFT has written it by default since 2023.",
        )
    raise AdapterError(f"{folder.name} has no weights: {WEIGHTS} is missing.", "Get the adapter again.")


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _list(table: dict[str, Any], key: str) -> list[Any]:
    value = table.get(key)
    return value if isinstance(value, list) else []


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _targets(config: dict[str, Any]) -> tuple[str, ...]:
    targets = config.get("target_modules")
    names = [targets] if isinstance(targets, str) else _list(config, "target_modules")
    return tuple(sorted(name for name in names if isinstance(name, str)))


def _created(folder: Path, sidecar: dict[str, Any]) -> float:
    created = sidecar.get("created")
    if _is_number(created):
        return float(created)
    return (folder / WEIGHTS).stat().st_mtime
