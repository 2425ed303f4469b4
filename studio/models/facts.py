"""What a model is made of, from its `config.json` alone: the numbers that memory, trainable parameters and checks need.

Parameter counts are exact for the families in `_FAMILIES`. Any other architecture gets the count of a Llama of the same
sizes and is marked `is_guess`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from studio.errors import BaseModelError

CONFIG = "config.json"
_MAX_CONFIG_BYTES = 10_000_000


class LinearShape(NamedTuple):
    """One linear layer of a block: its module name as PEFT targets it, and its features in and out."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True)
class Family:
    """How one `model_type` arranges its parameters.

    `layout` is `split` (q, k, v, o, gate, up, down), `fused` (Phi-3), `neox` or `gpt2`. `norms` counts the norm vectors of
    a block, `qk_norm` is `none`, per `head` or over the `full` projection. `defaults` fills keys that published
    configurations of the family leave out.
    """

    layout: str = "split"
    norms: int = 2
    norm_bias: bool = False
    qk_norm: str = "none"
    qkv_bias: bool = False
    tied: bool = False
    gated: bool = True
    positions: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)


_GEMMA3 = Family(
    norms=4,
    qk_norm="head",
    tied=True,
    defaults={
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
    },
)
_FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "ministral": Family(),
    "ministral3": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qk_norm="head"),
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True),
    "gemma3_text": _GEMMA3,
    "phi3": Family(layout="fused"),
    "olmo2": Family(qk_norm="full"),
    "olmo3": Family(qk_norm="full"),
    "smollm3": Family(tied=True),
    "granite": Family(),
    "gpt_neox": Family(layout="neox", norm_bias=True, gated=False),
    "gpt2": Family(layout="gpt2", norm_bias=True, gated=False, tied=True, positions=True),
}
_ATTENTION = {
    "split": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "fused": ("qkv_proj", "o_proj"),
    "neox": ("query_key_value", "dense"),
    "gpt2": ("c_attn", "c_proj"),
}
# GPT-2 and some older configurations use other words for the same numbers.
_ALIASES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions", "n_ctx", "seq_length", "max_sequence_length"),
    "num_local_experts": ("num_local_experts", "num_experts", "n_routed_experts"),
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
    "num_local_experts": 1 << 14,
}


@dataclass(frozen=True)
class ModelFacts:
    """A decoder-only language model in numbers. All blocks are alike; a vision part is not counted (`has_vision`)."""

    family: str
    architecture: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_tokens: int
    tied_embeddings: bool
    gated_mlp: bool
    hidden_act: str = "silu"
    sliding_window: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    dtype: str = "float32"
    num_experts: int = 1
    has_vision: bool = False
    is_guess: bool = False

    @classmethod
    def from_folder(cls, folder: Path) -> ModelFacts:
        """Read `folder`/config.json; weights are not needed. Raises `BaseModelError` naming the field at fault."""
        return cls.from_config(read_config(folder))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ModelFacts:
        """The same from a parsed config.json; a nested `text_config` (Gemma 3, Mistral 3) is looked into."""
        return _facts(config)

    @property
    def q_features(self) -> int:
        """Width of the queries of all heads: `hidden_size` in most models, more in Qwen3 and Gemma."""
        return self.num_heads * self.head_dim

    @property
    def kv_features(self) -> int:
        """Width of the keys (or of the values) of all key-value heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def attention_modules(self) -> tuple[str, ...]:
        """Names of the attention's linear layers, for the target `attention`."""
        return _ATTENTION[_family(self.family).layout]

    def linear_shapes(self) -> list[LinearShape]:
        """The linear layers of one block, attention first. Experts are not among them: they are no linear modules."""
        return [*self.attention_shapes(), *([] if self.num_experts > 1 else self.mlp_shapes())]

    def attention_shapes(self) -> list[LinearShape]:
        """The attention's linear layers of one block."""
        hidden, q, kv = self.hidden_size, self.q_features, self.kv_features
        names = self.attention_modules
        widths = (q, kv, kv) if len(names) == 4 else (q + 2 * kv,)
        inputs = [LinearShape(name, hidden, width) for name, width in zip(names[:-1], widths, strict=True)]
        return [*inputs, LinearShape(names[-1], q, hidden)]

    def mlp_shapes(self) -> list[LinearShape]:
        """The MLP's linear layers of one block (of one expert, in a mixture of experts)."""
        hidden, inner, layout = self.hidden_size, self.intermediate_size, _family(self.family).layout
        if layout == "fused":
            return [LinearShape("gate_up_proj", hidden, 2 * inner), LinearShape("down_proj", inner, hidden)]
        if layout == "neox":
            return [LinearShape("dense_h_to_4h", hidden, inner), LinearShape("dense_4h_to_h", inner, hidden)]
        if layout == "gpt2":
            return [LinearShape("c_fc", hidden, inner), LinearShape("c_proj", inner, hidden)]
        ups = ("gate_proj", "up_proj") if self.gated_mlp else ("up_proj",)
        return [*(LinearShape(name, hidden, inner) for name in ups), LinearShape("down_proj", inner, hidden)]

    @property
    def num_linear_parameters(self) -> int:
        """Weights (no biases) of the linear layers of all blocks: what 4-bit quantisation covers."""
        return self.num_layers * sum(shape.in_features * shape.out_features for shape in self.linear_shapes())

    @property
    def num_expert_parameters(self) -> int:
        """Weights of all experts of all blocks, kept as 3-D tensors; 0 without experts."""
        if self.num_experts == 1:
            return 0
        expert = sum(shape.in_features * shape.out_features for shape in self.mlp_shapes())
        return self.num_layers * self.num_experts * (expert + self.hidden_size)

    @property
    def num_embedding_parameters(self) -> int:
        """Input embeddings, learnt positions if any, and the output head unless it is tied to the embeddings."""
        tables = self.vocab_size * (1 if self.tied_embeddings else 2)
        return self.hidden_size * (tables + (self.context_tokens if _family(self.family).positions else 0))

    @property
    def num_small_parameters(self) -> int:
        """Norms and biases."""
        family = _family(self.family)
        norm = self.hidden_size * (2 if family.norm_bias else 1)
        block = family.norms * norm + self._qk_norm_parameters() + self._bias_parameters()
        return self.num_layers * block + norm

    @property
    def num_parameters(self) -> int:
        """All parameters; a tied head counts once."""
        large = self.num_linear_parameters + self.num_expert_parameters + self.num_embedding_parameters
        return large + self.num_small_parameters

    def _qk_norm_parameters(self) -> int:
        per_head = {"none": 0, "head": 2 * self.head_dim, "full": self.q_features + self.kv_features}
        return per_head[_family(self.family).qk_norm]

    def _bias_parameters(self) -> int:
        *inputs, output = self.attention_shapes()
        biases = sum(shape.out_features for shape in inputs) if self.qkv_bias else 0
        biases += output.out_features if self.output_bias else 0
        return biases + (sum(shape.out_features for shape in self.mlp_shapes()) if self.mlp_bias else 0)


def read_config(folder: Path) -> dict[str, Any]:
    """`folder`/config.json as a table. Raises `BaseModelError` if it is missing or unreadable."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise BaseModelError(
                f"{folder.name}/{CONFIG} is far too large for a configuration.", "Use the original file."
            )
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(
            f"{folder} has no {CONFIG}, so it is not a model folder.", "Choose the folder that holds config.json."
        ) from error
    except OSError as error:
        raise BaseModelError(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.") from error
    except (ValueError, RecursionError) as error:
        raise BaseModelError(f"{folder.name}/{CONFIG} is not readable JSON.", "Download the model again.") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{folder.name}/{CONFIG} holds no table of settings.", "Download the model again.")
    return config


def _family(name: str) -> Family:
    return _FAMILIES.get(name, Family())


def _facts(outer: dict[str, Any]) -> ModelFacts:
    nested = outer.get("text_config")
    inner: dict[str, Any] = nested if isinstance(nested, dict) else outer
    name = str(inner.get("model_type") or outer.get("model_type") or "unknown")
    # Gemma 3's outer configuration is called gemma3, the language model in it gemma3_text; they are the same family.
    name = "gemma3_text" if name == "gemma3" else name
    family = _family(name)
    config = {**family.defaults, **{key: value for key, value in inner.items() if value is not None}}
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    kv_heads = _count(config, "num_key_value_heads", heads)
    if config.get("head_dim") is None and hidden % heads:
        raise _absurd("num_attention_heads", f"{heads} does not divide the hidden size of {hidden}")
    if heads % kv_heads:
        raise _absurd("num_key_value_heads", f"{kv_heads} does not divide the {heads} attention heads")
    experts = _count(config, "num_local_experts", 1)
    old = family.layout in ("neox", "gpt2")
    attention_bias = bool(config.get("attention_bias", old))
    return ModelFacts(
        family=name,
        architecture=_architecture(outer, name),
        hidden_size=hidden,
        num_layers=_count(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=_count(config, "head_dim", hidden // heads),
        intermediate_size=_count(config, "intermediate_size", 4 * hidden if family.layout == "gpt2" else None),
        vocab_size=_count(config, "vocab_size"),
        context_tokens=_count(config, "max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", outer.get("tie_word_embeddings", family.tied))),
        gated_mlp=family.gated,
        hidden_act=_activation(config),
        sliding_window=_window(config),
        qkv_bias=attention_bias or family.qkv_bias,
        output_bias=attention_bias,
        mlp_bias=bool(config.get("mlp_bias", old)),
        dtype=_dtype(config, outer),
        num_experts=experts,
        has_vision="vision_config" in outer,
        is_guess=name not in _FAMILIES or experts > 1,
    )


def _count(config: dict[str, Any], key: str, default: int | None = None) -> int:
    """A whole number from 1 to the field's limit."""
    for alias in _ALIASES.get(key, (key,)):
        value = config.get(alias)
        if value is None:
            continue
        if type(value) is not int or value < 1:
            raise _absurd(alias, f"{str(value)[:40]!r} is not a positive whole number")
        if value > _LIMITS[key]:
            raise _absurd(alias, "it is larger than any model there is")
        return value
    if default is None:
        raise _absurd(key, "it is missing")
    return default


def _absurd(key: str, why: str) -> BaseModelError:
    return BaseModelError(
        f"The model's {CONFIG} cannot be used: {key}: {why}.", "Download the model again, or choose another one."
    )


def _architecture(config: dict[str, Any], family: str) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else family


def _activation(config: dict[str, Any]) -> str:
    names = (config.get(key) for key in ("hidden_activation", "hidden_act", "activation_function"))
    return next((str(name) for name in names if name), "silu")


def _window(config: dict[str, Any]) -> int | None:
    """Tokens that a windowed layer looks back; Qwen writes a number down even where the window is switched off."""
    if config.get("sliding_window") is None or config.get("use_sliding_window") is False:
        return None
    return _count(config, "sliding_window")


def _dtype(config: dict[str, Any], outer: dict[str, Any]) -> str:
    names = (source.get(key) for source in (config, outer) for key in ("dtype", "torch_dtype"))
    return next((str(name).removeprefix("torch.") for name in names if name), "float32")
