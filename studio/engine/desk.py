"""What the engine holds between jobs: at most one base, and the overlays laid on it.

Swapping an overlay never reloads the base. At most four are kept attached: each one more makes attaching slower, and one that
was dropped is back in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from studio import files
from studio.engine.attention import forget_boundaries
from studio.engine.checkpointing import stop_checkpointing
from studio.engine.load import LoadedBase, base_key, load_base
from studio.engine.overlay import NAME, lay_on, take_off
from studio.engine.template import dressed, template_for
from studio.errors import AdapterError
from studio.library import adapter as library
from studio.models.bases import Base
from studio.recipe.recipe import Adapter as AdapterSpec
from studio.recipe.recipe import Base as BaseSpec

MAX_ATTACHED = 4


class Desk:
    """One device, one base, some overlays. With `to_shard` the device is to hold a share of the base (`engine/sharded.py`)."""

    def __init__(self, device: torch.device, to_shard: bool = False) -> None:
        self.device = device
        self.to_shard = to_shard
        self.base: LoadedBase | None = None
        self.fingerprint = ""
        # Attached overlays, least recently used first: fingerprint of the file -> PEFT's name.
        self._attached: OrderedDict[str, str] = OrderedDict()
        self._model: torch.nn.Module | None = None
        self._count = 0
        # The base's own; what it speaks by may have a template besides.
        self._tokenizer: Any = None

    @property
    def model(self) -> torch.nn.Module:
        """The base with whatever lies on it."""
        assert self._model is not None, "no base is loaded"
        return self._model

    def lay_base(self, base: Base, spec: BaseSpec) -> tuple[LoadedBase, bool]:
        """Have this base in memory; the second value says whether it had to be loaded."""
        if self.base is not None and self.base.key == base_key(base.path, spec):
            return self.base, False
        self.clear()
        # One that is to be sharded may be too large for the card: it is cut up from main memory.
        place = torch.device("cpu") if self.to_shard else self.device
        self.base = load_base(base.path, spec, place, self.to_shard)
        self._tokenizer = self.base.tokenizer
        self._model, self.fingerprint = self.base.model, base.fingerprint
        return self.base, True

    def speak_by(self, choice: str) -> LoadedBase:
        """Have the base render chats by the template that a recipe chose (`data.chat_template`). Raises `BaseModelError`."""
        return self.speak(template_for(self._tokenizer.chat_template, choice))

    def speak(self, template: str) -> LoadedBase:
        """Have the base render chats by this template, or by none if that is empty, unless it has one of its own."""
        assert self.base is not None, "no base is loaded"
        tokenizer = dressed(self._tokenizer, template)
        if tokenizer is not self.base.tokenizer:
            self.base = replace(self.base, tokenizer=tokenizer)
        return self.base

    def holds(self, path: Path, quantisation: str, compute_dtype: str = "") -> bool:
        """Whether this base lies here already, quantised so; a chat that names no dtype takes it in any."""
        if self.base is None or self.base.key[:2] != (str(path.resolve()), quantisation):
            return False
        return compute_dtype in ("", self.base.key[3])

    def clear(self) -> None:
        """Let go of the base. On a card the memory is free at once; what the driver keeps goes with the process."""
        self.base, self._model, self._tokenizer, self.fingerprint = None, None, None, ""
        self._attached.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def begin_overlay(self, spec: AdapterSpec, seed: int) -> PeftModel:
        """A fresh overlay to be trained, alone on the base."""
        bare = take_off(self.model)
        self._attached.clear()
        try:
            overlaid = lay_on(bare, spec, seed)
        except torch.OutOfMemoryError:
            # Some layers carry matrices by now: a base half overlaid is no base.
            self.clear()
            raise
        self._model = overlaid
        return overlaid

    def drop_overlay(self) -> None:
        """The base alone again, if there is one: what was laid on it is gone, and its memory free."""
        if self._model is not None:
            bare = take_off(self._model)
            stop_checkpointing(bare)
            self._model = bare
            self._attached.clear()

    def keep_overlay(self, folder: Path) -> None:
        """The overlay just trained is the one saved in `folder`: it need not be read again."""
        overlaid = self.model
        assert isinstance(overlaid, PeftModel)
        overlaid.requires_grad_(False)
        overlaid.eval()
        stop_checkpointing(overlaid.get_base_model())
        forget_boundaries(overlaid)
        self._attached[_file_fingerprint(folder)] = NAME

    @contextlib.contextmanager
    def lane(self, folder: Path | None) -> Iterator[tuple[torch.nn.Module, str, float]]:
        """The model as one lane sees it: with the adapter in `folder`, or the base alone for None.

        Yields the model, the adapter's fingerprint ("" for the base) and the seconds that the swap took. Raises
        `AdapterError` if the adapter belongs to another base.
        """
        began = time.perf_counter()
        if folder is None:
            with base_alone(self.model) as model:
                yield model, "", time.perf_counter() - began
            return
        fingerprint = self._attach(folder)
        overlaid = self.model
        assert isinstance(overlaid, PeftModel)
        overlaid.set_adapter(self._attached[fingerprint], inference_mode=True)
        yield overlaid, fingerprint, time.perf_counter() - began

    def _attach(self, folder: Path) -> str:
        record = library.read(folder)
        if record.base_fingerprint and record.base_fingerprint != self.fingerprint:
            raise AdapterError(
                f"{record.name} was trained on another base ({record.base}).",
                "Chat with it on the base it was made for.",
            )
        fingerprint = _file_fingerprint(folder)
        if fingerprint in self._attached:
            self._attached.move_to_end(fingerprint)
            return fingerprint
        self._count += 1
        name = f"lane-{self._count}"
        if isinstance(self._model, PeftModel):
            loaded = self._model.load_adapter(
                str(folder), adapter_name=name, is_trainable=False, torch_device=str(self.device)
            )
            missing = loaded.missing_keys
        else:
            self._model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name)
            missing = []
        if any("lora" in key and f".{name}." in key for key in missing):
            raise AdapterError(
                f"{record.name} lacks weights for some layers of this base.", "It belongs to another base."
            )
        self._model.eval()
        self._attached[fingerprint] = name
        self._drop_oldest()
        return fingerprint

    def _drop_oldest(self) -> None:
        assert isinstance(self._model, PeftModel)
        while len(self._attached) > MAX_ATTACHED:
            _, name = self._attached.popitem(last=False)
            self._model.delete_adapter(name)


@contextlib.contextmanager
def base_alone(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The model with every overlay switched off, for as long as the block lasts; what learned before learns again after."""
    if not isinstance(model, PeftModel):
        yield model
        return
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with model.disable_adapter():
        yield model
    # PEFT switches gradients of the active adapter back on; an adapter held for chat must not begin to learn.
    model.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)


def _file_fingerprint(folder: Path) -> str:
    return f"sha256:{files.sha256(folder / 'adapter_model.safetensors')}"
