"""What the hand-written passes of `studio.engine.lean` hold, operation by operation.

Each method mirrors one of that module's autograd functions. The overlay's matrices are cast to the compute type for each
product; their gradients are there in their own type until the whole function is done. With
`reuse_weights` the block is one that runs again: its weights stay unpacked from there to the end of each function's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.memory.setup import Setup
from studio.memory.tape import Buffer, Moment, Tape
from studio.models.facts import LinearShape

_FP32 = 4
_BLOCK_WEIGHTS = 64  # weights per quantisation constant


@dataclass(frozen=True)
class Lean:
    """Writes lean norms, layers and MLPs down on the tape of a block."""

    tape: Tape
    setup: Setup

    def norm(self, x: Buffer) -> Buffer:
        """Saves x and 1 / rms(x); works on two or three fp32 copies that do not last."""
        size = x.gradient_bytes
        wide = size / self.setup.compute_bytes * _FP32
        copies = [self.tape.make(wide), self.tape.make(wide)]
        self.tape.drop(copies[0])
        lasts = self.setup.size(1, _FP32)
        out = self.tape.make(size, x, saves=(x,), lasts=lasts, backward_makes=2 * wide, backward_first=Moment(3 * wide))
        self.tape.drop(copies[1])
        return out

    def linear(self, shape: LinearShape, x: Buffer) -> Buffer:
        """An overlaid layer: x is saved once, and A x; the overlay is added in place."""
        low = self._low(shape)
        return self.tape.make(
            self.setup.size(shape.out_features),
            x,
            saves=(x,),
            lasts=low,
            workspace=self._around_kept(shape),
            unpacked=self._kept(shape),
            backward_makes=self._learnt(shape) + low + self._cast(shape.in_features),
        )

    def mlp(self, inputs: Sequence[LinearShape], down: LinearShape, inner: Buffer) -> Buffer:
        """Gate and up are saved, the product is made again; its gradients are written over it.

        Run again, it stops where gate and up are there: its gradients need all that was saved, the last product nothing more.
        """
        tape, size = self.tape, self.setup.size(down.in_features)
        made = [
            tape.make(num_bytes, workspace=workspace, unpacked=kept)
            for shape in inputs
            for num_bytes, workspace, kept in (
                (size, self._around_kept(shape), self._kept(shape)),
                (self._low(shape), (0.0, 0.0), 0.0),
            )
        ]
        up = inputs[1]
        learnt_down = self._learnt(down) + self._low(down)
        firsts = Moment(3 * size + learnt_down), Moment(2 * size + learnt_down, unpacked(down, self.setup)[1])
        saved = tape.make(
            0.0,
            inner,
            saves=(inner, *made),
            workspace=(0.0, self._around_kept(up)[1]),
            backward_makes=2 * size + learnt_down + self._learnt(up) + self._low(up) + self._cast(up.in_features),
            backward_first=max(firsts, key=lambda moment: moment.bytes),
        )
        product = tape.make(size)
        low = tape.make(self._low(down))
        out = tape.make(self.setup.size(down.out_features), saved, workspace=self._workspace(down), hands_on=True)
        tape.drop(product, low, saved, *made)
        return out

    def _is_adapted(self, shape: LinearShape) -> bool:
        return any(target.name == shape.name for target in self.setup.targets)

    def _low(self, shape: LinearShape) -> float:
        """A x, in the compute type."""
        return self.setup.size(self.setup.rank) if self._is_adapted(shape) else 0.0

    def _learnt(self, shape: LinearShape) -> float:
        """The gradients of A and B, in their own type."""
        width = shape.in_features + shape.out_features
        return self.setup.rank * width * self.setup.adapter_bytes if self._is_adapted(shape) else 0.0

    def _cast(self, width: int) -> float:
        """One of the overlay's matrices in the compute type, if that is not its own."""
        is_own = self.setup.adapter_bytes == self.setup.compute_bytes
        return 0.0 if is_own else self.setup.rank * width * self.setup.compute_bytes

    def _workspace(self, shape: LinearShape) -> tuple[float, float]:
        """The unpacked weight is gone before the overlay's matrices are cast.

        Where we unpack it ourselves, to keep it, its constants are gone before the product is made.
        """
        forward, backward = unpacked(shape, self.setup)
        return max(backward if self.setup.reuse_weights else forward, self._cast_for(shape)), backward

    def _cast_for(self, shape: LinearShape) -> float:
        return self._cast(max(shape.in_features, shape.out_features)) if self._is_adapted(shape) else 0.0

    def _kept(self, shape: LinearShape) -> float:
        """The unpacked weight, where the backward pass shall find it."""
        return unpacked(shape, self.setup)[1] if self.setup.reuse_weights else 0.0

    def _around_kept(self, shape: LinearShape) -> tuple[float, float]:
        """The workspace without a weight that is kept."""
        return (self._cast_for(shape), 0.0) if self.setup.reuse_weights else self._workspace(shape)


def unpacked(shape: LinearShape, setup: Setup) -> tuple[float, float]:
    """One weight in the compute type, forwards and backwards.

    Constants that were quantised themselves are there in fp32 twice during bitsandbytes' forward product, without and with
    their mean; its backward pass has let go of them before it multiplies.
    """
    if setup.quantisation == "none":
        return 0.0, 0.0
    count = shape.in_features * shape.out_features
    has_constants = setup.double_quantisation and setup.quantisation != "int8"
    constants = 2 * _FP32 * count / _BLOCK_WEIGHTS if has_constants else 0.0
    return count * setup.compute_bytes + constants, count * setup.compute_bytes
