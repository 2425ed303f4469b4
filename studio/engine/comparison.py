"""The estimate of a run or a fit test, and what was measured against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from studio.engine.desk import Desk
from studio.engine.measure import card_of, room
from studio.errors import StudioError
from studio.memory import correction
from studio.memory.auto import settled
from studio.memory.budget import Budget, budget
from studio.memory.device import CardUse
from studio.memory.setup import micro_batch_tokens
from studio.models.bases import Base
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.runs import events as e


@dataclass
class Comparison:
    """What was expected of `recipe` on this device, and the last measurement heard, after `num_steps` steps of this process.

    `as_run` is the recipe as the engine goes by it here, with the layers to be recomputed counted (`is_auto`: by us). `budget`
    is None where none can be made. `beside_bytes` is what the process will hold besides tensors: on a card the CUDA context and
    what the allocator cannot use; on a CPU the program itself, as it is before the base is loaded.
    """

    as_run: Recipe
    budget: Budget | None
    card: CardUse | None
    beside_bytes: int = 0
    measured: e.MemoryMeasured | None = None
    num_steps: int = 0
    is_auto: bool = False

    @classmethod
    def of(cls, workspace: Workspace, base: Base, recipe: Recipe, desk: Desk) -> Comparison:
        """Estimate before anything is loaded. A model that cannot be estimated can be trained all the same."""
        is_auto = recipe.memory.checkpointing == "auto"
        found = card_of(desk.device)
        card = found[1] if found else None
        learnt = correction.correction_for(workspace, card.name, card.driver) if card else None
        learnt_bytes = learnt.bytes if learnt else 0
        try:
            facts = ModelFacts.from_folder(base.path)
            recipe = settled(facts, on_device(recipe, desk.device), *room(desk.device), learnt_bytes)
            expected = budget(facts, recipe, learnt_bytes)
        except StudioError:
            return cls(on_device(recipe, desk.device), None, card)
        on_card = desk.device.type == "cuda"
        beside_bytes = expected.context.bytes if on_card else _program_bytes(desk)
        return cls(recipe, expected, card, beside_bytes, is_auto=is_auto)

    @property
    def total_bytes(self) -> int | None:
        """The tensors' peak, as estimated."""
        return self.budget.total_bytes if self.budget else None

    @property
    def process_bytes(self) -> int | None:
        """What the process will hold, as estimated, with what this card has taught."""
        if self.budget is None:
            return None
        return self.budget.total_bytes + self.beside_bytes + self.budget.correction_bytes

    def estimated(self) -> list[e.Event]:
        """The estimate as an event; none if there is none."""
        if self.budget is None:
            return []
        return [
            e.Estimated(
                total_bytes=self.budget.total_bytes,
                process_bytes=self.process_bytes or 0,
                context_bytes=self.beside_bytes,
                terms={term.name: term.bytes for term in self.budget.terms},
                correction_bytes=self.budget.correction_bytes,
                card=self.card.name if self.card else "",
                card_bytes=self.card.total_bytes if self.card else None,
                num_layers=self.budget.num_layers,
                num_checkpointed=self.budget.num_checkpointed,
                is_auto=self.is_auto,
            )
        ]

    def heard(self, emit: Callable[[e.Event], None]) -> Callable[[e.Event], None]:
        """An `emit` that remembers what was measured."""

        steps_taken: list[int] = []

        def hear(event: e.Event) -> None:
            if isinstance(event, e.StepTaken):
                steps_taken.append(event.step)
            if isinstance(event, e.MemoryMeasured):
                self.measured, self.num_steps = event, len(steps_taken)
            emit(event)

        return hear

    def keep(self, workspace: Workspace, run: str) -> None:
        """Let later estimates learn from this one: on a card only, and only after enough steps."""
        measured, expected, card = self.measured, self.budget, self.card
        if measured is None or self.num_steps < correction.LEAST_STEPS or expected is None or card is None:
            return
        correction.keep(
            workspace,
            correction.Measurement(
                run=run,
                card=card.name,
                driver=card.driver,
                total_estimated_bytes=expected.total_bytes,
                context_estimated_bytes=expected.context.bytes,
                allocated_bytes=measured.allocated_bytes or 0,
                reserved_bytes=measured.reserved_bytes or 0,
                process_bytes=measured.process_bytes,
                micro_batch_tokens=micro_batch_tokens(self.as_run),
                num_steps=self.num_steps,
                time=time.time(),
            ),
        )


def _program_bytes(desk: Desk) -> int:
    """Resident memory without the base that an earlier job may have left loaded."""
    loaded_bytes = desk.base.num_bytes if desk.base else 0
    return max(0, psutil.Process().memory_info().rss - loaded_bytes)


def on_device(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe as far as the kind of device decides: a CPU knows one optimizer."""
    return recipe if device.type == "cuda" else replaced(recipe, "training.optimizer", "adamw_torch")
