from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.memory.budget import (
    TERM_NAMES,
    Budget,
    Term,
    budget,
    budget_of,
    loss_bytes,
    quantised_bytes,
    trainable_parameters,
    verdict,
)
from studio.memory.setup import Setup, micro_batch_tokens
from studio.models.facts import LinearShape, ModelFacts
from studio.recipe.recipe import Recipe

LLAMA_8B = ModelFacts(
    family="llama",
    architecture="LlamaForCausalLM",
    hidden_size=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=128256,
    context_tokens=131072,
    tied_embeddings=False,
    gated_mlp=True,
)
GPT2 = ModelFacts.from_config(
    {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
)


def recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


def total(facts: ModelFacts = LLAMA_8B, **sections: dict[str, Any]) -> int:
    return budget(facts, recipe(**sections)).total_bytes


def test_the_terms_are_the_seven_of_the_contract_and_add_up() -> None:
    found = budget(LLAMA_8B, recipe())
    assert tuple(term.name for term in found.terms) == TERM_NAMES
    assert found.total_bytes == sum(found.term(name).bytes for name in TERM_NAMES)
    assert found.allocated_bytes == found.total_bytes - found.term("overhead").bytes
    for term in found.terms:
        assert term.label
        assert term.formula
        assert term.driven_by


def test_every_field_that_drives_a_term_is_a_field_of_the_recipe() -> None:
    sections = recipe().model_dump()
    for term in budget(LLAMA_8B, recipe()).terms:
        for path in term.driven_by:
            section, name = path.split(".")
            assert name in sections[section]


def test_bytes_per_quantised_weight_are_those_of_the_qlora_paper() -> None:
    shape = LinearShape("q_proj", 4096, 4096)
    setup = Setup.of(LLAMA_8B, recipe())
    count = 4096 * 4096
    assert quantised_bytes(shape, setup) / count == 0.5 + 1 / 64 + 4 / (64 * 256)
    assert quantised_bytes(shape, replace(setup, double_quantisation=False)) / count == 0.5625
    assert quantised_bytes(shape, replace(setup, quantisation="int8")) == count + 4 * 4096
    assert quantised_bytes(shape, replace(setup, quantisation="none")) == 2 * count


def test_the_base_alone_is_what_such_a_model_was_seen_to_take() -> None:
    """Llama-3 8B in NF4 with double quantisation, r=16 on attention, fp32 AdamW, without gradients: 5.884 GB measured."""
    found = budget(LLAMA_8B, recipe(adapter={"targets": "attention"}, training={"optimizer": "adamw_torch"}))
    static = sum(found.term(name).bytes for name in ("weights", "adapter", "optimizer"))
    assert static == pytest.approx(5.884e9, rel=0.01)


@pytest.mark.parametrize(("rank", "trainable"), [(16, 41_943_040), (64, 167_772_160)])
def test_trainable_parameters_of_a_known_model(rank: int, trainable: int) -> None:
    assert trainable_parameters(LLAMA_8B, recipe(adapter={"rank": rank})) == (trainable, 8_030_261_248 + trainable)


def test_adapter_gradients_and_states_follow_the_trainable_parameters() -> None:
    states_32 = budget(LLAMA_8B, recipe(training={"optimizer": "adamw_torch"}))
    states_8 = budget(LLAMA_8B, recipe(training={"optimizer": "adamw_8bit"}))
    assert states_32.term("adapter").bytes == 4 * 41_943_040
    assert states_32.term("gradients").bytes == 4 * 41_943_040
    assert states_32.term("optimizer").bytes == 8 * 41_943_040
    assert states_8.term("optimizer").bytes == pytest.approx((2 + 8 / 256) * 41_943_040)


def test_small_tensors_keep_full_states() -> None:
    sections = {"adapter": {"rank": 1, "targets": ["q_proj"]}}
    small = budget(GPT2, recipe(adapter={"rank": 1}))
    assert small.term("optimizer").bytes == 8 * trainable_parameters(GPT2, recipe(adapter={"rank": 1}))[0]
    with pytest.raises(RecipeError, match="q_proj"):
        budget(GPT2, recipe(**sections))


def test_a_target_that_the_model_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(RecipeError, match="c_attn") as caught:
        budget(LLAMA_8B, recipe(adapter={"targets": ["q_proj", "c_attn"]}))
    assert caught.value.problems[0].field == "adapter.targets"
    assert "down_proj" in caught.value.hint


def test_targets_match_by_the_last_part_of_their_names() -> None:
    long = trainable_parameters(LLAMA_8B, recipe(adapter={"targets": ["self_attn.q_proj", "mlp.down_proj"]}))
    assert long == trainable_parameters(LLAMA_8B, recipe(adapter={"targets": ["q_proj", "down_proj"]}))


def test_micro_batches_in_rows_or_tokens_hold_at_least_one_row() -> None:
    data = {"max_tokens": 2048}
    assert micro_batch_tokens(recipe(data=data, training={"micro_batch_rows": 3})) == 3 * 2048
    assert micro_batch_tokens(recipe(data=data, training={"micro_batch_tokens": 8192})) == 8192
    assert micro_batch_tokens(recipe(data={"max_tokens": 16384})) == 16384


def test_a_checkpointed_layer_keeps_its_input_only() -> None:
    tokens = 4096
    some, fewer = (total(memory={"checkpointing": number}) for number in (32, 31))
    assert total(memory={"checkpointing": "all"}) == some
    per_layer = tokens * (16.2 * 4096 + 4 * 1024 + 8 * 14336 - 2 * 4096)
    assert fewer - some == pytest.approx(per_layer * 1.105, rel=0.01)


def test_offload_and_checkpointing_save_and_dora_and_float32_cost() -> None:
    plain = total()
    assert total(memory={"offload": True}) < plain < total(memory={"checkpointing": "none"})
    assert plain < total(adapter={"dora": True})
    assert plain < total(base={"compute_dtype": "float32"})
    assert plain < total(base={"quantisation": "int8"}) < total(base={"quantisation": "none"})


def test_loss_in_chunks_needs_no_more_logits_for_more_tokens() -> None:
    setup = Setup.of(LLAMA_8B, recipe())
    longer = replace(setup, tokens=8 * setup.tokens, supervised_tokens=8 * setup.tokens)
    hidden_gradients = 7 * setup.tokens * 4096 * 2
    assert loss_bytes(LLAMA_8B, longer) - loss_bytes(LLAMA_8B, setup) == hidden_gradients
    assert loss_bytes(LLAMA_8B, replace(setup, chunk_rows=None)) == setup.tokens * 128256 * 6


# Peaks of packed QLoRA runs (fms-acceleration, A100 benchmarks): r=16 on attention, NF4, chunked loss, all checkpointed.
@pytest.mark.parametrize(
    ("vocab", "rows", "allocated_gb", "process_gb"),
    [(128256, 4, 14.41, 16.28), (128256, 32, 74.09, 82.32), (32000, 4, 13.04, 14.86), (32000, 32, 74.12, 82.84)],
)
def test_published_peaks_are_met_within_six_percent(
    vocab: int, rows: int, allocated_gb: float, process_gb: float
) -> None:
    facts = replace(LLAMA_8B, vocab_size=vocab)
    training = {"micro_batch_rows": rows, "optimizer": "adamw_torch"}
    found = budget(facts, recipe(data={"max_tokens": 4096}, adapter={"targets": "attention"}, training=training))
    assert found.allocated_bytes / 1e9 == pytest.approx(allocated_gb, rel=0.06)
    assert found.total_bytes / 1e9 == pytest.approx(process_gb, rel=0.06)


@given(
    rank=st.integers(1, 128),
    tokens=st.integers(16, 8192),
    rows=st.integers(1, 16),
    targets=st.sets(st.sampled_from([shape.name for shape in LLAMA_8B.linear_shapes()]), min_size=1),
    more=st.sampled_from(["rank", "tokens", "rows", "targets"]),
    checkpointing=st.sampled_from(["all", "none", 5]),
    optimizer=st.sampled_from(["paged_adamw_8bit", "adamw_torch"]),
)
def test_more_never_takes_less(
    rank: int, tokens: int, rows: int, targets: set[str], more: str, checkpointing: str | int, optimizer: str
) -> None:
    def size(rank: int, tokens: int, rows: int, targets: set[str]) -> int:
        return total(
            adapter={"rank": rank, "targets": sorted(targets)},
            data={"max_tokens": tokens},
            training={"micro_batch_rows": rows, "optimizer": optimizer},
            memory={"checkpointing": checkpointing},
        )

    plain = {"rank": rank, "tokens": tokens, "rows": rows, "targets": targets}
    everything = {shape.name for shape in LLAMA_8B.linear_shapes()}
    larger = {"rank": rank + 1, "tokens": tokens + 1, "rows": rows + 1, "targets": everything}
    assert size(**{**plain, more: larger[more]}) >= size(**plain)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("used", "other", "expected"),
    [(85, 0, "fits"), (80, 5, "fits"), (86, 0, "tight"), (90, 7, "tight"), (98, 0, "over"), (50, 48, "over")],
)
def test_the_verdict_counts_other_programs(used: int, other: int, expected: str) -> None:
    found = Budget((Term("weights", "", used, "", ()),))
    assert verdict(found, 100, other) == expected


def test_a_guessed_model_makes_a_guessed_budget() -> None:
    unknown = replace(LLAMA_8B, family="brandnew", is_guess=True)
    assert budget(unknown, recipe()).is_guess
    assert not budget(LLAMA_8B, recipe()).is_guess
    assert budget_of(unknown, Setup.of(unknown, recipe(adapter={"targets": ["odd_proj"]}))).term("adapter").bytes == 0
