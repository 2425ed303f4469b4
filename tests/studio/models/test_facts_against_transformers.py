"""The families' parameter counts and module names, held against the models that transformers builds."""

from typing import Any

import pytest

from studio.models.facts import ModelFacts

FAMILIES = (
    *("llama", "mistral", "ministral", "ministral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    *("phi3", "olmo2", "olmo3", "smollm3", "granite", "gpt_neox", "gpt2"),
)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_counts_and_names_are_those_of_the_real_model(family: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    more: dict[str, Any] = {"head_dim": 128} if family == "ministral" else {}
    config = transformers.CONFIG_MAPPING[family](**more)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    facts = ModelFacts.from_config(config.to_dict())
    assert facts.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    real = []
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if ".0." in name and weight is not None and weight.dim() == 2:
            shape = tuple(weight.shape)
            # GPT-2's Conv1D stores its weight the other way round.
            real.append((name.rsplit(".", 1)[-1], shape if family == "gpt2" else shape[::-1]))
    assert sorted(real) == sorted((shape.name, tuple(shape[1:])) for shape in facts.linear_shapes())
