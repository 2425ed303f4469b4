"""The table of architectures: how each family of models arranges its parameters. Data, and no arithmetic.

Each entry says what the published modelling code of that `model_type` builds, whatever a particular config.json says: which
layers are fused, which biases there are, how many norms, where experts sit. `defaults` are the values that the family's
configuration class takes for a key that is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FULL, SLIDING = "full", "sliding"
LayerPattern = Callable[[dict[str, Any], int], bool]


@dataclass(frozen=True)
class Family:
    """How one `model_type` arranges its parameters.

    `layout` is `split` (q, k, v, o, gate, up, down), `fused` (Phi-3), `neox` or `gpt2`. `norms` counts the norm vectors of
    a block, `norm_before` tells whether its parts read a normed stream, `qk_norm` is `none`, per `head` or over the `full`
    projection. `qkv_bias`, `output_bias` and `mlp_bias` are `never`, `always`, or the configuration key that says so. `slides`
    tells whether a layer looks back through a window only, where the configuration has one and lists no layer types. `eager`:
    fused attention cannot serve this family. `adapts_experts`: PEFT takes experts and routers for linear layers, as they were
    in transformers 4.
    """

    layout: str = "split"
    norms: int = 2
    norm_before: bool = True
    norm_bias: bool = False
    qk_norm: str = "none"
    qkv_bias: str = "attention_bias"
    output_bias: str = "attention_bias"
    mlp_bias: str = "never"
    tied: bool = False
    gated: bool = True
    positions: bool = False
    eager: bool = False
    parallel_key: str = ""
    slides: LayerPattern = lambda _config, _layer: True
    experts: bool = False
    adapts_experts: bool = False
    expert_width_key: str = "intermediate_size"
    expert_bias: bool = False
    shared_expert: bool = False
    shared_expert_gate: bool = False
    sinks: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def norm_behind(self) -> bool:
        """Whether what attention and MLP give back is normed before it is added to the stream."""
        return self.norms == 4 or not self.norm_before


def _every(period: int) -> LayerPattern:
    """Windows in all layers but every `period`-th."""
    return lambda _config, layer: (layer + 1) % period != 0


def _gemma3_slides(config: dict[str, Any], layer: int) -> bool:
    period = config.get("sliding_window_pattern")
    return (layer + 1) % (period if type(period) is int and period > 0 else 6) != 0


def _from_max_window_layers(config: dict[str, Any], layer: int) -> bool:
    """Qwen: the first `max_window_layers` layers read all, those above them a window."""
    first = config.get("max_window_layers")
    return layer >= (first if type(first) is int else 28)


def _qwen2_moe_slides(config: dict[str, Any], layer: int) -> bool:
    first = config.get("max_window_layers")
    return layer % 2 == 0 and layer < (first if type(first) is int else 28)


def _without_positions(config: dict[str, Any], layer: int) -> bool:
    """SmolLM 3: the layers without rotary positions, every fourth one."""
    interval = config.get("no_rope_layer_interval")
    return (layer + 1) % (interval if type(interval) is int and interval > 0 else 4) == 0


def _never(_config: dict[str, Any], _layer: int) -> bool:
    return False


def _unbiased(**more: Any) -> Family:
    """A family whose code builds no biases in the attention, whatever the configuration says."""
    return Family(qkv_bias="never", output_bias="never", **more)


_LLAMA = Family(mlp_bias="mlp_bias", slides=_never)
_GEMMA3 = Family(
    norms=4,
    qk_norm="head",
    tied=True,
    slides=_gemma3_slides,
    defaults={
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 4096,
    },
)
FAMILIES = {
    "llama": _LLAMA,
    "mistral": _unbiased(defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "ministral": _unbiased(defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "ministral3": _unbiased(defaults={"num_key_value_heads": 8, "head_dim": 128}),
    "qwen2": Family(
        qkv_bias="always",
        output_bias="never",
        slides=_from_max_window_layers,
        defaults={"num_key_value_heads": 32, "sliding_window": 4096},
    ),
    "qwen3": Family(
        qk_norm="head",
        slides=_from_max_window_layers,
        defaults={"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096},
    ),
    "gemma": Family(tied=True, slides=_never, defaults={"num_key_value_heads": 16, "head_dim": 256}),
    "gemma2": Family(
        norms=4,
        tied=True,
        eager=True,
        slides=_every(2),
        defaults={
            "num_key_value_heads": 4,
            "head_dim": 256,
            "attn_logit_softcapping": 50.0,
            "sliding_window": 4096,
        },
    ),
    "gemma3_text": _GEMMA3,
    "phi3": _unbiased(layout="fused"),
    "olmo2": Family(norm_before=False, qk_norm="full", slides=_never),
    "olmo3": Family(norm_before=False, qk_norm="full", slides=_every(4), defaults={"sliding_window": 4096}),
    "smollm3": Family(
        tied=True,
        mlp_bias="mlp_bias",
        slides=_without_positions,
        defaults={"num_key_value_heads": 4},
    ),
    "granite": _LLAMA,
    "gpt_neox": Family(
        layout="neox",
        norm_bias=True,
        mlp_bias="always",
        gated=False,
        parallel_key="use_parallel_residual",
        slides=_never,
        defaults={"attention_bias": True, "use_parallel_residual": True},
    ),
    "gpt2": Family(
        layout="gpt2",
        norm_bias=True,
        qkv_bias="always",
        output_bias="always",
        mlp_bias="always",
        gated=False,
        tied=True,
        positions=True,
        slides=_never,
        defaults={"activation_function": "gelu_new"},
    ),
    "mixtral": _unbiased(
        experts=True,
        adapts_experts=True,
        defaults={"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    ),
    "qwen2_moe": Family(
        experts=True,
        expert_width_key="moe_intermediate_size",
        qkv_bias="qkv_bias",
        output_bias="never",
        shared_expert=True,
        shared_expert_gate=True,
        slides=_qwen2_moe_slides,
        defaults={
            "qkv_bias": True,
            "num_key_value_heads": 16,
            "sliding_window": 4096,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
    ),
    "qwen3_moe": Family(
        experts=True,
        adapts_experts=True,
        expert_width_key="moe_intermediate_size",
        qk_norm="head",
        defaults={
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
    ),
    "olmoe": Family(
        experts=True,
        adapts_experts=True,
        qk_norm="full",
        slides=_never,
        defaults={"num_experts": 64, "num_experts_per_tok": 8},
    ),
    "gpt_oss": Family(
        experts=True,
        expert_bias=True,
        eager=True,
        sinks=True,
        slides=_every(2),
        defaults={
            "attention_bias": True,
            "head_dim": 64,
            "num_key_value_heads": 8,
            "num_local_experts": 128,
            "num_experts_per_tok": 4,
            "sliding_window": 128,
        },
    ),
}
ATTENTION = {
    "split": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "fused": ("qkv_proj", "o_proj"),
    "neox": ("query_key_value", "dense"),
    "gpt2": ("c_attn", "c_proj"),
}


def family(name: str) -> Family:
    """The entry of that `model_type`; the arrangement of a Llama for one that is not in the table."""
    return FAMILIES.get(name, _LLAMA)


def is_known(name: str) -> bool:
    """Whether parameters of that `model_type` are counted exactly."""
    return name in FAMILIES
