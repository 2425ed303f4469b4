"""The live estimate beside a dry run of the real code, over architectures, methods, lengths, checkpointing and ranks.

    python -m tests.bench.estimate                 the whole grid on four blocks of each model, some minutes
    python -m tests.bench.estimate --quick         one length and one rank
    python -m tests.bench.estimate --layers 0      all blocks of each model; much longer

Everything between the blocks is linear in their number, so that four of them show every term; with few blocks the peaks weigh
more, and an error in them shows more. Prints one line per setup and names the worst; exits 1 beyond the limits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from studio.memory.budget import Budget, budget_of
from studio.memory.setup import Setup
from studio.memory.step import Step, step
from studio.models.facts import ModelFacts
from studio.places import RESOURCES
from studio.recipe.fields import from_dict
from studio.recipe.recipe import Recipe

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-8B",
    "google/gemma-2-2b-it",
    "google/gemma-3-1b-it",
    "microsoft/phi-4",
    "allenai/OLMo-2-1124-7B-Instruct",
    "HuggingFaceTB/SmolLM3-3B",
    "ibm-granite/granite-3.3-8b-instruct",
)
OLDER: dict[str, dict[str, Any]] = {
    "pythia-6.9b": {
        "model_type": "gpt_neox",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 16384,
        "vocab_size": 50432,
        "max_position_embeddings": 2048,
        "hidden_act": "gelu",
    },
    # Its positions are a table of learnt embeddings: long enough here for every length of the grid.
    "gpt2-medium": {
        "model_type": "gpt2",
        "n_embd": 1024,
        "n_layer": 24,
        "n_head": 16,
        "vocab_size": 50257,
        "n_positions": 1 << 14,
    },
}
TOTAL_LIMIT, TERM_LIMIT = 0.03, 0.08
PHASES = ("forward", "loss", "backward")
TERMS = ("activations", "logits", "overhead")
NEGLIGIBLE_BYTES = 1_000_000


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    model: str
    quantisation: str
    tokens: int
    checkpointed: str
    rank: int

    def recipe(self, num_layers: int) -> Recipe:
        """The point as a recipe."""
        checkpointing: str | int = num_layers // 2 if self.checkpointed == "half" else self.checkpointed
        return from_dict(
            {
                "schema": 1,
                "name": "bench",
                "base": {"id": self.model, "quantisation": self.quantisation},
                "data": {"path": "rows.jsonl", "max_tokens": 1024},
                "adapter": {"rank": self.rank, "alpha": 2 * self.rank},
                "training": {"steps": 1, "micro_batch_tokens": self.tokens},
                "memory": {"checkpointing": checkpointing},
            }
        )


@dataclass(frozen=True)
class Row:
    """What was found: bytes, and errors as fractions of the trace."""

    case: Case
    traced_bytes: int
    estimated_bytes: int
    parts: dict[str, float]

    @property
    def error(self) -> float:
        """Of the total."""
        return self.estimated_bytes / self.traced_bytes - 1

    @property
    def worst_part(self) -> tuple[str, float]:
        """The dynamic part that is furthest off."""
        return max(self.parts.items(), key=lambda part: abs(part[1]))


def measure(case: Case, config: dict[str, Any], num_layers: int) -> Row:
    """Trace and estimate one case."""
    logging.disable(logging.WARNING)
    from studio.engine.trace import trace

    facts = ModelFacts.from_config(config)
    layers = num_layers or facts.num_layers
    facts, recipe = facts.with_layers(layers), case.recipe(layers)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        traced = trace(Path(folder), recipe, layers)
    setup = Setup.of(facts, recipe)
    found = budget_of(facts, setup)
    return Row(case, traced.total_bytes, found.total_bytes, _parts(step(facts, setup), found, traced))


def _parts(held: Step, found: Budget, traced: Any) -> dict[str, float]:
    """Errors of what comes and goes: the peak of every phase, whether it decides or not, and each term at the peak itself."""
    static = sum(traced.held["update"].get(owner, 0) for owner in ("weights", "adapter", "gradients", "optimizer"))
    peaks = {name: max(peak.bytes for peak in held.peaks if peak.name == name) for name in PHASES}
    errors = {name: peaks[name] / (traced.peaks[name] - static) - 1 for name in PHASES}
    for name in TERMS:
        estimated, real = found.term(name).bytes, traced.terms.get(name, 0)
        if max(estimated, real) > NEGLIGIBLE_BYTES:
            errors[f"term {name}"] = estimated / real - 1 if real else float("inf")
    return errors


def configurations() -> dict[str, dict[str, Any]]:
    """The models of the grid by name."""
    catalogue = json.loads((RESOURCES / "catalogue.json").read_text(encoding="utf-8"))
    known = {model["id"]: model["config"] for model in catalogue["models"]}
    return {**{name: known[name] for name in MODELS}, **OLDER}


def main() -> int:
    """Run the grid and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4k tokens and rank 64 alone")
    parser.add_argument("--layers", type=int, default=4, help="blocks of each model (0: all)")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    configs = configurations()
    lengths, ranks = ((4096,), (64,)) if options.quick else ((1024, 4096, 16384), (8, 64))
    cases = [
        Case(*point) for point in itertools.product(configs, ("nf4", "none"), lengths, ("all", "half", "none"), ranks)
    ]
    first = f"{'model':38} {'weights':8} {'tokens':>6} {'recomputed':10} {'rank':>4}"
    print(f"{first} {'dry run':>9} {'estimate':>9} {'error':>7}  worst part")
    rows = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(measure, case, configs[case.model], options.layers) for case in cases]
        for future in pending:
            row = future.result()
            rows.append(row)
            _print(row)
    return _judge(rows)


def _print(row: Row) -> None:
    case, (part, error) = row.case, row.worst_part
    print(
        f"{case.model:38} {case.quantisation:8} {case.tokens:6} {case.checkpointed:10} {case.rank:4} "
        f"{row.traced_bytes / 1e9:6.2f} GB {row.estimated_bytes / 1e9:6.2f} GB {row.error:+7.2%}  {part} {error:+.2%}",
        flush=True,
    )


def _judge(rows: list[Row]) -> int:
    worst = max(rows, key=lambda row: abs(row.error))
    worst_part = max(rows, key=lambda row: abs(row.worst_part[1]))
    print(f"\n{len(rows)} setups. Worst total: {worst.error:+.2%} ({worst.case}).")
    print(f"Worst part: {worst_part.worst_part[0]} {worst_part.worst_part[1]:+.2%} ({worst_part.case}).")
    exact = sum(abs(row.error) < 0.001 for row in rows)
    print(f"Within 0.1 % of the dry run: {exact} of {len(rows)}.")
    return 1 if abs(worst.error) > TOTAL_LIMIT or abs(worst_part.worst_part[1]) > TERM_LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
