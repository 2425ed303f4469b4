from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.memory.budget import (
    TERM_NAMES,
    Budget,
    Term,
    budget,
    budget_of,
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
# Small enough to reckon by hand: all sizes are multiples of 64 x 256, so that no quantisation block is half empty.
SMALL = replace(
    LLAMA_8B,
    **{"hidden_size": 1024, "num_layers": 2, "num_heads": 16, "num_kv_heads": 4},
    **{"head_dim": 64, "intermediate_size": 2816, "vocab_size": 1000, "context_tokens": 8192},
)
GPT2 = ModelFacts.from_config(
    {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
)
GEMMA2 = ModelFacts.from_config(
    {
        **{"model_type": "gemma2", "hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8},
        **{"intermediate_size": 9216, "vocab_size": 256000, "max_position_embeddings": 8192},
    }
)


def recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


def total(facts: ModelFacts = LLAMA_8B, **sections: dict[str, Any]) -> int:
    return budget(facts, recipe(**sections)).total_bytes


# --- the terms and their sums --------------------------------------------------------------------------------------------


def test_the_terms_are_the_seven_of_the_contract_and_add_up() -> None:
    found = budget(LLAMA_8B, recipe())
    assert tuple(term.name for term in found.terms) == TERM_NAMES
    assert found.total_bytes == sum(found.term(name).bytes for name in TERM_NAMES)
    assert found.raw_process_bytes == found.process_bytes == found.total_bytes + found.context.bytes
    for term in (*found.terms, found.context):
        assert term.label
        assert term.formula
        assert term.driven_by


@pytest.mark.parametrize("correction", [0, 300_000_000, -200_000_000])
def test_what_is_shown_adds_up_to_what_the_driver_would_show(correction: int) -> None:
    found = budget(LLAMA_8B, recipe(), correction)
    assert sum(term.bytes for term in found.shown) == found.process_bytes
    assert [term.name for term in found.shown] == list(TERM_NAMES)
    assert found.shown[:-1] == found.terms[:-1]
    assert found.shown[-1].bytes > found.terms[-1].bytes


def test_a_correction_is_named_and_never_hides_the_estimate_itself() -> None:
    plain, corrected = budget(LLAMA_8B, recipe()), budget(LLAMA_8B, recipe(), 300_000_000)
    assert corrected.terms == plain.terms
    assert corrected.total_bytes == plain.total_bytes
    assert corrected.raw_process_bytes == plain.process_bytes
    assert corrected.process_bytes == plain.process_bytes + 300_000_000
    assert "+0.30 GB measured on this computer" in corrected.shown[-1].formula
    assert "measured" not in plain.shown[-1].formula
    assert "-0.30 GB" in budget(LLAMA_8B, recipe(), -300_000_000).shown[-1].formula


def test_every_field_that_drives_a_term_is_a_field_of_the_recipe() -> None:
    sections = recipe().model_dump()
    found = budget(LLAMA_8B, recipe())
    for term in (*found.terms, found.context, *found.shown):
        for path in term.driven_by:
            section, name = path.split(".")
            assert name in sections[section]


# --- what is held throughout ---------------------------------------------------------------------------------------------


def test_bytes_per_quantised_weight_are_those_of_the_qlora_paper() -> None:
    shape = LinearShape("q_proj", 4096, 4096)
    setup = Setup.of(LLAMA_8B, recipe())
    count = 4096 * 4096
    assert quantised_bytes(shape, setup) / count == 0.5 + 1 / 64 + 4 / (64 * 256)
    assert quantised_bytes(shape, replace(setup, double_quantisation=False)) / count == 0.5625
    assert quantised_bytes(shape, replace(setup, quantisation="int8")) == count + 4 * 4096
    assert quantised_bytes(shape, replace(setup, quantisation="none")) == 2 * count


def test_blocks_that_are_not_full_have_a_constant_too() -> None:
    """100 weights: 50 bytes, two blocks of 64 with a constant each, one block of constants."""
    setup = Setup.of(LLAMA_8B, recipe())
    assert quantised_bytes(LinearShape("x", 10, 10), setup) == 50 + 2 + 4
    assert quantised_bytes(LinearShape("x", 10, 10), replace(setup, double_quantisation=False)) == 50 + 2 * 4


# Per layer, in x out: q and o 1024 x 1024, k and v 1024 x 256, gate, up and down 1024 x 2816 or the other way round:
# 2 x 1,048,576 + 2 x 262,144 + 3 x 2,883,584 = 11,272,192; of both layers 22,544,384.
# Embeddings and head, 2 x 1000 x 1024, and norms, (2 x 2 + 1) x 1024, in 16 bit: 4,096,000 + 10,240 bytes.
_REST = 4_096_000 + 10_240


@pytest.mark.parametrize(
    ("base", "num_bytes"),
    [
        # Half a byte each, a byte per 64, four bytes per 64 x 256.
        ({"quantisation": "nf4"}, 11_272_192 + 352_256 + 4 * 1376 + _REST),
        ({"quantisation": "fp4"}, 11_272_192 + 352_256 + 4 * 1376 + _REST),
        # Half a byte each, four bytes per 64.
        ({"quantisation": "nf4", "double_quantisation": False}, 11_272_192 + 1_409_024 + _REST),
        # A byte each, four per row: 1024 + 256 + 256 + 1024 + 2816 + 2816 + 1024 = 9216 rows per layer.
        ({"quantisation": "int8"}, 22_544_384 + 4 * 2 * 9216 + _REST),
        ({"quantisation": "none"}, 2 * 22_544_384 + _REST),
        ({"quantisation": "none", "compute_dtype": "float32"}, 4 * 22_544_384 + 2 * _REST),
    ],
)
def test_weights_by_hand(base: dict[str, Any], num_bytes: int) -> None:
    assert budget(SMALL, recipe(base=base)).term("weights").bytes == num_bytes


def test_adapter_gradients_and_states_by_hand() -> None:
    """Rank 8. Per layer 8 (in + out): 2 x 2048 + 2 x 1280 + 3 x 3840 = 18,176; x 8 = 145,408; both layers: 290,816."""
    adapter = {"rank": 8}
    states_8 = budget(SMALL, recipe(adapter=adapter, training={"optimizer": "paged_adamw_8bit"}))
    states_32 = budget(SMALL, recipe(adapter=adapter, training={"optimizer": "adamw_torch"}))
    for found in (states_8, states_32):
        assert found.term("adapter").bytes == found.term("gradients").bytes == 4 * 290_816
    assert states_32.term("optimizer").bytes == 8 * 290_816
    # 8 bit. Of 4096 elements and more: two bytes each and two scales of four bytes per 256, but never less than the 32-bit states
    # of a tensor just below that limit, 8 x 4095 = 32,760 bytes. Below the limit: eight bytes each.
    #   8 x 1024 = 8192 elements: 16,384 + 256 -> 32,760. A of q, k, v, o, gate, up; B of q, o, down: nine of them.
    #   8 x 2816 = 22,528: 45,056 + 8 x 88 = 45,760. A of down; B of gate, up: three.
    #   8 x 256 = 2048: 16,384. B of k, v: two.
    assert states_8.term("optimizer").bytes == 2 * (9 * 32_760 + 3 * 45_760 + 2 * 16_384)


def test_dora_learns_a_length_per_output() -> None:
    plain, dora = (trainable_parameters(SMALL, recipe(adapter={"rank": 8, "dora": dora}))[0] for dora in (False, True))
    assert dora - plain == 2 * 9216


def test_the_base_alone_is_what_such_a_model_was_seen_to_take() -> None:
    """Llama-3 8B in NF4 with double quantisation, r=16 on attention, fp32 AdamW, without gradients: 5.884 GB measured."""
    found = budget(LLAMA_8B, recipe(adapter={"targets": "attention"}, training={"optimizer": "adamw_torch"}))
    static = sum(found.term(name).bytes for name in ("weights", "adapter", "optimizer"))
    assert static == pytest.approx(5.884e9, rel=0.01)


@pytest.mark.parametrize(("rank", "trainable"), [(16, 41_943_040), (64, 167_772_160)])
def test_trainable_parameters_of_a_known_model(rank: int, trainable: int) -> None:
    assert trainable_parameters(LLAMA_8B, recipe(adapter={"rank": rank})) == (trainable, 8_030_261_248 + trainable)


def test_small_tensors_keep_full_states() -> None:
    small = budget(GPT2, recipe(adapter={"rank": 1}))
    assert small.term("optimizer").bytes == 8 * trainable_parameters(GPT2, recipe(adapter={"rank": 1}))[0]


def test_a_target_that_the_model_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(RecipeError, match="c_attn") as caught:
        budget(LLAMA_8B, recipe(adapter={"targets": ["q_proj", "c_attn"]}))
    assert caught.value.problems[0].field == "adapter.targets"
    assert "down_proj" in caught.value.hint
    with pytest.raises(RecipeError, match="q_proj"):
        budget(GPT2, recipe(adapter={"targets": ["q_proj"]}))


def test_targets_match_by_the_last_part_of_their_names() -> None:
    long = trainable_parameters(LLAMA_8B, recipe(adapter={"targets": ["self_attn.q_proj", "mlp.down_proj"]}))
    assert long == trainable_parameters(LLAMA_8B, recipe(adapter={"targets": ["q_proj", "down_proj"]}))


# --- what comes and goes -------------------------------------------------------------------------------------------------


def test_micro_batches_in_rows_or_tokens_hold_at_least_one_row() -> None:
    data = {"max_tokens": 2048}
    assert micro_batch_tokens(recipe(data=data, training={"micro_batch_rows": 3})) == 3 * 2048
    assert micro_batch_tokens(recipe(data=data, training={"micro_batch_tokens": 8192})) == 8192
    assert micro_batch_tokens(recipe(data={"max_tokens": 16384})) == 16384


@pytest.mark.parametrize("facts", [LLAMA_8B, GPT2, GEMMA2], ids=lambda facts: f"{facts.family}-{facts.num_layers}")
def test_settings_cost_and_save_in_the_right_order(facts: ModelFacts) -> None:
    half = facts.num_layers // 2
    all_, some, none = (total(facts, memory={"checkpointing": count}) for count in ("all", half, "none"))
    assert all_ < some < none
    assert total(facts, memory={"checkpointing": facts.num_layers}) == total(facts) == all_
    assert total(facts, memory={"offload": True}) < all_
    assert (total(facts, memory={"keep_attention": True}) > all_) is (facts.family != "gemma2")
    assert (total(facts, memory={"embeddings_on_cpu": True}) < all_) is not facts.tied_embeddings
    assert total(facts, adapter={"dropout": 0.1}) > all_
    assert total(facts, adapter={"dora": True}) > all_
    assert total(facts, base={"compute_dtype": "float32"}) > all_
    assert all_ < total(facts, base={"quantisation": "int8"}) < total(facts, base={"quantisation": "none"})


def test_each_remembering_layer_costs_the_same() -> None:
    """Where the layers decide, not the loss: from one layer to the next the same step, less the input that is kept anyway."""
    counts = [total(LLAMA_8B, memory={"checkpointing": count}) for count in (20, 19, 18, 17)]
    steps = [more - less for less, more in pairwise(counts)]
    assert max(steps) - min(steps) <= 1  # each is rounded to whole bytes
    # At least gate and up, queries, keys, values and the attention's output have to be kept, in 16 bit.
    tokens = micro_batch_tokens(recipe())
    assert steps[0] > tokens * 2 * (2 * 14336 + 2 * 4096 + 2 * 1024)


def test_the_loss_in_chunks_needs_no_more_logits_for_more_tokens() -> None:
    """Eight times the tokens: the logits stay, six bytes for 1024 x 128,256; the hidden states do not."""
    fewer, more = (
        budget(LLAMA_8B, recipe(data={"max_tokens": n}, training={"micro_batch_tokens": n})) for n in (4096, 32768)
    )
    assert f"1,024 tokens x {128256:,} words x 6 bytes" in fewer.term("logits").formula
    assert f"1,024 tokens x {128256:,} words x 6 bytes" in more.term("logits").formula
    setup = Setup.of(LLAMA_8B, recipe())
    all_at_once = replace(setup, chunk_rows=None)
    assert budget_of(LLAMA_8B, all_at_once).total_bytes > budget_of(LLAMA_8B, setup).total_bytes


def test_scores_in_full_grow_with_the_square_of_the_row() -> None:
    """Gemma 2 caps its scores, which no fused kernel does: a row of 8192 has four times the scores of one of 4096."""

    def packed(facts: ModelFacts, tokens: int) -> int:
        made = recipe(data={"max_tokens": tokens}, training={"micro_batch_tokens": tokens})
        return budget(facts, made).term("activations").bytes

    for facts, least, most in ((GEMMA2, 3.5, 4.0), (LLAMA_8B, 1.9, 2.01)):
        assert least < packed(facts, 16384) / packed(facts, 8192) < most

    def padded(rows: int) -> int:
        data = {"max_tokens": 4096, "packing": False}
        return budget(GEMMA2, recipe(data=data, training={"micro_batch_rows": rows})).term("activations").bytes

    # More rows of the same length: twice the scores, no more.
    assert 1.9 < padded(4) / padded(2) < 2.01
    # Packed into one long row, the same tokens have all of the square.
    assert packed(GEMMA2, 16384) > 2 * padded(4)


# --- more never takes less -----------------------------------------------------------------------------------------------

FAMILIES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "smollm3",
    "granite",
    "gpt_neox",
)
EXPERT_FAMILIES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")


@st.composite
def models(draw: st.DrawFn) -> ModelFacts:
    family = draw(st.sampled_from((*FAMILIES, *EXPERT_FAMILIES)))
    kv_heads, group = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    head_dim = draw(st.sampled_from([16, 64, 128, 256]))
    config: dict[str, Any] = {
        "model_type": family,
        "hidden_size": kv_heads * group * head_dim,
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": draw(st.integers(16, 20_000)),
        "num_hidden_layers": draw(st.integers(2, 80)),
        "vocab_size": draw(st.integers(10, 300_000)),
        "max_position_embeddings": 4096,
        "tie_word_embeddings": draw(st.booleans()),
    }
    if family in EXPERT_FAMILIES:
        count = draw(st.integers(2, 64))
        config |= {
            "num_experts": count,
            "num_local_experts": count,
            "num_experts_per_tok": draw(st.integers(1, min(8, count))),
        }
        config |= {"moe_intermediate_size": draw(st.integers(16, 4000)), "shared_expert_intermediate_size": 256}
    return ModelFacts.from_config(config)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[ModelFacts, dict[str, Any], dict[str, Any]]:
    """A model, settings, and the same settings with one of them turned up."""
    facts = draw(models())
    names = sorted({shape.name for shape in facts.linear_shapes()})
    plain = {
        "quantisation": draw(st.sampled_from(["nf4", "int8", "none"])),
        "rank": draw(st.integers(1, 256)),
        "targets": sorted(draw(st.sets(st.sampled_from(names), min_size=1))),
        "dropout": draw(st.sampled_from([0.0, 0.1])),
        "dora": draw(st.booleans()),
        "max_tokens": draw(st.integers(16, 8192)),
        "packing": draw(st.booleans()),
        "micro_batch_tokens": draw(st.integers(16, 65_536)),
        "optimizer": draw(st.sampled_from(["paged_adamw_8bit", "adamw_torch"])),
        "checkpointing": draw(st.integers(0, facts.num_layers)),
        "offload": draw(st.booleans()),
        "keep_attention": draw(st.booleans()),
        "embeddings_on_cpu": draw(st.booleans()),
    }
    larger = {
        "rank": plain["rank"] + draw(st.integers(1, 256)),
        "targets": sorted({*plain["targets"], *draw(st.sets(st.sampled_from(names)))}),
        "max_tokens": plain["max_tokens"] + draw(st.integers(1, 8192)),
        "micro_batch_tokens": plain["micro_batch_tokens"] + draw(st.integers(1, 65_536)),
        "checkpointing": draw(st.integers(0, plain["checkpointing"])),
    }
    which = draw(st.sampled_from(sorted(larger)))
    return facts, plain, {**plain, which: larger[which]}


def size(facts: ModelFacts, chosen: dict[str, Any]) -> Budget:
    # A recipe has no number for no layer at all.
    chosen = {**chosen, "checkpointing": chosen["checkpointing"] or "none"}
    sections = {
        "base": ("quantisation",),
        "adapter": ("rank", "targets", "dropout", "dora"),
        "data": ("max_tokens", "packing"),
        "training": ("micro_batch_tokens", "optimizer"),
        "memory": ("checkpointing", "offload", "keep_attention", "embeddings_on_cpu"),
    }
    return budget(facts, recipe(**{name: {key: chosen[key] for key in keys} for name, keys in sections.items()}))


@given(pairs())
@settings(max_examples=300)
def test_more_never_takes_less(pair: tuple[ModelFacts, dict[str, Any], dict[str, Any]]) -> None:
    facts, plain, more = pair
    less, larger = size(facts, plain), size(facts, more)
    assert larger.total_bytes >= less.total_bytes
    assert all(term.bytes >= 0 for term in larger.shown)
    # The context is a share of what comes and goes, so that what the driver shows never shrinks either.
    assert larger.process_bytes >= less.process_bytes


# --- verdicts and guesses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "other", "expected"),
    [(85, 0, "fits"), (80, 5, "fits"), (86, 0, "tight"), (90, 7, "tight"), (98, 0, "over"), (50, 48, "over")],
)
def test_the_verdict_counts_the_context_the_correction_and_other_programs(used: int, other: int, expected: str) -> None:
    nothing = Term("context", "", 0, "", ())
    assert verdict(Budget((Term("weights", "", used, "", ()),), nothing), 100, other) == expected
    context = Term("context", "", 20, "", ())
    assert verdict(Budget((Term("weights", "", used - 20, "", ()),), context), 100, other) == expected
    assert verdict(Budget((Term("weights", "", used - 30, "", ()),), context, 10), 100, other) == expected


def test_a_guessed_model_makes_a_guessed_budget_within_bounds() -> None:
    """An architecture nobody has heard of is taken for a Llama of the same sizes."""
    config = {
        **{"model_type": "brandnew", "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16},
        **{"num_key_value_heads": 4, "intermediate_size": 2816, "vocab_size": 1000, "max_position_embeddings": 8192},
    }
    guess, known = budget(ModelFacts.from_config(config), recipe()), budget(SMALL, recipe())
    assert guess.is_guess
    assert not known.is_guess
    assert guess.total_bytes == pytest.approx(known.total_bytes, rel=0.05)
    # Its layers' names are guessed too: a target that is not among those is not the user's mistake.
    odd = budget(ModelFacts.from_config(config), recipe(adapter={"targets": ["odd_proj"]}))
    assert odd.term("adapter").bytes == 0
