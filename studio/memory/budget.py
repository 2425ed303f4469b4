"""How much memory a training run will take, term by term, before anything is loaded. Pure arithmetic on plain numbers.

Every number is an estimate, and each has a derivation: what is held throughout is counted here, parameter by parameter; what
comes and goes within a step is rehearsed operation by operation (`studio.memory.step`). `overlay estimate --trace` runs the real
code dry and arrives at the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from studio.memory.setup import Setup
from studio.memory.step import Step, last_gradient, step
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
_LARGEST_SMALL = 8 * (_OPTIMIZER_FLOOR - 1)  # bytes
# CUDA context, cuBLAS and the libraries' code, and what the allocator holds in blocks of 2 MiB and more without using it: the
# straight line through eight published pairs of (allocated, driver's figure) of packed runs with a chunked loss.
_CONTEXT_BYTES = 900_000_000
_FRAGMENTATION = 0.105
# The logits of a whole micro-batch leave holes that nothing else fills: of the size of one to two of their fp32 copies.
_LOGIT_HOLES = 1.5


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
    """What a run holds at its peak.

    `terms` are the tensors, in the order of `TERM_NAMES`; `context` is what the process holds besides and no tensor
    accounts for. `correction_bytes` is what earlier runs on this computer have taught about the latter. `is_guess` if the
    model's architecture was guessed. In it `num_checkpointed` of `num_layers` layers recompute their activations.
    """

    terms: tuple[Term, ...]
    context: Term
    correction_bytes: int = 0
    is_guess: bool = False
    num_layers: int = 0
    num_checkpointed: int = 0

    @property
    def total_bytes(self) -> int:
        """Peak of the tensors, as torch's allocator counts them: the sum of `terms`."""
        return sum(term.bytes for term in self.terms)

    @property
    def raw_process_bytes(self) -> int:
        """`process_bytes` without what this computer has taught."""
        return self.total_bytes + self.context.bytes

    @property
    def process_bytes(self) -> int:
        """What the driver's tool would show for the process at its peak: does it fit on the card?"""
        return self.raw_process_bytes + self.correction_bytes

    @property
    def shown(self) -> tuple[Term, ...]:
        """The terms for people: they add up to `process_bytes`, the last one holding all that is fixed cost."""
        *large, working = self.terms
        formula = f"{working.formula} + {self.context.formula}"
        if self.correction_bytes:
            formula += f" {self.correction_bytes / 1e9:+.2f} GB measured on this computer"
        size = working.bytes + self.context.bytes + self.correction_bytes
        driven_by = (*self.context.driven_by, *working.driven_by)
        return (*large, Term(working.name, self.context.label, size, formula, driven_by))

    def term(self, name: str) -> Term:
        """The term of that name, one of `TERM_NAMES`."""
        return next(term for term in self.terms if term.name == name)


def budget(facts: ModelFacts, recipe: Recipe, correction_bytes: int = 0) -> Budget:
    """The estimate for our own engine. Raises `RecipeError` if a target is no module of this model."""
    return budget_of(facts, Setup.of(facts, recipe), correction_bytes)


def budget_of(facts: ModelFacts, setup: Setup, correction_bytes: int = 0) -> Budget:
    """The estimate for any setup."""
    found = _budget_at(facts, setup, step(facts, setup), correction_bytes)
    if not setup.gradients_at_end:
        return found
    # Without checkpoints or adapters to speak of, the gradients themselves decide: all are there when the last is made.
    end = _budget_at(facts, replace(setup, gradients_held=1.0), last_gradient(facts, setup), correction_bytes)
    return max(found, end, key=lambda candidate: candidate.total_bytes)


def _budget_at(facts: ModelFacts, setup: Setup, held: Step, correction_bytes: int) -> Budget:
    static = (weights(facts, setup), adapter(facts, setup), gradients(facts, setup), optimizer(facts, setup))
    dynamic = (activations(facts, setup, held), logits(facts, setup, held), overhead(held))
    beside = context(facts, setup, sum(term.bytes for term in dynamic))
    counts = {"num_layers": facts.num_layers, "num_checkpointed": setup.checkpointed_layers}
    return Budget((*static, *dynamic), beside, correction_bytes, facts.is_guess, **counts)


def verdict(budget: Budget, card_bytes: int, other_bytes: int = 0) -> str:
    """`fits`, `tight` or `over` on a card of `card_bytes` of which other programs hold `other_bytes`."""
    used = budget.process_bytes + other_bytes
    if used <= FITS_FRACTION * card_bytes:
        return "fits"
    return "tight" if used <= TIGHT_FRACTION * card_bytes else "over"


def trainable_parameters(facts: ModelFacts, recipe: Recipe) -> tuple[int, int]:
    """Parameters of the adapter, and of base and adapter together."""
    trainable = sum(adapter_tensors(facts, Setup.of(facts, recipe)))
    return trainable, facts.num_parameters + trainable


# --- static terms ----------------------------------------------------------------------------------------------------


def weights(facts: ModelFacts, setup: Setup) -> Term:
    """The base: linear layers quantised; embeddings, head, norms, biases and experts as they are."""
    linear = sum(
        group.num_layers * sum(quantised_bytes(shape, setup) for shape in group.shapes)
        for group in facts.linear_groups()
    )
    elsewhere = facts.vocab_size * facts.hidden_size if setup.embeddings_elsewhere else 0
    large = facts.num_embedding_parameters - elsewhere + facts.num_expert_parameters
    rest = large * setup.embedding_bytes + facts.num_small_parameters * setup.small_bytes
    count = facts.num_linear_parameters
    embeddings = "head" if elsewhere else "embeddings and head"
    unquantised = f"{embeddings} and experts" if facts.num_expert_parameters else embeddings
    return Term(
        "weights",
        "Base weights",
        round(linear + rest),
        f"{count:,} weights x {linear / max(count, 1):.3f} bytes + {large:,} x {setup.embedding_bytes} bytes ({unquantised})",
        ("base.id", "base.quantisation", "base.double_quantisation", "memory.embeddings_on_cpu"),
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
    """Elements of each trainable tensor: A (r x in) and B (out x r) per target, and DoRA's lengths (out).

    PEFT adapts fused experts as well, down with r, gate and up together with 2 r, and their router with r.
    """
    block: list[int] = []
    for shape in setup.targets:
        block += [setup.rank * shape.in_features, setup.rank * shape.out_features]
        block += [shape.out_features] if setup.dora else []
    experts: list[int] = []
    if setup.expert_rank:
        width, hidden = facts.expert_intermediate_size, facts.hidden_size
        shared = facts.num_experts * setup.expert_rank
        router = [setup.expert_rank * hidden, setup.expert_rank * facts.num_experts]
        experts = [shared * width, shared * hidden, 2 * shared * hidden, 2 * shared * 2 * width, *router]
    return block * facts.num_layers + experts * facts.num_expert_layers


def trained_tensors(facts: ModelFacts, setup: Setup) -> list[int]:
    """Elements of each tensor that learns: the adapter's, or in full fine-tuning all of the base's."""
    if not setup.trains_weights:
        return adapter_tensors(facts, setup)
    linear = [
        shape.in_features * shape.out_features
        for group in facts.linear_groups()
        for shape in group.shapes * group.num_layers
    ]
    tables = 1 if facts.tied_embeddings else 2
    large = [facts.num_embedding_parameters // tables] * tables + [facts.num_expert_parameters]
    return [*linear, *large, facts.num_small_parameters]


def adapter(facts: ModelFacts, setup: Setup) -> Term:
    """The overlay itself: r (in + out) elements per target (Hu et al. 2021, section 4.1)."""
    count = 0 if setup.trains_weights else sum(adapter_tensors(facts, setup))
    formula = f"{count:,} trainable parameters x {setup.adapter_bytes} bytes"
    return Term("adapter", "Adapter", count * setup.adapter_bytes, formula, ("adapter.rank", "adapter.targets"))


def gradients(facts: ModelFacts, setup: Setup) -> Term:
    """One gradient per trainable parameter, in its own type; those of earlier micro-batches are there at the peak."""
    count, element = sum(trained_tensors(facts, setup)), setup.trained_bytes
    size = round(count * element * setup.gradients_held)
    return Term(
        "gradients",
        "Gradients",
        size,
        f"{count:,} trainable parameters x {size / max(count, 1):.3g} bytes",
        ("adapter.rank", "adapter.targets"),
    )


def optimizer(facts: ModelFacts, setup: Setup) -> Term:
    """Adam's two moments. Paged states are counted in full: they stay on the card while there is room."""
    tensors = trained_tensors(facts, setup)
    size = _states_8bit(tensors) if "8bit" in setup.optimizer else 2 * setup.moment_bytes * sum(tensors)
    formula = f"{sum(tensors):,} trainable parameters x {size / max(sum(tensors), 1):.2f} bytes"
    driven_by = ("training.optimizer", "adapter.rank", "adapter.targets")
    return Term("optimizer", "Optimiser states", size, formula, driven_by)


def _states_8bit(tensors: Iterable[int]) -> int:
    """Two bytes per element and a 4-byte scale per block and moment; small tensors keep 8 bytes (bitsandbytes docs).

    A tensor just above the limit takes less than one just below; it is counted as the larger, so that more never costs less.
    """
    return sum(
        max(2 * size + 8 * -(-size // _OPTIMIZER_BLOCK), _LARGEST_SMALL) if size >= _OPTIMIZER_FLOOR else 8 * size
        for size in tensors
    )


# --- terms that grow with the micro-batch ------------------------------------------------------------------------------


def activations(facts: ModelFacts, setup: Setup, held: Step) -> Term:
    """What the forward pass leaves for the backward pass, and what the busiest moment adds to it."""
    peak = held.busiest
    where = {
        "forward": "the last layer",
        "loss": "the loss",
        "backward": "the busiest layer",
        "end": "the first layer",
    }[peak.name]
    formula = (
        f"{setup.tokens:,} tokens x ({setup.checkpointed_layers} of {facts.num_layers} layers checkpointed: "
        f"{held.kept / setup.tokens:,.0f} bytes kept + {(peak.activations - held.kept) / setup.tokens:,.0f} bytes in {where})"
    )
    driven_by = (*_SIZE_FIELDS, "memory.checkpointing", "memory.offload", "memory.keep_attention")
    return Term("activations", "Activations", round(peak.activations), formula, driven_by)


def logits(facts: ModelFacts, setup: Setup, held: Step) -> Term:
    """What the loss holds at the peak. If that is elsewhere, the loss's memory is free again by then."""
    peak, loss = held.busiest, held.loss
    rows = setup.supervised_tokens if setup.chunk_rows is None else min(setup.chunk_rows, setup.supervised_tokens)
    formula = (
        f"{rows:,} tokens x {facts.vocab_size:,} words x {setup.logit_bytes:g} bytes + hidden states and gradients"
    )
    if peak.name != "loss":
        formula += f" = {loss.logits / 1e9:.2f} GB, free again when the busiest layer needs more"
    return Term("logits", "Logits and loss", round(peak.logits), formula, ("base.id", *_SIZE_FIELDS))


def overhead(held: Step) -> Term:
    """Weights that are there in 16 bit at the peak: one for its product, or those of a layer that runs again."""
    formula = "the weights that are unpacked to 16 bit at the busiest moment, if there are any"
    driven_by = ("base.quantisation", "base.id", "memory.reuse_weights")
    return Term("overhead", "Working buffers", round(held.busiest.overhead), formula, driven_by)


def context(facts: ModelFacts, setup: Setup, dynamic_bytes: int) -> Term:
    """What the process holds on the card beside its tensors: the CUDA context and the allocator's unused share."""
    holes = 0.0 if setup.chunk_rows is not None else _LOGIT_HOLES * 4 * setup.supervised_tokens * facts.vocab_size
    formula = f"{_CONTEXT_BYTES / 1e9:.1f} GB CUDA context + {_FRAGMENTATION:.1%} of activations and logits"
    formula += f" + {_LOGIT_HOLES} fp32 copies of the logits" if holes else ""
    size = _CONTEXT_BYTES + round(_FRAGMENTATION * dynamic_bytes + holes)
    return Term("context", "CUDA and allocator", size, formula, _SIZE_FIELDS)
