"""The families' parameter counts and module names, held against the models that transformers builds on the meta device."""

from typing import Any

import pytest

from studio.models.facts import ModelFacts

EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss")
FAMILIES = (
    *("llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    *("phi3", "olmo2", "olmo3", "smollm3", "granite", "gpt_neox", "gpt2"),
    *EXPERTS,
)
# Sizes of which no two are the same or multiples of one another by accident: a swapped factor shows.
TINY: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 112,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 130,
    "max_position_embeddings": 72,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TINY_GPT2 = {"n_embd": 48, "n_layer": 5, "n_head": 6, "n_positions": 72, "vocab_size": 130}
QWEN_EXPERTS = {
    **{"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 40},
    **{"shared_expert_intermediate_size": 56, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
}
TINY_EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 7, "num_experts_per_tok": 3},
    "olmoe": {"num_experts": 7, "num_experts_per_tok": 3},
    "gpt_oss": {"num_local_experts": 7, "num_experts_per_tok": 3},
    "qwen2_moe": QWEN_EXPERTS,
    "qwen3_moe": QWEN_EXPERTS,
}
WITHOUT_HEAD_DIM = ("qwen2", "phi3", "olmo2", "olmo3", "olmoe", "gpt_neox", "qwen2_moe", "smollm3", "granite")


def tiny(family: str) -> dict[str, Any]:
    if family == "gpt2":
        return TINY_GPT2
    config = {**TINY, **TINY_EXPERTS.get(family, {})}
    if family in WITHOUT_HEAD_DIM:
        config.pop("head_dim")
    return config


def build(family: str, more: dict[str, Any]) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[family](**more)
    with torch.device("meta"):
        return config, transformers.AutoModelForCausalLM.from_config(config)


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def linears(model: Any, layer: int) -> list[tuple[str, int, int]]:
    """Name, features in and out of every linear layer in one block, as PEFT and bitsandbytes see them."""
    found = []
    for name, module in model.named_modules():
        if f".{layer}." in name and type(module).__name__ in ("Linear", "Conv1D"):
            shape = tuple(module.weight.shape)
            # GPT-2's Conv1D stores its weight the other way round.
            inner, outer = shape if type(module).__name__ == "Conv1D" else shape[::-1]
            found.append((name.rsplit(".", 1)[-1], inner, outer))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_models_of_every_family(family: str, biased: bool) -> None:
    more = {"attention_bias": True, "mlp_bias": True, "qkv_bias": True} if biased else {}
    config, model = build(family, {**tiny(family), **more})
    facts = ModelFacts.from_config(config.to_dict())
    assert facts.num_parameters == parameters(model)
    assert not facts.is_guess


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_configuration_leaves_out(family: str) -> None:
    """Published files state only what differs from the class; the same must come out of them."""
    left_out = ("head_dim", "num_key_value_heads", "num_experts", "num_local_experts", "num_experts_per_tok")
    cache_utils = pytest.importorskip("transformers.cache_utils")
    said = {key: value for key, value in tiny(family).items() if key not in left_out}
    if family == "ministral":
        said["head_dim"] = 16  # its class cannot be built without
    if family != "gpt2":
        said.update(hidden_size=96, num_attention_heads=32)  # every family's usual number of key-value heads divides 32
    config, model = build(family, said)
    facts = ModelFacts.from_config({"model_type": family, **said})
    assert facts.num_parameters == parameters(model)
    kinds, _ = cache_utils.get_layer_types_and_kwargs(config)
    assert [kind.removesuffix("_attention") for kind in kinds] == list(facts.layer_kinds)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_full_size_models_and_their_linear_layers(family: str) -> None:
    more: dict[str, Any] = {"head_dim": 128} if family == "ministral" else {}
    config, model = build(family, more)
    facts = ModelFacts.from_config(config.to_dict())
    assert facts.num_parameters == parameters(model)
    last = facts.num_layers - 1
    assert linears(model, last) == sorted(tuple(shape) for shape in facts.linear_shapes())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe"])
def test_dense_blocks_between_those_with_experts(family: str) -> None:
    _, model = build(family, tiny(family))
    facts = ModelFacts.from_config({"model_type": family, **tiny(family)})
    dense, sparse = facts.linear_groups()
    assert (dense.num_layers, sparse.num_layers) == (4, 1)  # layers 1, 3, 5 by the period of 2, and layer 2 by name
    assert linears(model, 0) == sorted(tuple(shape) for shape in dense.shapes)
    assert linears(model, 3) == sorted(tuple(shape) for shape in sparse.shapes)


@pytest.mark.slow
@pytest.mark.parametrize("family", EXPERTS)
def test_experts_are_no_linear_layers_and_stay_in_16_bit(family: str) -> None:
    """What bitsandbytes replaces are linear modules: it finds none inside the experts."""
    torch = pytest.importorskip("torch")
    _, model = build(family, tiny(family))
    facts = ModelFacts.from_config({"model_type": family, **tiny(family)})
    fused = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 3 and "bias" not in name)
    routers = facts.num_expert_layers * facts.num_experts * facts.hidden_size
    assert facts.num_expert_parameters == fused + routers
    covered = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith("lm_head")
    )
    assert facts.num_linear_parameters == covered


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_look_through_a_window(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    cache_utils = pytest.importorskip("transformers.cache_utils")
    window = (
        {} if family in ("llama", "gemma", "olmo2", "granite", "gpt_neox", "gpt2", "olmoe") else {"sliding_window": 8}
    )
    if family in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "smollm3"):
        window["use_sliding_window"] = True  # type: ignore[assignment]
    more = {**tiny(family), **window, **({"max_window_layers": 3} if family.startswith("qwen") else {})}
    config = transformers.CONFIG_MAPPING[family](**more)
    kinds, _ = cache_utils.get_layer_types_and_kwargs(config)
    facts = ModelFacts.from_config({"model_type": family, **more})
    assert [kind.removesuffix("_attention") for kind in kinds] == list(facts.layer_kinds)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_and_attention_are_those_of_the_real_block(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    config, model = build(family, tiny(family))
    facts = ModelFacts.from_config(config.to_dict())
    norms = [
        (name, module) for name, module in model.named_modules() if ".2." in name and "Norm" in type(module).__name__
    ]
    over_heads = [module for name, module in norms if name.endswith(("q_norm", "k_norm"))]
    over_hidden = [module for name, module in norms if not name.endswith(("q_norm", "k_norm"))]
    assert len(over_hidden) == facts.norms_per_block
    assert all((getattr(norm, "bias", None) is not None) == facts.norm_bias for norm in over_hidden)
    assert all(("LayerNorm" in type(norm).__name__) == facts.layer_norm for norm in over_hidden)
    width = {"none": 0, "head": 2 * facts.head_dim, "full": facts.q_features + facts.kv_features}[facts.qk_norm]
    assert sum(norm.weight.numel() for norm in over_heads) == width
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    assert facts.eager_attention == (not kind._supports_sdpa)
    assert facts.capped_attention == (getattr(config, "attn_logit_softcapping", None) is not None)
    assert facts.parallel_blocks == bool(getattr(config, "use_parallel_residual", False))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize("family", EXPERTS)
def test_where_peft_takes_experts_for_linear_layers(family: str) -> None:
    peft = pytest.importorskip("peft")
    _, model = build(family, tiny(family))
    facts = ModelFacts.from_config({"model_type": family, **tiny(family)})
    settings = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    overlaid = peft.get_peft_model(model, settings)
    learning = {name: p.numel() for name, p in overlaid.named_parameters() if p.requires_grad}
    assert any(".experts." in name for name in learning) == facts.adapts_experts
    if not facts.adapts_experts:
        groups = facts.linear_groups()
        linear = sum(
            g.num_layers * sum(2 * (shape.in_features + shape.out_features) for shape in g.shapes) for g in groups
        )
        assert sum(learning.values()) == linear
