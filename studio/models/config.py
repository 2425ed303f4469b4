"""Reading a config.json: every number checked, everything left out filled in as the family's own class does.

A configuration comes from outside. A field that is missing or absurd is refused by its name; what an unknown architecture
says in words of its own is passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio.errors import BaseModelError
from studio.models.families import FULL, SLIDING, Family, family, is_known

CONFIG = "config.json"
_MAX_CONFIG_BYTES = 10_000_000
_MAX_NAME_CHARACTERS = 100
# Ten times the largest model there is: numbers that are each possible can still be absurd together.
_MAX_PARAMETERS = 10**14

# GPT-2 and some older configurations use other words for the same numbers.
_ALIASES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_sequence_length"),
    "num_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "num_experts_per_tok": ("num_experts_per_tok", "num_experts_per_token"),
}
# Far above any model there is; beyond them a number is a mistake, not a size.
_LIMITS = {
    "hidden_size": 1 << 18,
    "num_hidden_layers": 1 << 12,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 14,
    "intermediate_size": 1 << 22,
    "vocab_size": 1 << 26,
    "max_position_embeddings": 1 << 32,
    "sliding_window": 1 << 32,
    "num_experts": 1 << 14,
    "num_experts_per_tok": 1 << 14,
    "moe_intermediate_size": 1 << 22,
    "shared_expert_intermediate_size": 1 << 22,
    "decoder_sparse_step": 1 << 12,
    "first_k_dense_replace": 1 << 12,
    "n_shared_experts": 1 << 10,
}


def read_config(folder: Path) -> dict[str, Any]:
    """`folder`/config.json as a table. Raises `BaseModelError` if it is missing or unreadable."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise BaseModelError(
                f"{folder.name}/{CONFIG} is far too large for a configuration.", "Use the original file."
            )
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise BaseModelError(
            f"{folder} has no {CONFIG}, so it is not a model folder.", "Choose the folder that holds config.json."
        ) from error
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    return parse_config(text, folder.name)


def parse_config(text: bytes, name: str) -> dict[str, Any]:
    """The table that the bytes of `name`/config.json hold. Raises `BaseModelError` if they are no JSON table."""
    try:
        config = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BaseModelError(f"{name}/{CONFIG} is not readable JSON.", "Download the model again.") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{name}/{CONFIG} holds no table of settings.", "Download the model again.")
    return config


def values(outer: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ModelFacts` by name, from a parsed config.json. Raises `BaseModelError` naming the field at fault."""
    nested = outer.get("text_config")
    inner: dict[str, Any] = nested if isinstance(nested, dict) else outer
    name = _family_name(inner, outer)
    kind = family(name)
    config = _with_defaults(inner, kind)
    hidden, layers = _count(config, "hidden_size"), _count(config, "num_hidden_layers")
    heads = _heads(config, kind, hidden)
    width = _intermediate_size(config, kind, hidden)
    experts = _experts(config, kind, name, width)
    found = {
        "family": name,
        "architecture": _architecture(outer, name),
        "hidden_size": hidden,
        "num_layers": layers,
        **heads,
        "intermediate_size": width,
        "vocab_size": _count(config, "vocab_size"),
        "context_tokens": _count(config, "max_position_embeddings"),
        "tied_embeddings": _tied(config, outer, kind),
        "gated_mlp": kind.gated,
        "hidden_act": _activation(config),
        "qkv_bias": _bias(config, kind.qkv_bias),
        "output_bias": _bias(config, kind.output_bias),
        "mlp_bias": _bias(config, kind.mlp_bias),
        "dtype": _dtype(config, outer),
        **_windows(config, kind, name, layers),
        **experts,
        "capped_attention": config.get("attn_logit_softcapping") is not None,
        "parallel_blocks": bool(kind.parallel_key) and _flag(config, kind.parallel_key, True),
        "has_vision": "vision_config" in outer,
        "is_guess": not is_known(name) or kind.experts != (experts["num_experts"] > 1),
    }
    _check_size(found)
    return found


def _with_defaults(inner: dict[str, Any], kind: Family) -> dict[str, Any]:
    """`inner`, and what the family takes for keys that it leaves out under each of their names."""
    aliases = {alias: group for group in _ALIASES.values() for alias in group}
    left_out = {key: value for key, value in kind.defaults.items() if not inner.keys() & {*aliases.get(key, (key,))}}
    return {**inner, **left_out}


# --- groups of fields ------------------------------------------------------------------------------------------------


def _heads(config: dict[str, Any], kind: Family, hidden: int) -> dict[str, int]:
    heads = _count(config, "num_attention_heads")
    old = kind.layout in ("neox", "gpt2")  # these know no other width of a head, and no grouped keys
    stated_width = None if old else config.get("head_dim")
    if stated_width is None and hidden % heads:
        raise _absurd("num_attention_heads", f"{heads} does not divide the hidden size of {hidden}")
    kv_heads = heads if old else _count(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise _absurd("num_key_value_heads", f"{kv_heads} does not divide the {heads} attention heads")
    head_dim = hidden // heads if stated_width is None else _count(config, "head_dim")
    return {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim}


def _intermediate_size(config: dict[str, Any], kind: Family, hidden: int) -> int:
    default = 4 * hidden if kind.layout == "gpt2" else None
    if default is None and config.get("intermediate_size") is None and config.get("moe_intermediate_size") is not None:
        # A model whose every block has experts may leave out the width of a dense one.
        default = _count(config, "moe_intermediate_size")
    return _count(config, "intermediate_size", default)


def _experts(config: dict[str, Any], kind: Family, name: str, dense_width: int) -> dict[str, Any]:
    """How many experts a token chooses from, how wide they are, and which blocks have none."""
    num_experts = _count(config, "num_experts", 0, low=0)
    if num_experts < 2:
        return {"num_experts": 1}
    per_token = _count(config, "num_experts_per_tok", min(2, num_experts))
    if per_token > num_experts:
        raise _absurd("num_experts_per_tok", f"{per_token} are more than the {num_experts} experts")
    key = kind.expert_width_key if is_known(name) else "moe_intermediate_size"
    width = _count(config, key, dense_width)
    return {
        "num_experts": num_experts,
        "experts_per_token": per_token,
        "expert_intermediate_size": width,
        "num_shared_expert_features": _shared_features(config, kind, name, width),
        "num_dense_layers": _dense_layers(config, name, _count(config, "num_hidden_layers")),
    }


def _shared_features(config: dict[str, Any], kind: Family, name: str, width: int) -> int:
    if is_known(name) and not kind.shared_expert:
        return 0
    if config.get("n_shared_experts") is not None:
        return width * _count(config, "n_shared_experts", low=0)
    return _count(config, "shared_expert_intermediate_size", 0, low=0)


def _dense_layers(config: dict[str, Any], name: str, layers: int) -> int:
    """Blocks with an ordinary MLP: Qwen names them and has a period, DeepSeek begins with some."""
    if name in ("qwen2_moe", "qwen3_moe") or not is_known(name):
        step = _count(config, "decoder_sparse_step", 1)
        first = _count(config, "first_k_dense_replace", 0, low=0)
        dense = {layer for layer in range(layers) if (layer + 1) % step or layer < first}
        return len(dense | _named_layers(config, layers))
    return 0


def _named_layers(config: dict[str, Any], layers: int) -> set[int]:
    stated = config.get("mlp_only_layers")
    if stated is None:
        return set()
    if not isinstance(stated, list) or not all(type(layer) is int for layer in stated):
        raise _absurd("mlp_only_layers", "it is not a list of layer numbers")
    return {layer for layer in stated if 0 <= layer < layers}


def _windows(config: dict[str, Any], kind: Family, name: str, layers: int) -> dict[str, Any]:
    """The window and which layers look through it. Qwen states a window even where it is switched off."""
    if config.get("sliding_window") is None or not _flag(config, "use_sliding_window", _uses_windows(name)):
        return {"sliding_window": None}
    window = _count(config, "sliding_window")
    kinds = _stated_kinds(config, name, layers)
    if kinds is None:
        kinds = tuple(SLIDING if kind.slides(config, layer) else FULL for layer in range(layers))
    return {"sliding_window": window, "attention_kinds": kinds}


def _uses_windows(name: str) -> bool:
    return not name.startswith("qwen") and name != "smollm3"


def _stated_kinds(config: dict[str, Any], name: str, layers: int) -> tuple[str, ...] | None:
    stated = config.get("layer_types")
    if stated is None:
        return None
    sound = isinstance(stated, list) and len(stated) == layers and all(isinstance(kind, str) for kind in stated)
    if sound:
        return tuple(SLIDING if "sliding" in kind or "chunked" in kind else FULL for kind in stated)
    if is_known(name):
        raise _absurd("layer_types", f"it is not a list of {layers} names, one for each layer")
    return None


def _tied(config: dict[str, Any], outer: dict[str, Any], kind: Family) -> bool:
    source = config if config.get("tie_word_embeddings") is not None else outer
    return _flag(source, "tie_word_embeddings", kind.tied)


def _bias(config: dict[str, Any], rule: str) -> bool:
    return rule == "always" or (rule != "never" and _flag(config, rule, False))


def _check_size(found: dict[str, Any]) -> None:
    """Refuse numbers that are each possible and absurd together."""
    hidden, width = found["hidden_size"], max(found["intermediate_size"], found.get("expert_intermediate_size", 0))
    q_features = found["num_heads"] * found["head_dim"]
    block = hidden * (4 * q_features + 3 * width * found["num_experts"] + found.get("num_shared_expert_features", 0))
    if found["num_layers"] * block + 2 * hidden * found["vocab_size"] > _MAX_PARAMETERS:
        raise _absurd("num_hidden_layers", "with the other sizes it makes a model larger than any there is")


# --- single values ---------------------------------------------------------------------------------------------------


def _count(config: dict[str, Any], key: str, default: int | None = None, *, low: int = 1) -> int:
    """A whole number from `low` to the field's limit."""
    for alias in _ALIASES.get(key, (key,)):
        value = config.get(alias)
        if value is None:
            continue
        if type(value) is not int:
            raise _absurd(alias, f"{_shown(value)} is not a whole number")
        if value < low:
            raise _absurd(alias, "it is not a positive whole number" if low else "it is negative")
        if value > _LIMITS[key]:
            raise _absurd(alias, "it is larger than in any model there is")
        return value
    if default is None:
        raise _absurd(key, "it is missing")
    return default


def _flag(config: dict[str, Any], key: str, default: bool) -> bool:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _absurd(key, f"{_shown(value)} is neither true nor false")
    return value


def _shown(value: Any) -> str:
    """A bad value in a sentence; one that cannot be shown in a few letters is named by its kind."""
    if isinstance(value, bool | float | str):
        return repr(value)[:40]
    return {list: "a list", dict: "a table", int: "a number"}.get(type(value), "this value")


def _absurd(key: str, why: str) -> BaseModelError:
    return BaseModelError(
        f"The model's {CONFIG} cannot be used: {key}: {why}.", "Download the model again, or choose another one."
    )


def _family_name(inner: dict[str, Any], outer: dict[str, Any]) -> str:
    name = next((name for name in (inner.get("model_type"), outer.get("model_type")) if _is_name(name)), "unknown")
    # Gemma 3's outer configuration is called gemma3, the language model in it gemma3_text; they are the same family.
    return "gemma3_text" if name == "gemma3" else str(name)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARACTERS


def _architecture(config: dict[str, Any], fallback: str) -> str:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and _is_name(names[0]) else fallback


def _activation(config: dict[str, Any]) -> str:
    names = (config.get(key) for key in ("hidden_activation", "hidden_act", "activation_function"))
    return next((str(name) for name in names if _is_name(name)), "silu")


def _dtype(config: dict[str, Any], outer: dict[str, Any]) -> str:
    names = (source.get(key) for source in (config, outer) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in names if _is_name(name)), "float32")
