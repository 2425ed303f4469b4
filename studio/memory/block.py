"""What one block of a transformer holds, operation by operation, as the code of transformers and PEFT runs it.

Each method writes down on a `Tape` what a module of transformers 5 does, in its order: which tensors it makes, which autograd
saves, when a variable lets go. The modules' peculiarities are the point: norms compute in fp32 and save that copy; PEFT copies
the base's output, and the input once more in the adapter's type; scores exist in full only where no fused kernel serves. Checked
against dry runs of the real code by `tests/bench/estimate.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from studio.memory.lean import Lean, unpacked
from studio.memory.setup import Setup
from studio.memory.tape import Buffer, Passes, Tape
from studio.models.facts import LinearShape, ModelFacts

_FP32 = 4


@dataclass
class Block:
    """Writes one block down for the tokens of one micro-batch. `has_experts`: its MLP is a mixture of experts."""

    facts: ModelFacts
    setup: Setup
    has_experts: bool = False

    def __post_init__(self) -> None:
        self._tape = Tape()
        self._lean = Lean(self._tape, self.setup)
        self._adapted = {shape.name for shape in self.setup.targets}
        self._bytes = self.setup.compute_bytes
        self._left: dict[int, Buffer] = {}  # what dropout left of an input that fused layers share
        self._handed_up: list[Buffer] = []  # attention's shares, which transformers' block gives a name and never reads

    def passes(self) -> Passes:
        """What the block holds beside its input."""
        stream = self._tape.given(self.setup.size(self.facts.hidden_size, self.setup.residual_bytes))
        feed = self._mixture if self.has_experts else self._mlp
        if self.facts.parallel_blocks:
            attended = self._within(stream, self._attention)
            fed = self._within(stream, feed)
            self._add(stream, self._add(fed, attended))
            self._tape.drop(fed)
        else:
            stream = self._add(stream, self._within(stream, self._attention))
            self._add(stream, self._within(stream, feed))
            self._tape.drop(stream)
        self._tape.drop(*self._handed_up)
        return self._tape.passes()

    def end(self) -> Passes:
        """What the norm behind the last block holds."""
        self._norm(self._tape.given(self.setup.size(self.facts.hidden_size, self.setup.residual_bytes)))
        return self._tape.passes()

    # --- how the parts are joined ------------------------------------------------------------------------------------

    def _within(self, stream: Buffer, part: Callable[[Buffer], Buffer]) -> Buffer:
        """Norm, part, norm: most families have the first, OLMo 2 the second, Gemma 2 and 3 both."""
        inner = self._norm(stream) if self.facts.norm_before else stream
        out = part(inner)
        if inner is not stream:
            self._tape.drop(inner)
        return self._replaced(out, self._norm) if self.facts.norm_behind else out

    def _add(self, stream: Buffer, out: Buffer) -> Buffer:
        """The residual sum; Granite scales the branch first."""
        if self.facts.scaled_residual:
            out = self._replaced(out, lambda branch: self._tape.make(branch.bytes, branch))
        total = self._tape.make(max(stream.bytes, out.bytes), stream, out, hands_on=True)
        self._tape.drop(out)
        return total

    def _replaced(self, old: Buffer, step: Callable[[Buffer], Buffer]) -> Buffer:
        """`x = step(x)`."""
        new = step(old)
        self._tape.drop(old)
        return new

    # --- norms -------------------------------------------------------------------------------------------------------

    def _norm(self, x: Buffer) -> Buffer:
        return self._layer_norm(x) if self.facts.layer_norm else self._rms_norm(x)

    def _layer_norm(self, x: Buffer) -> Buffer:
        """One kernel; it saves its input, and mean and deviation of each token in fp32."""
        return self._tape.make(x.bytes, x, saves=(x,), lasts=self.setup.size(2, _FP32))

    def _rms_norm(self, x: Buffer) -> Buffer:
        """x / rms(x) in fp32; then Llama returns to 16 bit and multiplies by the weight, Gemma the other way round."""
        tape, small = self._tape, self.setup.size(1, _FP32)
        if self.setup.fused_norms:
            return tape.make(x.bytes, x, saves=(x,), lasts=small)
        if self.setup.lean_norms:
            return self._lean.norm(x)
        wide = x.gradient_bytes / self._bytes * _FP32
        is_wide = self.setup.residual_bytes == _FP32
        x32 = x if is_wide else tape.make(wide, x)
        squared = tape.make(wide, x32, saves=(x32,), backward_makes=2 * wide)
        mean = tape.make(small, squared)
        scale = tape.keep_output(tape.make(small, mean))
        y32 = tape.make(wide, x32, scale, saves=(x32, scale), backward_makes=wide)
        tape.drop(squared, mean, scale, *([] if is_wide else [x32]))
        if self.facts.gemma_norm:
            weighted = tape.make(wide, y32)
            out = tape.make(x.gradient_bytes, weighted)
            tape.drop(y32, weighted)
            return out
        if self.setup.norm_output_bytes == _FP32:
            out = tape.make(wide, y32)
            tape.drop(y32)
            return out
        y = tape.make(x.gradient_bytes, y32)
        out = tape.make(x.gradient_bytes, y, saves=(y,) if self.setup.trains_weights else ())
        tape.drop(y, y32)
        return out

    # --- linear layers -----------------------------------------------------------------------------------------------

    def _linear(self, shape: LinearShape, x: Buffer) -> Buffer:
        """A frozen layer, with its overlay if it is a target."""
        if shape.name in self._adapted:
            if self.setup.lean and not self._is_transposed:
                return self._lean.linear(shape, x)
            return self._fused_lora(shape, x) if self.setup.fused_lora else self._lora(shape, x)
        return self._frozen(shape, x)

    @property
    def _is_transposed(self) -> bool:
        """GPT-2 keeps its weights the other way round, unless bitsandbytes has quantised them."""
        return self.facts.family == "gpt2" and self.setup.quantisation == "none"

    def _frozen(self, shape: LinearShape, x: Buffer) -> Buffer:
        """The product with the weight, which is unpacked for it, and again for the gradient; a weight that learns saves x."""
        saves = (x,) if self.setup.trains_weights else ()
        return self._tape.make(
            self.setup.size(shape.out_features), x, saves=saves, workspace=unpacked(shape, self.setup)
        )

    def _lora(self, shape: LinearShape, x: Buffer) -> Buffer:
        """PEFT: W x, copied; + s B (A x) computed in the adapter's type, whose own copy of x is saved.

        Under autocast the matrices are cast instead of x. DoRA's norms need whole weights in fp32.
        """
        tape, setup = self._tape, self.setup
        adapter_bytes = self._bytes if setup.autocast else setup.adapter_bytes
        rank, out_size = setup.rank, self.setup.size(shape.out_features)
        result = self._frozen(shape, x)
        if setup.quantisation in ("nf4", "fp4"):
            result = self._replaced(result, lambda base: tape.make(out_size, base, hands_on=True))
        casts = adapter_bytes != self._bytes
        wide = tape.make(x.gradient_bytes / self._bytes * adapter_bytes, x) if casts else x
        dropped = wide
        if setup.dropout:
            mask = self.setup.size(shape.in_features, 1)
            dropped = tape.make(wide.gradient_bytes, wide, lasts=mask)
        weights = 3 * shape.in_features * shape.out_features * _FP32 if setup.dora else 0
        low = tape.make(self.setup.size(rank, adapter_bytes), dropped, saves=(dropped,), workspace=(weights, weights))
        if dropped is not wide:
            tape.drop(dropped)
        high = tape.make(self.setup.size(shape.out_features, adapter_bytes), low, saves=(low,))
        tape.drop(low)
        high = self._replaced(high, lambda y: tape.make(y.bytes, y, saves=(y,) if setup.dora else ()))
        if casts and setup.quantisation != "none":
            high = self._replaced(high, lambda y: tape.make(out_size, y))
        total = tape.make(max(out_size, high.bytes), result, high, hands_on=total_is_same(out_size, high))
        tape.drop(result, high)
        if total.bytes != out_size:
            total = self._replaced(total, lambda y: tape.make(out_size, y))
        if casts:
            tape.drop(wide)
        return total

    def _fused_lora(self, shape: LinearShape, x: Buffer) -> Buffer:
        """Hand-written passes: x is saved once, whoever else uses it, and with dropout what was left of it."""
        saves: tuple[Buffer, ...] = (x,)
        if self.setup.dropout:
            left = self._left.get(id(x)) or self._tape.make(x.gradient_bytes)
            self._left[id(x)] = left
            saves = (x, left)
        return self._tape.make(
            self.setup.size(shape.out_features), x, saves=saves, workspace=unpacked(shape, self.setup)
        )

    # --- attention ---------------------------------------------------------------------------------------------------

    def _attention(self, inner: Buffer) -> Buffer:
        *_, output = self.facts.attention_shapes()
        owners, (query, key, value) = self._projections(inner)
        if self.facts.qk_norm != "none":
            query, key = self._replaced(query, self._norm), self._replaced(key, self._norm)
        if self.facts.rotary:
            query, key = self._rotated(query, key)
        attend = self._scores if self.facts.eager_attention else self._flash
        attended = attend(query, key, value, owners)
        if self.facts.fused_qkv and self.facts.rotary:
            # These families join what turns and what does not, heads first; the output is laid tokens first again.
            attended = self._replaced(attended, lambda out: self._tape.make(out.bytes, out))
        out = self._linear(output, attended)
        self._tape.drop(attended, query, key, value, *owners)
        return out

    def _projections(self, inner: Buffer) -> tuple[list[Buffer], list[Buffer]]:
        """Queries, keys and values; where one layer makes all three, they are views of what it made."""
        *inputs, _ = self.facts.attention_shapes()
        widths = (self.facts.q_features, self.facts.kv_features, self.facts.kv_features)
        made = [self._linear(shape, inner) for shape in inputs]
        if len(made) == len(widths):
            return [], made
        return made, [self._tape.make(0.0, made[0], gradient=self.setup.size(width)) for width in widths]

    def _rotated(self, *heads: Buffer) -> list[Buffer]:
        """x cos + turned(x) sin (Su et al. 2021) of queries and keys, which stay until both are done."""
        rotated = [self._rotate(x) for x in heads]
        if self.facts.wide_rotation:
            narrow = [self._tape.make(x.gradient_bytes, y) for x, y in zip(heads, rotated, strict=True)]
            self._tape.drop(*rotated)
            rotated = narrow
        self._tape.drop(*heads)
        return rotated

    def _rotate(self, x: Buffer) -> Buffer:
        """Cosines and sines are shared by all blocks and have no gradient; where they are in fp32, so are the products."""
        size, tape = x.gradient_bytes, self._tape
        if self.setup.fused_rotation:
            return tape.make(size, x)
        wide = size / self._bytes * _FP32 if self.facts.wide_rotation else size
        straight = tape.make(wide, x)
        negated = tape.make(size / 2, x)
        turned = tape.make(size, x)
        tape.drop(negated)
        crossed = self._replaced(turned, lambda y: tape.make(wide, y))
        rotated = tape.make(wide, straight, crossed, hands_on=True)
        tape.drop(straight, crossed)
        return rotated

    def _flash(self, query: Buffer, key: Buffer, value: Buffer, owners: list[Buffer]) -> Buffer:
        """FlashAttention-2 (Dao 2023): saves inputs, output and one fp32 number per query and head.

        Backward: the queries' gradient is summed in fp32; with grouped heads, those of keys and values are made per query head.
        """
        tape, size = self._tape, query.gradient_bytes
        saves = (query, key, value, *owners)
        sums = self.setup.size(self.facts.num_heads, _FP32)
        grouped = 2 * size if self.facts.num_kv_heads != self.facts.num_heads else 0.0
        makes = size / self._bytes * _FP32 + sums + grouped
        return tape.keep_output(tape.make(size, query, key, value, saves=saves, lasts=sums, backward_makes=makes))

    def _scores(self, query: Buffer, key: Buffer, value: Buffer, owners: list[Buffer]) -> Buffer:
        """Scores in full, rows x heads x row tokens^2, as Gemma 2 needs to cap them: seven copies, of which four last."""
        tape, size = self._tape, query.gradient_bytes
        square = self.setup.tokens * self.setup.row_tokens * self.facts.num_heads
        if self.facts.num_kv_heads != self.facts.num_heads:
            keys, values = (tape.make(size, x) for x in (key, value))
        else:
            keys, values = key, value
        scores = tape.make(square * self._bytes, query, keys, saves=(query, keys, *owners))
        scores = self._replaced(scores, lambda s: tape.make(s.bytes, s))
        if self.facts.capped_attention:
            scores = self._replaced(scores, lambda s: tape.make(s.bytes, s))
            scores = self._replaced(scores, lambda s: tape.keep_output(tape.make(s.bytes, s, backward_makes=s.bytes)))
            scores = self._replaced(scores, lambda s: tape.make(s.bytes, s))
        scores = self._replaced(scores, lambda s: tape.make(s.bytes, s, hands_on=True))
        wide = tape.make(square * _FP32, scores)
        shares = tape.keep_output(tape.make(square * _FP32, wide))
        tape.drop(wide, scores)
        shares = self._replaced(shares, lambda s: tape.make(square * self._bytes, s))
        out = tape.make(size, shares, values, saves=(shares, values))
        tape.drop(*([keys, values] if keys is not key else []))
        self._handed_up.append(shares)
        return self._replaced(out, lambda y: tape.make(size, y))

    # --- MLP ---------------------------------------------------------------------------------------------------------

    def _mlp(self, inner: Buffer) -> Buffer:
        """down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate."""
        *inputs, down = self.facts.mlp_shapes()
        if self.setup.lean and self.facts.gated_mlp and not self.facts.fused_gate_up:
            return self._lean.mlp(inputs, down, inner)
        product = self._gated(inputs, inner) if self.facts.gated_mlp else self._ungated(inputs[0], inner)
        return self._replaced(product, lambda x: self._linear(down, x))

    def _gated(self, inputs: list[LinearShape], inner: Buffer) -> Buffer:
        tape, width = self._tape, self.facts.intermediate_size
        size = self.setup.size(width)
        if len(inputs) == 1:
            both = self._linear(inputs[0], inner)
            gate, up = tape.make(0.0, both, gradient=size), tape.make(0.0, gradient=size)
            act = tape.make(size, gate, saves=(both,))
            product = tape.make(size, up, act, saves=(both, act))
            tape.drop(act, gate, up, both)
            return product
        act = self._replaced(self._linear(inputs[0], inner), lambda gate: tape.make(size, gate, saves=(gate,)))
        up = self._linear(inputs[1], inner)
        # A fused kernel saves gate and up, and makes the activation again.
        is_fused = self.setup.fused_lora and inputs[0].name in self._adapted
        product = tape.make(size, act, up, saves=(up,) if is_fused else (act, up))
        tape.drop(act, up)
        return product

    def _ungated(self, shape: LinearShape, inner: Buffer) -> Buffer:
        spelt_out = self.facts.hidden_act == "gelu_new"
        activate = self._spelt_out_gelu if spelt_out else lambda x: self._tape.make(x.bytes, x, saves=(x,))
        return self._replaced(self._linear(shape, inner), activate)

    def _spelt_out_gelu(self, x: Buffer) -> Buffer:
        """GPT-2's own: 0.5 x (1 + tanh(c (x + 0.044715 x^3))), one tensor per operation."""
        tape, size = self._tape, x.bytes
        half = tape.make(size, x)
        cube = tape.make(size, x, saves=(x,), backward_makes=2 * size)
        scaled = self._replaced(cube, lambda y: tape.make(size, y))
        total = self._replaced(scaled, lambda y: tape.make(size, x, y, hands_on=True))
        total = self._replaced(total, lambda y: tape.make(size, y))
        bent = self._replaced(total, lambda y: tape.keep_output(tape.make(size, y)))
        raised = self._replaced(bent, lambda y: tape.make(size, y, hands_on=True))
        out = tape.make(size, half, raised, saves=(half, raised))
        tape.drop(half, raised)
        return out

    def _mixture(self, inner: Buffer) -> Buffer:
        """Routed experts as transformers 5 runs them: each token `experts_per_token` times, all in grouped products, in 16 bit.

        PEFT adapts such experts by adding B A to all of their weights, in every pass; those sums are saved.
        """
        tape, facts = self._tape, self.facts
        hidden = facts.experts_per_token * self.setup.size(facts.hidden_size)
        width = facts.experts_per_token * self.setup.size(facts.expert_intermediate_size)
        up_weights, down_weights = self._expert_sums(2), self._expert_sums(1)
        gathered = tape.make(hidden, inner)
        both = tape.make(2 * width, gathered, *up_weights, saves=(*up_weights, *([gathered] if up_weights else [])))
        act = tape.make(width, both, saves=(both,))
        product = tape.make(width, act, both, saves=(act, both))
        tape.drop(both, act)
        out = tape.make(hidden, product, *down_weights, saves=(*down_weights, *([product] if down_weights else [])))
        tape.drop(product, gathered)
        # A router that learns wants to know what each expert said.
        weighted = self._replaced(out, lambda y: tape.make(hidden, y, saves=(y,) if up_weights else ()))
        weighted = self._replaced(weighted, lambda y: tape.make(hidden, y, backward_makes=hidden))
        result = self._replaced(weighted, lambda y: tape.make(self.setup.size(facts.hidden_size), y))
        tape.drop(*up_weights, *down_weights)
        return result

    def _expert_sums(self, fused: int) -> list[Buffer]:
        """W + s B A for all experts at once, of `fused` matrices each; nothing if experts carry no overlay."""
        if not self.setup.expert_rank:
            return []
        hidden, width = self.facts.hidden_size, fused * self.facts.expert_intermediate_size
        # The overlay's matrices are cast to the compute type first, and those copies are saved as well.
        overlay = fused * self.setup.expert_rank * (hidden + width)
        sums = self.facts.num_experts * hidden * width
        return [self._tape.make(sums * self._bytes, lasts=self.facts.num_experts * overlay * self._bytes)]


def total_is_same(out_size: float, high: Buffer) -> bool:
    """Whether the overlay's share has the base's type already, so that their sum hands its gradient on as it is."""
    return high.bytes == out_size
