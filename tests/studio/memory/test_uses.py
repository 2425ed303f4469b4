from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.memory.budget import Budget, budget
from studio.memory.uses import chat, evaluation, full, merge, methods
from studio.models.catalogue import entries
from studio.models.facts import ModelFacts
from studio.recipe.fields import replaced
from studio.recipe.recipe import Adapter, Base, Recipe

MODELS = {entry.hub_id.split("/")[-1]: entry.facts for entry in entries()}
LLAMA = MODELS["Llama-3.1-8B-Instruct"]
GEMMA = MODELS["gemma-3-1b-it"]
BASE = Base(id="x")


def sums(found: Budget) -> bool:
    return found.total_bytes == sum(term.bytes for term in found.terms) and all(term.bytes >= 0 for term in found.terms)


def test_the_cache_of_a_chat_is_two_bytes_per_key_and_value() -> None:
    """128 kB per token for Llama 3.1 8B: 32 layers, 8 heads of 128, keys and values, 2 bytes."""
    cache = chat(LLAMA, BASE, lanes=1, context_tokens=1000).term("cache").bytes
    assert cache == 131_072 * 1000 + 131_072 * 1000 // 32


def test_lanes_share_the_base_and_answer_one_after_another() -> None:
    alone, four = chat(LLAMA, BASE, 1, 4096), chat(LLAMA, BASE, 4, 4096, [10_000_000] * 3)
    for name in ("weights", "cache"):
        assert four.term(name).bytes == alone.term(name).bytes
    assert four.term("adapters").bytes == 3 * 10_000_000 * 4
    at_once = chat(LLAMA, BASE, 4, 4096, [10_000_000] * 3, caches_at_once=4)
    assert at_once.term("cache").bytes > 3.8 * four.term("cache").bytes


def test_no_more_adapters_are_held_than_the_desk_has_room_for() -> None:
    some, many = ([10_000_000] * number for number in (5, 12))
    assert (
        chat(LLAMA, BASE, 12, 512, many).term("adapters").bytes
        == chat(LLAMA, BASE, 6, 512, some).term("adapters").bytes
    )


def test_the_cache_stops_growing_in_layers_that_look_through_a_window() -> None:
    """Gemma 3 1B: 22 of 26 layers look back 512 tokens; the others grow by keys and values of 256 numbers each."""
    short, long, longer = (chat(GEMMA, BASE, 1, tokens).term("cache").bytes for tokens in (512, 1512, 2512))
    assert short == (26 + 1) * 512 * 2 * 256 * 2
    assert long - short == longer - long == (4 + 1) * 1000 * 2 * 256 * 2


def test_capped_scores_grow_with_the_square_of_the_question() -> None:
    gemma2 = MODELS["gemma-2-9b-it"]
    short, long = (chat(gemma2, BASE, 1, tokens).term("activations").bytes for tokens in (2048, 8192))
    assert long > 12 * short
    short, long = (chat(LLAMA, BASE, 1, tokens).term("activations").bytes for tokens in (2048, 8192))
    assert long < 6 * short


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 6), st.integers(1, 60_000), st.integers(0, 5000))
def test_a_longer_chat_never_takes_less(name: str, lanes: int, tokens: int, more: int) -> None:
    before, after = chat(MODELS[name], BASE, lanes, tokens), chat(MODELS[name], BASE, lanes, tokens + more)
    assert after.process_bytes >= before.process_bytes
    assert sums(before)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_takes_less_than_training(name: str) -> None:
    for quantisation in ("nf4", "none"):
        recipe = replaced(Recipe(), "base.quantisation", quantisation)
        found = evaluation(MODELS[name], recipe)
        assert sums(found)
        assert found.process_bytes < budget(MODELS[name], recipe).process_bytes


def test_ways_to_train_are_ordered_as_everyone_knows_them() -> None:
    recipe = Recipe()
    everything, lora, qlora = methods(LLAMA, recipe)
    assert [way.name for way in (everything, lora, qlora)] == ["full", "lora", "qlora"]
    assert everything.budget.process_bytes > 2 * lora.budget.process_bytes
    assert lora.budget.process_bytes > 1.5 * qlora.budget.process_bytes
    assert qlora.budget == budget(LLAMA, recipe)
    assert everything.num_trainable == LLAMA.num_parameters
    assert [term.label for term in everything.budget.shown] == [term.label for term in qlora.budget.shown]


def test_a_recipe_in_16_bit_is_compared_with_nf4() -> None:
    recipe = replaced(Recipe(), "base.quantisation", "none")
    _, lora, qlora = methods(LLAMA, recipe)
    assert lora.budget == budget(LLAMA, recipe)
    assert qlora.budget == budget(LLAMA, replaced(recipe, "base.quantisation", "nf4"))


@pytest.mark.parametrize(
    ("optimizer", "bytes_per_parameter"),
    [("adamw_torch", 4.0), ("paged_adamw_32bit", 8.0), ("adamw_8bit", 2.03125), ("paged_adamw_8bit", 2.03125)],
)
def test_full_fine_tuning_holds_weights_gradients_and_states_of_everything(
    optimizer: str, bytes_per_parameter: float
) -> None:
    found = full(LLAMA, replaced(Recipe(), "training.optimizer", optimizer))
    count = LLAMA.num_parameters
    assert found.term("weights").bytes == found.term("gradients").bytes == 2 * count
    assert found.term("optimizer").bytes == pytest.approx(bytes_per_parameter * count)
    assert found.term("adapter").bytes == 0


def test_merging_never_holds_the_whole_model() -> None:
    found = merge(MODELS["Llama-3.3-70B-Instruct"], Adapter())
    assert sums(found)
    assert found.process_bytes - found.term("mapped").bytes < 12e9


def test_merging_a_small_model_holds_it_once() -> None:
    small = MODELS["SmolLM2-135M-Instruct"]
    found = merge(small, Adapter())
    assert found.term("shard").bytes == found.term("mapped").bytes == 2 * small.num_parameters
    assert merge(small, Adapter(), "float32").term("shard").bytes == 4 * small.num_parameters


def test_a_guess_stays_marked() -> None:
    guessed: ModelFacts = replace(LLAMA, is_guess=True)
    assert all(found.is_guess for found in (chat(guessed, BASE, 1, 100), merge(guessed, Adapter())))
    assert evaluation(guessed, Recipe()).is_guess
