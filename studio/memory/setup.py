"""What of a recipe matters for memory, as plain numbers.

The estimate is a function of a model's facts and of this. A recipe for our own engine becomes one with `Setup.of`;
measurements made with other training programs are entered by saying what those did instead (another loss, another
adapter dtype, norms kept in 32 bit).
"""

from __future__ import annotations

from dataclasses import dataclass

from studio.errors import Problem, RecipeError
from studio.models.facts import LinearShape, ModelFacts
from studio.recipe.recipe import Recipe

CHUNK_ROWS = 1024
_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One training setup. All `_bytes` are per element; tokens are those of one micro-batch.

    `targets` are the linear layers of one block that get an adapter. The loss holds `logit_bytes` per vocabulary entry
    for `chunk_rows` tokens at a time, or for all of them if that is None. `gradients_held` is the share of the gradients that
    is there at the busiest moment: all of them in every micro-batch of a step but the first. `method` "full" trains the base's
    own weights: then a head that learns gets a gradient in the loss (twice with a `chunked_head`, which adds them up), and
    with `gradients_at_end` the end of the backward pass may decide, when all gradients are there.
    """

    tokens: int
    row_tokens: int
    supervised_tokens: int
    quantisation: str
    double_quantisation: bool
    targets: tuple[LinearShape, ...]
    rank: int
    checkpointed_layers: int
    optimizer: str
    method: str = "adapter"
    dora: bool = False
    dropout: bool = False
    offload: bool = False
    keep_attention: bool = False
    reuse_weights: bool = False
    embeddings_elsewhere: bool = False
    compute_bytes: int = 2
    embedding_bytes: int = 2
    small_bytes: int = 2
    adapter_bytes: int = 4
    moment_bytes: int = 4
    gradients_held: float = 1.0
    gradients_at_end: bool = False
    chunked_head: bool = False
    residual_bytes: int = 2
    norm_output_bytes: int = 2
    autocast: bool = False
    lean: bool = False
    lean_norms: bool = False
    fused_lora: bool = False
    fused_norms: bool = False
    fused_rotation: bool = False
    expert_rank: int = 0
    logit_bytes: float = 6.0
    chunk_rows: int | None = CHUNK_ROWS

    @property
    def trains_weights(self) -> bool:
        """Full fine-tuning: the base itself learns, there is no adapter."""
        return self.method == "full"

    @property
    def trained_bytes(self) -> int:
        """Bytes per element of what learns."""
        return self.compute_bytes if self.trains_weights else self.adapter_bytes

    def size(self, width: float, element_bytes: float | None = None) -> float:
        """Bytes of a (tokens, width) tensor, in the compute type unless said otherwise."""
        return self.tokens * width * (self.compute_bytes if element_bytes is None else element_bytes)

    @classmethod
    def of(cls, facts: ModelFacts, recipe: Recipe) -> Setup:
        """What our own engine does for `recipe`. Raises `RecipeError` if a target is no module of this model."""
        compute_bytes, adapter_bytes = _DTYPE_BYTES[recipe.base.compute_dtype], _DTYPE_BYTES[recipe.adapter.dtype]
        tokens = micro_batch_tokens(recipe)
        return cls(
            tokens=tokens,
            row_tokens=tokens if recipe.data.packing else recipe.data.max_tokens,
            # The worst micro-batch counts: one in which nearly every token is an answer.
            supervised_tokens=tokens,
            quantisation=recipe.base.quantisation,
            double_quantisation=recipe.base.double_quantisation,
            targets=shapes_named(facts, recipe.adapter.targets),
            rank=recipe.adapter.rank,
            checkpointed_layers=checkpointed_layers(facts, recipe.memory.checkpointing),
            optimizer=recipe.training.optimizer,
            dora=recipe.adapter.dora,
            adapter_bytes=adapter_bytes,
            # torch's optimizer keeps its averages in the type of what it trains, bitsandbytes' in fp32 or 8 bit.
            moment_bytes=adapter_bytes if recipe.training.optimizer == "adamw_torch" else 4,
            # PEFT takes fused experts and their routers for linear layers when all of those are asked for.
            expert_rank=recipe.adapter.rank if facts.adapts_experts and recipe.adapter.targets == "all-linear" else 0,
            dropout=recipe.adapter.dropout > 0,
            lean=_is_lean(recipe),
            lean_norms=True,
            offload=recipe.memory.offload,
            keep_attention=recipe.memory.keep_attention,
            reuse_weights=reuses_weights(recipe),
            embeddings_elsewhere=recipe.memory.embeddings_on_cpu and not facts.tied_embeddings,
            compute_bytes=compute_bytes,
            embedding_bytes=compute_bytes,
            small_bytes=compute_bytes,
            residual_bytes=compute_bytes,
            norm_output_bytes=compute_bytes,
        )


def _is_lean(recipe: Recipe) -> bool:
    return not recipe.adapter.dora and recipe.adapter.dropout == 0 and recipe.base.quantisation != "int8"


def reuses_weights(recipe: Recipe) -> bool:
    """Whether a block that runs again keeps the weights that it unpacks. `auto` counts as not, the least that it takes.

    Only hand-written passes do so. Compiled ones do not: what saves them is the compiler's business.
    """
    is_packed = recipe.base.quantisation in ("nf4", "fp4")
    return recipe.memory.reuse_weights == "always" and is_packed and _is_lean(recipe) and not recipe.training.compile


def micro_batch_tokens(recipe: Recipe) -> int:
    """Tokens of the largest micro-batch: as stated, or rows of full length; never less than one full row."""
    longest = recipe.data.max_tokens
    if recipe.training.micro_batch_rows is not None:
        return recipe.training.micro_batch_rows * longest
    return max(recipe.training.micro_batch_tokens or 0, longest)


def checkpointed_layers(facts: ModelFacts, checkpointing: str | int) -> int:
    """How many blocks forget their activations. `auto` counts as all, the least that it takes: see `studio.memory.auto`."""
    if checkpointing == "none":
        return 0
    return min(checkpointing, facts.num_layers) if isinstance(checkpointing, int) else facts.num_layers


def shapes_named(facts: ModelFacts, targets: str | tuple[str, ...]) -> tuple[LinearShape, ...]:
    """The linear layers of one block that `adapter.targets` means, matched by the last part of their names as PEFT does.

    Raises `RecipeError` if a name fits no layer, unless the model's own names are only guessed.
    """
    shapes = facts.linear_shapes()
    if targets == "all-linear":
        return tuple(shapes)
    stated = facts.attention_modules if targets == "attention" else targets
    names = {target.rsplit(".", 1)[-1] for target in stated}
    known = {shape.name for shape in shapes}
    unknown = sorted(names - known)
    if unknown and not facts.is_guess:
        problem = Problem(
            field="adapter.targets",
            message=f"this model has no layer called {', '.join(unknown)}.",
            fix=f"Choose from {', '.join(dict.fromkeys(shape.name for shape in shapes))}, or use all-linear.",
        )
        raise RecipeError([problem])
    return tuple(shape for shape in shapes if shape.name in names)
