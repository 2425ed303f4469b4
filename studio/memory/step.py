"""The busiest moment of a training step: what is alive besides weights, adapter, gradients and optimizer states.

A step goes forward through the blocks, through the loss, and backward. Each of these has its peak; the largest decides. The
blocks come from `studio.memory.block`, so only what lies between them is reckoned here. Symbols: T tokens, H hidden size, V
vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from studio.memory.block import Block
from studio.memory.setup import Setup
from studio.memory.tape import Moment, Passes
from studio.models.facts import ModelFacts

_IDS_BYTES = 4 * 8  # per token: ids, positions, targets and where they are, as 64-bit numbers
_FP32 = 4
_OFFLOAD_BUFFERS = 2  # the embeddings' output and one that leaves; in the backward pass one more, that returns


@dataclass(frozen=True)
class Peak:
    """The most that one part of a step holds. `logits` was made by the loss, `overhead` are unpacked weights."""

    name: str
    activations: float
    logits: float = 0.0
    overhead: float = 0.0

    @property
    def bytes(self) -> float:
        """All of it."""
        return self.activations + self.logits + self.overhead


@dataclass(frozen=True)
class Step:
    """What a training step holds: between forward and backward pass, and at the peak of each part."""

    kept: float
    peaks: tuple[Peak, ...]

    @property
    def busiest(self) -> Peak:
        """The part that decides."""
        return max(self.peaks, key=lambda peak: peak.bytes)

    @property
    def loss(self) -> Peak:
        """The loss, whether it decides or not."""
        return next((peak for peak in self.peaks if peak.name == "loss"), Peak("loss", 0.0))


def step(facts: ModelFacts, setup: Setup) -> Step:
    """What one micro-batch of `setup` holds on the way through the model."""
    once = replace(setup, checkpointed_layers=0, reuse_weights=False)
    block, end = _rehearsed(facts, once)
    again = _rehearsed(facts, replace(once, reuse_weights=True))[0] if setup.reuse_weights else block
    forgetting, remembering = setup.checkpointed_layers, facts.num_layers - setup.checkpointed_layers
    stream = setup.tokens * facts.hidden_size * setup.residual_bytes
    attended = attention_kept(facts, setup)
    always = boundaries(facts, setup) + _tables(facts, setup) + forgetting * attended
    masks = _masks(facts, setup)
    # Blocks that run again hold on to the masks they were called with.
    always += masks if forgetting else 0.0
    # Learnt positions and the sum with the embeddings are variables of the model's own forward pass.
    passing = (0.0 if forgetting else masks) + (0.0 if facts.rotary else 2 * stream)
    kept = always + remembering * block.kept
    end_input = stream if _norm_saves_input(facts, setup) else 0.0
    peaks = [
        *_forward(block, again, kept + passing, stream - end_input, forgetting, remembering),
        _peak("forward", end.forward.beside(kept + passing + stream)),
        _loss(facts, setup, kept + end.kept + end_input),
        _peak("backward", end.backward.beside(kept + end_input)),
    ]
    if remembering:
        peaks.append(_peak("backward", block.backward.beside(kept - block.kept)))
    if forgetting:
        # The block that runs again takes up what it has kept: it is among what it saves.
        returning = stream if setup.offload and forgetting > 1 else 0.0
        beside = always - attended + returning
        peaks += [_peak("backward", moment.beside(beside)) for moment in (again.again, again.backward)]
    return Step(kept, tuple(peaks))


@lru_cache(maxsize=16)
def _rehearsed(facts: ModelFacts, setup: Setup) -> tuple[Passes, Passes]:
    """One block, and the norm behind the last: the same however many of them forget, of which `auto` tries some."""
    blocks = [Block(facts, setup, has_experts).passes() for has_experts in _kinds(facts)]
    # Where only some blocks have experts, the larger kind stands for all: an upper bound.
    return max(blocks, key=lambda passes: (passes.kept, passes.backward.bytes)), Block(facts, setup).end()


def last_gradient(facts: ModelFacts, setup: Setup) -> Step:
    """The end of the backward pass: the first block's input and, where the head is tied, the embeddings' second gradient."""
    stream = setup.tokens * facts.hidden_size * setup.residual_bytes
    tied = facts.vocab_size * facts.hidden_size if setup.trains_weights and facts.tied_embeddings else 0
    held = 2 * stream + tied * setup.compute_bytes
    return Step(stream, (Peak("end", held),))


def _kinds(facts: ModelFacts) -> set[bool]:
    return {True, *([False] if facts.num_dense_layers else [])} if facts.has_experts else {False}


def _peak(name: str, moment: Moment) -> Peak:
    return Peak(name, moment.tensors, overhead=moment.workspace)


def _forward(
    block: Passes, again: Passes, kept: float, unsaved: float, forgetting: int, remembering: int
) -> list[Peak]:
    """The last block of each kind: all that is kept of those before it is there by then, and its input.

    `unsaved` is the size of that input, if nobody saves it; `again` is a block that will run again.
    """
    found = []
    if remembering:
        found.append(_peak("forward", block.forward.beside(kept - block.kept + unsaved)))
    if forgetting:
        found.append(_peak("forward", again.forgetful.beside(kept - remembering * block.kept)))
    return found


def attention_kept(facts: ModelFacts, setup: Setup) -> float:
    """What a checkpointed block keeps of its attention if asked to: the output, and one fp32 number per query and head.

    Scores that exist in full are no single operation whose output could be kept.
    """
    if not setup.keep_attention or facts.eager_attention:
        return 0.0
    return setup.tokens * (facts.q_features * setup.compute_bytes + facts.num_heads * _FP32)


def boundaries(facts: ModelFacts, setup: Setup) -> float:
    """The inputs of checkpointed blocks, T x H each (Chen et al. 2016). Of offloaded ones, one is on its way.

    The embeddings' own output always stays: it is where gradients end. Norms that save their input keep that of every block.
    """
    one = setup.tokens * facts.hidden_size * setup.residual_bytes
    forgetting = setup.checkpointed_layers
    count = facts.num_layers if _norm_saves_input(facts, setup) else forgetting
    first = 1 if count == 0 or facts.scaled_embeddings else 0
    count -= max(0, forgetting - _OFFLOAD_BUFFERS) if setup.offload else 0
    return one * (count + first)


def _norm_saves_input(facts: ModelFacts, setup: Setup) -> bool:
    """Fused and lean norms keep what they are given; the others a copy of it in fp32."""
    return facts.layer_norm or setup.fused_norms or setup.lean_norms


def _masks(facts: ModelFacts, setup: Setup) -> float:
    """Dense masks in the compute type, one per kind of layer, where scores are held in full."""
    kinds = len(set(facts.layer_kinds)) if facts.eager_attention else 0
    return kinds * setup.tokens * setup.row_tokens * setup.compute_bytes


def _tables(facts: ModelFacts, setup: Setup) -> float:
    """Ids, and cosines and sines of the positions: one pair, or two where windowed layers turn at another pace."""
    pairs = 0 if not facts.rotary else 2 if facts.two_rotations else 1
    element = _FP32 if facts.wide_rotation else setup.compute_bytes
    return setup.tokens * (_IDS_BYTES + 2 * pairs * facts.head_dim * element)


def _loss(facts: ModelFacts, setup: Setup, kept: float) -> Peak:
    """The last hidden states, those of supervised tokens picked out, and the logits.

    Our own loss holds the logits of `chunk_rows` tokens, 6 bytes per entry (8 where they are soft-capped): the 16-bit product
    and its fp32 copy, then that copy and its 16-bit gradient; and a gradient of the size of the hidden states. A chunk's
    gradient stays until the next one's is there. Others hold `logit_bytes` per entry of all tokens.
    """
    hidden = setup.tokens * facts.hidden_size * setup.compute_bytes
    if setup.trains_weights:
        copies = 2 if setup.chunked_head else 1
        hidden += copies * facts.vocab_size * facts.hidden_size * setup.compute_bytes
    if setup.chunk_rows is None:
        return Peak("loss", kept + hidden, setup.supervised_tokens * facts.vocab_size * setup.logit_bytes)
    rows = min(setup.chunk_rows, setup.supervised_tokens)
    capped = 2.0 if facts.capped_logits else 0.0
    picked = 2 * setup.supervised_tokens * facts.hidden_size * setup.compute_bytes
    gradients = 1 if rows == setup.supervised_tokens else 2
    chunk = rows * (
        facts.vocab_size * (setup.logit_bytes + capped) + gradients * facts.hidden_size * setup.compute_bytes
    )
    return Peak("loss", kept + hidden, picked + chunk)
