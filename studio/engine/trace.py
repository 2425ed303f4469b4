"""A dry run: two real training steps with tensors that have shapes but no contents, counting what is alive.

The live estimate (`studio.memory`) is arithmetic about this code. Here the code itself runs: the model's own class from
transformers, PEFT's layers, bitsandbytes' 4-bit multiplication, our checkpointing and our loss, on "fake" tensors that take
no memory and no time. What a card's allocator would count, the sum of the sizes of living storages, is exact, save for what
kernels take for themselves; those that matter are added by name (`_WORKSPACES`).

Nothing here needs a card, weights, or more memory than a few hundred megabytes.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import torch
from bitsandbytes import functional as bnb_functional
from peft import PeftModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention.varlen import varlen_attn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from studio.engine import attention, embeddings, offload
from studio.engine import loss as losses
from studio.engine.attention import VARLEN, suits
from studio.engine.batches import Boundaries, MicroBatch
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.embeddings import place_embeddings
from studio.engine.load import DTYPES, attention_of, config_of, quantisation_of
from studio.engine.offload import PlainLanes
from studio.engine.overlay import lay_on, trainable
from studio.engine.train import Learner
from studio.errors import BaseModelError, Problem, RecipeError
from studio.memory.setup import Setup
from studio.models.bases import refuse_foreign_code
from studio.models.facts import ModelFacts, read_config
from studio.recipe.recipe import Recipe

PHASES = ("forward", "loss", "backward", "update")
"""The parts of an optimizer step. `loss` is the loss and its gradient with respect to the hidden states."""


@dataclass(frozen=True)
class Traced:
    """What was alive, in bytes.

    `peaks` holds the most of each phase of the second step and `held` what that consisted of, by owner: `weights`,
    `adapter`, `gradients`, `optimizer`, `logits` (made by the loss), `overhead` (dequantised weights), `activations`.
    """

    total_bytes: int
    peaks: dict[str, int]
    held: dict[str, dict[str, int]]

    @property
    def busiest(self) -> str:
        """The phase of the peak."""
        return max(self.peaks, key=lambda phase: self.peaks[phase])

    @property
    def terms(self) -> dict[str, int]:
        """What the peak consisted of."""
        return self.held[self.busiest]


def trace(folder: Path, recipe: Recipe, num_layers: int | None = None) -> Traced:
    """Run `recipe` dry on the model that `folder`/config.json describes, with `num_layers` blocks instead of its own.

    Raises `RecipeError` for int8 and DoRA, which need the contents of weights, `BaseModelError` for what cannot be built.
    """
    problems = [
        Problem(field=field, message=f"{name} cannot be run dry.", fix="Trace without it, or rely on the estimate.")
        for field, name, wanted in (
            ("base.quantisation", "int8", recipe.base.quantisation == "int8"),
            ("adapter.dora", "DoRA", recipe.adapter.dora),
        )
        if wanted
    ]
    if problems:
        raise RecipeError(problems)
    facts = ModelFacts.from_folder(folder)
    setup = Setup.of(facts if num_layers is None else facts.with_layers(num_layers), recipe)
    model = _on_meta(folder, recipe, num_layers)
    # PEFT looks at the modules' classes and shapes; both are right on the meta device, which costs nothing.
    overlaid = lay_on(model, recipe.adapter, recipe.training.seed)
    # bitsandbytes makes its tables by ordinary arithmetic, which cannot be done on fake tensors.
    table = bnb_functional.create_dynamic_map()
    kind = bnb.optim.AdamW8bit if "8bit" in recipe.training.optimizer else bnb.optim.AdamW
    optimizer = kind([nn.Parameter(torch.zeros(1))])
    with FakeTensorMode(allow_non_fake_inputs=True), _standing_in(table), Ledger() as ledger:
        _give_shapes(overlaid, recipe)
        return _two_steps(overlaid, recipe, setup, optimizer, ledger)


def _on_meta(folder: Path, recipe: Recipe, num_layers: int | None) -> PreTrainedModel:
    """The model's own class, as `studio.engine.load` would load it, without its weights."""
    refuse_foreign_code(folder.name, read_config(folder))
    try:
        config = config_of(folder).get_text_config()
        if num_layers is not None:
            config.num_hidden_layers = num_layers
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[recipe.base.compute_dtype], attn_implementation=attention_of(folder)
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(f"{folder.name} cannot be built: {error}", "Rely on the estimate alone.") from error
    model.requires_grad_(False)
    if suits(model):
        model.config._attn_implementation = VARLEN
    if quantisation := quantisation_of(recipe.base):
        replace_with_bnb_linear(model, get_keys_to_not_convert(model), quantisation)
        model.is_loaded_in_4bit = True
    return model


def _two_steps(overlaid: PeftModel, recipe: Recipe, setup: Setup, optimizer: bnb.optim.AdamW, ledger: Ledger) -> Traced:
    """As `studio.engine.train.train` takes them; the second finds the optimizer's states in place."""
    model = overlaid.get_base_model()
    place_embeddings(model, setup.embeddings_elsewhere)
    parameters = list(trainable(overlaid).values())
    frozen = [p for p in [*overlaid.parameters(), *overlaid.buffers()] if not p.requires_grad]
    ledger.own("weights", [*frozen, *_constants(overlaid)])
    ledger.own("adapter", parameters)
    checkpoint_layers(model, setup.checkpointed_layers, setup.offload, setup.keep_attention, setup.reuse_weights)
    learner = Learner(overlaid).train()
    ledger.watch(learner)
    batch = _batch(setup)
    states: list[Tensor] = []
    for _ in range(2):
        # The gradients of the first stay: the second is the later micro-batch of a step with several.
        ledger.begin("forward")
        loss = learner(batch) / setup.supervised_tokens
        ledger.enter("backward")
        loss.backward()
        del loss
        ledger.own("gradients", [p.grad for p in parameters if p.grad is not None])
        ledger.enter("update")
        nn.utils.clip_grad_norm_(parameters, recipe.training.max_grad_norm or math.inf)
        states = states or _states(recipe.training.optimizer, optimizer, parameters)
        ledger.own("optimizer", states)
    return ledger.traced()


class Ledger(TorchDispatchMode):
    """Counts the bytes of living storages while tensors are computed with, and who owns them."""

    def __init__(self) -> None:
        super().__init__()
        self._owners: dict[int, tuple[int, str, Any]] = {}
        self._live: dict[str, int] = {}
        self._phase = "forward"
        self._peaks: dict[str, int] = {}
        self._held: dict[str, dict[str, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        made_by = "overhead" if name in _DEQUANTISERS else "logits" if self._phase == "loss" else "activations"
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor, made_by)
        workspace = _WORKSPACES.get(name)
        self._note(workspace(*args) if workspace else 0)
        return result

    def begin(self, phase: str) -> None:
        """A new optimizer step: what earlier ones have shown is forgotten."""
        self._peaks, self._held = {}, {}
        self.enter(phase)

    def enter(self, phase: str) -> None:
        """From here on, what is made belongs to `phase`."""
        self._phase = phase
        self._note(0)

    def watch(self, learner: Learner) -> None:
        """Have the loss begin where the last block's output is handed over."""
        learner.body.register_forward_hook(lambda *_: self.enter("loss"))

    def own(self, owner: str, tensors: Sequence[Tensor]) -> None:
        """Say whose these tensors are, whether they were counted before or not."""
        for tensor in tensors:
            key = id(tensor.untyped_storage())
            if key in self._owners:
                self._release(key)
            self._add(tensor, owner)

    def traced(self) -> Traced:
        """What the last step has shown."""
        return Traced(max(self._peaks.values()), self._peaks, self._held)

    def _add(self, tensor: Tensor, owner: str) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._owners or not isinstance(tensor, FakeTensor) or tensor.device.type == "meta":
            return
        # A storage lives as long as any tensor, or any saved tensor of the graph, looks into it.
        self._owners[key] = (size, owner, weakref.ref(storage, lambda _: self._release(key)))
        self._live[owner] = self._live.get(owner, 0) + size

    def _release(self, key: int) -> None:
        size, owner, _ = self._owners.pop(key)
        self._live[owner] -= size

    def _note(self, workspace_bytes: int) -> None:
        total = sum(self._live.values()) + workspace_bytes
        if total > self._peaks.get(self._phase, -1):
            self._peaks[self._phase] = total
            held = {owner: size for owner, size in self._live.items() if size}
            held["overhead"] = held.get("overhead", 0) + workspace_bytes
            self._held[self._phase] = held


def _unpacked_bytes(
    input_: Tensor,
    _packed: Tensor,
    shape: list[int],
    _absmax: Tensor,
    _block: int,
    _kind: str,
    _bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    *_: Any,
) -> int:
    """What bitsandbytes unpacks on a card for a large product: the weight in 16 bit.

    Constants that are quantised themselves are there in fp32 for as long as the product takes, and twice: without and with
    their mean.
    """
    constants = 0 if absmax_8bit is None else 2 * 4 * absmax_8bit.numel()
    return shape[0] * shape[1] * input_.element_size() + constants


def _attention_bytes(_gradient: Tensor, query: Tensor, key: Tensor, *_: Any) -> int:
    """What FlashAttention-2's backward pass (Dao 2023) takes: the queries' gradient is summed in fp32, with one fp32 number per
    query and head, and with grouped heads those of keys and values are made per query head before they are added up."""
    sums = 4 * query.numel() + 4 * query.shape[0] * query.shape[1]
    return sums + (2 * query.nbytes if key.shape != query.shape else 0)


_WORKSPACES: dict[str, Callable[..., int]] = {
    "bitsandbytes.gemm_4bit": _unpacked_bytes,
    "torch_attn._varlen_attn_backward": _attention_bytes,
}
_DEQUANTISERS = {"bitsandbytes.dequantize_4bit", "bitsandbytes.dequantize_blockwise"}


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, _inplace: bool = False) -> Tensor:
    """As on a card, where one byte per element is saved; the CPU's saves a tensor of the input's type."""
    return torch.native_dropout(input, p, training)[0] if training and p else input


class _Elsewhere(PlainLanes):
    """Main memory is not the card's: a tensor there counts for nothing."""

    def place(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, device="meta")

    def send(self, source: Tensor, into: Tensor, after: Any) -> None:
        """Fake tensors have nothing to be copied."""

    def fetch(self, source: Tensor, device: torch.device, after: Any) -> tuple[Tensor, Any]:  # noqa: ARG002
        return torch.empty(source.shape, dtype=source.dtype, device=device), None


@contextlib.contextmanager
def _standing_in(dynamic_map: Tensor) -> Iterator[None]:
    """What only a card does is stood in for, and bitsandbytes' table of 8-bit values is at hand."""
    with (
        patch.object(attention, "varlen_attn", varlen_attn),
        patch.object(embeddings, "MAIN_MEMORY", torch.device("meta")),
        patch.object(offload, "lanes_of", lambda _device: _Elsewhere()),
        patch.object(nn.functional, "dropout", _dropout),
        patch.object(losses, "CHUNK_ROWS_CPU", losses.CHUNK_ROWS),
        patch.dict(bnb_functional.name2qmap, dynamic=dynamic_map),
    ):
        yield


def _give_shapes(overlaid: PeftModel, recipe: Recipe) -> None:
    """Fake tensors in the place of the meta device's; 4-bit weights are quantised by bitsandbytes, fake to fake."""
    made: dict[int, nn.Parameter] = {}  # tied weights stay tied
    for module in overlaid.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in made:
                made[id(parameter)] = _parameter(module, name, parameter, recipe)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _parameter(module: nn.Module, name: str, meta: nn.Parameter, recipe: Recipe) -> nn.Parameter:
    if name != "weight" or not isinstance(module, bnb.nn.Linear4bit):
        # On its first use a 4-bit layer casts its bias to the type it computes in.
        dtype = module.compute_dtype if isinstance(module, bnb.nn.Linear4bit) else meta.dtype
        return nn.Parameter(torch.empty(meta.shape, dtype=dtype), requires_grad=meta.requires_grad)
    weight = torch.empty(module.out_features, module.in_features, dtype=module.compute_dtype)
    packed, state = bnb_functional.quantize_4bit(
        weight, compress_statistics=recipe.base.double_quantisation, quant_type=recipe.base.quantisation
    )
    # A plain parameter: bitsandbytes' own class cannot hold a fake tensor.
    stand_in = nn.Parameter(packed, requires_grad=False)
    stand_in.quant_state = state  # type: ignore[attr-defined]
    return stand_in


def _constants(overlaid: PeftModel) -> list[Tensor]:
    """The tensors of the quantisation states, which are no parameters of any module."""
    found: list[Tensor] = []
    for module in overlaid.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            inner = [state.state2.absmax, state.offset] if state.nested else []
            found += [state.absmax, *inner]
    return found


def _batch(setup: Setup) -> MicroBatch:
    """The worst micro-batch: full to the last token, nearly all of it answers."""
    rows = max(1, setup.tokens // setup.row_tokens)
    shape = (rows, setup.tokens // rows)
    return MicroBatch(
        ids_BT=torch.zeros(shape, dtype=torch.long),
        positions_BT=torch.zeros(shape, dtype=torch.long),
        targets_BT=torch.zeros(shape, dtype=torch.long),
        supervised_N=torch.zeros(setup.supervised_tokens, dtype=torch.long),
        boundaries=Boundaries(torch.zeros(rows + 1, dtype=torch.int32), shape[1]),
        num_tokens=setup.tokens,
    )


def _states(name: str, optimizer: bnb.optim.AdamW, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The states as the optimizer's own code makes them. Paged ones are counted: they stay on the card while there is room."""
    if name == "adamw_torch":
        return [torch.zeros_like(parameter) for parameter in parameters for _ in range(2)]
    optimizer.name2qmap = {"dynamic": torch.empty(256), "udynamic": torch.empty(256)}
    group = optimizer.param_groups[0]
    group["params"] = parameters
    for i, parameter in enumerate(parameters):
        optimizer.init_state(group, parameter, 0, i)
    states = (state for parameter in parameters for state in optimizer.state[parameter].values())
    return [state for state in states if isinstance(state, Tensor)]
