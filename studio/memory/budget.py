"""How much memory a training run will take, term by term, before anything is loaded. Pure arithmetic on plain numbers.

Every number is an estimate. Symbols: T tokens per micro-batch, H hidden size, K key-value width, M MLP width, L layers,
V vocabulary, r rank. The constants of the activations were measured with torch's memory tracker on four Llama-like models
with PEFT on all linear layers in bfloat16; those of the overhead are fitted to published peaks (allocated beside what the
driver showed) of packed QLoRA runs with a chunked loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from studio.memory.setup import Setup
from studio.models.facts import LinearShape, ModelFacts
from studio.recipe.recipe import Recipe

TERM_NAMES = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead")
FITS_FRACTION = 0.85
TIGHT_FRACTION = 0.97

_SIZE_FIELDS = ("training.micro_batch_tokens", "training.micro_batch_rows", "data.max_tokens")
_BLOCK_WEIGHTS = 64  # weights per quantisation constant (Dettmers et al. 2023, section 3)
_BLOCK_CONSTANTS = 256  # constants per constant of the second level
_OPTIMIZER_BLOCK = 256  # elements per scale of an 8-bit state (bitsandbytes since 0.44)
_OPTIMIZER_FLOOR = 4096  # smaller tensors keep 32-bit states (bitsandbytes, min_8bit_size)
# Bytes per token at 2 bytes per element: factors of H, K and M.
_SAVED = (16.2, 4.0, 8.0)
_BACKWARD_PEAK = (25.7, 4.2, 12.2)
_OFFLOAD_BUFFERS = 2
_CONTEXT_BYTES = 900_000_000
_FRAGMENTATION = 0.105
_FRAGMENTATION_FULL_LOGITS = 0.30


@dataclass(frozen=True)
class Term:
    """One share of the memory: what it is, how it was reckoned, and which recipe fields move it."""

    name: str
    label: str
    bytes: int
    formula: str
    driven_by: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """The terms in the order of `TERM_NAMES`. `is_guess` if the model's architecture was guessed."""

    terms: tuple[Term, ...]
    is_guess: bool = False

    @property
    def total_bytes(self) -> int:
        """All terms together: what the driver's tool would show for the process at its peak."""
        return sum(term.bytes for term in self.terms)

    @property
    def allocated_bytes(self) -> int:
        """Peak of the tensors alone, as torch's allocator counts them: all terms but the overhead."""
        return sum(term.bytes for term in self.terms if term.name != "overhead")

    def term(self, name: str) -> Term:
        """The term of that name, one of `TERM_NAMES`."""
        return next(term for term in self.terms if term.name == name)


def budget(facts: ModelFacts, recipe: Recipe) -> Budget:
    """The estimate for our own engine. Raises `RecipeError` if a target is no module of this model."""
    return budget_of(facts, Setup.of(facts, recipe))


def budget_of(facts: ModelFacts, setup: Setup) -> Budget:
    """The estimate for any setup."""
    static = (weights(facts, setup), adapter(facts, setup), gradients(facts, setup), optimizer(facts, setup))
    dynamic = (activations(facts, setup), logits(facts, setup))
    return Budget((*static, *dynamic, overhead(setup, sum(term.bytes for term in dynamic))), facts.is_guess)


def verdict(budget: Budget, card_bytes: int, other_bytes: int = 0) -> str:
    """`fits`, `tight` or `over` on a card of `card_bytes` of which other programs hold `other_bytes`."""
    used = budget.total_bytes + other_bytes
    if used <= FITS_FRACTION * card_bytes:
        return "fits"
    return "tight" if used <= TIGHT_FRACTION * card_bytes else "over"


def trainable_parameters(facts: ModelFacts, recipe: Recipe) -> tuple[int, int]:
    """Parameters of the adapter, and of base and adapter together."""
    trainable = sum(adapter_tensors(facts, Setup.of(facts, recipe)))
    return trainable, facts.num_parameters + trainable


# --- static terms ----------------------------------------------------------------------------------------------------


def weights(facts: ModelFacts, setup: Setup) -> Term:
    """The frozen base: linear layers quantised; embeddings, head, norms, biases and experts as they are."""
    linear = facts.num_layers * sum(quantised_bytes(shape, setup) for shape in facts.linear_shapes())
    large = facts.num_embedding_parameters + facts.num_expert_parameters
    rest = large * setup.embedding_bytes + facts.num_small_parameters * setup.small_bytes
    count = facts.num_linear_parameters
    return Term(
        "weights",
        "Base weights",
        round(linear + rest),
        f"{count:,} weights x {linear / max(count, 1):.3f} bytes + {large:,} x {setup.embedding_bytes} bytes"
        " (embeddings and head)",
        ("base.id", "base.quantisation", "base.double_quantisation"),
    )


def quantised_bytes(shape: LinearShape, setup: Setup) -> float:
    """One linear layer's weights with their constants.

    4 bit: half a byte per weight and one constant per 64 weights, 4 bytes each; with double quantisation 1 byte each
    and 4 bytes per 256 of them: 0.5625 or 0.516 bytes per weight (Dettmers et al. 2023, section 3). int8: one byte per
    weight and a 4-byte scale per row (Dettmers et al. 2022).
    """
    count = shape.in_features * shape.out_features
    if setup.quantisation == "int8":
        return count + 4 * shape.out_features
    if setup.quantisation == "none":
        return count * setup.compute_bytes
    constants = -(-count // _BLOCK_WEIGHTS)
    if not setup.double_quantisation:
        return count / 2 + 4 * constants
    return count / 2 + constants + 4 * -(-constants // _BLOCK_CONSTANTS)


def adapter_tensors(facts: ModelFacts, setup: Setup) -> list[int]:
    """Elements of each trainable tensor: A (r x in) and B (out x r) per target, and DoRA's lengths (out)."""
    block: list[int] = []
    for shape in setup.targets:
        block += [setup.rank * shape.in_features, setup.rank * shape.out_features]
        block += [shape.out_features] if setup.dora else []
    return block * facts.num_layers


def adapter(facts: ModelFacts, setup: Setup) -> Term:
    """The overlay itself: r (in + out) elements per target (Hu et al. 2021, section 4.1)."""
    count = sum(adapter_tensors(facts, setup))
    formula = f"{count:,} trainable parameters x {setup.adapter_bytes} bytes"
    return Term("adapter", "Adapter", count * setup.adapter_bytes, formula, ("adapter.rank", "adapter.targets"))


def gradients(facts: ModelFacts, setup: Setup) -> Term:
    """One gradient per trainable parameter, in the adapter's own type."""
    count = sum(adapter_tensors(facts, setup))
    formula = f"{count:,} trainable parameters x {setup.adapter_bytes} bytes"
    return Term("gradients", "Gradients", count * setup.adapter_bytes, formula, ("adapter.rank", "adapter.targets"))


def optimizer(facts: ModelFacts, setup: Setup) -> Term:
    """Adam's two moments. Paged states are counted in full: they stay on the card while there is room."""
    tensors = adapter_tensors(facts, setup)
    size = _states_8bit(tensors) if "8bit" in setup.optimizer else 8 * sum(tensors)
    formula = f"{sum(tensors):,} trainable parameters x {size / max(sum(tensors), 1):.2f} bytes"
    driven_by = ("training.optimizer", "adapter.rank", "adapter.targets")
    return Term("optimizer", "Optimiser states", size, formula, driven_by)


def _states_8bit(tensors: Iterable[int]) -> int:
    """Two bytes per element and a 4-byte scale per block and moment; small tensors keep 8 bytes (bitsandbytes docs)."""
    return sum(
        2 * size + 8 * -(-size // _OPTIMIZER_BLOCK) if size >= _OPTIMIZER_FLOOR else 8 * size for size in tensors
    )


# --- terms that grow with the micro-batch ------------------------------------------------------------------------------


def activations(facts: ModelFacts, setup: Setup) -> Term:
    """What the forward pass leaves for the backward pass, and the busiest moment within one block."""
    kept, peak = kept_activations(facts, setup), block_peak(facts, setup)
    formula = (
        f"{setup.tokens:,} tokens x ({setup.checkpointed_layers} of {facts.num_layers} layers checkpointed: "
        f"{kept / setup.tokens:,.0f} bytes kept + {peak / setup.tokens:,.0f} bytes in the busiest layer)"
    )
    driven_by = (*_SIZE_FIELDS, "memory.checkpointing", "memory.offload")
    return Term("activations", "Activations", round(kept + peak), formula, driven_by)


def kept_activations(facts: ModelFacts, setup: Setup) -> float:
    """Bytes alive between forward and backward: a block's input if it is checkpointed, else all it has to remember.

    Offloaded inputs leave only the buffers in flight.
    """
    boundary = setup.tokens * facts.hidden_size * setup.residual_bytes
    checkpointed = min(setup.checkpointed_layers, _OFFLOAD_BUFFERS) if setup.offload else setup.checkpointed_layers
    remembering = facts.num_layers - setup.checkpointed_layers
    return checkpointed * boundary + remembering * setup.tokens * _token_bytes(facts, setup, _SAVED)


def block_peak(facts: ModelFacts, setup: Setup) -> float:
    """The most that recomputing and differentiating one block holds beyond what is kept.

    Includes two dequantised copies of the block's largest weight; DoRA adds one more for its norms.
    """
    per_token = _token_bytes(facts, setup, _BACKWARD_PEAK)
    if setup.checkpointed_layers == 0:
        per_token -= _token_bytes(facts, setup, _SAVED)
    largest = max((shape.in_features * shape.out_features for shape in facts.linear_shapes()), default=0)
    copies = (2 if setup.quantisation != "none" else 0) + (1 if setup.dora else 0)
    return setup.tokens * per_token + copies * largest * setup.compute_bytes


def _token_bytes(facts: ModelFacts, setup: Setup, factors: tuple[float, float, float]) -> float:
    """Bytes per token and block. An MLP without a gate holds about half; wide heads count half of the H share."""
    of_hidden, of_kv, of_mlp = factors
    width = (facts.hidden_size + max(facts.hidden_size, facts.q_features)) / 2
    inner = facts.intermediate_size * (1.0 if facts.gated_mlp else 0.5)
    return (of_hidden * width + of_kv * facts.kv_features + of_mlp * inner) * setup.compute_bytes / 2


def logits(facts: ModelFacts, setup: Setup) -> Term:
    """What the loss needs beyond the memory that the busiest block uses a moment later: the two never meet."""
    needed, shared = loss_bytes(facts, setup), block_peak(facts, setup)
    rows = setup.supervised_tokens if setup.chunk_rows is None else min(setup.chunk_rows, setup.supervised_tokens)
    formula = (
        f"{rows:,} tokens x {facts.vocab_size:,} words x {setup.logit_bytes:g} bytes + hidden gradients = "
        f"{needed:,.0f} bytes, of which {min(needed, shared):,.0f} are counted under activations"
    )
    size = round(max(0.0, needed - shared))
    return Term("logits", "Logits and loss", size, formula, ("base.id", *_SIZE_FIELDS))


def loss_bytes(facts: ModelFacts, setup: Setup) -> float:
    """Logits of the rows in hand, and the gradient of every supervised row's hidden state where rows come in chunks."""
    vocabulary = facts.vocab_size * setup.logit_bytes
    if setup.chunk_rows is None:
        return setup.supervised_tokens * vocabulary
    rows = min(setup.chunk_rows, setup.supervised_tokens)
    return rows * vocabulary + setup.supervised_tokens * facts.hidden_size * setup.compute_bytes


def overhead(setup: Setup, dynamic_bytes: int) -> Term:
    """The CUDA context with its libraries, and what the allocator holds but cannot use.

    Fitted to ten published packed runs; logits of a whole micro-batch at once fragment the memory far more.
    """
    fraction = _FRAGMENTATION_FULL_LOGITS if setup.chunk_rows is None else _FRAGMENTATION
    formula = f"{_CONTEXT_BYTES / 1e9:.1f} GB CUDA context + {fraction:.1%} of activations and logits"
    size = _CONTEXT_BYTES + round(fraction * dynamic_bytes)
    return Term("overhead", "CUDA and allocator", size, formula, _SIZE_FIELDS)
