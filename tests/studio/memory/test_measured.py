"""Published measurements beside the estimate: a handful of rows as they were published, and tables that nobody should publish."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import DataError, StudioError
from studio.memory.measured import COLUMNS, Compared, compare

# What the models' own configurations say, as far as it matters for memory.
MISTRAL_7B = {
    **{"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_act": "silu"},
    **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096},
    "tie_word_embeddings": False,
}
LLAMA_3_8B = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu"},
    **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    **{"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": False},
}
# QLoRA runs on an A100 of the fms-acceleration benchmarks, whose settings are these.
FMS = {
    **{"source": "fms-acceleration", "method": "qlora", "quant": "nf4", "double_quant": "true", "rank": "16"},
    **{"targets": "q_proj k_proj v_proj o_proj", "adapter_dtype": "fp32", "optimizer": "adamw_torch"},
    **{"micro_batch": "4", "seq_len": "4096", "packed": "true", "checkpointing": "all", "fp32_upcast": "none"},
    **{"model": "Mistral-7B-v0.1", "config_file": "mistral/config.json", "loss_impl": "full_logits_hf"},
}
LLAMA = {"model": "Llama-3-8B", "config_file": "llama/config.json"}
NEW = "peak; dropout 0.1; transformers 4.48.1"
OLD = "peak; fused LoRA and RoPE; RMSNorm kernel perhaps not active; dropout 0.1; transformers 4.45.2"
FUSED = "peak; fused LoRA, RMSNorm, RoPE and cross-entropy; dropout 0.1; transformers 4.{}"
UPCAST = {"fp32_upcast": "norms"}
LIGER = {"loss_impl": "fused_linear_ce_liger", "note": OLD}
FUSED_CE = {"loss_impl": "fused_ce_full_logits"}
# Published rows: what differs from FMS, and peak bytes, of torch's allocator and as the driver's tool showed them.
RECORDED: list[tuple[dict[str, str], int, int]] = [
    ({"note": NEW, **UPCAST}, 20669338112, 27321696256),
    ({"note": NEW}, 16373838336, 20879245312),
    ({"note": NEW, "micro_batch": "8"}, 28412178944, 35668361216),
    ({"note": FUSED.format("48.1"), **FUSED_CE}, 14115336192, 20914896896),
    (LIGER, 13035024896, 14859370496),
    ({**LIGER, "micro_batch": "32"}, 74122441216, 82842746880),
    ({**LLAMA, "note": FUSED.format("45.2"), **FUSED_CE}, 27259280384, 43223351296),
    ({**LLAMA, **LIGER}, 14411297792, 16281239552),
    ({**LLAMA, **LIGER, "micro_batch": "32"}, 74089427968, 82318458880),
]


def row(**changes: str) -> dict[str, str]:
    return {**dict.fromkeys(COLUMNS, ""), **FMS, "note": NEW, "measured_alloc_bytes": "16373838336", **changes}


def write(folder: Path, *rows: dict[str, str]) -> Path:
    for name, config in (("mistral", MISTRAL_7B), ("llama", LLAMA_3_8B)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    table = folder / "measured.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return table


def only(folder: Path, **changes: str) -> Compared:
    (found,) = compare(write(folder, row(**changes)))
    return found


@pytest.mark.parametrize(("changes", "allocated", "process"), RECORDED)
def test_recorded_figures_are_met(tmp_path: Path, changes: dict[str, str], allocated: int, process: int) -> None:
    measured = {"measured_alloc_bytes": str(allocated), "measured_process_bytes": str(process)}
    by_kind = {found.kind: found for found in compare(write(tmp_path, row(**changes, **measured)))}
    assert set(by_kind) == {"allocated", "process"}
    assert by_kind["allocated"].predicted_bytes == pytest.approx(allocated, rel=0.05)
    assert by_kind["process"].predicted_bytes == pytest.approx(process, rel=0.10)


@pytest.mark.parametrize(("model", "num_bytes"), [({}, 4306496512), (LLAMA, 5884111872)])
def test_what_is_held_between_two_steps(tmp_path: Path, model: dict[str, str], num_bytes: int) -> None:
    """Weights, adapter and optimizer states alone; measured between the steps of two of those runs."""
    found = only(tmp_path, **model, loss_impl="", note="static; " + NEW, measured_alloc_bytes=str(num_bytes))
    assert found.kind == "static"
    assert found.predicted_bytes == pytest.approx(num_bytes, rel=0.01)


def test_the_error_is_a_fraction_of_what_was_measured(tmp_path: Path) -> None:
    found = only(tmp_path)
    assert found.predicted_bytes is not None
    assert found.covered
    assert found.error == pytest.approx((found.predicted_bytes - 16373838336) / 16373838336)
    twice = only(tmp_path, measured_alloc_bytes=str(2 * found.predicted_bytes))
    assert twice.error == pytest.approx(-0.5)


def test_each_measured_figure_is_one_answer_in_the_tables_order(tmp_path: Path) -> None:
    table = write(
        tmp_path,
        row(measured_process_bytes="20000000000", measured_reserved_bytes="19000000000"),
        row(measured_alloc_bytes="", measured_process_bytes=""),  # measured nothing
        row(**LLAMA, measured_alloc_bytes="1e10"),
    )
    found = compare(table)
    assert [(one.model, one.kind) for one in found] == [
        *(("Mistral-7B-v0.1", kind) for kind in ("allocated", "reserved", "process")),
        ("Llama-3-8B", "allocated"),
    ]
    sizes = [one.predicted_bytes or 0 for one in found[:3]]
    assert sizes == sorted(sizes)
    assert found[3].measured_bytes == 10_000_000_000


# --- settings of other programs ----------------------------------------------------------------------------------------


def predicted(folder: Path, **changes: str) -> int:
    found = only(folder, **changes)
    assert found.predicted_bytes is not None, found.reason
    return found.predicted_bytes


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"loss_impl": "full_logits_hf"}, {"loss_impl": "fused_ce_full_logits"}),
        ({"loss_impl": "fused_ce_full_logits"}, {"loss_impl": "fused_linear_ce_liger"}),
        ({"loss_impl": "full_logits_fp32"}, {"loss_impl": "full_logits_bf16_chunked_upcast"}),
        ({"note": "transformers 4.48.1"}, {"note": "transformers 4.45.2"}),
        ({"fp32_upcast": "all"}, {"fp32_upcast": "none"}),
        ({"fp32_upcast": "norms"}, {"fp32_upcast": "none"}),
        ({"checkpointing": "none"}, {"checkpointing": "16"}),
        ({"checkpointing": "16"}, {"checkpointing": "all"}),
        ({"checkpointing": "all"}, {"checkpointing": "all_offload"}),
        ({"quant": "int8"}, {"quant": "nf4"}),
        ({"double_quant": "false"}, {"double_quant": "true"}),
        ({"method": "lora", "quant": "none"}, {}),
        ({"method": "full", "quant": "none"}, {"method": "lora", "quant": "none"}),
        ({"adapter_dtype": "fp32"}, {"adapter_dtype": "bf16"}),
        ({"rank": "256"}, {"rank": "16"}),
        ({"targets": "all-linear"}, {"targets": "attention"}),
        ({"micro_batch": "8"}, {"micro_batch": "4"}),
    ],
)
def test_what_a_program_does_is_entered_as_such(tmp_path: Path, more: dict[str, str], less: dict[str, str]) -> None:
    assert predicted(tmp_path, **more) > predicted(tmp_path, **less)


def test_targets_by_group_are_targets_by_name(tmp_path: Path) -> None:
    assert predicted(tmp_path, targets="attention") == predicted(tmp_path, targets="q_proj k_proj v_proj o_proj")


# --- rows that are not covered -------------------------------------------------------------------------------------------

COMPILED = {"method": "full", "quant": "none", "note": "peak; compile on", "checkpointing": "none"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss_impl": "magic"}, "loss 'magic'"),
        ({"config_file": ""}, "no configuration"),
        ({"config_file": "nowhere/config.json"}, "config.json"),
        ({"config_file": "../elsewhere/config.json"}, "outside"),
        ({"config_file": "/etc/config.json"}, "outside"),
        ({"fp32_upcast": "some"}, "fp32_upcast 'some'"),
        ({"method": "prefix"}, "method 'prefix'"),
        ({"quant": "gptq"}, "quant 'gptq'"),
        ({"micro_batch": ""}, "micro_batch is not stated"),
        ({"micro_batch": "-3"}, "micro_batch is not stated"),
        ({"seq_len": "long"}, "seq_len is not stated"),
        ({"rank": ""}, "rank is not stated"),
        ({"checkpointing": "sometimes"}, "checkpointing 'sometimes'"),
        ({"targets": "q_proj z_proj"}, "z_proj"),
        (
            {"method": "full", "quant": "none", "optimizer": "adamw_8bit", "note": "8-bit AdamW is not named"},
            "not named",
        ),
        (COMPILED, "torch.compile"),
        ({"packed": "false", "note": "rows padded to the longest of the batch"}, "padded to the longest"),
    ],
)
def test_a_row_that_is_not_covered_says_why(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    found = only(tmp_path, **changes)
    assert not found.covered
    assert found.error is None
    assert reason in found.reason
    # Its neighbour is none the worse for it.
    assert [one.covered for one in compare(write(tmp_path, row(**changes), row()))] == [False, True]


def test_compiled_programs_with_checkpoints_are_covered(tmp_path: Path) -> None:
    assert only(tmp_path, **{**COMPILED, "checkpointing": "all"}).covered


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_text(json.dumps(MISTRAL_7B), encoding="utf-8")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "way").symlink_to(tmp_path / "outside")
    (found,) = compare(write(tmp_path / "table", row(config_file="way/config.json")))
    assert "outside" in found.reason


# --- damaged tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the columns"),
        (b"source,model\nx,y\n", "config_file"),
        (",".join(name for name in COLUMNS if name != "loss_impl").encode(), "lacks the columns loss_impl"),
        (",".join(COLUMNS).encode() + b"\n\xff\xfe\x80", "cannot be read"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=message):
        compare(table)


def test_a_table_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            compare(path)


def test_a_table_without_rows_has_nothing_to_say(tmp_path: Path) -> None:
    assert compare(write(tmp_path)) == []


def test_a_byte_order_mark_and_further_columns_do_no_harm(tmp_path: Path) -> None:
    table = write(tmp_path, row())
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\ufeff" + "\n".join(f"{line},more" for line in lines), encoding="utf-8")
    (found,) = compare(table)
    assert found.covered


absurd = st.sampled_from(
    ["0", "-1", "nan", "inf", "-inf", "1e308", "1e400", "9" * 400, "0x10", "1,5", "\0", " ", "'", '"', "\u0664"]
)
cells = st.one_of(absurd, st.text(max_size=12), st.integers().map(str), st.floats().map(str))
damage = st.dictionaries(st.sampled_from(COLUMNS), cells, max_size=5)


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": "1e308"},
        {"micro_batch": "1e308", "seq_len": "1e308"},
        {"seq_len": "1e200", "micro_batch": "1e200", "loss_impl": "fused_linear_ce_liger"},
        {"seq_len": "1e14", "micro_batch": "1e14", "loss_impl": "fused_linear_ce_liger", "rank": "1e14"},
        {"rank": "1e308"},
        {"rank": "inf"},
        {"config_file": "mis\0tral/config.json"},
        {"config_file": "x" * 5000 + "/config.json"},
        {"config_file": "."},
        {"checkpointing": "9" * 5000},
        {"checkpointing": "\u00b2"},
        {"note": "transformers " + "9" * 5000 + ".1"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_absurd_rows_are_answered(tmp_path: Path, changes: dict[str, str]) -> None:
    found = only(tmp_path, **changes)
    assert found.covered or found.reason


@given(damage)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_absurd_cells_never_crash(tmp_path: Path, changes: dict[str, str]) -> None:
    try:
        found = compare(write(tmp_path, {**row(), **changes}))
    except StudioError:
        return
    for one in found:
        assert one.measured_bytes > 0
        assert one.covered or one.reason


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_damaged_bytes_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    """A few bytes overwritten, put in or cut off, anywhere in a good table."""
    table = write(tmp_path, row(), row(**LLAMA))
    content = bytearray(table.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place, piece = data.draw(st.integers(0, len(content))), data.draw(st.binary(max_size=8))
        content[place : place + data.draw(st.integers(0, 8))] = piece
    table.write_bytes(bytes(content))
    try:
        found: list[Any] = compare(table)
    except StudioError:
        return
    assert all(one.covered or one.reason for one in found)
