"""What a model is made of, from its `config.json` alone: the numbers that memory, trainable parameters and checks need.

Parameter counts are exact for the architectures in `studio.models.families`. Any other gets the count of a Llama of the
same sizes and is marked `is_guess`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from studio.models import config as configuration
from studio.models.config import CONFIG, read_config
from studio.models.families import ATTENTION, FULL, SLIDING, Family, family

__all__ = ["CONFIG", "LinearGroup", "LinearShape", "ModelFacts", "read_config"]


class LinearShape(NamedTuple):
    """One linear layer of a block: its module name as PEFT targets it, and its features in and out."""

    name: str
    in_features: int
    out_features: int


class LinearGroup(NamedTuple):
    """Blocks that are alike: how many there are, and the linear layers of one."""

    num_layers: int
    shapes: list[LinearShape]


@dataclass(frozen=True)
class ModelFacts:
    """A decoder-only language model in numbers. A vision part is not counted (`has_vision`).

    All blocks are alike, but for two differences: `attention_kinds` names each layer `sliding` or `full` (empty: all are
    full), and in a mixture of experts the first `num_dense_layers` to be counted have an ordinary MLP of
    `intermediate_size`. A block with experts has `num_experts` of width `expert_intermediate_size`, of which each token
    passes `experts_per_token`, and shared experts of `num_shared_expert_features` together that all tokens pass.

    transformers 5 keeps a block's experts as two 3-D tensors, which bitsandbytes leaves in 16 bit. `experts_quantised` is
    for stacks that have one linear layer per expert instead.
    """

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
    attention_kinds: tuple[str, ...] = ()
    experts_per_token: int = 1
    expert_intermediate_size: int = 0
    num_shared_expert_features: int = 0
    num_dense_layers: int = 0
    experts_quantised: bool = False
    capped_attention: bool = False
    parallel_blocks: bool = False

    @classmethod
    def from_folder(cls, folder: Path) -> ModelFacts:
        """Read `folder`/config.json; weights are not needed. Raises `BaseModelError` naming the field at fault."""
        return cls.from_config(read_config(folder))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ModelFacts:
        """The same from a parsed config.json; a nested `text_config` (Gemma 3, Mistral 3) is looked into."""
        return cls(**configuration.values(config))

    # --- widths and layers -------------------------------------------------------------------------------------------

    def with_layers(self, num_layers: int) -> ModelFacts:
        """The same model with its first `num_layers` blocks alone, or with blocks of the same kinds added."""
        kinds = (self.layer_kinds * -(-num_layers // self.num_layers))[:num_layers]
        dense = min(self.num_dense_layers, num_layers)
        return replace(
            self, num_layers=num_layers, attention_kinds=kinds if self.attention_kinds else (), num_dense_layers=dense
        )

    @property
    def q_features(self) -> int:
        """Width of the queries of all heads: `hidden_size` in most models, more in Qwen3 and Gemma."""
        return self.num_heads * self.head_dim

    @property
    def kv_features(self) -> int:
        """Width of the keys (or of the values) of all key-value heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def has_experts(self) -> bool:
        """Whether this is a mixture of experts."""
        return self.num_experts > 1

    @property
    def fused_experts(self) -> bool:
        """Whether the experts of a block are 3-D tensors, which bitsandbytes leaves in 16 bit."""
        return self.has_experts and not self.experts_quantised

    @property
    def adapts_experts(self) -> bool:
        """Whether PEFT's `all-linear` lays an overlay on fused experts and on their routers too."""
        return self.fused_experts and self._family.adapts_experts

    @property
    def num_expert_layers(self) -> int:
        """Blocks that have experts."""
        return self.num_layers - self.num_dense_layers if self.has_experts else 0

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """`sliding` or `full` for each layer."""
        return self.attention_kinds or (FULL,) * self.num_layers

    @property
    def num_sliding_layers(self) -> int:
        """Layers that look back through `sliding_window` only."""
        return self.attention_kinds.count(SLIDING)

    # --- what the family fixes ---------------------------------------------------------------------------------------

    @property
    def norms_per_block(self) -> int:
        """Norms over the residual stream in one block; those of queries and keys are `qk_norm`."""
        return self._family.norms

    @property
    def qk_norm(self) -> str:
        """How queries and keys are normed: `none`, per `head`, or over the `full` projection."""
        return self._family.qk_norm

    @property
    def norm_bias(self) -> bool:
        """Whether norms have a bias beside their weight."""
        return self._family.norm_bias

    @property
    def layer_norm(self) -> bool:
        """LayerNorm (GPT-2, GPT-NeoX) instead of RMSNorm."""
        return self._family.norm_bias

    @property
    def fused_qkv(self) -> bool:
        """Whether queries, keys and values come from one linear layer."""
        return self._family.layout != "split"

    @property
    def fused_gate_up(self) -> bool:
        """Whether gate and up come from one linear layer."""
        return self._family.layout == "fused"

    @property
    def eager_attention(self) -> bool:
        """Whether attention scores are held in full, tokens x tokens per head: no fused kernel serves this family."""
        return self._family.eager

    @property
    def norm_before(self) -> bool:
        """Whether attention and MLP read a normed stream; OLMo 2 and 3 norm what they give back instead."""
        return self._family.norm_before

    @property
    def norm_behind(self) -> bool:
        """Whether what attention and MLP give back is normed before it is added to the stream."""
        return self._family.norm_behind

    @property
    def gemma_norm(self) -> bool:
        """Whether norms multiply by their weight in fp32, as Gemma's do."""
        return self.family.startswith("gemma")

    @property
    def scaled_residual(self) -> bool:
        """Whether a branch is scaled before it is added to the stream, as in Granite."""
        return self.family.startswith("granite")

    @property
    def scaled_embeddings(self) -> bool:
        """Whether the first block reads something else than the embeddings themselves: scaled, or positions added."""
        return self.scaled_residual or not self.rotary

    @property
    def two_rotations(self) -> bool:
        """Whether windowed layers rotate at another pace than the others (Gemma 3)."""
        return self.family.startswith("gemma3") and len(set(self.layer_kinds)) > 1

    @property
    def wide_rotation(self) -> bool:
        """Whether queries and keys rotate in fp32, as in OLMo 2 and 3."""
        return self.family in ("olmo2", "olmo3")

    @property
    def capped_logits(self) -> bool:
        """Whether the logits are soft-capped (Gemma 2)."""
        return self.family == "gemma2"

    @property
    def rotary(self) -> bool:
        """Whether positions are rotations of queries and keys; else they are learnt embeddings."""
        return not self._family.positions

    @property
    def _family(self) -> Family:
        return family(self.family)

    # --- linear layers -----------------------------------------------------------------------------------------------

    @property
    def attention_modules(self) -> tuple[str, ...]:
        """Names of the attention's linear layers, for the target `attention`."""
        return ATTENTION[self._family.layout]

    def linear_shapes(self) -> list[LinearShape]:
        """The linear layers of one block, attention first; in a mixture of experts, of one that has experts.

        Experts in 3-D tensors are not among them: they are no linear modules.
        """
        return self.linear_groups()[-1].shapes

    def linear_groups(self) -> list[LinearGroup]:
        """The linear layers of all blocks: one group, or two (dense blocks first) where only some blocks have experts."""
        attention = self.attention_shapes()
        dense = LinearGroup(self.num_layers - self.num_expert_layers, [*attention, *self.mlp_shapes()])
        if not self.has_experts:
            return [dense]
        sparse = LinearGroup(self.num_expert_layers, [*attention, *self._shared_shapes(), *self._expert_linears()])
        return [group for group in (dense, sparse) if group.num_layers]

    def attention_shapes(self) -> list[LinearShape]:
        """The attention's linear layers of one block."""
        hidden, q, kv = self.hidden_size, self.q_features, self.kv_features
        names = self.attention_modules
        widths = (q, kv, kv) if len(names) == 4 else (q + 2 * kv,)
        inputs = [LinearShape(name, hidden, width) for name, width in zip(names[:-1], widths, strict=True)]
        return [*inputs, LinearShape(names[-1], q, hidden)]

    def mlp_shapes(self, width: int | None = None) -> list[LinearShape]:
        """The linear layers of a dense block's MLP, or of one that is `width` wide."""
        hidden, inner, layout = self.hidden_size, width or self.intermediate_size, self._family.layout
        if layout == "fused":
            return [LinearShape("gate_up_proj", hidden, 2 * inner), LinearShape("down_proj", inner, hidden)]
        if layout == "neox":
            return [LinearShape("dense_h_to_4h", hidden, inner), LinearShape("dense_4h_to_h", inner, hidden)]
        if layout == "gpt2":
            return [LinearShape("c_fc", hidden, inner), LinearShape("c_proj", inner, hidden)]
        ups = ("gate_proj", "up_proj") if self.gated_mlp else ("up_proj",)
        return [*(LinearShape(name, hidden, inner) for name in ups), LinearShape("down_proj", inner, hidden)]

    def _shared_shapes(self) -> list[LinearShape]:
        """The experts that all tokens pass are ordinary linear layers."""
        if not self.num_shared_expert_features:
            return []
        gate = [LinearShape("shared_expert_gate", self.hidden_size, 1)] if self._family.shared_expert_gate else []
        return [*self.mlp_shapes(self.num_shared_expert_features), *gate]

    def _expert_linears(self) -> list[LinearShape]:
        if not self.experts_quantised:
            return []
        router = LinearShape("gate", self.hidden_size, self.num_experts)
        return [router, *self.mlp_shapes(self.expert_intermediate_size) * self.num_experts]

    # --- parameters --------------------------------------------------------------------------------------------------

    @property
    def num_linear_parameters(self) -> int:
        """Weights (no biases) of the linear layers of all blocks: what 4-bit quantisation covers."""
        return sum(
            group.num_layers * sum(shape.in_features * shape.out_features for shape in group.shapes)
            for group in self.linear_groups()
        )

    @property
    def num_expert_parameters(self) -> int:
        """Weights of the routed experts that are kept as 3-D tensors, with their routers; 0 where they are linear layers."""
        if not self.has_experts or self.experts_quantised:
            return 0
        expert = sum(shape.in_features * shape.out_features for shape in self.mlp_shapes(self.expert_intermediate_size))
        return self.num_expert_layers * self.num_experts * (expert + self.hidden_size)

    @property
    def num_embedding_parameters(self) -> int:
        """Input embeddings, learnt positions if any, and the output head unless it is tied to the embeddings."""
        tables = self.vocab_size * (1 if self.tied_embeddings else 2)
        return self.hidden_size * (tables + (self.context_tokens if self._family.positions else 0))

    @property
    def num_small_parameters(self) -> int:
        """Norms, biases and attention sinks."""
        norm = self.hidden_size * (2 if self.norm_bias else 1)
        sinks = self.num_heads if self._family.sinks else 0
        block = self.norms_per_block * norm + self._qk_norm_parameters() + self._attention_biases() + sinks
        return self.num_layers * block + norm + self._mlp_biases()

    @property
    def num_parameters(self) -> int:
        """All parameters; a tied head counts once."""
        large = self.num_linear_parameters + self.num_expert_parameters + self.num_embedding_parameters
        return large + self.num_small_parameters

    @property
    def num_active_parameters(self) -> int:
        """Those that one token meets: all of them, but for the experts it is not sent to."""
        if not self.has_experts:
            return self.num_parameters
        expert = sum(shape.in_features * shape.out_features for shape in self.mlp_shapes(self.expert_intermediate_size))
        return self.num_parameters - self.num_expert_layers * (self.num_experts - self.experts_per_token) * expert

    def _qk_norm_parameters(self) -> int:
        per_kind = {"none": 0, "head": 2 * self.head_dim, "full": self.q_features + self.kv_features}
        return per_kind[self.qk_norm]

    def _attention_biases(self) -> int:
        *inputs, output = self.attention_shapes()
        biases = sum(shape.out_features for shape in inputs) if self.qkv_bias else 0
        return biases + (output.out_features if self.output_bias else 0)

    def _mlp_biases(self) -> int:
        """Of all blocks: those of dense MLPs, and of experts and their routers."""
        dense = (self.num_layers - self.num_expert_layers) * sum(shape.out_features for shape in self.mlp_shapes())
        if not (self.has_experts and self._family.expert_bias):
            return dense if self.mlp_bias else 0
        expert = sum(shape.out_features for shape in self.mlp_shapes(self.expert_intermediate_size))
        return (dense if self.mlp_bias else 0) + self.num_expert_layers * self.num_experts * (expert + 1)
