"""The inputs of checkpointed blocks in main memory: carried there and back beside the computation.

On a card copying and computing go on at once, in streams of their own. While a block computes, its input leaves; while a block
is computed again and differentiated, the input of the one before it returns. So never more than two of them lie on the card.
Who overtakes whom is settled by marks: a place is filled only after the last reading of what it held, and read only after it
was filled.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_HIDDEN_DIMS = 3  # (rows, tokens, hidden): masks have one more, and are there for all blocks anyway


class Lanes(Protocol):
    """Copies beside the computation: one lane leads to main memory, one back. A mark is passed once its copy is done."""

    def place(self, num_bytes: int) -> Tensor:
        """Main memory for that many bytes."""

    def send(self, source: Tensor, into: Tensor, after: Any) -> Any:
        """Copy to main memory what was computed, once the mark `after` (None: at once) is passed. Returns the copy's mark."""

    def fetch(self, source: Tensor, device: torch.device, after: Any) -> tuple[Tensor, Any]:
        """Copy from main memory once the mark `after` is passed. Returns what will be there once the second is passed."""

    def wait(self, mark: Any) -> None:
        """Have the computation wait until the mark is passed."""


class CardLanes:
    """Two streams of a CUDA card, and page-locked memory, which the card reads and writes by itself."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._out, self._back = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def place(self, num_bytes: int) -> Tensor:
        """Page-locked memory: to be made seldom, that takes the driver longer than copying."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def send(self, source: Tensor, into: Tensor, after: Any) -> Any:
        """The source must stay until the computation has waited for the mark."""
        self._out.wait_stream(torch.cuda.current_stream(self._device))
        if after is not None:
            self._out.wait_event(after)
        with torch.cuda.stream(self._out):
            into.copy_(source, non_blocking=True)
        return self._out.record_event()

    def fetch(self, source: Tensor, device: torch.device, after: Any) -> tuple[Tensor, Any]:
        """The allocator may give memory that the computation has not done with yet: the copy waits for that as well."""
        tensor = torch.empty(source.shape, dtype=source.dtype, device=device)
        self._back.wait_stream(torch.cuda.current_stream(self._device))
        self._back.wait_event(after)
        with torch.cuda.stream(self._back):
            tensor.copy_(source, non_blocking=True)
        # Should it be dropped unread, its memory is not given away in mid-copy.
        tensor.record_stream(self._back)
        return tensor, self._back.record_event()

    def wait(self, mark: Any) -> None:
        """The processor goes on; it is the stream that waits."""
        torch.cuda.current_stream(self._device).wait_event(mark)


class PlainLanes:
    """Without a card there is one memory, and a copy is done when it returns."""

    def place(self, num_bytes: int) -> Tensor:
        """Plain memory."""
        return torch.empty(num_bytes, dtype=torch.uint8)

    def send(self, source: Tensor, into: Tensor, after: Any) -> Any:  # noqa: ARG002
        """Copied at once."""
        into.copy_(source)

    def fetch(self, source: Tensor, device: torch.device, after: Any) -> tuple[Tensor, Any]:  # noqa: ARG002
        """Copied at once."""
        return torch.empty(source.shape, dtype=source.dtype, device=device).copy_(source), None

    def wait(self, mark: Any) -> None:
        """There is nothing to wait for."""


def lanes_of(device: torch.device) -> Lanes:
    """What copies between `device` and main memory."""
    return CardLanes(device) if device.type == "cuda" else PlainLanes()


@dataclass(eq=False)
class _Place:
    """Main memory that is used again and again. `free` is the mark of the last copy from or to it."""

    memory: Tensor
    free: Any = None


@dataclass(eq=False)
class _Trip:
    """One tensor away. `here` is the tensor itself until it has left; `coming` is it, and a mark, on its way back."""

    device: torch.device
    place: _Place
    copy: Tensor
    here: Tensor | None
    before: weakref.ref[_Trip] | None
    coming: tuple[Tensor, Any] | None = None


class Ferry:
    """Carries the inputs of one model's blocks. Places are used again as soon as autograd lets go of what lay there."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._places: list[_Place] = []
        self._last: weakref.ref[_Trip] | None = None

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """What autograd saves meanwhile for itself goes to main memory, if it is the hidden states of a batch."""
        with saved_tensors_hooks(self.away, self.back):
            yield

    def away(self, tensor: Tensor) -> _Trip | Tensor:
        """Begin to send; the one before has had a block's time to leave and is let go."""
        if tensor.dim() != _HIDDEN_DIMS or not tensor.numel():
            return tensor
        last = self._last() if self._last is not None else None
        if last is not None:
            self._let_go(last)
        place = self._take(tensor.nbytes)
        copy = place.memory[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        place.free = self._lanes.send(tensor, copy, place.free)
        trip = _Trip(tensor.device, place, copy, tensor.detach(), self._last)
        weakref.finalize(trip, self._places.append, place)
        self._last = weakref.ref(trip)
        return trip

    def back(self, packed: _Trip | Tensor) -> Tensor:
        """Take it up, waiting for it if need be, and begin to fetch the one that is wanted next."""
        if isinstance(packed, Tensor):
            return packed
        tensor = self._let_go(packed)
        if tensor is None:
            tensor, mark = packed.coming or self._fetch(packed)
            packed.coming = None
            self._lanes.wait(mark)
        before = packed.before() if packed.before is not None else None
        if before is not None and before.here is None and before.coming is None:
            before.coming = self._fetch(before)
        return tensor

    def _let_go(self, trip: _Trip) -> Tensor | None:
        """The tensor, if it is still here. Whoever drops it then may do so: the computation has waited for its copy."""
        tensor, trip.here = trip.here, None
        if tensor is not None:
            self._lanes.wait(trip.place.free)
        return tensor

    def _fetch(self, trip: _Trip) -> tuple[Tensor, Any]:
        tensor, mark = self._lanes.fetch(trip.copy, trip.device, trip.place.free)
        trip.place.free = mark
        return tensor, mark

    def _take(self, num_bytes: int) -> _Place:
        """A place that is large enough; a new one takes the place of one that is not, so that they do not become more."""
        for i, place in enumerate(self._places):
            if place.memory.numel() >= num_bytes:
                return self._places.pop(i)
        if self._places:
            self._places.pop()
        return _Place(self._lanes.place(num_bytes))
