from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import Problem
from studio.recipe.check import check
from studio.recipe.fields import FIELDS, replaced
from studio.recipe.recipe import Recipe
from tests.studio.recipe.strategies import recipes


@dataclass(frozen=True)
class SmallBase:
    context_tokens: int
    tied_embeddings: bool = False


def test_the_defaults_agree_with_one_another() -> None:
    assert check(Recipe(), SmallBase(context_tokens=2048), num_rows=100) == []


@given(recipe=recipes(), context_tokens=st.integers(0, 10**7), num_rows=st.none() | st.integers(0, 10**9))
def test_check_never_raises_and_always_has_a_remedy(recipe: Recipe, context_tokens: int, num_rows: int | None) -> None:
    paths = {entry.path for entry in FIELDS}
    for problem in check(recipe, SmallBase(context_tokens), num_rows):
        assert isinstance(problem, Problem)
        assert problem.field in paths
        assert problem.message
        assert problem.fix


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"training.micro_batch_rows": 32}, "training.micro_batch_rows"),
        ({"data.max_tokens": 8192}, "training.micro_batch_tokens"),
        ({"adapter.alpha": 4096}, "adapter.alpha"),
        ({"adapter.rslora": True, "adapter.alpha": 1024}, "adapter.alpha"),
        ({"adapter.targets": ["q_proj", "all-linear"]}, "adapter.targets"),
        ({"memory.offload": True, "memory.checkpointing": "none"}, "memory.offload"),
        ({"memory.keep_attention": True, "memory.checkpointing": "none"}, "memory.keep_attention"),
        ({"data.validation_fraction": 0.0}, "keep.evaluate_every_steps"),
        ({"keep.sample_prompts": []}, "keep.sample_every_steps"),
        (
            {"keep.evaluate_every_steps": 0, "keep.stop_after_worse_evaluations": 3},
            "keep.stop_after_worse_evaluations",
        ),
        ({"keep.evaluate_every_steps": 0, "keep.adapter_from": "best"}, "keep.adapter_from"),
    ],
)
def test_a_contradiction_is_shown_where_it_can_be_mended(changes: dict[str, Any], field: str) -> None:
    recipe = Recipe()
    for path, value in changes.items():
        recipe = replaced(recipe, path, value)
    assert [problem.field for problem in check(recipe)] == [field]


def test_long_rows_are_fine_without_packing() -> None:
    recipe = replaced(replaced(Recipe(), "data.max_tokens", 8192), "data.packing", False)
    assert check(recipe) == []


def test_a_table_that_is_the_head_as_well_cannot_leave_the_card() -> None:
    recipe = replaced(Recipe(), "memory.embeddings_on_cpu", True)
    assert check(recipe) == check(recipe, SmallBase(0)) == []
    (problem,) = check(recipe, SmallBase(0, tied_embeddings=True))
    assert problem.field == "memory.embeddings_on_cpu"


def test_rows_longer_than_the_base_can_read() -> None:
    (problem,) = check(Recipe(), SmallBase(context_tokens=512))
    assert problem.field == "data.max_tokens"
    assert "512" in problem.fix
    assert check(Recipe(), SmallBase(context_tokens=0)) == []


@pytest.mark.parametrize(("num_rows", "field"), [(0, "data.path"), (1, "data.validation_fraction")])
def test_too_few_rows(num_rows: int, field: str) -> None:
    assert [problem.field for problem in check(Recipe(), num_rows=num_rows)] == [field]


def test_all_contradictions_are_told_at_once() -> None:
    recipe = replaced(Recipe(), "data.validation_fraction", 0.0)
    recipe = replaced(replaced(recipe, "keep.sample_prompts", []), "data.max_tokens", 8192)
    assert len(check(recipe, SmallBase(context_tokens=512))) == 4
