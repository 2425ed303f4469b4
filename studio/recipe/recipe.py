"""The recipe: everything a training run can be told, as frozen data.

Each setting is declared once, here: its type, default, range and words. The form, the file format, the messages and
the documentation are derived from this declaration (see `studio.recipe.fields`).

What is left out follows what is said: `alpha` is twice the rank, `steps` replaces `epochs`, `micro_batch_rows`
replaces `micro_batch_tokens`, a micro-batch holds at least one row of `max_tokens`, nothing is evaluated where nothing
is held out, and nothing is sampled without prompts.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from studio.recipe.model_sections import Adapter, Base, Data
from studio.recipe.run_sections import ALTERNATIVES, DEFAULT_MICRO_BATCH_TOKENS, Keep, Memory, Training
from studio.recipe.setting import MAX_CONTEXT_TOKENS, Section, is_whole, setting

__all__ = ["ALTERNATIVES", "SCHEMA", "Adapter", "Base", "Data", "Keep", "Memory", "Recipe", "Training"]

SCHEMA = 1


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """Everything a run can be told. Raises pydantic's error when built from bad values in code; text and dictionaries
    from outside go through `studio.recipe.toml`, which raises `RecipeError` in plain words."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = setting(
        "pirate",
        label="Name",
        help="What the run and its adapter are called. A longer name says more, a shorter one is easier to type. Start "
        "with what it shall learn. No effect on video memory.",
        unit="",
        raw_name="run_name",
        group="Setup",
        level="basic",
        min_length=1,
        max_length=200,
    )
    base: Base = Base()
    data: Data = Data()
    adapter: Adapter = Adapter()
    training: Training = Training()
    memory: Memory = Memory()
    keep: Keep = Keep()

    @model_validator(mode="before")
    @classmethod
    def _what_is_left_out_follows(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        raw = dict(raw)
        data, training, keep = (_said(raw.get(name, {})) for name in ("data", "training", "keep"))
        follows: dict[str, dict[str, Any]] = {"training": {}, "keep": {}}
        max_tokens = data.get("max_tokens")
        by_rows = training.get("micro_batch_rows") is not None
        if is_whole(max_tokens, DEFAULT_MICRO_BATCH_TOKENS, MAX_CONTEXT_TOKENS) and not by_rows:
            follows["training"]["micro_batch_tokens"] = max_tokens
        if data.get("validation_fraction") == 0:
            follows["keep"]["evaluate_every_steps"] = 0
        if keep.get("sample_prompts") in ([], ()):
            follows["keep"]["sample_every_steps"] = 0
        for name, said in (("training", training), ("keep", keep)):
            if follows[name].keys() - said.keys() and isinstance(raw.get(name, {}), dict | Section):
                raw[name] = {**follows[name], **said}
        return raw


def _said(section: Any) -> dict[str, Any]:
    """What a section states itself, without what it takes from defaults."""
    if isinstance(section, Section):
        return section.model_dump(exclude_unset=True)
    return section if isinstance(section, dict) else {}
