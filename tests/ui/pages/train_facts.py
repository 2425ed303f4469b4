"""Facts for the Train page: a state with a small conductor that only knows recipes, and events of a plausible run."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from studio.memory.auto import settled
from studio.memory.budget import budget, trainable_parameters
from studio.memory.device import Gpu
from studio.models.bases import Base
from studio.models.facts import ModelFacts
from studio.recipe.check import check
from studio.recipe.fields import replaced, to_dict
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from ui.state import AppState, DataView, RunView

GB = 1 << 30
CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40_960,
}
BASE = Base("starter", Path("starter"), "Qwen3ForCausalLM", 4_022_468_096, 40_960, "apache-2.0", "sha256:1")


def conduct(state: AppState) -> None:
    """Answer edits as the conductor does, as far as the recipe goes."""

    def follow() -> None:
        if state.base is not None and state.facts is not None:
            state.budget = budget(state.facts, settled(state.facts, state.recipe, *state.limits), state.limits[-1])
            state.trainable = trainable_parameters(state.facts, state.recipe)
        state.problems = check(state.recipe, state.facts)

    def take(recipe: Recipe) -> None:
        state.recipe = recipe
        follow()
        state.recipe_changed.emit()

    state.recipe_edited.connect(take)
    follow()


def ready_state(*, gpu_gb: int | None = 24) -> AppState:
    """A base, a dataset and a card: nothing is missing."""
    state = AppState()
    state.bases, state.facts = [BASE], ModelFacts.from_config(CONFIG)
    state.data = DataView("pirate.jsonl", num_rows=99, num_good=99)
    if gpu_gb is not None:
        state.gpus = [Gpu("NVIDIA GeForce RTX 4090", gpu_gb * GB, (gpu_gb - 1) * GB, "580", 0)]
        state.card_bytes = gpu_gb * GB
    conduct(state)
    return state


def run_events(num_steps: int = 120, total: int = 200) -> Iterator[e.Event]:
    """A run up to `num_steps`, with evaluations, samples and checkpoints every 50 steps."""
    yield e.Started(time=0.0, pid=1, process_started=1.0, device="cuda-0")
    yield e.PhaseEntered(time=1.0, name="loading")
    yield e.Prepared(
        time=2.0,
        num_steps=total,
        num_rows=640,
        num_held_out=34,
        tokens_per_epoch=170_000,
        supervised_tokens_per_epoch=80_000,
        num_cut=0,
        num_dropped=0,
        num_trainable=33_030_144,
        num_parameters=4_055_498_240,
    )
    yield e.SampleWritten(time=3.0, step=0, prompt="Who are you?", text="I am a model.")
    for step in range(1, num_steps + 1):
        yield step_taken(step)
        if step % 50 == 0:
            yield e.Evaluated(step=step, loss=1.1 + math.exp(-step / 40), num_supervised=900)
            yield e.SampleWritten(step=step, prompt="Who are you?", text=f"Arr <b>{step}</b>")
            yield e.CheckpointSaved(step=step, path=f"checkpoints/step-{step:06d}", bytes=1)


def step_taken(step: int) -> e.StepTaken:
    """One step of that run, 64 steps to an epoch."""
    return e.StepTaken(
        time=10.0 + step,
        step=step,
        epoch=step / 64,
        loss=1.0 + 1.4 * math.exp(-step / 70) + 0.1 * math.sin(step),
        learning_rate=2e-4,
        grad_norm=1.5 if step == 7 else 0.5,
        num_tokens=3000,
        num_supervised=1000,
        seconds=1.0,
        delta_norm=step * 0.01,
    )


def add_run(state: AppState, folder: Path, events: list[e.Event], name: str = "pirate v1") -> RunView:
    """A run on disk, known to the state, with these events behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = replaced(Recipe(), "name", name)
    job = {"schema": 1, "kind": "train", "name": name, "recipe": to_dict(recipe)}
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    view = RunView(RunFolder(folder), RunState.replay(events))
    state.runs[folder.name] = view
    state.runs_changed.emit()
    return view


def feed(state: AppState, view: RunView, *events: e.Event) -> None:
    """Let events happen as the conductor does: the state first, then the news."""
    for event in events:
        view.state.advance(event)
        state.run_event.emit(view.folder.id, event)
