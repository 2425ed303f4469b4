"""The estimate beside published measurements, made on other people's cards with other training programs.

A table has one row per measurement and says what that program did: its loss, what it kept in fp32, which layers it adapted, how
its kernels were fused. Each of these is entered as such into a `Setup`, from what is known of that program's code. No number is
fitted; but where the code could not be read, the mechanism assumed was settled in sight of these very rows: that a dropped copy
of x is saved once per fused group, that compiled losses write their gradient over the logits, that a step has one micro-batch.
Agreement with them shows consistency, not accuracy on others. A row that leaves out what matters is not covered, and says why.

What a loss holds per logit, in bytes:

- `full_logits_hf`, transformers from 4.46 on: the 16-bit logits in the model's output (2), their fp32 copy (4), the shifted
  copy of that (4) and its log-softmax (4). Up to 4.45 the output was the fp32 copy itself: 12.
- `fused_ce_full_logits`: as above without the log-softmax: 10, or 8.
- `full_logits_fp32`: the fp32 logits (4), the shifted copy (4), its log-softmax (4).
- `full_logits_bf16_chunked_upcast`: all logits in 16 bit (2), and an eighth of their gradient at a time; compiled, that is
  written over the logits.
- `fused_linear_ce_liger`: the logits of 2^ceil(log2(T / ceil(V / H))) tokens at a time, in 16 bit and overwritten by their
  gradient.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from studio.errors import BaseModelError, DataError, RecipeError
from studio.memory.budget import Budget, budget_of
from studio.memory.setup import Setup, shapes_named
from studio.models.facts import LinearShape, ModelFacts

COLUMNS = (
    *(
        "source",
        "model",
        "config_file",
        "method",
        "quant",
        "double_quant",
        "rank",
        "targets",
        "adapter_dtype",
        "optimizer",
    ),
    *("micro_batch", "seq_len", "packed", "checkpointing", "loss_impl", "fp32_upcast"),
    *("measured_alloc_bytes", "measured_reserved_bytes", "measured_process_bytes", "note"),
)
_CONTEXT_ALONE_BYTES = (
    500_000_000  # what the driver counts and the allocator does not: the CUDA context and its libraries
)
_DTYPES = {"bf16": 2, "fp16": 2, "bfloat16": 2, "float16": 2, "fp32": 4, "float32": 4}
_OLD_LOSS = (4, 46)
_EIGHTH = 1 / 8
_MAX_TABLE_BYTES = 50_000_000
_MOST_DIGITS = 15


class NotCovered(Exception):
    """A row leaves out, or asks for, something that the estimate cannot know; the message says what."""


@dataclass(frozen=True)
class Compared:
    """One measured figure beside the estimate: `kind` is `allocated`, `reserved`, `process`, or `static` between two steps.

    `error` is (predicted - measured) / measured; both are None where the row is not covered, and `reason` says why.
    """

    source: str
    model: str
    seq_len: int
    kind: str
    measured_bytes: int
    predicted_bytes: int | None = None
    reason: str = ""

    @property
    def covered(self) -> bool:
        """Whether there is an estimate for it."""
        return self.predicted_bytes is not None

    @property
    def error(self) -> float | None:
        """As a fraction of what was measured."""
        return None if self.predicted_bytes is None else self.predicted_bytes / self.measured_bytes - 1


def compare(table: Path) -> list[Compared]:
    """Every measured figure of `table`, in its order. Raises `DataError` if it is no such table."""
    return [found for row in _rows(table) for found in _compare_row(row, table.parent)]


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        if table.stat().st_size > _MAX_TABLE_BYTES:
            raise DataError(f"{table.name} is far too large for a table of measurements.", "Choose another file.")
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{table.name} lacks the columns {', '.join(missing)}.", "Give it the columns of vram_measured.csv."
                )
            return [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table.name} cannot be read as a CSV table: {error}", "Save it as CSV in UTF-8.") from error


def _compare_row(row: dict[str, str], folder: Path) -> Iterator[Compared]:
    columns = {"allocated": "alloc", "reserved": "reserved", "process": "process"}
    measured = {kind: _whole(row[f"measured_{column}_bytes"]) for kind, column in columns.items()}
    is_static = row["note"].startswith("static")
    try:
        predicted, reason = _predict(row, folder, is_static), ""
    except NotCovered as refusal:
        predicted, reason = {}, str(refusal)
    except (BaseModelError, RecipeError) as error:
        predicted, reason = {}, error.message
    for kind, size in measured.items():
        if size:
            name = "static" if is_static and kind == "allocated" else kind
            yield Compared(row["source"], row["model"], _whole(row["seq_len"]), name, size, predicted.get(kind), reason)


def _predict(row: dict[str, str], folder: Path, is_static: bool) -> dict[str, int]:
    facts = _facts(row, folder)
    found = budget_of(facts, setup_of(facts, row))
    if is_static:
        return {"allocated": found.total_bytes - _comes_and_goes(found)}
    return {
        "allocated": found.total_bytes,
        "reserved": found.raw_process_bytes - _CONTEXT_ALONE_BYTES,
        "process": found.raw_process_bytes,
    }


def _comes_and_goes(found: Budget) -> int:
    return sum(found.term(name).bytes for name in ("gradients", "activations", "logits", "overhead"))


def _facts(row: dict[str, str], folder: Path) -> ModelFacts:
    if not row["config_file"]:
        raise NotCovered("the table has no configuration of this model")
    try:
        path = (folder / row["config_file"]).resolve()
    except (OSError, ValueError) as error:
        raise NotCovered("its configuration is no file name") from error
    if not path.is_relative_to(folder.resolve()):
        raise NotCovered("its configuration lies outside the table's folder")
    facts = ModelFacts.from_folder(path.parent)
    # Up to transformers 4, each expert was a linear layer of its own.
    return replace(facts, experts_quantised=True) if facts.has_experts and "transformers 4." in row["note"] else facts


# --- what the other program did --------------------------------------------------------------------------------------


def setup_of(facts: ModelFacts, row: dict[str, str]) -> Setup:
    """The row as a setup. Raises `NotCovered` where it leaves out what decides."""
    note = row["note"].lower()
    _refuse(row, note)
    tokens = _positive(row, "micro_batch") * _positive(row, "seq_len")
    method = row["method"]
    is_full = method == "full"
    adapter_bytes = _DTYPES.get(row["adapter_dtype"], 4)
    upcast = row["fp32_upcast"]
    fused = re.search(r"fused ([^;]*)", note)
    kernels = fused[1] if fused else ""
    bytes_per_logit, chunk_rows = _loss(facts, row, note, tokens)
    return Setup(
        tokens=tokens,
        row_tokens=_positive(row, "seq_len"),
        supervised_tokens=tokens,
        quantisation=row["quant"] if method == "qlora" else "none",
        double_quantisation=row["double_quant"] == "true",
        targets=() if is_full else _targets(facts, row["targets"]),
        rank=0 if is_full else _positive(row, "rank"),
        checkpointed_layers=_checkpointed(facts, row["checkpointing"]),
        offload=row["checkpointing"].endswith("_offload"),
        optimizer=row["optimizer"],
        method="full" if is_full else "adapter",
        adapter_bytes=adapter_bytes,
        moment_bytes=2 if re.search(r"incl\. (?:optimizer|adamw) states", note) else 4,
        # One micro-batch per step: gradients come into being in the backward pass.
        gradients_held=0.0,
        gradients_at_end="step in backward" not in note,
        chunked_head=row["loss_impl"].startswith(("full_logits_bf16_chunked", "fused_linear", "chunked")),
        dropout=bool(re.search(r"dropout 0\.\d*[1-9]", note)),
        # Weights in fp32 beside a 16-bit base: HF's trainers run the step under autocast unless the row says otherwise.
        autocast=adapter_bytes == 4 and "no autocast" not in note,
        fused_lora="lora" in kernels,
        fused_norms=_is_compiled(note) or ("rmsnorm" in kernels and "perhaps not active" not in note),
        fused_rotation=_is_compiled(note) or "rope" in kernels,
        small_bytes=2 if upcast in ("none", "") else 4,
        embedding_bytes=2 if upcast in ("none", "", "norms") else 4,
        residual_bytes=2 if upcast in ("none", "") else 4,
        norm_output_bytes=2 if upcast in ("none", "") else 4,
        logit_bytes=bytes_per_logit,
        chunk_rows=chunk_rows,
    )


def _refuse(row: dict[str, str], note: str) -> None:
    known = {
        "method": ("qlora", "lora", "full"),
        "quant": ("nf4", "fp4", "int8", "none", ""),
        "fp32_upcast": ("none", "", "norms", "all", "norms_embeddings", "norms_embeddings_head"),
    }
    for column, values in known.items():
        if row[column] not in values:
            raise NotCovered(f"{column} {row[column]!r} is not known here")
    if row["packed"] == "false" and "longest" in note:
        raise NotCovered("its rows are padded to the longest of a batch, whose length is not published")
    if "8bit" in row["optimizer"] and "not named" in note and row["method"] == "full":
        # bitsandbytes' states are the allocator's, or paged and nobody's; torchao's step is fp32 arithmetic that is compiled.
        raise NotCovered("its 8-bit optimizer is not named, and those in use differ by gigabytes in full fine-tuning")
    if _is_compiled(note) and row["checkpointing"] == "none":
        raise NotCovered("what torch.compile keeps between the passes is its own choice")


def _is_compiled(note: str) -> bool:
    return re.search(r"\bcompile on\b", note) is not None


def _loss(facts: ModelFacts, row: dict[str, str], note: str, tokens: int) -> tuple[float, int | None]:
    """Bytes per logit, and of how many tokens at a time (None: all)."""
    version = re.search(r"transformers (\d{1,4})\.(\d{1,4})", note)
    is_old = version is not None and (int(version[1]), int(version[2])) < _OLD_LOSS
    full = {
        "full_logits_hf": 12 if is_old else 14,
        "fused_ce_full_logits": 8 if is_old else 10,
        "full_logits_fp32": 12,
        "full_logits_bf16_chunked_upcast": 2 if _is_compiled(note) else 2 + 2 * _EIGHTH,
        "": 0,
    }
    name = row["loss_impl"]
    if name in full:
        return full[name], None
    if name.startswith("fused_linear_ce"):
        share = tokens / math.ceil(facts.vocab_size / facts.hidden_size)
        return 2.0, min(tokens, 1 << math.ceil(math.log2(max(share, 1))))
    if name.startswith("chunked"):
        return 10.0, min(tokens, 256)
    raise NotCovered(f"the loss {name!r} is not known here")


def _targets(facts: ModelFacts, text: str) -> tuple[LinearShape, ...]:
    return shapes_named(facts, text if text in ("all-linear", "attention") else tuple(text.split()))


def _checkpointed(facts: ModelFacts, text: str) -> int:
    name = text.removesuffix("_offload")
    if name in ("all", "none"):
        return facts.num_layers if name == "all" else 0
    if name.isdecimal() and len(name) < _MOST_DIGITS:
        return min(int(name), facts.num_layers)
    raise NotCovered(f"checkpointing {text!r} is not known here")


def _whole(text: str) -> int:
    """0 for what is no number, or none that anything was ever measured in."""
    try:
        value = float(text)
    except ValueError:
        return 0
    return round(value) if 0 < value < 10**_MOST_DIGITS else 0


def _positive(row: dict[str, str], column: str) -> int:
    value = _whole(row[column])
    if value < 1:
        raise NotCovered(f"{column} is not stated, or absurd")
    return value
