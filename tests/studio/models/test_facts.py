import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import BaseModelError
from studio.models.facts import LinearShape, ModelFacts
from studio.models.families import FAMILIES
from tests.studio.models.folders import CONFIG


def numbers(
    family: str, hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        **more,
    }


TIED: dict[str, Any] = {"tie_word_embeddings": True}
# Totals as published with the models (the hub counts the tensors of the files themselves).
PUBLISHED = {
    "Llama-3.1-8B": (numbers("llama", 4096, 14336, 32, 32, 8, 128256), 8_030_261_248),
    "Llama-3.2-3B": (numbers("llama", 3072, 8192, 28, 24, 8, 128256, head_dim=128, **TIED), 3_212_749_824),
    "Llama-2-70B": (numbers("llama", 8192, 28672, 80, 64, 8, 32000), 68_976_648_192),
    "Mistral-7B-v0.1": (numbers("mistral", 4096, 14336, 32, 32, 8, 32000, sliding_window=4096), 7_241_732_096),
    "SmolLM2-135M": (numbers("llama", 576, 1536, 30, 9, 3, 49152, **TIED), 134_515_008),
    "Qwen2.5-0.5B": (numbers("qwen2", 896, 4864, 24, 14, 2, 151936, **TIED), 494_032_768),
    "Qwen3-0.6B": (numbers("qwen3", 1024, 3072, 28, 16, 8, 151936, head_dim=128, **TIED), 596_049_920),
    "gemma-2b": (numbers("gemma", 2048, 16384, 18, 8, 1, 256000, head_dim=256), 2_506_172_416),
    "gemma-2-2b": (numbers("gemma2", 2304, 9216, 26, 8, 4, 256000, head_dim=256), 2_614_341_888),
    "gemma-3-1b": (numbers("gemma3_text", 1152, 6912, 26, 4, 1, 262144, head_dim=256), 999_885_952),
    "Phi-3-mini-4k": (numbers("phi3", 3072, 8192, 32, 32, 32, 32064), 3_821_079_552),
    "OLMo-2-1B": (numbers("olmo2", 2048, 8192, 16, 16, 16, 100352), 1_484_916_736),
    "SmolLM3-3B": (numbers("smollm3", 2048, 11008, 36, 16, 4, 128256), 3_075_098_624),
    "pythia-160m": (numbers("gpt_neox", 768, 3072, 12, 12, 12, 50304), 162_322_944),
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_counted_exactly(name: str) -> None:
    config, published = PUBLISHED[name]
    facts = ModelFacts.from_config(config)
    assert facts.num_parameters == published
    assert not facts.is_guess


def test_gpt2_speaks_of_the_same_numbers_in_other_words() -> None:
    facts = ModelFacts.from_config(GPT2)
    assert facts.num_parameters == 124_439_808
    assert facts.context_tokens == 1024
    assert [shape.name for shape in facts.linear_shapes()] == ["c_attn", "c_proj", "c_fc", "c_proj"]


def test_linear_shapes_of_grouped_query_attention() -> None:
    facts = ModelFacts.from_config(PUBLISHED["Qwen3-0.6B"][0])
    assert facts.linear_shapes() == [
        LinearShape("q_proj", 1024, 2048),
        LinearShape("k_proj", 1024, 1024),
        LinearShape("v_proj", 1024, 1024),
        LinearShape("o_proj", 2048, 1024),
        LinearShape("gate_proj", 1024, 3072),
        LinearShape("up_proj", 1024, 3072),
        LinearShape("down_proj", 3072, 1024),
    ]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("Phi-3-mini-4k", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
        ("pythia-160m", ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    ],
)
def test_fused_projections_keep_their_names(model: str, names: list[str]) -> None:
    facts = ModelFacts.from_config(PUBLISHED[model][0])
    assert [shape.name for shape in facts.linear_shapes()] == names


def test_a_nested_text_configuration_with_left_out_values() -> None:
    # The published configuration of Gemma 3 4B states only these; its language model has 3,880,263,168 parameters.
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    text["sliding_window"] = 1024
    facts = ModelFacts.from_config(
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": text,
            "vision_config": {"hidden_size": 1152},
        }
    )
    assert facts.num_parameters == 3_880_263_168
    assert facts.has_vision
    assert facts.sliding_window == 1024
    assert facts.architecture == "Gemma3ForConditionalGeneration"


def test_a_window_that_is_switched_off_is_none() -> None:
    config = {**PUBLISHED["Qwen2.5-0.5B"][0], "sliding_window": 32768, "use_sliding_window": False}
    assert ModelFacts.from_config(config).sliding_window is None
    assert ModelFacts.from_config({**config, "use_sliding_window": True}).sliding_window == 32768


def test_an_unknown_architecture_is_marked_as_a_guess() -> None:
    facts = ModelFacts.from_config({**CONFIG, "model_type": "brandnew"})
    assert facts.is_guess
    assert facts.num_parameters == ModelFacts.from_config(CONFIG).num_parameters


# Totals of the published files: routed experts, shared ones, routers, biases and attention sinks counted.
EXPERTS = {
    "Mixtral-8x7B": (numbers("mixtral", 4096, 14336, 32, 32, 8, 32000, num_local_experts=8), 46_702_792_704),
    "Qwen1.5-MoE-A2.7B": (
        numbers("qwen2_moe", 2048, 5632, 24, 16, 16, 151936, num_experts=60, moe_intermediate_size=1408),
        14_315_784_192,
    ),
    "Qwen3-30B-A3B": (
        numbers("qwen3_moe", 2048, 6144, 48, 32, 4, 151936, head_dim=128, num_experts=128, moe_intermediate_size=768),
        30_532_122_624,
    ),
    "OLMoE-1B-7B": (numbers("olmoe", 2048, 1024, 16, 16, 16, 50304, num_experts=64), 6_919_161_856),
    "gpt-oss-20b": (
        numbers("gpt_oss", 2880, 2880, 24, 64, 8, 201088, head_dim=64, num_local_experts=32),
        20_914_757_184,
    ),
}


@pytest.mark.parametrize("name", EXPERTS)
def test_mixtures_of_experts_are_counted_exactly(name: str) -> None:
    config, published = EXPERTS[name]
    facts = ModelFacts.from_config(config)
    assert facts.num_parameters == published
    assert facts.num_active_parameters < published / 2
    assert not facts.is_guess


def test_experts_are_no_linear_layers() -> None:
    """transformers 5 keeps them as 3-D tensors, which 4-bit quantisation passes over."""
    facts = ModelFacts.from_config(EXPERTS["Mixtral-8x7B"][0])
    assert {shape.name for shape in facts.linear_shapes()} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert facts.num_expert_parameters > 0.9 * facts.num_parameters


def test_a_stack_with_one_linear_layer_per_expert_quantises_them() -> None:
    facts = ModelFacts.from_config(EXPERTS["Mixtral-8x7B"][0])
    other = replace(facts, experts_quantised=True)
    assert other.num_parameters == facts.num_parameters
    assert other.num_expert_parameters == 0
    assert other.num_linear_parameters > 0.98 * facts.num_parameters


def test_experts_in_an_unknown_architecture_are_guessed() -> None:
    more = {"n_routed_experts": 8, "moe_intermediate_size": 32, "n_shared_experts": 2, "first_k_dense_replace": 1}
    facts = ModelFacts.from_config({**CONFIG, "model_type": "brandnew", **more})
    assert facts.is_guess
    assert (facts.num_dense_layers, facts.num_shared_expert_features) == (1, 64)


def test_layer_types_of_the_configuration_count() -> None:
    kinds = ["sliding_attention", "full_attention"]
    facts = ModelFacts.from_config({**CONFIG, "model_type": "olmo3", "sliding_window": 64, "layer_types": kinds})
    assert facts.layer_kinds == ("sliding", "full")
    assert facts.num_sliding_layers == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": -64}, "hidden_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 1_000_000_000}, "num_hidden_layers"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"intermediate_size": 1.5}, "intermediate_size"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 0}, "head_dim"),
        ({"num_key_value_heads": 8}, "num_key_value_heads"),
        ({"hidden_size": float("nan")}, "hidden_size"),
        ({"hidden_size": 10**5000}, "hidden_size"),
        ({"hidden_size": -(10**5000)}, "hidden_size"),
        ({"vocab_size": [[[{"a": 1}]]]}, "vocab_size"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"attention_bias": 1}, "attention_bias"),
        ({"layer_types": ["full_attention"], "sliding_window": 8}, "layer_types"),
        ({"layer_types": "sliding", "sliding_window": 8}, "layer_types"),
        ({"num_local_experts": -1}, "num_local_experts"),
        ({"num_local_experts": 4, "num_experts_per_tok": 5}, "num_experts_per_tok"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": ["first"]}, "mlp_only_layers"),
        ({"hidden_size": 1 << 18, "intermediate_size": 1 << 22, "num_hidden_layers": 1 << 12}, "num_hidden_layers"),
    ],
)
def test_absurd_values_are_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(BaseModelError, match=field):
        ModelFacts.from_config({**CONFIG, **change})


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"model"'])
def test_an_unreadable_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BaseModelError, match=r"config\.json"):
        ModelFacts.from_folder(tmp_path)


def test_a_folder_without_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="not a model folder"):
        ModelFacts.from_folder(tmp_path)


def test_only_the_configuration_is_needed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert ModelFacts.from_folder(tmp_path).dtype == "bfloat16"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([1, 2, 4, 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *CONFIG,
        *(
            "text_config",
            "head_dim",
            "sliding_window",
            "use_sliding_window",
            "layer_types",
            "attention_bias",
            "mlp_bias",
        ),
        *("num_local_experts", "num_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
        *("shared_expert_intermediate_size", "n_shared_experts", "mlp_only_layers", "decoder_sparse_step"),
        *("first_k_dense_replace", "max_window_layers", "sliding_window_pattern", "no_rope_layer_interval"),
        *("hidden_act", "dtype", "n_embd", "n_layer", "n_head", "attn_logit_softcapping", "use_parallel_residual"),
    ]
)
MODEL_TYPES = st.sampled_from([*FAMILIES, "gemma3", "brandnew"])


def facts_or_refusal(config: dict[str, Any]) -> None:
    try:
        facts = ModelFacts.from_config(config)
    except BaseModelError as error:
        refusal = error.message
    else:
        refusal = ""
    if refusal:
        assert "config.json cannot be used: " in refusal
        assert len(refusal) < 300
        return
    assert 0 < facts.num_parameters < 10**15
    assert 0 < facts.num_active_parameters <= facts.num_parameters
    assert len(facts.layer_kinds) == facts.num_layers == sum(group.num_layers for group in facts.linear_groups())
    assert all(min(shape[1:]) > 0 for shape in facts.linear_shapes())
    json.dumps(vars(facts))


@settings(max_examples=400)
@given(MODEL_TYPES, st.dictionaries(KEYS, JSON, max_size=6))
def test_any_value_in_any_field_ends_in_facts_or_a_plain_refusal(family: str, change: dict[str, Any]) -> None:
    facts_or_refusal({**CONFIG, "model_type": family, **change})


@given(st.dictionaries(KEYS | st.text(max_size=8), JSON, max_size=8))
def test_any_table_at_all_ends_in_facts_or_a_plain_refusal(config: dict[str, Any]) -> None:
    facts_or_refusal(config)
