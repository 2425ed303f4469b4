"""Any recipe whose settings are each in range; they may contradict one another."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from studio.recipe.fields import FIELDS, Field, from_dict, to_dict
from studio.recipe.recipe import ALTERNATIVES, Recipe
from studio.recipe.validate import recipe_from

TEXTS = st.text(min_size=1, max_size=30)


def values_of(entry: Field) -> st.SearchStrategy[Any]:
    """Values that the setting's own row in the table allows."""
    low, high = entry.minimum, entry.maximum
    whole = st.integers(int(low or 0), int(high or 0))
    names = st.lists(TEXTS, min_size=1, max_size=3)
    match entry.kind:
        case "int":
            return whole
        case "float":
            return st.floats(low, high)
        case "bool":
            return st.booleans()
        case "text":
            return TEXTS
        case "list":
            return st.lists(TEXTS, max_size=3)
        case "choice":
            other = {"int": whole, "list": names, None: st.nothing()}[entry.other]
            return st.sampled_from(entry.choices) | other


@st.composite
def raw_recipes(draw: st.DrawFn) -> dict[str, Any]:
    left_out = {f"training.{key}" for pair in ALTERNATIVES for key in [draw(st.sampled_from(pair))]}
    raw: dict[str, Any] = {"schema": 1}
    for entry in FIELDS:
        if entry.path not in left_out:
            section = raw.setdefault(entry.section, {}) if entry.section else raw
            section[entry.key] = draw(values_of(entry))
    return raw


def recipes() -> st.SearchStrategy[Recipe]:
    return raw_recipes().map(lambda raw: recipe_from(raw, whole=False))


@st.composite
def sound_recipes(draw: st.DrawFn) -> Recipe:
    """Recipes without contradictions: those that a file may hold."""
    raw = draw(raw_recipes())
    training, data, keep, adapter = raw["training"], raw["data"], raw["keep"], raw["adapter"]
    if "micro_batch_tokens" in training:
        training["micro_batch_tokens"] = max(training["micro_batch_tokens"], data["max_tokens"])
    else:
        training["batch_rows"] = max(training["batch_rows"], training["micro_batch_rows"])
    adapter["alpha"] = min(adapter["alpha"], adapter["rank"])
    if data["validation_fraction"] == 0:
        keep["evaluate_every_steps"] = 0
    if keep["evaluate_every_steps"] == 0:
        keep["stop_after_worse_evaluations"], keep["adapter_from"] = 0, "last"
    if not keep["sample_prompts"]:
        keep["sample_every_steps"] = 0
    if raw["memory"]["checkpointing"] == "none":
        raw["memory"]["offload"] = raw["memory"]["keep_attention"] = False
    if not isinstance(adapter["targets"], str):
        adapter["targets"] = [f"module_{name}" for name in adapter["targets"]]
    return from_dict(to_dict(recipe_from(raw, whole=False)))
