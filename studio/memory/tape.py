"""A rehearsal of automatic differentiation with sizes in the place of tensors.

A computation is written down as it runs: what each operation makes, what it keeps for its backward pass, when a Python
variable lets go. From that follow the bytes kept between the passes and the most that is alive in each, as autograd would hold
them: gradients are made in reverse order, added in place where nobody else looks at them, and dropped with what was saved.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Buffer:
    """One tensor of `bytes`, in the hands of `variables` of the running code and `saved` by operations.

    A view has no bytes of its own, but its gradient has.
    """

    bytes: float
    variables: int = 1
    saved: int = 0
    gradient_bytes: float = -1.0

    def __post_init__(self) -> None:
        if self.gradient_bytes < 0:
            self.gradient_bytes = self.bytes


@dataclass(frozen=True, slots=True)
class Moment:
    """What is alive at one moment: tensors, and the working memory of the operation that runs."""

    tensors: float = 0.0
    workspace: float = 0.0

    @property
    def bytes(self) -> float:
        """Both together."""
        return self.tensors + self.workspace

    def beside(self, tensors: float) -> Moment:
        """The same moment with more tensors alive."""
        return Moment(self.tensors + tensors, self.workspace)


@dataclass(frozen=True)
class Passes:
    """What a computation holds beside its inputs.

    `kept` are the bytes saved for the backward pass. The busiest moments: of a forward pass that saves nothing, of one that
    saves, of one run again for the sake of a gradient, and of the backward pass, in which what was saved is counted until it
    is used. Running again stops where the last tensor is saved, and begins with the gradients made before one was needed.
    """

    kept: float
    forgetful: Moment
    forward: Moment
    again: Moment
    backward: Moment


@dataclass(eq=False)
class _Operation:
    inputs: tuple[Buffer, ...]
    output: Buffer
    saved: tuple[Buffer, ...]
    workspace: float
    backward_makes: float
    backward_first: Moment
    unpacked: float
    hands_on: bool


@dataclass
class Tape:
    """Records operations in the order of the forward pass; `rehearse` goes back."""

    _operations: list[_Operation] = field(default_factory=list)
    _given: set[int] = field(default_factory=set)
    _live: float = 0.0
    _held: float = 0.0
    _unpacked: float = 0.0
    _forward: Moment = Moment()
    _forgetful: Moment = Moment()
    _until_last_save: Moment = Moment()

    def given(self, num_bytes: float) -> Buffer:
        """An input: somebody else's memory, not counted."""
        buffer = Buffer(num_bytes)
        self._given.add(id(buffer))
        return buffer

    def make(
        self,
        num_bytes: float,
        *inputs: Buffer,
        saves: tuple[Buffer, ...] = (),
        lasts: float = 0.0,
        workspace: tuple[float, float] = (0.0, 0.0),
        backward_makes: float = 0.0,
        backward_first: Moment = Moment(),
        unpacked: float = 0.0,
        hands_on: bool = False,
        gradient: float = -1.0,
    ) -> Buffer:
        """One operation and its result, held by one variable.

        `inputs` are those that get a gradient; `saves` what its backward pass needs, `lasts` further bytes saved that are no
        input or output. `workspace` is used up in the forward and in the backward pass, `backward_makes` beyond the gradients,
        `backward_first` before there are any. `unpacked` is working memory that stays from the forward to the end of the
        backward pass. With `hands_on` the gradient is passed to the inputs as it is. `gradient` is the size of a view's
        gradient.
        """
        output = Buffer(num_bytes, gradient_bytes=gradient)
        extra = (Buffer(lasts, variables=0),) if lasts else ()
        for buffer in (*saves, *extra):
            if buffer is not output and id(buffer) not in self._given:
                self._live += buffer.bytes if not buffer.saved and not buffer.variables else 0.0
                buffer.saved += 1
        self._live += num_bytes
        self._held += num_bytes
        self._unpacked += unpacked
        self._operations.append(
            _Operation(
                inputs, output, (*saves, *extra), workspace[1], backward_makes, backward_first, unpacked, hands_on
            )
        )
        self._note(workspace[0], unpacked)
        if saves or extra:
            self._until_last_save = self._forward
        return output

    def keep_output(self, output: Buffer) -> Buffer:
        """The last operation saves its own result as well."""
        self._operations[-1].saved += (output,)
        self._until_last_save = self._forward
        output.saved += 1
        return output

    def drop(self, *buffers: Buffer) -> None:
        """Variables that let go."""
        for buffer in buffers:
            if id(buffer) in self._given:
                continue
            buffer.variables -= 1
            assert buffer.variables >= 0, "a variable lets go once"
            if not buffer.variables:
                self._held -= buffer.bytes
                self._live -= 0.0 if buffer.saved else buffer.bytes

    def passes(self) -> Passes:
        """What the recorded computation holds. The result's own variable belongs to whoever goes on with it."""
        *_, last = self._operations
        kept = self._live - (0.0 if last.output.saved else last.output.bytes)
        run = _Backward(kept, self._unpacked, self._given)
        run.begin(last.output)
        for operation in reversed(self._operations):
            run.step(operation)
        again = self._until_last_save.beside(run.before_first_use)
        return Passes(kept, self._forgetful, self._forward, again, run.peak)

    def _note(self, workspace: float, unpacked: float) -> None:
        if self._live + workspace + self._unpacked > self._forward.bytes:
            self._forward = Moment(self._live, workspace + self._unpacked)
        # What is unpacked for a pass that saves nothing is gone before anything else is worked on.
        workspace = max(workspace, unpacked)
        if self._held + workspace > self._forgetful.bytes:
            self._forgetful = Moment(self._held, workspace)


class _Backward:
    """Gradients by buffer: (bytes, number of buffers that share it)."""

    def __init__(self, kept: float, unpacked: float, given: set[int]) -> None:
        self._live, self._kept, self._unpacked, self._given = kept, kept, unpacked, given
        self.before_first_use = -1.0
        self._gradients: dict[int, list[float]] = {}
        self.peak = Moment(kept, unpacked)

    def begin(self, output: Buffer) -> None:
        self._gradients[id(output)] = [output.gradient_bytes, 1]
        self._live += output.gradient_bytes
        self._note(0.0)

    def step(self, operation: _Operation) -> None:
        gradient = self._gradients.pop(id(operation.output), None)
        if gradient is None:
            # Its gradient, if any, was made along with that of a later one.
            self._unpacked -= operation.unpacked
            return
        if operation.saved and self.before_first_use < 0:
            self.before_first_use = self._live - self._kept
        self._note(operation.backward_first.workspace, operation.backward_first.tensors)
        if operation.hands_on:
            gradient[1] += len(operation.inputs)
            made = [gradient] * len(operation.inputs)
        else:
            self._live += sum(buffer.gradient_bytes for buffer in operation.inputs)
            self._note(operation.workspace, operation.backward_makes)
            made = [[buffer.gradient_bytes, 1] for buffer in operation.inputs]
        self._unpacked -= operation.unpacked
        # Autograd lets go of what an operation was given before it adds the results to those of others.
        self._let_go(gradient)
        for buffer in operation.saved:
            if id(buffer) not in self._given:
                buffer.saved -= 1
                self._live -= 0.0 if buffer.saved else buffer.bytes
        added = [new for buffer, new in zip(operation.inputs, made, strict=True) if self._give(buffer, new)]
        for new in added:
            self._let_go(new)

    def _give(self, buffer: Buffer, gradient: list[float]) -> bool:
        """Returns whether it was added to one that is there, and is of no further use."""
        present = self._gradients.get(id(buffer))
        if present is None:
            self._gradients[id(buffer)] = gradient
            return False
        if present[1] > 1:  # somebody else looks at it: the sum is a new tensor
            self._live += buffer.gradient_bytes
            self._note(0.0)
            self._let_go(present)
            self._gradients[id(buffer)] = [buffer.gradient_bytes, 1]
        return True

    def _let_go(self, gradient: list[float]) -> None:
        gradient[1] -= 1
        if not gradient[1]:
            self._live -= gradient[0]

    def _note(self, workspace: float, made: float = 0.0) -> None:
        moment = Moment(self._live + made, workspace + self._unpacked)
        if moment.bytes > self.peak.bytes:
            self.peak = moment
