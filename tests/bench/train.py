"""Optimizer steps of ours beside TRL's, on the same base, rows and learning rate, in the same run.

    python -m tests.bench.train                    starter base on a CPU, or any base on a card
    python -m tests.bench.train --steps 8 --rows 16

TRL (`pip install trl`, no dependency of the studio) is taken twice: as it comes, and at its best settings: the rows of a step
packed into one without padding (`padding_free`; its `packing` would make the same row, of rows from other steps), with its loss
on the answers alone in either case. Every contestant works in a process of its own and is given the same rows in the same
order, as the same tokens, so that losses must agree step by step. What counts is how many answer tokens per second it learns
from, and the most memory it holds during the steps, beyond the loaded base. Prints ratios, and the losses of each step.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RANK, ALPHA, LEARNING_RATE, MAX_TOKENS, SEED = 16, 32, 2e-4, 512, 42
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Result:
    """What one contestant did. Seconds are the median of a step, the first left out; memory is beyond the loaded base."""

    name: str
    seconds: float
    answer_tokens: float
    peak_bytes: int
    losses: list[float]

    @property
    def tokens_per_second(self) -> float:
        """Answer tokens learnt from per second."""
        return self.answer_tokens / self.seconds


# --- contestants, each in a process of its own -----------------------------------------------------------------------


def ours(options: argparse.Namespace, folder: Path) -> Result:
    """The engine's own loop, as a run uses it."""
    # Loaded before memory is counted on either side: TRL needs them for its rows, we for ours.
    import datasets  # noqa: F401
    import pandas  # noqa: F401
    import torch

    from studio.engine.desk import Desk
    from studio.engine.measure import reset_peaks
    from studio.engine.run import perform
    from studio.engine.train import Orders
    from studio.models.bases import find_base
    from studio.places import Workspace
    from studio.recipe.fields import from_dict
    from studio.runs import events as e
    from studio.runs.create import create_run

    workspace = Workspace(Path(options.home))
    recipe = from_dict(
        {
            "schema": 1,
            "name": "bench",
            "base": {"id": options.base},
            "data": {"path": options.data, "max_tokens": MAX_TOKENS, "validation_fraction": 0.0},
            "adapter": {"rank": RANK, "alpha": ALPHA},
            "training": {
                "steps": options.steps,
                "batch_rows": options.rows,
                "micro_batch_tokens": 8 * MAX_TOKENS,
                "learning_rate": LEARNING_RATE,
                "schedule": "constant",
                "warmup_fraction": 0.0,
                "seed": SEED,
                "optimizer": "adamw_torch",
            },
            "memory": {"checkpointing": "all" if options.checkpointing else "none"},
            "keep": {
                "checkpoint_every_steps": 0,
                "evaluate_every_steps": 0,
                "sample_every_steps": 0,
                "sample_prompts": [],
            },
        }
    )
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    desk = Desk(device)
    loaded, _ = desk.lay_base(find_base(workspace, options.base), recipe.base)
    run = create_run(workspace, recipe, device="cuda-0" if device.type == "cuda" else "cpu")
    before = _held(device, loaded.model)
    reset_peaks(device)
    steps: list[e.StepTaken] = []
    peaks = [0]

    def listen(event: Any) -> None:
        if isinstance(event, e.StepTaken):
            steps.append(event)
            peaks.append(_peak(device))

    perform(run, workspace, desk, Orders(), listen)
    return _result(
        "ours",
        [s.seconds for s in steps],
        [s.num_supervised for s in steps],
        peaks[-1] - before,
        [s.loss for s in steps],
    )


def trl(options: argparse.Namespace, folder: Path, best: bool) -> Result:
    """TRL's own trainer on the same quantised base."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from studio.engine.load import load_base
    from studio.engine.measure import reset_peaks
    from studio.models.bases import find_base
    from studio.places import Workspace
    from studio.recipe.recipe import Base

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    loaded = load_base(find_base(Workspace(Path(options.home)), options.base).path, Base(id=options.base), device)
    rows = _in_our_order(options, loaded.tokenizer)
    before = _held(device, loaded.model)
    reset_peaks(device)
    times: list[float] = []
    answers: list[int] = []
    peaks = [0]

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.perf_counter()
            peaks.append(_peak(device))

    class Counted(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            answers.append(int((inputs["labels"] != -100).sum()))
            return super().compute_loss(model, inputs, *args, **kwargs)

    packed = {"padding_free": True, "max_length": None} if best else {"max_length": MAX_TOKENS}
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=options.steps,
        per_device_train_batch_size=options.rows,
        gradient_accumulation_steps=1,
        train_sampling_strategy="sequential",
        # For rows that come as questions and answers this is its default; it cannot tell from rows that come as tokens.
        completion_only_loss=True,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        gradient_checkpointing=options.checkpointing,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=device.type == "cpu",
        bf16=True,
        disable_tqdm=True,
        **packed,
    )
    trainer = Counted(
        loaded.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _result("trl best" if best else "trl default", times, answers, peaks[-1] - before, losses)


def _in_our_order(options: argparse.Namespace, tokenizer: Any) -> list[dict[str, list[int]]]:
    """The rows as our engine encodes and orders them, in the columns that TRL reads."""
    from studio.data.rows import read
    from studio.engine.batches import Schedule
    from studio.engine.template import Coder, Example

    encoded = Coder.of(tokenizer, "assistant").encode(read(Path(options.data)).conversations)
    examples = [example.cut(MAX_TOKENS) for example in encoded if isinstance(example, Example)]
    schedule = Schedule(len(examples), options.rows, options.steps, SEED)
    order = [row for step in range(options.steps) for row in schedule.rows(step + 1)]
    return [
        {"input_ids": [int(t) for t in examples[i].ids], "completion_mask": [int(t) for t in examples[i].trained]}
        for i in order
    ]


def _held(device: Any, base: Any) -> int:
    """Bytes in use once all of the base is in memory, and what loading has left over is given back.

    Embeddings are pages of their file until something reads them: those of a base that "is loaded" would else be counted as the
    first step's, for every contestant alike.
    """
    import psutil
    import torch

    from studio.engine.measure import give_back_unused

    if device.type == "cpu":
        for parameter in base.parameters():
            parameter.detach().flatten().view(torch.uint8)[::_PAGE_BYTES].sum()
    gc.collect()
    give_back_unused(device)
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def _peak(device: Any) -> int:
    import torch

    from studio.engine.measure import peak_rss_bytes

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_rss_bytes()


def _result(name: str, seconds: list[float], tokens: list[int], peak: int, losses: list[float]) -> Result:
    """Medians over all steps but the first, which warms up."""
    counted = slice(1, None) if len(seconds) > 1 else slice(None)
    return Result(name, statistics.median(seconds[counted]), statistics.median(tokens[counted]), peak, losses)


# --- the comparison --------------------------------------------------------------------------------------------------


def main() -> int:
    """Run every contestant with and without checkpointing, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=int, default=8, help="rows of an optimizer step")
    parser.add_argument("--base", default="starter")
    parser.add_argument("--home", default=os.environ.get("OVERLAY_HOME", ""))
    parser.add_argument("--data", default="")
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        with tempfile.TemporaryDirectory() as folder:
            work = {
                "ours": ours,
                "trl default": lambda o, f: trl(o, f, False),
                "trl best": lambda o, f: trl(o, f, True),
            }
            sys.stdout.write(json.dumps(asdict(work[options.contestant](options, Path(folder)))))
        return 0
    with tempfile.TemporaryDirectory() as home:
        _prepare(options, Path(home))
        for checkpointing in (True, False):
            _compare(options, checkpointing)
    return 0


def _prepare(options: argparse.Namespace, home: Path) -> None:
    """A workspace with the base in it, and rows that both sides read alike."""
    from studio.places import EXAMPLES

    if not options.home:
        options.home = str(home)
        overlay = [sys.executable, "-m", "studio.cli", "bases", "add", options.base]
        subprocess.run(overlay, env={**os.environ, "OVERLAY_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL)
    options.data = options.data or str(EXAMPLES / "pirate.jsonl")


def _compare(options: argparse.Namespace, checkpointing: bool) -> None:
    results = {name: _run(options, name, checkpointing) for name in ("ours", "trl default", "trl best")}
    mine = results["ours"]
    print(f"\n{'all layers' if checkpointing else 'no layer'} checkpointed")
    for name, found in results.items():
        if found is None or mine is None:
            print(f"  {name:12} did not run")
            continue
        print(
            f"  {name:12} {found.seconds:7.2f} s a step, {found.tokens_per_second:7.1f} answer tokens/s, "
            f"{found.peak_bytes / 1e9:5.2f} GB beyond the base | ours: {mine.tokens_per_second / found.tokens_per_second:4.2f} x "
            f"the speed, {mine.peak_bytes / found.peak_bytes:4.2f} x the memory"
        )
        apart = max(abs(a / b - 1) for a, b in zip(found.losses, mine.losses, strict=True))
        print(f"{'':15}losses {' '.join(f'{loss:.3f}' for loss in found.losses)} | furthest from ours: {apart:.1%}")


def _run(options: argparse.Namespace, name: str, checkpointing: bool) -> Result | None:
    command = [sys.executable, "-m", "tests.bench.train", "--contestant", name, "--steps", str(options.steps)]
    command += ["--rows", str(options.rows), "--base", options.base, "--home", options.home, "--data", options.data]
    command += ["--checkpointing"] if checkpointing else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(
            f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no output'}", file=sys.stderr
        )
        return None
    return Result(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
