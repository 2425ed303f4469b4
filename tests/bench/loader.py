"""From a file of 100,000 chats to the first step's micro-batches, ours beside TRL's own preparation.

    python -m tests.bench.loader                       with the starter base's tokenizer
    python -m tests.bench.loader --rows 20000 --home HOME --base NAME

TRL (`pip install trl`, no dependency of the studio) prepares the same rows with its own `SFTTrainer`, packing them, in one
process as it comes and in two: once as questions with answers, so that it learns from the answers alone as we do, and once as
whole chats, which costs it less and learns from everything. Every contestant works in a process of its own that has its libraries
loaded before the clock starts; the clock runs from the reading of the file on. The processor's time, children's included, says
more than the clock on a machine that is busy. Memory is the most that the process and its children hold together beyond what
they held at the start, shared pages counted once; pages of mapped files count, though the system may take them back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAX_TOKENS = 2048
# Short chats: some words in the question, some sentences in the answer, a few answers that are long.
TEXT = (
    "the a and of to in is it that you for on with as be at this have from or one had by word but not what all were we when your "
    "can said there use an each which she do how their if will up other about out many then them these so some her would make "
    "like him into time has look two more write go see number no way could people my than first water been call who oil its now "
    "find long down day did get come made may part sail harbour captain treasure weather compass recipe python function "
    "variable compile matrix theorem photosynthesis government temperature Tuesday 1984 3.14 naive approximately"
)
WORDS = TEXT.split()


@dataclass(frozen=True)
class Result:
    """What one contestant did. Memory is beyond what it held at the start."""

    seconds: float
    processor_seconds: float
    tokens: int
    peak_bytes: int
    epoch_seconds: float = 0.0


def write_rows(path: Path, count: int) -> None:
    """Chats of one question and one answer, the same ones each time."""
    draw = random.Random(20240229)

    def text(median: float, spread: float) -> str:
        words = [draw.choice(WORDS) for _ in range(max(2, min(1200, int(draw.lognormvariate(median, spread)))))]
        marks = [word + draw.choice(("", "", "", "", "", ",", ".", ".\n")) for word in words]
        return " ".join(marks).strip().capitalize() + "."

    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            turns = [{"role": "user", "content": text(2.7, 0.7)}, {"role": "assistant", "content": text(4.0, 0.9)}]
            file.write(json.dumps({"messages": turns}) + "\n")


class Watch:
    """The most memory that this process and its children hold together, looked at every tenth of a second. Looking costs the
    processor a good deal, which is not what the contestants are to be charged for: `spent`, in seconds."""

    spent = 0.0

    def __init__(self) -> None:
        self._start = self.peak = _held()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.1):
            self.peak = max(self.peak, _held())
            Watch.spent = time.thread_time()

    @property
    def more(self) -> int:
        """Bytes beyond the start."""
        return self.peak - self._start


def _processor_seconds() -> float:
    """Of this process and of its children that have ended, without the watching."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system - Watch.spent


def _held() -> int:
    import contextlib

    import psutil

    total, me = 0, psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss if sys.platform == "linux" else process.memory_info().rss
    return total


# --- contestants, each in a process of its own -----------------------------------------------------------------------


def ours(options: argparse.Namespace, _: Path) -> Result:
    """What `run.prepare` does, and the micro-batches of the first step; then those of the whole epoch, as the loop takes them."""
    import torch

    from studio import files
    from studio.engine.batches import Layout, Schedule
    from studio.engine.load import load_tokenizer
    from studio.engine.row_cache import encoded_rows
    from studio.engine.template import Coder
    from studio.engine.train import Material
    from studio.models.bases import find_base
    from studio.places import Workspace

    tokenizer = load_tokenizer(find_base(Workspace(Path(options.home)), options.base).path)
    data, cpu = Path(options.data), torch.device("cpu")
    with Watch() as watch:
        began, worked = time.perf_counter(), _processor_seconds()
        coder = Coder.of(tokenizer, "assistant")
        kept = Workspace(Path(options.cache))
        everything = encoded_rows(kept, data, files.sha256(data), coder, MAX_TOKENS, lambda *_: None)
        encoded, _ = everything.split(0.0, 0)
        batch_rows = 64
        schedule = Schedule(len(encoded.examples), batch_rows, -(-len(encoded.examples) // batch_rows), 0)
        material = Material(encoded.examples, [], schedule, Layout(True, 0, micro_batch_tokens=MAX_TOKENS))
        material.lay_out(1, cpu)
        seconds, processor_seconds = time.perf_counter() - began, _processor_seconds() - worked
        worked = _processor_seconds()
        for step in range(1, schedule.num_steps + 1):
            material.lay_out(step, cpu)
        epoch_seconds = _processor_seconds() - worked
    return Result(seconds, processor_seconds, encoded.num_tokens, watch.more, epoch_seconds)


def trl(options: argparse.Namespace, folder: Path, processes: int | None, whole: bool) -> Result:
    """TRL's own trainer, on a model of no size. Only its preparation is timed, and the reading before it."""
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from studio.engine.load import load_tokenizer
    from studio.models.bases import find_base
    from studio.places import Workspace

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(find_base(Workspace(Path(options.home)), options.base).path)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    clock: dict[str, Any] = {}

    class Timed(SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *arguments: Any, **named: Any) -> Any:
            began, worked = time.perf_counter(), _processor_seconds()
            clock["prepared"] = super()._prepare_dataset(*arguments, **named)
            clock["seconds"] += time.perf_counter() - began
            clock["processor"] += _processor_seconds() - worked
            return clock["prepared"]

    config = SFTConfig(
        output_dir=str(folder / "trl"), max_length=MAX_TOKENS, packing=True, completion_only_loss=not whole,
        dataset_num_proc=processes, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    with Watch() as watch:
        began, worked = time.perf_counter(), _processor_seconds()
        rows = datasets.load_dataset(
            "json", data_files=options.data if whole else options.pairs, split="train", cache_dir=str(folder)
        )
        clock["seconds"], clock["processor"] = time.perf_counter() - began, _processor_seconds() - worked
        Timed(model, args=config, train_dataset=rows, processing_class=tokenizer)
    return Result(clock["seconds"], clock["processor"], sum(map(sum, clock["prepared"]["seq_lengths"])), watch.more)


CONTESTANTS: dict[str, Any] = {
    "ours": ours,
    "ours, kept rows": ours,
    "trl": lambda o, f: trl(o, f, None, False),
    "trl, 2 processes": lambda o, f: trl(o, f, 2, False),
    "trl, whole chats": lambda o, f: trl(o, f, None, True),
    "trl, whole chats, 2 processes": lambda o, f: trl(o, f, 2, True),
}


# --- the comparison --------------------------------------------------------------------------------------------------


def main() -> int:
    """Run every contestant, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--base", default="starter")
    parser.add_argument("--home", default=os.environ.get("OVERLAY_HOME", ""))
    for hidden in ("--contestant", "--data", "--pairs", "--cache"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.contestant:
            sys.stdout.write(json.dumps(asdict(CONTESTANTS[options.contestant](options, Path(folder)))))
            return 0
        _prepare(options, Path(folder))
        _compare(options)
    return 0


def _prepare(options: argparse.Namespace, folder: Path) -> None:
    """A workspace with the base in it, the rows, and the same rows as TRL wants them for a loss on the answers alone."""
    if not options.home:
        options.home = str(folder)
        overlay = [sys.executable, "-m", "studio.cli", "bases", "add", options.base]
        environment = {**os.environ, "OVERLAY_HOME": options.home}
        subprocess.run(overlay, env=environment, check=True, stdout=subprocess.DEVNULL)
    options.data, options.pairs = str(folder / "rows.jsonl"), str(folder / "pairs.jsonl")
    options.cache = str(folder / "kept")
    write_rows(Path(options.data), options.rows)
    with open(options.data, encoding="utf-8") as rows, open(options.pairs, "w", encoding="utf-8") as pairs:
        for line in rows:
            turns = json.loads(line)["messages"]
            pairs.write(json.dumps({"prompt": turns[:-1], "completion": turns[-1:]}) + "\n")


def _compare(options: argparse.Namespace) -> None:
    cold: Result | None = None
    for name in CONTESTANTS:
        found = _run(options, name)
        if found is None:
            print(f"  {name:30} did not run", flush=True)
            continue
        cold = cold or found
        print(
            f"  {name:30} {found.seconds:7.2f} s ({found.processor_seconds:6.1f} s of processor), "
            f"{options.rows / found.seconds:9,.0f} rows/s, {found.tokens:,} tokens, {found.peak_bytes / 1e6:6.0f} MB more | "
            f"ours: {found.seconds / cold.seconds:5.2f} x the speed, "
            f"{cold.peak_bytes / found.peak_bytes:4.2f} x the memory",
            flush=True,
        )
        if found.epoch_seconds:
            print(
                f"{'':33}laying out all steps of an epoch: {found.epoch_seconds:.2f} s of processor, beside the training"
            )


def _run(options: argparse.Namespace, name: str) -> Result | None:
    given = _options(options, name)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.loader", *given], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        print(f"{name}: {last[0]}", file=sys.stderr)
        return None
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def _options(options: argparse.Namespace, name: str) -> list[str]:
    """The options of this command for one contestant's process."""
    named = {**vars(options), "contestant": name}
    return [text for key, value in named.items() for text in (f"--{key}", str(value))]


if __name__ == "__main__":
    sys.exit(main())
