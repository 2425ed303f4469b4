"""100,000 conversations of mixed length looked through and masked, ours beside `datasets.map` and TRL's own preparation.

    python -m tests.bench.data                       with the starter base's tokenizer
    PYTHONPATH=.:FOLDER_WITH_TRL python -m tests.bench.data --rows 20000 --home HOME --base NAME

TRL (`pip install trl --target FOLDER_WITH_TRL --no-deps`) is no dependency of the studio. Both sides read the same JSON lines,
count roles, turns and characters, find exact repeats and questions with several answers, and mask each conversation so that
the assistant's words alone are learnt: we with the base's own template, TRL with a template of the same words that marks them,
which it needs. Only ours also looks for near repeats, leaks, garbled letters and markup; it is timed with and without. Every
contestant works in a process of its own that has its libraries loaded before the clock starts; see `tests.bench.loader` for
what the clocks and the memory mean.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.loader import MAX_TOKENS, WORDS, Result, Watch, _processor_seconds

MARKED = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant "
    "named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _lexicon(draw: random.Random) -> list[str]:
    """Thirty thousand words, the commonest first; those beyond the real ones are made of syllables, some with an accent."""
    starts = ["b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "pl", "br", "sh"]
    ends = ["a", "e", "i", "o", "u", "ai", "ea", "er", "on", "in", "al"]
    made: dict[str, None] = {}
    while len(made) < 30_000:
        word = "".join(draw.choice(starts) + draw.choice(ends) for _ in range(draw.randint(1, 4)))
        made[word.replace("e", "é", 1) if len(made) % 25 == 0 else word] = None
    return [*WORDS, *made]


def write_conversations(path: Path, count: int) -> None:
    """Chats of one to four exchanges, the same ones each time; one in a hundred repeats another. How often a word comes follows
    its rank, as in any language (Zipf), and one text in fifty ends with a parrot."""
    draw = random.Random(20240229)
    lexicon = _lexicon(draw)
    reach = math.log(len(lexicon))

    def word() -> str:
        return lexicon[int(math.exp(draw.random() * reach)) - 1] + draw.choice(("", "", "", "", "", "", ",", "."))

    def text(median: float, spread: float) -> str:
        words = [word() for _ in range(max(2, min(1200, int(draw.lognormvariate(median, spread)))))]
        return (
            " ".join(words).capitalize()
            + draw.choice((".", "!", "?", "...", "\n"))
            + "\U0001f99c" * (draw.random() < 0.02)
        )

    with open(path, "w", encoding="utf-8") as file:
        line = ""
        for number in range(count):
            if not line or number % 100:
                turns: list[dict[str, str]] = []
                for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
                    turns += [
                        {"role": "user", "content": text(2.7, 0.7)},
                        {"role": "assistant", "content": text(4.0, 0.9)},
                    ]
                line = json.dumps({"messages": turns}) + "\n"
            file.write(line)


# --- contestants -----------------------------------------------------------------------------------------------------


def ours(options: argparse.Namespace, folder: Path, near: bool = True) -> Result:
    """`examine`, then `measure`: what `overlay data --base` does."""
    from studio.data.examine import Options, examine
    from studio.engine.load import load_tokenizer
    from studio.engine.look import measure
    from studio.engine.template import Coder
    from studio.models.bases import find_base
    from studio.places import Workspace

    coder = Coder.of(load_tokenizer(find_base(Workspace(Path(options.home)), options.base).path), "assistant")
    with Watch() as watch:
        began, worked = time.perf_counter(), _processor_seconds()
        examine(Path(options.data), Options(near=near))
        surveyed = time.perf_counter() - began
        found = measure(coder, Path(options.data), MAX_TOKENS, folder / "lengths.npy", lambda *_: None)
        seconds, processor = time.perf_counter() - began, _processor_seconds() - worked
    return Result(seconds, processor, found["tokens"]["total"], watch.more, surveyed)


def theirs(options: argparse.Namespace, folder: Path, processes: int | None) -> Result:
    """The same survey as a function that is mapped over the rows, then TRL's preparation."""
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from studio.engine.load import load_tokenizer
    from studio.models.bases import find_base
    from studio.places import Workspace

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(find_base(Workspace(Path(options.home)), options.base).path)
    tokenizer.chat_template = MARKED
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    clock: dict[str, Any] = {}

    class Timed(SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *arguments: Any, **named: Any) -> Any:
            began, worked = time.perf_counter(), _processor_seconds()
            clock["prepared"] = super()._prepare_dataset(*arguments, **named)
            clock["seconds"], clock["processor"] = time.perf_counter() - began, _processor_seconds() - worked
            return clock["prepared"]

    config = SFTConfig(
        output_dir=str(folder / "trl"), max_length=None, packing=False, assistant_only_loss=True,
        dataset_num_proc=processes, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    with Watch() as watch:
        began, worked = time.perf_counter(), _processor_seconds()
        rows = datasets.load_dataset("json", data_files=options.data, split="train", cache_dir=str(folder))
        _survey(rows.map(_look_at, num_proc=processes, remove_columns=rows.column_names))
        surveyed, processor = time.perf_counter() - began, _processor_seconds() - worked
        Timed(model, args=config, train_dataset=rows, processing_class=tokenizer)
    tokens = sum(map(len, clock["prepared"]["input_ids"]))
    return Result(surveyed + clock["seconds"], processor + clock["processor"], tokens, watch.more, surveyed)


def _look_at(row: dict[str, Any]) -> dict[str, Any]:
    """One row as `datasets.map` is commonly used."""
    turns = row["messages"]
    said = json.dumps([[turn["role"], turn["content"]] for turn in turns]).encode()
    asked = " ".join(turns[0]["content"].casefold().split()).encode()
    return {
        "roles": [turn["role"] for turn in turns],
        "characters": sum(len(turn["content"]) for turn in turns),
        "is_sound": all(turn["content"].strip() and "\0" not in turn["content"] for turn in turns),
        "digest": hashlib.sha256(said).hexdigest(),
        "prompt": hashlib.sha256(asked).hexdigest(),
    }


def _survey(rows: Any) -> dict[str, Any]:
    """The counts of those columns."""
    from collections import Counter

    return {
        "roles": Counter(role for roles in rows["roles"] for role in roles),
        "characters": sorted(rows["characters"]),
        "repeats": len(rows) - len(set(rows["digest"])),
        "conflicts": len(set(rows["digest"])) - len(set(rows["prompt"])),
        "bad": sum(not sound for sound in rows["is_sound"]),
    }


CONTESTANTS: dict[str, Any] = {
    "ours, the same checks": lambda o, f: ours(o, f, near=False),
    "ours, near repeats as well": ours,
    "datasets.map and trl": lambda o, f: theirs(o, f, None),
    "datasets.map and trl, 2 processes": lambda o, f: theirs(o, f, 2),
}


# --- the comparison --------------------------------------------------------------------------------------------------


def main() -> int:
    """Run every contestant, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--home", default=os.environ.get("OVERLAY_HOME", ""))
    for hidden in ("--contestant", "--data"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.contestant:
            sys.stdout.write(json.dumps(asdict(CONTESTANTS[options.contestant](options, Path(folder)))))
            return 0
        options.data = str(Path(folder) / "rows.jsonl")
        write_conversations(Path(options.data), options.rows)
        _compare(options)
    return 0


def _compare(options: argparse.Namespace) -> None:
    first: Result | None = None
    for name in CONTESTANTS:
        found = _run(options, name)
        if found is None:
            print(f"  {name:34} did not run", flush=True)
            continue
        first = first or found
        print(
            f"  {name:34} {found.seconds:7.2f} s, of which {found.epoch_seconds:6.2f} s survey "
            f"({found.processor_seconds:6.1f} s of processor), {options.rows / found.seconds:8,.0f} rows/s, "
            f"{found.tokens:,} tokens, {found.peak_bytes / 1e6:6.0f} MB more | "
            f"ours: {found.seconds / first.seconds:5.2f} x the speed, "
            f"{found.processor_seconds / first.processor_seconds:5.2f} x by processor, "
            f"{first.peak_bytes / found.peak_bytes:4.2f} x the memory",
            flush=True,
        )


def _run(options: argparse.Namespace, name: str) -> Result | None:
    given = [text for key, value in {**vars(options), "contestant": name}.items() for text in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.data", *given], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        print(f"{name}: {last[0]}", file=sys.stderr)
        return None
    return Result(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
