"""The rehearsal against automatic differentiation itself: the same small programs, once with sizes and once with tensors."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.memory.tape import Buffer, Moment, Passes, Tape

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402
from torch.profiler import ProfilerActivity, profile, record_function  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

TOKENS, WIDTH = 64, 32
SIZE = TOKENS * WIDTH * 4
SMALL = 64  # bytes: single numbers, such as the loss, are not counted


class Record:
    """What the allocator did, in its own words: no dispatch mode is on, which would keep autograd from adding in place."""

    def __init__(self, profiled: Any) -> None:
        events = profiled.profiler.kineto_results.events()
        moves = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
        moves = [(when, size) for when, size in moves if abs(size) > SMALL]
        self._times = [when for when, _ in moves]
        self._alive = list(accumulate(size for _, size in moves))
        self._phases = {event.name(): (event.start_ns(), event.end_ns()) for event in events if event.name() in PHASES}

    def at_end(self, phase: str) -> int:
        """Bytes alive when the phase was over."""
        return self._before(self._phases[phase][1])

    def peak(self, phase: str) -> int:
        """The most bytes alive during the phase; 0 if it never came."""
        if phase not in self._phases:
            return 0
        begun, ended = self._phases[phase]
        within = [alive for when, alive in zip(self._times, self._alive, strict=True) if begun <= when <= ended]
        return max([self._before(begun), *within])

    def _before(self, time: int) -> int:
        return next((alive for when, alive in self._backwards() if when < time), 0)

    def _backwards(self) -> Iterator[tuple[int, int]]:
        return zip(reversed(self._times), reversed(self._alive), strict=True)


PHASES = ("forgetful", "forward", "backward", "again")


class Ends(torch.autograd.Function):  # type: ignore[misc]
    """Whatever comes behind: one number, and a gradient of the size of what it was given."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # type: ignore[override]
        ctx.shape = x.shape
        return x.new_empty(())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].new_empty(ctx.shape)


Program = Callable[..., Any]
Shapes = tuple[tuple[int, ...], ...]


def tensors(frozen: Shapes, learnt: Shapes) -> tuple[list[Any], list[Any]]:
    """x and the weights that learn, and the weights that do not: all of them somebody else's memory."""
    given = [torch.ones(shape, requires_grad=True) for shape in ((TOKENS, WIDTH), *learnt)]
    return given, [torch.ones(shape) for shape in frozen]


@pytest.fixture(scope="module", autouse=True)
def undisturbed() -> Iterator[None]:
    """Nothing that an earlier module left behind is freed, and counted, meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def measured(program: Program, frozen: Shapes = (), learnt: Shapes = ()) -> Passes:
    """What autograd holds for `program(x, *frozen, *learnt)`; nobody takes the gradients away before the end."""
    (x, *learning), resting = tensors(frozen, learnt)
    inputs = (x, *resting, *learning)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        with torch.no_grad(), record_function("forgetful"):
            program(*inputs)
        with record_function("forward"):
            end = Ends.apply(program(*inputs))
        with record_function("backward"):
            torch.autograd.grad(end, [x, *learning], allow_unused=True)
    record = Record(profiled)
    forgetful, forward, backward = (Moment(record.peak(phase)) for phase in PHASES[:3])
    return Passes(
        record.at_end("forward"), forgetful, forward, Moment(again(program, inputs, [x, *learning])), backward
    )


def again(program: Program, inputs: tuple[Any, ...], wanted: list[Any]) -> int:
    """The most while a checkpointed program is run once more for its gradient."""
    runs = 0

    def told(*inputs: Any) -> Any:
        nonlocal runs
        runs += 1
        with record_function("again" if runs > 1 else "once"):
            return program(*inputs)

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        end = Ends.apply(checkpoint(told, *inputs, use_reentrant=False, preserve_rng_state=False))
        torch.autograd.grad(end, wanted, allow_unused=True)
    return Record(profiled).peak("again")


class Frozen(torch.autograd.Function):  # type: ignore[misc]
    """A product with a weight that does not learn and is nobody's saved tensor, as bitsandbytes' are."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:  # type: ignore[override]
        ctx.weight = weight
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] @ ctx.weight, None


class Masked(torch.autograd.Function):  # type: ignore[misc]
    """As dropout on a card: the mask takes one byte per element, and nothing else is made on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # type: ignore[override]
        mask = torch.ones(x.shape, dtype=torch.bool)
        ctx.save_for_backward(mask)
        return x.masked_fill(mask, 0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (mask,) = ctx.saved_tensors
        return gradients[0].masked_fill(mask, 0)


def assert_same(rehearsed: Passes, real: Passes, last_bytes: float = SIZE) -> None:
    """`last_bytes`: the result of the last operation that saves something.

    PyTorch's own operations save their inputs before they make their result, hand-written ones after. Running again stops there,
    so that the rehearsal may count that one result too much.
    """
    assert rehearsed.kept == real.kept
    for name in ("forgetful", "forward", "backward"):
        assert getattr(rehearsed, name).bytes == getattr(real, name).bytes, name
    if rehearsed.kept:
        assert 0 <= rehearsed.again.bytes - real.again.bytes <= last_bytes


# --- programs -----------------------------------------------------------------------------------------------------------


def test_a_perceptron_keeps_what_its_activation_needs() -> None:
    """Linear layers with frozen weights keep nothing: of all tensors, the activation's input stays."""

    def program(x: Any, up: Any, down: Any) -> Any:
        hidden = Frozen.apply(x, up)
        act = functional.gelu(hidden)
        del hidden
        return Frozen.apply(act, down)

    tape = Tape()
    hidden = tape.make(4 * SIZE, tape.given(SIZE))
    act = tape.make(4 * SIZE, hidden, saves=(hidden,))
    tape.drop(hidden)
    tape.make(SIZE, act)
    tape.drop(act)
    found = tape.passes()
    assert_same(found, measured(program, ((4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH))), last_bytes=4 * SIZE)
    assert found.kept == 4 * SIZE


def test_a_weight_that_learns_keeps_its_layers_input_and_gets_a_gradient() -> None:
    def program(x: Any, weight: Any) -> Any:
        act = functional.gelu(x)
        return functional.linear(act, weight)

    tape = Tape()
    weight, x = tape.given(WIDTH * WIDTH * 4), tape.given(SIZE)
    act = tape.make(SIZE, x, saves=(x,))
    tape.make(SIZE, act, weight, saves=(act,))
    tape.drop(act)
    found = tape.passes()
    assert_same(found, measured(program, (), ((WIDTH, WIDTH),)))
    assert found.kept == SIZE  # x is somebody else's


def test_a_residual_shares_one_gradient_with_its_branch() -> None:
    """The sum hands its gradient to both; where the branch's own gradient comes back to x, the two are added up anew."""

    def program(x: Any, weight: Any) -> Any:
        branch = Frozen.apply(functional.gelu(x), weight)
        return x + branch

    tape = Tape()
    x = tape.given(SIZE)
    act = tape.make(SIZE, x, saves=(x,))
    branch = tape.make(SIZE, act)
    tape.drop(act)
    tape.make(SIZE, x, branch, hands_on=True)
    tape.drop(branch)
    assert_same(tape.passes(), measured(program, ((WIDTH, WIDTH),)))


def test_two_halves_of_one_product() -> None:
    """A gated MLP whose gate and up come from one layer: views take no memory, their gradients do."""

    def program(x: Any, weight: Any) -> Any:
        both = Frozen.apply(x, weight)
        gate, up = both.chunk(2, -1)
        act = functional.silu(gate)
        return act * up

    tape = Tape()
    both = tape.make(4 * SIZE, tape.given(SIZE))
    gate, up = tape.make(0.0, both, gradient=2 * SIZE), tape.make(0.0, gradient=2 * SIZE)
    act = tape.make(2 * SIZE, gate, saves=(both,))
    tape.make(2 * SIZE, up, act, saves=(both, act))
    tape.drop(act, gate, up, both)
    assert_same(tape.passes(), measured(program, ((4 * WIDTH, WIDTH),)), last_bytes=2 * SIZE)


def test_an_operation_may_keep_its_own_result_and_a_mask() -> None:
    tape = Tape()
    bent = tape.keep_output(tape.make(SIZE, tape.given(SIZE)))
    tape.make(SIZE, bent, lasts=SIZE / 4)
    tape.drop(bent)
    found, real = tape.passes(), measured(lambda x: Masked.apply(torch.tanh(x)))
    assert found.kept == real.kept == SIZE + SIZE / 4
    assert found.backward == real.backward
    # The mask is made before the result, so that it is there at the peak of either pass; a pass that saves nothing forgets it.
    assert found.forward == real.forward
    assert real.forgetful.bytes - found.forgetful.bytes == SIZE / 4


def test_an_input_that_is_used_three_times_has_one_gradient_in_the_end() -> None:
    def program(x: Any, a: Any, b: Any, c: Any) -> Any:
        total = Frozen.apply(x, a) + Frozen.apply(x, b)
        return total + Frozen.apply(x, c)

    tape = Tape()
    x = tape.given(SIZE)
    first, second = tape.make(SIZE, x), tape.make(SIZE, x)
    total = tape.make(SIZE, first, second, hands_on=True)
    tape.drop(first, second)
    third = tape.make(SIZE, x)
    tape.make(SIZE, total, third, hands_on=True)
    tape.drop(third, total)
    assert_same(tape.passes(), measured(program, ((WIDTH, WIDTH),) * 3))


def test_working_memory_counts_while_its_operation_runs_and_no_longer() -> None:
    """By hand: 10 bytes with 5 of workspace, then 20 from them with 100, or 80 on the way back; the first result is saved.

    Forward: 10 + 20 + 100 while the second runs. Between the passes: 10. Backward: those, gradients of 20 and of 10, and 80.
    """
    tape = Tape()
    first = tape.make(10, tape.given(7), workspace=(5, 5))
    tape.make(20, first, saves=(first,), workspace=(100, 80))
    tape.drop(first)
    found = tape.passes()
    assert found.kept == 10
    assert (found.forward.tensors, found.forward.workspace) == (30, 100)
    assert (found.backward.tensors, found.backward.workspace) == (10 + 20 + 10, 80)
    # Running again ends where the last tensor is saved: in the second operation, whose product is there by then.
    assert found.again.bytes == 10 + 20 + 100 + 20


def test_a_variable_lets_go_once() -> None:
    tape = Tape()
    made = tape.make(10, tape.given(1))
    tape.drop(made)
    with pytest.raises(AssertionError):
        tape.drop(made)


def test_a_moment_beside_other_tensors() -> None:
    assert Moment(3, 4).beside(5) == Moment(8, 4)
    assert Moment(8, 4).bytes == 12


# --- programs nobody thought of -----------------------------------------------------------------------------------------

KINDS = ("gelu", "linear", "add", "mul", "tanh", "learnt")
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99), st.booleans()), min_size=1, max_size=9
)


@dataclass
class Random:
    """One program, from numbers: each step makes a variable of earlier ones, and may let go of its first operand."""

    steps: list[tuple[str, int, int, bool]]
    lines: list[tuple[str, int, int, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        alive, count = [0], 1
        for kind, i, j, lets_go in self.steps:
            one, other = alive[i % len(alive)], alive[j % len(alive)]
            if kind in ("add", "mul") and one == other:
                kind = "gelu"
            gone = (one,) if lets_go and one else ()
            self.lines.append((kind, one, other, gone))
            alive = [*(v for v in alive if v not in gone), count]
            count += 1
        # Everything that is left flows into the result: what does not is never part of a model.
        while len(left := [v for v in alive if v]) > 1:
            self.lines.append(("add", left[0], left[1], (left[0], left[1])))
            alive, count = [*left[2:], count], count + 1

    def run(self, x: Any, resting: Any, learning: Any) -> Any:
        values, made = {0: x}, 0
        for made, (kind, one, other, gone) in enumerate(self.lines, start=1):
            values[made] = {
                "gelu": lambda a, _: functional.gelu(a),
                "linear": lambda a, _: Frozen.apply(a, resting),
                "add": torch.add,
                "mul": torch.mul,
                "tanh": lambda a, _: torch.tanh(a),
                "learnt": lambda a, _: functional.linear(a, learning),
            }[kind](values[one], values[other])
            for name in gone:
                del values[name]
        return values.pop(made)

    def rehearse(self) -> Passes:
        tape = Tape()
        x, weight = tape.given(SIZE), tape.given(WIDTH * WIDTH * 4)
        values: dict[int, Buffer] = {0: x}
        for made, (kind, one, other, gone) in enumerate(self.lines, start=1):
            a, b = values[one], values[other]
            values[made] = {
                "gelu": lambda a, _: tape.make(SIZE, a, saves=(a,)),
                "linear": lambda a, _: tape.make(SIZE, a),
                "add": lambda a, b: tape.make(SIZE, a, b, hands_on=True),
                "mul": lambda a, b: tape.make(SIZE, a, b, saves=(a, b)),
                "tanh": lambda a, _: tape.keep_output(tape.make(SIZE, a)),
                "learnt": lambda a, _: tape.make(SIZE, a, weight, saves=(a,)),
            }[kind](a, b)
            for name in gone:
                tape.drop(values[name])
        return tape.passes()


@given(steps)
@settings(max_examples=60)
def test_any_program_keeps_and_holds_what_is_rehearsed(steps: list[tuple[str, int, int, bool]]) -> None:
    program = Random(steps)
    rehearsed, real = program.rehearse(), measured(program.run, ((WIDTH, WIDTH),), ((WIDTH, WIDTH),))
    assert_same(rehearsed, real)
