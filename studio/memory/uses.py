"""Memory of what the studio does besides training: chat, evaluation, merging; and of the ways to train, side by side.

Each is a breakdown like that of a training run: terms in bytes that add up, with the formula in words. Pure arithmetic; what
a block of the model holds on the way forward is rehearsed by `studio.memory.block`. Symbols: T tokens, H hidden size, K
key-value width, L layers, V vocabulary, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from studio.memory.block import Block
from studio.memory.budget import Budget, Term, budget, budget_of, trainable_parameters
from studio.memory.setup import CHUNK_ROWS, Setup
from studio.memory.tape import Moment
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Adapter, Base, Recipe

_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_FP32 = 4
# As the engine's desk keeps them (`studio.engine.desk`): four, and one more while the oldest gives way.
_MAX_ATTACHED = 4
# Sampling from one row of logits: its copy in fp32, the shares, sorted with their places, summed, and masked.
_SAMPLING_BYTES = 2 + 4 + 4 + 4 + 4 + 8 + 4 + 4
_ALLOCATOR_FRACTION = 0.10  # held by the allocator and not usable, as in packed training runs
# Merging (`studio.engine.merge`): what Python, PyTorch, transformers and PEFT take when imported, measured.
_PROGRAM_BYTES = 420_000_000
_SHARD_BYTES = 4_000_000_000
_BASE_FILE_BYTES = 5_000_000_000  # the size of file that models are commonly cut into
# Bytes per weight of the matrix in hand: W' in fp32 and as written, W in fp32, two of the three in fp32 to take the loss.
_MERGE_BYTES_PER_WEIGHT = 4 + 2 + 4 + 4 + 4
# Per entry: the fp32 logits, their log-softmax, and the gradient of either; measured with transformers 5.
_WHOLE_LOGIT_BYTES = 12.0


# --- chat ------------------------------------------------------------------------------------------------------------


def chat(
    facts: ModelFacts,
    base: Base,
    lanes: int,
    context_tokens: int,
    adapter_parameters: Sequence[int] = (),
    *,
    caches_at_once: int = 1,
) -> Budget:
    """Memory on the card to answer in `lanes` lanes, each up to `context_tokens` tokens, question and answer together.

    `adapter_parameters`: sizes of the adapters of those lanes that carry one; the others are the base alone. The engine
    answers the lanes one after another on one base and drops each cache (`caches_at_once`).

    Source: 2 K bytes per token and layer for keys and values (Shazeer 2019, arXiv 1911.02150); the rest from
    `studio.engine.reply` and `studio.engine.desk`.
    """
    assert lanes >= 1
    assert len(adapter_parameters) <= lanes
    width = _DTYPE_BYTES[base.compute_dtype]
    recipe = Recipe(base=base)
    terms = [
        _weights(facts, recipe),
        _attached(adapter_parameters),
        _cache(facts, context_tokens, width, min(lanes, caches_at_once)),
    ]
    setup = _forward_setup(facts, recipe, context_tokens, bool(adapter_parameters))
    moment, stream = _forward_moment(facts, setup)
    mask = _mask_bytes(facts, context_tokens, width)
    activations = moment.tensors + 2 * stream + mask
    terms += [
        Term(
            "activations",
            "Reading the question",
            round(activations),
            f"{context_tokens:,} tokens x {activations / context_tokens:,.0f} bytes in the busiest layer, nothing kept"
            + (f", with {mask:,} bytes of mask" if mask else ""),
            ("base.id",),
        ),
        Term(
            "logits",
            "Choosing a token",
            facts.vocab_size * _SAMPLING_BYTES,
            f"1 token x {facts.vocab_size:,} words x {_SAMPLING_BYTES} bytes",
            ("base.id",),
        ),
        _unpacked(moment),
    ]
    return _on_card(facts, recipe, terms, num_static=2)


def _attached(adapter_parameters: Sequence[int]) -> Term:
    """PEFT keeps adapters in fp32; the largest are assumed to be those attached."""
    held = sorted(adapter_parameters, reverse=True)[: _MAX_ATTACHED + 1]
    formula = f"{sum(held):,} parameters of {len(held)} attached adapters x {_FP32} bytes"
    return Term("adapters", "Adapters", sum(held) * _FP32, formula, ("adapter.rank", "adapter.targets"))


def _cache(facts: ModelFacts, tokens: int, width: int, caches: int) -> Term:
    """Keys and values: of all tokens, or of those in the window of layers that look through one.

    The largest layer's are there twice while the next token's are joined on.
    """
    capped = min(tokens, facts.sliding_window or tokens)
    sliding = facts.num_sliding_layers
    full = facts.num_layers - sliding
    per_token = 2 * facts.kv_features * width
    size = per_token * (caches * (full * tokens + sliding * capped) + (tokens if full else capped))
    kept = f"{facts.num_layers} layers x {tokens:,} tokens"
    if sliding and capped < tokens:
        kept = f"({full} layers x {tokens:,} + {sliding} layers x {capped:,} tokens in the window)"
    formula = f"{caches} x {kept} x {per_token:,} bytes of keys and values, and one layer's once more while it grows"
    return Term("cache", "Key-value cache", size, formula, ("base.id",))


def _mask_bytes(facts: ModelFacts, tokens: int, width: int) -> int:
    """Fused attention needs no mask, unless a window is shorter than the text; full scores need one of their own type."""
    has_window = facts.num_sliding_layers > 0 and facts.sliding_window is not None
    if facts.eager_attention:
        return tokens * tokens * width * (2 if has_window else 1)
    return tokens * tokens if has_window and tokens > (facts.sliding_window or 0) else 0


# --- evaluation ------------------------------------------------------------------------------------------------------


def evaluation(facts: ModelFacts, recipe: Recipe) -> Budget:
    """Memory on the card to take the loss over held-out rows, in the recipe's micro-batches: no gradients, nothing kept.

    Between two steps of a run the optimizer's states stay besides; that is less than the step itself holds. Raises
    `RecipeError` if a target is no module of this model.
    """
    setup = Setup.of(facts, recipe)
    moment, stream = _forward_moment(facts, setup)
    rows = min(CHUNK_ROWS, setup.supervised_tokens)
    picked = setup.supervised_tokens * facts.hidden_size * setup.compute_bytes
    logits = rows * facts.vocab_size * setup.logit_bytes + picked
    mask = _packed_mask_bytes(facts, setup)
    busy_loss = stream + logits > 2 * stream + mask + moment.bytes
    activations = stream if busy_loss else 2 * stream + mask + moment.tensors
    trainable, _ = trainable_parameters(facts, recipe)
    terms = [
        _weights(facts, recipe),
        _attached([trainable]),
        Term(
            "activations",
            "Activations",
            round(activations),
            f"{setup.tokens:,} tokens x {activations / setup.tokens:,.0f} bytes, nothing kept for a way back",
            ("training.micro_batch_tokens", "training.micro_batch_rows", "data.max_tokens"),
        ),
        Term(
            "logits",
            "Logits and loss",
            round(logits) if busy_loss else 0,
            f"{rows:,} tokens x {facts.vocab_size:,} words x {setup.logit_bytes:g} bytes"
            + ("" if busy_loss else ", less than a layer held a moment before"),
            ("base.id",),
        ),
        _unpacked(Moment() if busy_loss else moment),
    ]
    return _on_card(facts, recipe, terms, num_static=2)


def _packed_mask_bytes(facts: ModelFacts, setup: Setup) -> int:
    """As `_mask_bytes` for rows of packed conversations, whose boundaries fused attention takes as numbers."""
    rows = max(1, setup.tokens // setup.row_tokens)
    return rows * _mask_bytes(facts, setup.row_tokens, setup.compute_bytes) if facts.eager_attention else 0


# --- merging ---------------------------------------------------------------------------------------------------------


def merge(facts: ModelFacts, adapter: Adapter, dtype: str | None = None) -> Budget:
    """Memory of the computer (not of the card) to bake `adapter` into its base, written in `dtype` or in that of the base.

    An upper bound of the resident memory, as `studio.engine.merge` works: tensor by tensor from the mapped file into a shard
    of at most 4 GB. `mapped` is no need: the system takes those pages back when it wants them. The comparison afterwards is
    left out where the computer has no room for it. Raises `RecipeError` if a target is no module of this model.
    """
    own = dtype or facts.dtype
    stored, written = _DTYPE_BYTES.get(facts.dtype, 2), _DTYPE_BYTES.get(own, 2)
    recipe = Recipe(adapter=adapter)
    setup = Setup.of(facts, recipe)
    trainable, _ = trainable_parameters(facts, recipe)
    largest = max((shape.in_features * shape.out_features for shape in setup.targets), default=0)
    output, base = facts.num_parameters * written, facts.num_parameters * stored
    shard = min(output, _SHARD_BYTES)
    # Tensors that are copied as they are stay views into their file, which therefore stays mapped.
    mapped = min(base, _BASE_FILE_BYTES + (_SHARD_BYTES if own == facts.dtype else 0))
    terms = (
        Term("adapter", "Adapter", _FP32 * trainable, f"{trainable:,} parameters x {_FP32} bytes", ("adapter.rank",)),
        Term(
            "shard",
            "Merged weights",
            shard,
            f"{facts.num_parameters:,} parameters x {written} bytes, at most 4 GB before they are written",
            ("base.id",),
        ),
        Term(
            "work",
            "The weight in hand",
            largest * _MERGE_BYTES_PER_WEIGHT,
            f"{largest:,} weights x {_MERGE_BYTES_PER_WEIGHT} bytes: sum, rounded sum, and what was lost",
            ("base.id", "adapter.targets"),
        ),
        Term(
            "mapped", "Base file, mapped", mapped, f"{mapped:,} bytes of files that the system may drop", ("base.id",)
        ),
    )
    program = Term("context", "Program", _PROGRAM_BYTES, "Python with PyTorch and transformers", ())
    return Budget(terms, program, is_guess=facts.is_guess)


# --- ways to train ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """One way to train: `full`, `lora` or `qlora`, its estimate, and how many parameters learn."""

    name: str
    label: str
    budget: Budget
    num_trainable: int


def methods(
    facts: ModelFacts, recipe: Recipe, settled: Callable[[Recipe], Recipe] = lambda recipe: recipe
) -> tuple[Method, ...]:
    """Full fine-tuning, LoRA on 16-bit weights, and QLoRA, with everything else as in the recipe.

    QLoRA takes the recipe's own quantisation, NF4 if it has none. `settled` says what becomes of a recipe on the card at hand
    (`studio.memory.auto`); full fine-tuning counts `auto` as all layers. Raises `RecipeError` if a target is no module of this
    model.
    """
    trainable, _ = trainable_parameters(facts, recipe)
    in_16_bit = replaced(recipe, "base.quantisation", "none")
    quantised = replaced(recipe, "base.quantisation", "nf4") if recipe.base.quantisation == "none" else recipe
    return (
        Method("full", "Full fine-tuning", full(facts, recipe), facts.num_parameters),
        Method("lora", "LoRA on 16-bit weights", budget(facts, settled(in_16_bit)), trainable),
        Method("qlora", f"QLoRA ({quantised.base.quantisation})", budget(facts, settled(quantised)), trainable),
    )


def full(facts: ModelFacts, recipe: Recipe) -> Budget:
    """Training every parameter: weights and gradients in the compute type, states by the recipe's optimizer.

    PyTorch's AdamW keeps both moments in the weights' own type, bitsandbytes' in 32 bit, or in 8 bit with a scale per block
    of 256. A head that learns cannot take the chunked loss: its logits exist as a whole.
    """
    in_16_bit = Setup.of(facts, replaced(recipe, "base.quantisation", "none"))
    own_type = recipe.training.optimizer == "adamw_torch"
    setup = replace(
        in_16_bit,
        method="full",
        targets=(),
        expert_rank=0,
        moment_bytes=in_16_bit.compute_bytes if own_type else _FP32,
        chunk_rows=None,
        logit_bytes=_WHOLE_LOGIT_BYTES,
    )
    return budget_of(facts, setup)


# --- parts -----------------------------------------------------------------------------------------------------------


def _weights(facts: ModelFacts, recipe: Recipe) -> Term:
    return budget(facts, replaced(recipe, "adapter.targets", "all-linear")).term("weights")


def _forward_setup(facts: ModelFacts, recipe: Recipe, tokens: int, has_adapter: bool) -> Setup:
    setup = Setup.of(facts, recipe)
    targets = setup.targets if has_adapter else ()
    return replace(setup, tokens=tokens, row_tokens=tokens, supervised_tokens=1, targets=targets)


def _forward_moment(facts: ModelFacts, setup: Setup) -> tuple[Moment, float]:
    """The busiest moment of a forward pass that keeps nothing, and the size of the stream of hidden states beside it."""
    kinds = {True, facts.num_dense_layers == 0} if facts.has_experts else {False}
    # Hand-written passes are for training; where no gradient is wanted PEFT and transformers compute as ever.
    setup = replace(setup, lean=False, lean_norms=False)
    moments = [Block(facts, setup, has_experts=kind).passes().forgetful for kind in kinds]
    stream = setup.tokens * facts.hidden_size * setup.residual_bytes
    return max(moments, key=lambda moment: moment.bytes), stream


def _unpacked(moment: Moment) -> Term:
    formula = f"{round(moment.workspace):,} bytes: one weight unpacked for one multiplication"
    return Term("overhead", "Working buffers", round(moment.workspace), formula, ("base.quantisation", "base.id"))


def _on_card(facts: ModelFacts, recipe: Recipe, terms: Sequence[Term], num_static: int) -> Budget:
    """The terms with what the process holds besides: the CUDA context, and what the allocator cannot use."""
    least = replace(Setup.of(facts, recipe), tokens=1, row_tokens=1, supervised_tokens=1)
    bare = budget_of(facts, least).context
    idle = round(_ALLOCATOR_FRACTION * sum(term.bytes for term in terms[num_static:]))
    formula = f"{bare.formula} + {_ALLOCATOR_FRACTION:.0%} of what comes and goes"
    return Budget(tuple(terms), replace(bare, bytes=bare.bytes + idle, formula=formula), is_guess=facts.is_guess)
