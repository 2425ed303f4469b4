"""`overlay demo`: the whole journey on the small base that comes with the studio, in minutes and without a card."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from studio import files, places
from studio.chat.sampling import Sampling
from studio.cli.asking import Question, ask
from studio.cli.commands_bases import import_base
from studio.cli.commands_merge import run_merge
from studio.cli.commands_train import follow_rescued, refuse_if_busy
from studio.cli.follow import engine_for
from studio.cli.output import Output
from studio.cli.parser import Commands, add_command, whole_number
from studio.errors import BaseModelError, StudioError
from studio.files import readable_seconds
from studio.library import shelf
from studio.memory.device import choose_device
from studio.models.bases import Base, find_base
from studio.places import Workspace
from studio.recipe import presets
from studio.recipe.fields import replaced
from studio.recipe.presets import EXAMPLES, STARTER, TOUR_STEPS
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.create import create_run
from studio.runs.engine import Engine, refuse_busy

PROMPTS = (
    "What should I cook tonight?",
    "Why is the sky blue?",
    "Give me one tip for learning to code.",
)
_GREEDY = Sampling(max_tokens=60, temperature=0.0)


@dataclass(frozen=True)
class Results:
    """What the demo has to show: the adapter's and the merged model's places, and three sets of answers."""

    run: str
    adapter: str
    adapter_path: Path
    merged: Path
    merged_bytes: int
    receipt: dict[str, float | None]
    before: list[str]
    after: list[str]
    from_unmerged: list[str]
    from_merged: list[str]
    seconds: float


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        demo,
        "train, compare and merge a first adapter",
        details="Uses the small base and an example dataset that come with the studio: asks three questions, trains, asks "
        "them again, and bakes the adapter into a model of its own.",
        uses_device=True,
    )
    parser.add_argument(
        "--steps",
        type=whole_number(1, 10_000),
        default=TOUR_STEPS,
        metavar="N",
        help=f"how long to train (default: {TOUR_STEPS})",
    )
    parser.add_argument("--example", choices=EXAMPLES, default=EXAMPLES[0], help="the style to learn (default: pirate)")


def demo(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """The journey, told step by step."""
    began = time.monotonic()
    device = choose_device(options.device)
    refuse_if_busy(workspace, device)
    base = starter(workspace, output)
    recipe = demo_recipe(options.example, options.steps)
    with engine_for(workspace, device) as engine:
        refuse_busy(engine, workspace)
        output.say(f"Asking {base.id}, as it is, {len(PROMPTS)} questions ...")
        before = _answers(engine, base.path, None, "nf4", output)
        output.say(f"Training {recipe.training.steps} steps on examples/{options.example}.jsonl ...")
        run = create_run(workspace, recipe, device=device, recipe_folder=places.RESOURCES)
        # The run's own last event is kept back: the demo has one of its own.
        ending = follow_rescued(workspace, run, engine, output, leave_out=e.Finished)
        if not isinstance(ending, e.Finished):
            raise StudioError("The demo was stopped before its end.", f"`overlay resume {run.id}` goes on training.")
        # The same engine; or, had its memory run out meanwhile, another.
        with engine_for(workspace, device) as engine:
            adapter = shelf.find(workspace, ending.adapter)
            output.say(f"Asking again, now with the adapter {adapter.name} on the same base ...")
            after = _answers(engine, base.path, adapter.path, "nf4", output)
            output.say("Baking the adapter into a model of its own ...")
            target = files.free_name(workspace.exports, f"{adapter.name}-merged")
            # In fp32 nothing is rounded: what the merged model says must be what base and adapter say, to the last word.
            merged = run_merge(workspace, adapter, base, target, output, dtype="float32")
            output.say(
                "Asking the merged model, and the unquantised base with the adapter on it: they must say the same ..."
            )
            from_unmerged = _answers(engine, base.path, adapter.path, "none", output, "float32")
            from_merged = _answers(engine, target, None, "none", output, "float32")
    results = Results(
        run=run.id,
        adapter=adapter.name,
        adapter_path=adapter.path,
        merged=target,
        merged_bytes=int(merged.result["bytes"]),
        before=before,
        after=after,
        receipt=merged.result["receipt"],
        from_unmerged=from_unmerged,
        from_merged=from_merged,
        seconds=time.monotonic() - began,
    )
    _tell(results, output)


def starter(workspace: Workspace, output: Output) -> Base:
    """The small base, added first if it is not there yet."""
    try:
        return find_base(workspace, STARTER)
    except BaseModelError:
        output.say("Adding the small base that comes with the studio ...")
        return import_base(workspace, STARTER, STARTER, output)


def demo_recipe(example: str, steps: int) -> Recipe:
    """The tour's recipe, without samples on the way: the demo asks its own questions before and after."""
    recipe = replaced(presets.tour(example, steps), "name", f"demo-{example}")
    return replaced(replaced(recipe, "keep.sample_every_steps", 0), "keep.sample_prompts", [])


def _answers(
    engine: Engine, base: Path, adapter: Path | None, quantisation: str, output: Output, compute_dtype: str = ""
) -> list[str]:
    """What the base in that folder, with or without the adapter, says to each prompt."""
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    lanes = [adapter] * len(PROMPTS)
    answers = ask(engine, Question(base, quantisation, lanes, turns, _GREEDY, compute_dtype))
    for answer in answers:
        output.event(e.EVENTS.to_dict(answer))
    return [answer.text for answer in answers]


def _tell(results: Results, output: Output) -> None:
    finished = {
        "event": e.Finished.__name__,
        "time": time.time(),
        "run": results.run,
        "adapter": results.adapter,
        "merged": {
            "path": str(results.merged),
            "bytes": results.merged_bytes,
            "answers": results.from_merged,
            "answers_unmerged": results.from_unmerged,
            "receipt": results.receipt,
        },
        "prompts": list(PROMPTS),
        "before": results.before,
        "after": results.after,
        "seconds": results.seconds,
    }
    output.say(_text(results))
    output.event(finished)


def _text(results: Results) -> str:
    lines = ["", f"Done in {readable_seconds(results.seconds)}.", ""]
    answers = zip(PROMPTS, results.before, results.after, results.from_merged, strict=True)
    for prompt, before, after, merged in answers:
        lines += [f"You:      {prompt}", f"Before:   {_one_line(before)}", f"After:    {_one_line(after)}"]
        lines += [f"Merged:   {_one_line(merged)}", ""]
    lines += [
        "What happened: the base was frozen and loaded in 4 bits, and a thin overlay was trained on top of it (Before and",
        "After differ by nothing else). Then the overlay was added into the base's own, unquantised weights (Merged): those",
        "are finer than 4 bits, so the merged model may choose other words in the same style.",
        _proof(results),
        "",
        f"The overlay:       {results.adapter_path}",
        f"The merged model:  {results.merged} ({files.readable_bytes(results.merged_bytes)})",
        "",
        "How to go on:",
        f'  overlay chat --lanes base,{results.adapter} --prompt "Who are you?"',
        f"  overlay runs show {results.run}",
        "  overlay demo --example laconic",
        "  overlay train my-recipe.toml",
    ]
    return "\n".join(lines)


def _proof(results: Results) -> str:
    same = sum(one == other for one, other in zip(results.from_merged, results.from_unmerged, strict=True))
    return f"Checked: {same} of {len(PROMPTS)} merged answers are, word for word, those of the unquantised base with the adapter."


def _one_line(text: str) -> str:
    return " ".join(text.split())
