"""Facts for pages under test: runs on disk as an engine would have left them, bases and adapters that are only records."""

from __future__ import annotations

from pathlib import Path

from studio.library.adapter import Adapter
from studio.models.bases import Base
from studio.places import Workspace
from studio.recipe.recipe import Recipe
from studio.recipe.toml import to_dict
from studio.runs import events as e
from studio.runs.folder import RunFolder
from ui.state import AppState, RunView


def base(name: str) -> Base:
    return Base(name, Path(name), "LlamaForCausalLM", 135_000_000, 2048, "apache-2.0", "sha256:1")


def adapter(name: str) -> Adapter:
    return Adapter(
        name=name,
        path=Path(name),
        base="starter",
        base_fingerprint="sha256:1",
        hub_id="",
        method="lora",
        rank=16,
        alpha=32.0,
        rslora=False,
        dora=False,
        target_modules=("q_proj",),
        bytes=19_000_000,
        created=1000.0,
        tags=(),
        note="",
        run="",
        quantisation="nf4",
        fingerprint="sha256:2",
    )


def run(root: Path, name: str, *, steps: int = 4, ending: e.Event | None = None) -> RunView:
    """A run of ten steps of which some are taken; without an `ending` it goes on in this very process."""
    job = {
        "recipe": to_dict(Recipe(name=name)),
        "device": "cpu",
        "base": {"id": "starter", "path": str(root / "starter")},
        "data": {"path": str(root / "pirate.jsonl")},
    }
    folder = RunFolder.create(Workspace(root), name, job)
    events: list[e.Event] = [
        e.Started(pid=1, process_started=1.0, device="cpu", time=1000.0),
        e.Prepared(
            num_steps=10,
            num_rows=10,
            num_held_out=1,
            tokens_per_epoch=90,
            supervised_tokens_per_epoch=50,
            num_cut=0,
            num_dropped=0,
            num_trainable=4_900_000,
            num_parameters=140_000_000,
        ),
    ]
    for step in range(1, steps + 1):
        events.append(
            e.StepTaken(
                step=step,
                epoch=step / 10,
                loss=2.0 / step,
                learning_rate=1e-3,
                grad_norm=1.0,
                num_tokens=9,
                num_supervised=5,
                seconds=60.0,
            )
        )
    for event in [*events, *([ending] if ending is not None else [])]:
        folder.events.post(event)
    return RunView(folder, folder.state())


def gathered(*views: RunView) -> AppState:
    """A state in which these runs, newest last, have been found."""
    state = AppState()
    state.is_gathered = True
    state.runs = {view.folder.id: view for view in reversed(views)}
    return state
