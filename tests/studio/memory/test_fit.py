"""What must change for a recipe to fit a card: never more than needed, never what the numbers do not bear out."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from studio.errors import RecipeError
from studio.memory.budget import budget, trainable_parameters, verdict
from studio.memory.fit import Change, Fit, bases_that_fit, fit, fixes, spare
from studio.memory.ladder import LADDER, QUALITY
from studio.memory.prices import step_flops
from studio.memory.setup import micro_batch_tokens
from studio.models.facts import ModelFacts
from studio.recipe.check import check
from studio.recipe.fields import get, to_dict
from studio.recipe.recipe import Recipe
from studio.recipe.toml import dump, parse

GIB = 1 << 30
ORDER = [rung.field for rung in LADDER]
SIZES = {  # hidden, layers, heads, key-value heads, MLP, vocabulary
    "tiny": (64, 2, 4, 2, 128, 512),
    "135M": (576, 30, 9, 3, 1536, 49_152),
    "1B": (2048, 16, 32, 8, 8192, 128_256),
    "8B": (4096, 32, 32, 8, 14_336, 128_256),
    "32B": (5120, 64, 40, 8, 27_648, 152_064),
    "70B": (8192, 80, 64, 8, 28_672, 128_256),
}


def model(size: str = "8B", family: str = "llama", context_tokens: int = 131_072) -> ModelFacts:
    names = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
        *("intermediate_size", "vocab_size"),
    )
    sizes = dict(zip(names, SIZES[size], strict=True))
    return ModelFacts.from_config({"model_type": family, "max_position_embeddings": context_tokens, **sizes})


def recipe(**sections: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(sections)


LAVISH = recipe(
    base={"quantisation": "none"},
    data={"max_tokens": 8192},
    adapter={"rank": 64},
    training={"micro_batch_tokens": 16_384, "optimizer": "adamw_torch"},
    memory={"checkpointing": "none"},
)
ALL_SAVED = {"checkpointing": "all", "offload": True, "embeddings_on_cpu": True}
MODELS = st.builds(
    model,
    st.sampled_from([*SIZES]),
    st.sampled_from(["llama", "qwen2", "phi3", "gpt_neox", "gemma2"]),
    st.sampled_from([2048, 8192, 131_072]),
)
CARDS = st.integers(1, 100).map(lambda gib: gib * GIB)
FREE = tuple(rung for rung in LADDER if rung not in QUALITY)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Recipes that a person might train, from frugal to wasteful, free of contradictions."""
    longest = draw(st.sampled_from([16, 100, 256, 300, 1024, 1500, 2048]))
    batch_rows = draw(st.integers(1, 64))
    tokens = st.integers(longest, 40_000).map(lambda count: {"micro_batch_tokens": count})
    rows = st.integers(1, batch_rows).map(lambda count: {"micro_batch_rows": count})
    checkpointing = draw(st.sampled_from(["auto", "all", "none", 1, 2, 7, 24, 200]))
    rank = draw(st.sampled_from([1, 2, 8, 16, 24, 64, 256]))
    return recipe(
        base={
            "quantisation": draw(st.sampled_from(["nf4", "fp4", "int8", "none"])),
            "double_quantisation": draw(st.booleans()),
            "compute_dtype": draw(st.sampled_from(["bfloat16", "float16", "float32"])),
        },
        data={"max_tokens": longest, "packing": draw(st.booleans())},
        adapter={
            "rank": rank,
            "alpha": draw(st.sampled_from([2 * rank, 16, rank])),
            "targets": draw(st.sampled_from(["all-linear", "attention"])),
            "rslora": draw(st.booleans()),
            "dora": draw(st.booleans()),
            "dtype": draw(st.sampled_from(["float32", "bfloat16"])),
        },
        training={
            "batch_rows": batch_rows,
            "optimizer": draw(st.sampled_from(["paged_adamw_8bit", "paged_adamw_32bit", "adamw_8bit", "adamw_torch"])),
            **draw(tokens | rows),
        },
        memory={
            "checkpointing": checkpointing,
            "offload": checkpointing != "none" and draw(st.booleans()),
            "keep_attention": checkpointing != "none" and draw(st.booleans()),
        },
    )


def folded(start: Recipe, changes: tuple[Change, ...]) -> Recipe:
    for change in changes:
        start = change.applied_to(start)
    return start


def bytes_of(facts: ModelFacts, which: Recipe) -> int:
    return budget(facts, which).process_bytes


# --- for any model, recipe and card --------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(MODELS, recipes(), CARDS, st.integers(0, 4 * GIB))
@example(model("8B"), LAVISH, 8 * GIB, 0)
@example(model("70B"), LAVISH, 40 * GIB, GIB)
def test_it_fits_or_says_so_and_every_change_is_what_it_claims(
    facts: ModelFacts, start: Recipe, card_bytes: int, other_bytes: int
) -> None:
    found = fit(facts, start, card_bytes, other_bytes)

    assert found.budget == budget(facts, found.recipe)
    judged = verdict(found.budget, card_bytes, other_bytes)
    assert found.fits == (judged != "over")
    assert bool(found.advice) == (judged != "fits")
    assert found.recipe.training.batch_rows == start.training.batch_rows
    assert micro_batch_tokens(found.recipe) >= found.recipe.data.max_tokens
    assert check(found.recipe, facts) == []
    assert parse(dump(found.recipe)) == found.recipe

    fields = [change.field for change in found.changes]
    assert fields == sorted(set(fields), key=ORDER.index)
    assert folded(start, found.changes) == found.recipe
    current = start
    for change in found.changes:
        after = change.applied_to(current)
        assert (change.before, change.after) == (get(current, change.field), get(after, change.field))
        assert change.saves_bytes == bytes_of(facts, current) - bytes_of(facts, after) >= 0
        assert change.price
        current = after


@settings(max_examples=100, deadline=None)
@given(MODELS, recipes(), st.floats(0.6, 1.4), st.booleans())
@example(model("8B"), LAVISH, 1.0, True)
@example(model("8B"), LAVISH, 1.1, True)
def test_no_change_can_be_taken_back_and_a_second_fit_finds_nothing(
    facts: ModelFacts, start: Recipe, share: float, is_small: bool
) -> None:
    card_bytes = round(bytes_of(facts, frugal(facts, start) if is_small else start) / share)
    found = fit(facts, start, card_bytes)
    reached = verdict(found.budget, card_bytes)
    for i in range(len(found.changes)):
        without = folded(start, found.changes[:i] + found.changes[i + 1 :])
        misses = verdict(budget(facts, without), card_bytes) != reached
        assert misses or check(without, facts), found.changes[i]
    again = fit(facts, found.recipe, card_bytes)
    assert (again.recipe, again.changes) == (found.recipe, ())


def dearest(found: Fit) -> int:
    """How far down the ladder of quality the changes go; beyond its end if nothing helps."""
    if not found.fits:
        return len(QUALITY)
    fields = [rung.field for rung in QUALITY]
    return max((fields.index(change.field) for change in found.changes if change.costs_quality), default=-1)


@settings(max_examples=100, deadline=None)
@given(MODELS, recipes(), st.tuples(CARDS, CARDS))
def test_a_larger_card_never_asks_for_more_quality(facts: ModelFacts, start: Recipe, cards: tuple[int, int]) -> None:
    small, large = (dearest(fit(facts, start, card)) for card in sorted(cards))
    assert large <= small


def frugal(facts: ModelFacts, start: Recipe) -> Recipe:
    """The recipe with all that costs no quality at its smallest."""
    for rung in FREE * 2:
        choices = rung.choices(facts, start)
        if choices:
            tried = Change(rung.field, None, choices[-1], 0, "").applied_to(start)
            start = tried if bytes_of(facts, tried) < bytes_of(facts, start) else start
    return start


@settings(max_examples=100, deadline=None)
@given(MODELS, recipes(), st.floats(0.7, 1.3))
def test_quality_is_given_up_only_where_time_will_not_do(facts: ModelFacts, start: Recipe, share: float) -> None:
    cheapest = frugal(facts, start)
    card_bytes = round(bytes_of(facts, cheapest) / share)
    found = fit(facts, start, card_bytes)
    if any(change.costs_quality for change in found.changes):
        assert verdict(budget(facts, cheapest), card_bytes) == "over"
        assert verdict(found.budget, card_bytes) != "over"
    elif found.fits:
        best = verdict(budget(facts, cheapest), card_bytes)
        assert best != "over"
        assert verdict(found.budget, card_bytes) == best or found.recipe == start


@settings(max_examples=100, deadline=None)
@given(MODELS, recipes(), CARDS)
def test_a_button_saves_what_it_says_and_spare_still_fits(facts: ModelFacts, start: Recipe, card_bytes: int) -> None:
    now = bytes_of(facts, start)
    offered = fixes(facts, start, card_bytes)
    assert [change.field for change in offered] == sorted((c.field for c in offered), key=ORDER.index)
    for change in offered:
        assert change.saves_bytes == now - bytes_of(facts, change.applied_to(start)) > 0
        assert check(change.applied_to(start), facts) == check(start, facts)
    for change in spare(facts, start, card_bytes):
        used = change.applied_to(start)
        assert change.saves_bytes == now - bytes_of(facts, used)
        # Of very few layers, recomputing fewer can be the cheaper way.
        assert change.saves_bytes <= 0 or change.field == "memory.checkpointing"
        assert verdict(budget(facts, used), card_bytes) == "fits"
        assert check(used, facts) == check(start, facts)
        assert used.training.batch_rows == start.training.batch_rows
    if verdict(budget(facts, start), card_bytes) != "fits":
        assert spare(facts, start, card_bytes) == ()


# --- the ladder, on a model of 8 billion parameters --------------------------------------------------------------------


def card_for(which: Recipe, share: float, facts: ModelFacts | None = None) -> int:
    """A card of which the recipe would take `share`."""
    return round(bytes_of(facts or model(), which) / share)


def names(found: Fit) -> list[str]:
    return [change.field for change in found.changes]


def test_what_fits_is_left_alone() -> None:
    found = fit(model(), recipe(), 24 * GIB)
    assert (found.recipe, found.changes, found.fits, found.advice) == (recipe(), (), True, "")


def test_the_micro_batch_goes_first_and_no_smaller_than_it_must() -> None:
    start = recipe()
    found = fit(model(), start, card_for(start, 0.9))
    assert names(found) == ["training.micro_batch_tokens"]
    chosen = found.changes[0].after
    assert 1024 < chosen < 4096
    larger = recipe(training={"micro_batch_tokens": chosen + 256})
    assert verdict(budget(model(), larger), card_for(start, 0.9)) == "tight"
    in_rows = recipe(training={"micro_batch_rows": 4})
    assert names(fit(model(), in_rows, card_for(in_rows, 0.9))) == ["training.micro_batch_rows"]


def test_no_more_layers_are_recomputed_than_it_takes() -> None:
    start = recipe(training={"micro_batch_tokens": 1024}, memory={"checkpointing": 4})
    card = card_for(start, 0.9)
    found = fit(model(), start, card)
    assert names(found) == ["memory.checkpointing"]
    layers = found.changes[0].after
    assert 4 < layers < 32
    one_less = recipe(training={"micro_batch_tokens": 1024}, memory={"checkpointing": layers - 1})
    assert verdict(budget(model(), one_less), card) == "tight"


def test_tight_is_good_enough_before_rows_are_cut() -> None:
    frugal = recipe(training={"micro_batch_rows": 1}, memory=ALL_SAVED)
    assert names(fit(model(), frugal, card_for(frugal, 0.95))) == []
    cut = fit(model(), frugal, card_for(frugal, 0.98))
    assert names(cut) == ["data.max_tokens"]
    assert cut.changes[0].after >= 768
    assert cut.changes[0].price == f"Cuts rows longer than {cut.changes[0].after:,} tokens"


def test_a_card_that_is_far_too_small_is_told_and_nothing_is_changed() -> None:
    found = fit(model("70B"), LAVISH, 24 * GIB)
    assert (found.fits, found.recipe, found.changes) == (False, LAVISH, ())
    assert found.advice.startswith("Choose a smaller base:")


def test_what_others_hold_and_what_was_learnt_count() -> None:
    start = recipe(training={"micro_batch_rows": 4})
    card = card_for(start, 0.84)
    assert names(fit(model(), start, card)) == []
    assert names(fit(model(), start, card, other_bytes=GIB)) == ["training.micro_batch_rows"]
    assert names(fit(model(), start, card, correction_bytes=GIB)) == ["training.micro_batch_rows"]
    assert fit(model(), start, card, correction_bytes=GIB).budget.correction_bytes == GIB


def test_a_micro_batch_of_one_row_follows_the_rows() -> None:
    start = recipe(data={"max_tokens": 4096}, training={"micro_batch_tokens": 4096})
    shorter = next(change for change in fixes(model(), start, 6 * GIB) if change.field == "data.max_tokens")
    assert shorter.after == 3072
    assert shorter.applied_to(start).training.micro_batch_tokens == 3072
    longer = next(change for change in spare(model(), start, 80 * GIB) if change.field == "data.max_tokens")
    assert longer.applied_to(start).training.micro_batch_tokens == longer.after > 4096


@pytest.mark.parametrize(
    ("adapter", "alpha"),
    [({"rank": 64}, 64), ({"rank": 64, "alpha": 64}, 32), ({"rank": 64, "alpha": 16, "rslora": True}, 11)],
)
def test_a_lower_rank_speaks_as_loudly(adapter: dict[str, Any], alpha: int) -> None:
    lower = fixes(model(), recipe(adapter=adapter), 6 * GIB)[-1]
    assert (lower.field, lower.before, lower.after) == ("adapter.rank", 64, 32)
    assert lower.applied_to(recipe(adapter=adapter)).adapter.alpha == alpha


def test_modules_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match="no_such_proj"):
        fit(model(), recipe(adapter={"targets": ["no_such_proj"]}), 24 * GIB)


# --- prices ----------------------------------------------------------------------------------------------------------------


def test_the_price_of_shorter_rows_is_the_share_that_is_cut() -> None:
    rows = [100] * 970 + [900] * 20 + [1000] * 10
    start = recipe(training={"micro_batch_rows": 1})

    def told(row_tokens: list[int]) -> str:
        found = fixes(model(), start, 6 * GIB, row_tokens=row_tokens)
        return next(change.price for change in found if (change.field, change.after) == ("data.max_tokens", 768))

    assert told(rows) == "Cuts rows longer than 768 tokens: 3.0 % of the rows"
    assert told(rows[:970]) == "Cuts rows longer than 768 tokens: 0.0 % of the rows"
    assert told([100] * 9999 + [900]) == "Cuts rows longer than 768 tokens: less than 0.1 % of the rows"


def test_recomputing_everything_costs_a_third_less_the_head() -> None:
    every = next(c for c in fixes(model(), LAVISH, 6 * GIB) if c.field == "memory.checkpointing")
    assert every.price == "Same result, up to 32 % slower"
    share = 1 - step_flops(model(), 0) / step_flops(model(), 32)
    assert 0.30 < share < 1 / 3
    all_layers = recipe(memory={"checkpointing": "all"})
    back = next(c for c in spare(model(), all_layers, 80 * GIB) if c.field == "memory.checkpointing")
    assert (back.after, back.price) == ("none", f"Same result, up to {round(100 * (1 / (1 - share) - 1))} % faster")


def test_smaller_micro_batches_cost_passes() -> None:
    start = recipe(training={"micro_batch_rows": 16})
    one = next(c for c in fixes(model(), start, 6 * GIB) if c.field == "training.micro_batch_rows")
    assert one.price == "Same result, a little slower: 16 passes per step instead of 1 where all rows are long"
    most = next(c for c in spare(model(), recipe(), 80 * GIB) if c.field == "training.micro_batch_tokens")
    assert most.price == "Same result, a little faster: 1 pass per step instead of 4 where all rows are long"


def test_less_room_to_learn_is_counted() -> None:
    start = recipe()
    targets, rank = fixes(model(), start, 6 * GIB)[-2:]
    for change in (targets, rank):
        left = trainable_parameters(model(), change.applied_to(start))[0]
        assert f"{left / 1e6:.1f} million parameters instead of 41.9 million" in change.price


def test_every_rung_of_the_ladder_has_a_price_and_can_be_offered() -> None:
    everything = to_dict(LAVISH)
    everything["base"] |= {"compute_dtype": "float32"}
    everything["adapter"] |= {"dora": True}
    offered = {change.field for change in fixes(model(), Recipe.model_validate(everything), 6 * GIB)}
    offered |= {change.field for change in fixes(model(), recipe(base={"double_quantisation": False}), 6 * GIB)}
    offered |= {change.field for change in fixes(model(), recipe(training={"micro_batch_rows": 2}), 6 * GIB)}
    kept = {"keep_attention": True, "reuse_weights": "always"}
    offered |= {change.field for change in fixes(model(), recipe(memory=kept), 6 * GIB)}
    assert offered | {"data.max_tokens"} == set(ORDER)


# --- the spare, and bases -----------------------------------------------------------------------------------------------------


def test_spare_buys_the_longest_rows_that_fit() -> None:
    longer = next(change for change in spare(model(), recipe(), 24 * GIB) if change.field == "data.max_tokens")
    assert longer.after % 256 == 0
    beyond = Change("data.max_tokens", 1024, longer.after + 256, 0, "").applied_to(recipe())
    assert verdict(budget(model(), beyond), 24 * GIB) != "fits"
    short_context = model(context_tokens=4096)
    assert next(c.after for c in spare(short_context, recipe(), 80 * GIB) if c.field == "data.max_tokens") == 4096


def test_spare_goes_no_further_than_the_rows_need() -> None:
    rows = [500] * 90 + [1900] * 10
    longer = next(c for c in spare(model(), recipe(), 80 * GIB, row_tokens=rows) if c.field == "data.max_tokens")
    assert longer.after == 2048
    assert longer.price == "Rows of up to 2,048 tokens stay whole; 10.0 % of the rows are cut now"
    assert "data.max_tokens" not in {c.field for c in spare(model(), recipe(), 80 * GIB, row_tokens=rows[:90])}


def test_bases_are_sorted_out_by_what_they_ask() -> None:
    bases = [(size, model(size)) for size in SIZES] + [("short", model("1B", context_tokens=512))]
    start = recipe(adapter={"targets": ["q_proj", "v_proj"]})
    found = {base.name: base for base in bases_that_fit([*bases, ("neox", model("1B", "gpt_neox"))], start, 9 * GIB)}
    assert list(found) == [*SIZES, "short", "neox"]
    needs = {name: base.needs for name, base in found.items()}
    assert needs["135M"] == needs["1B"] == needs["short"] == needs["neox"] == "nothing"
    assert needs["70B"] == needs["32B"] == "smaller base"
    for base in found.values():
        assert base.verdict == verdict(base.budget, 9 * GIB)
        assert (base.verdict != "over") == (base.needs == "nothing")
        assert bool(base.changes) == (base.needs in ("time", "quality"))


def test_a_base_may_fit_at_the_price_of_time_alone() -> None:
    start = recipe()
    (slower,) = bases_that_fit([("8B", model())], start, card_for(start, 1.0))
    assert (slower.needs, slower.verdict) == ("time", "over")
    assert slower.changes == fit(model(), start, card_for(start, 1.0)).changes
    frugal = recipe(training={"micro_batch_rows": 1}, memory=ALL_SAVED)
    (poorer,) = bases_that_fit([("8B", model())], frugal, card_for(frugal, 1.0))
    assert poorer.needs == "quality"
